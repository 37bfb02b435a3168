"""What programs and models wrote is shown, stored and sent as plain text only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relid_sumo.sed.programs.plain import fence, last_line, plain, visible

ANYTHING = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x9b[]\x07\n\r\t`"), max_size=300)


@given(ANYTHING)
def test_only_what_is_shown_as_itself_is_left(text: str) -> None:
    clean = visible(text)
    assert re.sub(r"[\n\t]", "", clean).isprintable()
    clean.encode("utf-8")
    assert visible(clean) == clean


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="`")))
def test_letters_and_signs_are_left_as_they_are(text: str) -> None:
    assert visible(text) == text


@given(ANYTHING, st.integers(1, 50), st.booleans())
def test_a_text_is_cut(text: str, most: int, end: bool) -> None:
    assert len(plain(text, most, end=end)) <= most


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x9b2Ja\x90query\x9cb\x1bPquery\x1b\\c", "abc"),
        ("\x1bca\x1b(0b", "ab"),
        ("a\x1b", "a"),
        ("VALID\rgone", "VALID\ngone"),
        ("one\u2028two\x85three\x0bfour", "one\ntwo\nthree\nfour"),
        ("\u202egpj.exe\u202c", "gpj.exe"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("\ud800x\udfff\0", "x"),
        ("e\u0301" + "\u0301" * 50, "e" + "\u0301" * 4),
        ("a\u0301\u200b" * 2 + "\u0301\u200b" * 9, "a\u0301" * 2 + "\u0301" * 3),
        ("wide\u3000space\u00a0x", "wide space x"),
        ("a\n \n\n\n\nb", "a\n\nb"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_kinds_of_tricks(text: str, shown: str) -> None:
    assert plain(text, 100) == shown


def test_the_end_or_the_beginning_is_shown() -> None:
    assert plain("x" * 10**6 + "end", 5, end=True) == "xxend"
    assert plain("begin" + "x" * 10**6, 5) == "begin"
    assert last_line("Traceback\n\nValueError: x\n") == "ValueError: x"
    assert last_line(" \n ") == ""


@given(st.lists(st.text(st.sampled_from("`\n a"), max_size=40), max_size=3))
def test_no_text_closes_a_fence_around_it(texts: list[str]) -> None:
    around = fence(*texts)
    assert len(around) >= 3
    assert not any(around in text for text in texts)
