"""What a backend says while cells run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relid_sumo.base.errors import RelidSumoError
from relid_sumo.batch.cell import Progress


@dataclass(frozen=True)
class Event:
    """Something about one cell.

    Attributes
    ----------
    what
        ``progress``; ``done`` (its files are whole in its folder); ``failed``; ``lost`` (its node has gone, it will be
        tried again).
    progress
        How far it is, with ``progress``.
    error
        Why, with ``failed`` and ``lost``.
    """

    cell: str
    what: Literal["progress", "done", "failed", "lost"]
    progress: Progress | None = None
    error: RelidSumoError | None = None
