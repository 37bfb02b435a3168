"""The events that a backend reports while cells run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relid_sumo.base.errors import RelidSumoError
from relid_sumo.batch.cell import CellProgress


@dataclass(frozen=True)
class Event:
    """An event of one cell.

    Attributes
    ----------
    what
        ``progress``; ``done`` (its run folder is complete); ``failed``; ``lost`` (its node died, and the cell will run
        again).
    progress
        With ``progress``: the progress of the cell.
    error
        With ``failed`` and ``lost``: the reason.
    """

    cell: str
    what: Literal["progress", "done", "failed", "lost"]
    progress: CellProgress | None = None
    error: RelidSumoError | None = None
