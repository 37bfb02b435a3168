"""The console shows any text as plain text, whichever table, title or note it is in."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from relid_sumo.cli.console import SafeConsole, plain

EVIL = "a\x9b31m\x1b[2Jb\u202ec"
SHOWN = r"a\x9b31m\x1b[2Jb\u202ec"


def table(cell: RenderableType) -> Table:
    rows = Table("name" * 10, title=Text(f"title {EVIL}"), caption=plain(EVIL))
    rows.add_row(cell)
    return rows


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain(EVIL),
        lambda: Text(EVIL, style="bold red"),
        lambda: table(plain(EVIL)),
        lambda: table(Text(EVIL)),
        lambda: Group(table(Group(Text(EVIL))), Text(EVIL)),
    ],
)
def test_control_and_bidirectional_characters_are_escaped(make: Callable[[], RenderableType]) -> None:
    console = SafeConsole(file=io.StringIO(), width=120)
    console.print(make())
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert SHOWN in told
    assert all(c.isprintable() or c == "\n" for c in told)


def test_colours_remain_on_a_terminal() -> None:
    console = SafeConsole(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(Text("a name", style="red"), "[green]ok[/]")
    assert console.file.getvalue() == "\x1b[31ma name\x1b[0m \x1b[32mok\x1b[0m\n"  # type: ignore[attr-defined]
