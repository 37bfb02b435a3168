"""What all commands share: where they print, and options that several of them take."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

WIDE = 120  # columns where there is no terminal to ask: a table in a log should not be broken up
out = Console(width=None if sys.stdout.isatty() else WIDE)
# `err` is for notes, progress and next steps, which --quiet silences; `errors` is for what went wrong.
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)

Bbox = Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Crop an OSM file, degrees.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, e.g. demand.level=0.4; may be repeated."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Simulation processes (default: one per core); results do not depend on it.")
]


def say(text: str) -> None:
    """Print a note."""
    err.print(Text(text, style="dim"))


def box(text: str | None) -> tuple[float, float, float, float] | None:
    """Return the box that an option names."""
    from relid_sumo.network.osm import parse_box

    return None if text is None else parse_box(text)


EXIT_FAILED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def plain(error: Exception | str) -> str:
    """Return a text that rich prints as it is."""
    from rich.markup import escape

    return escape(str(error))
