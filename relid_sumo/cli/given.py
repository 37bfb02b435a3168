"""The user's own demand on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from relid_sumo.scenario.given.source import Inputs


Od = Annotated[
    Path | None,
    typer.Option(
        "--od",
        metavar="FILE",
        help="Matrix of trips for a SUMO network: a table from,to,count[,begin,end], or a .od file in V or O format.",
    ),
]
Taz = Annotated[
    Path | None,
    typer.Option("--taz", metavar="FILE", help="Zones of the matrix (default: a zone is the name of an edge)."),
]
Counts = Annotated[
    Path | None,
    typer.Option(
        "--counts",
        metavar="FILE",
        help="Counts for a SUMO network: a table edge,count[,begin,end], or edge data of SUMO.",
    ),
]


def inputs(
    routes: Sequence[Path] | None,
    allow: Sequence[Path] | None,
    od: Path | None = None,
    taz: Path | None = None,
    counts: Path | None = None,
) -> Inputs:
    """Return the values of --routes, --allow, --od, --taz and --counts."""
    from relid_sumo.scenario.given.source import Inputs

    return Inputs(tuple(routes or ()), tuple(allow or ()), od, taz, counts)
