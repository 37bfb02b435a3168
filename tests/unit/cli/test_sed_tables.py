"""Tables of SED runs show what programs and models wrote as it is, and nothing of it acts on the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from relid_sumo.cli import sed_tables
from relid_sumo.sed.programs.answers import WANTED

COUNTED = {"valid": 0, "programs": 1, "interval_95": None}


def content(problem: str | None, place: str = "subset1-round1-sample1") -> dict[str, Any]:
    attempt = {"place": place, "numbers": None, "same": False, "problem": problem}
    return {
        "scenario": "[red]town[/]",
        "provider": "mailbox",
        "programs": dict.fromkeys(("initial", "refined", "all"), COUNTED),
        "execution_rate": dict.fromkeys(("initial", "refined", "all"), 0.0),
        "rounds": [],
        "subsets": [{"attempts": [attempt], "best": None}],
        "compared": [],
    }


def printed(table: Any) -> str:  # noqa: ANN401 - as rich prints
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_rounds_name_why_programs_are_missing() -> None:
    numbers = dict.fromkeys(("score", "travel_time_s", "mean_return", "f_out", "f_out_signed", "f_out_floor", "d_in"))
    good = {"round": 1, "valid": 2, "programs": 2, **numbers}
    bad = good | {
        "round": 2,
        "valid": 0,
        "causes": [[2, "the model refused: [red]no[/] \x1b[31m (finish reason stop): the answer is empty; " + WANTED]],
    }
    whole = content(None)
    text = printed(sed_tables.tables(whole | {"rounds": [good, bad]}))
    assert "programs without a valid plan" in text
    assert re.search(
        r"2 │ +2 │ the model refused: \[red\]no\[/\]  \(finish reason stop\): the answer is empty +│", text
    )
    assert "without a valid plan" not in printed(sed_tables.tables(whole | {"rounds": [good]}))


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        ("ValueError: [bold red]evil[/] [/unknown]", "ValueError: [bold red]evil[/] [/unknown]"),
        ("first\nlast \x1b[31mline\x1b]0;title\x07", "last line"),
        ("ends in\u202e \\", "ends in"),
        (" \n ", "subset1"),
        (None, "subset1"),
    ],
)
def test_why_a_program_failed_is_shown_as_text(problem: str | None, shown: str) -> None:
    text = printed(sed_tables.tables(content(problem)))
    assert shown in text
    assert "[red]town[/], --llm mailbox" in text
    assert text.replace("\n", "").isprintable()
