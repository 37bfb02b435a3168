"""The user's own demand on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relid_sumo.scenario.given.source import Inputs


def inputs(routes: Sequence[Path] | None, allow: Sequence[Path] | None) -> Inputs:
    """Return the values of --routes and --allow."""
    from relid_sumo.scenario.given.source import Inputs

    return Inputs(tuple(routes or ()), tuple(allow or ()))
