"""The consoles, and the options shared by several commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

WIDE = 120  # columns without a terminal, so that tables in a log are not broken
out = Console(width=None if sys.stdout.isatty() else WIDE)
# `err` prints notes, progress and next steps, which --quiet hides; `errors` prints warnings and errors.
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)

Bbox = Annotated[
    str | None,
    typer.Option(
        "--bbox",
        metavar="W,S,E,N",
        help="Crop an OSM file to this box, degrees (default: the whole file).",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, e.g. demand.level=0.4. Repeatable."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Simulation processes (default: one per core); results do not depend on it.")
]


def say(text: str) -> None:
    """Print a note."""
    err.print(Text(text, style="dim"))


def box(text: str | None) -> tuple[float, float, float, float] | None:
    """Return the box (west, south, east, north) in the text of an option, degrees."""
    from relid_sumo.network.osm import parse_box

    return None if text is None else parse_box(text)


EXIT_FAILED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def plain(error: Exception | str) -> str:
    """Return a text escaped for rich."""
    from rich.markup import escape

    return escape(str(error))
