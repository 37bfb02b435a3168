"""The prose checker finds the words to avoid, with place and suggestion, and leaves code and plain meanings alone."""

from __future__ import annotations

from pathlib import Path

import check_prose
import pytest


def faults(file: Path, content: str) -> list[str]:
    file.write_text(content, encoding="utf-8")
    return [fault.removeprefix(f"{file}:") for fault in check_prose.check(file)]


def test_a_word_to_avoid_is_named_with_its_line_and_what_to_write(tmp_path: Path) -> None:
    found = faults(tmp_path / "a.md", "# Title\n\nThe run is\ngone on with, and\nit is mended.\n")
    assert found == ["4: 'gone on with': write resume, continue", "5: 'mended': write fix"]


@pytest.mark.parametrize(
    "text",
    [
        "We foretell it.",
        "IPPO beside RELED.",
        "It comes to 3 s.",
        "Results are kept in a folder.",
        "Nothing could be had.",
        "The best way to the end.",
        "It is worked\nout once.",
        "a vehicle who does not arrive",
        "Who has left the plan continues.",
        "Nobody uses it.",
        "The agent is told how to continue.",
        "The scores held: 0.3.",
        "The file holds rows.",
    ],
)
def test_each_turn_of_phrase_is_found(tmp_path: Path, text: str) -> None:
    assert len(faults(tmp_path / "a.md", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Use `driven_beside` and `ways`.",
        "An OSM way, a one-way street, two-way traffic.",
        "```\nway beside anew\n```",
        "[page](https://example.org/way/beside)",
        "It had rained, and the driver kept going.",
        "The vehicle comes to rest.",
        "Recommend the amended file.",
        "has no agent 'nobody'",
    ],
)
def test_code_links_and_plain_meanings_are_left_alone(tmp_path: Path, text: str) -> None:
    assert not faults(tmp_path / "a.md", text)


def test_of_python_only_texts_are_read(tmp_path: Path) -> None:
    content = '"""Module: mend it."""\nways = beside = "anew"  # anew\nraise ValueError(f"{ways} are worked out")\n'
    assert faults(tmp_path / "a.py", content) == [
        "1: 'mend': write fix",
        "3: 'worked out': write compute",
    ]


def test_what_users_read_has_none_of_these_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_prose.main([]) == 0, capsys.readouterr().out
    assert check_prose.ROOT / "README.md" in check_prose.covered()
