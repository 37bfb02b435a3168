"""The consoles, and the options shared by several commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from relid_sumo.base.redact import redact


class SafeConsole(Console):
    """A console that shows any text as plain text: without keys, and with control characters escaped.

    All output of the commands passes it, so a name in a stranger's file cannot change the terminal, whichever table or
    note shows it. Texts are cleaned before they are wrapped and coloured, and segments once more, whatever renders
    them; `redact.guard` filters the output too.
    """

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - rich's arguments
        """See `rich.console.Console`."""
        return super().render_str(clean(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See `rich.console.Console`."""
        if isinstance(renderable, Text) and (plain_text := clean(renderable.plain)) != renderable.plain:
            renderable = renderable.blank_copy(plain_text)
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(clean(segment.text), segment.style)

    def print(self, *objects: Any, **how: Any) -> None:  # noqa: ANN401 - rich's arguments
        """See `rich.console.Console`; with `as_json`, each text is a JSON object on a line, and tables are left out."""
        if self.as_json is None:
            super().print(*objects, **how)
            return
        for one in objects:
            if isinstance(one, str | Text) and not self.quiet:
                self.event(Text.from_markup(one).plain if isinstance(one, str) else one.plain)

    as_json: str | None = None
    """With a level such as "info": print JSON objects of this level."""

    @property
    def is_terminal(self) -> bool:
        """Whether bars can be drawn."""
        return super().is_terminal and self.as_json is None

    def event(self, message: str, **fields: object) -> None:
        """Write a JSON object on a line of its own."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"time": now, "level": self.as_json, "message": clean(message), **fields}
        self.file.write(redact(json.dumps(content)) + "\n")
        self.file.flush()

    def print_json(self, json: str | None = None, **how: Any) -> None:  # noqa: ANN401 - likewise
        """See `rich.console.Console`."""
        super().print_json(None if json is None else redact(json), **how)


WIDE = 120  # columns without a terminal, so that tables in a log are not broken
out = SafeConsole(width=None if sys.stdout.isatty() else WIDE)
# `err` prints notes, progress and next steps, which --quiet hides; `errors` prints warnings and errors.
err = SafeConsole(stderr=True, width=None if sys.stderr.isatty() else WIDE)
errors = SafeConsole(stderr=True, width=None if sys.stderr.isatty() else WIDE)

Bbox = Annotated[
    str | None,
    typer.Option(
        "--bbox",
        metavar="W,S,E,N",
        help="Crop an OSM file to this box, degrees (default: the whole file).",
    ),
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Make a rough draft of a new scenario in about 20 s, and say what is rough."),
]
FleetSize = Annotated[
    float | None,
    typer.Option(
        "--fleet",
        metavar="SHARE|COUNT",
        help="Draw the agents from the vehicles of the demand in each traffic seed, instead of the scenario's trips: "
        "a share such as 0.2, or a number from 2.",
    ),
]
Routes = Annotated[
    list[Path] | None,
    typer.Option(
        "--routes",
        metavar="FILE",
        help="SUMO route or trip file for a .net.xml, or instead of those of a .sumocfg. Repeatable.",
    ),
]
Allow = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow",
        metavar="PATH",
        help="File or folder outside its own folder that a .sumocfg may name. Repeatable.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, e.g. demand.level=0.4. Repeatable."),
]


def _limited(context: typer.Context, workers: int | None) -> int | None:
    """Limit the SUMO processes that prepare a scenario too."""
    from relid_sumo.base import sumo

    context.with_resource(sumo.limited(workers))
    return workers


Workers = Annotated[
    int | None,
    typer.Option(
        min=1, callback=_limited, help="Simulation processes (default: one per core); results do not depend on it."
    ),
]


def say(text: str) -> None:
    """Print a note."""
    err.print(Text(clean(text), style="dim"))


def clean(text: object) -> str:
    """Return a text, which may come from a stranger's file, without keys and control characters."""
    from relid_sumo.base.safe_paths import printable  # pydantic, which --help does without

    return printable(redact(str(text)))


def plain(text: object) -> str:
    """Return a clean text, escaped for rich."""
    return escape(clean(text))


def box(text: str | None) -> tuple[float, float, float, float] | None:
    """Return the box (west, south, east, north) in the text of an option, degrees."""
    from relid_sumo.network.osm import parse_box

    return None if text is None else parse_box(text)


EXIT_FAILED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
