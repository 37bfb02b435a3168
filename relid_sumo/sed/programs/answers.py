"""Finds the program in the answer of a language model. Its text is never parsed as Python in this process.

The program is the last Python block that defines ``plan``: a later block corrects an earlier one. A block is a fence of
backticks or tildes as in CommonMark, also indented, in a list or in a quotation; its indentation is removed. Python is
a block that says so (``python``, ``py``, ``python3`` ...) or that names no language. What is in a thinking section
(``<think>``) does not count, unless the section has no end: then all of the answer counts. An answer without fences is
used from its first line of code.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from relid_sumo.sed.programs.plain import plain

FENCE = re.compile(r"^(?P<before>[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^\n]*)$")
LANGUAGE = re.compile(r"\{?\.?([\w+#.-]*)")
PYTHON = re.compile(r"(i?python|py)[\d.]*|")
THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
LINE_END = re.compile(r"\r\n|\n|\r")
DEFINES_PLAN = re.compile(r"^(async\s+)?def\s+plan\s*\(", re.MULTILINE)
BEGINS = re.compile(r"^(import |from \w|def |class |@)", re.MULTILINE)
MOST_CHARACTERS = 60_000

WANTED = "answer with one Python code block that defines plan(network, trips, traffic)"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text without the indentation of its fence, and whether it is closed."""

    language: str
    text: str
    closed: bool


def program_in(answer: str, note: str = "") -> tuple[str | None, str]:
    """Return the program in an answer; or None, and the reason.

    Parameters
    ----------
    answer
        The unedited answer.
    note
        Why it is empty or may be incomplete, as the service reports it.
    """
    if len(answer) > MOST_CHARACTERS:
        return None, f"the answer has {len(answer)} characters, and {MOST_CHARACTERS} are the most that is read"
    text = without_thoughts(answer)
    found = blocks(text)
    python = [block for block in found if PYTHON.fullmatch(block.language)]
    planning = [block for block in python if DEFINES_PLAN.search(block.text)]
    bare = BEGINS.search(text) if not found and DEFINES_PLAN.search(text) else None
    problem = ""
    if not text.strip():
        only = "has nothing but a thinking section" if answer.strip() else "is empty"
        problem = f"the answer {only}; {WANTED}"
    elif not found and bare is None:
        problem = f"the answer has no code block; {WANTED}"
    elif found and not python:
        problem = f"the answer's code is in {plain(found[-1].language, 30)}, not Python; {WANTED}"
    elif found and not planning:
        cut = "" if python[-1].closed else " (it seems to be cut off)"
        problem = f"the answer's code defines no function plan{cut}; {WANTED}"
    elif planning and not planning[-1].closed:
        problem = f"the answer was cut off in the middle of its code; keep it shorter, and {WANTED}"
    if problem:
        return None, f"{note}: {problem}" if note else problem
    return (planning[-1].text if bare is None else text[bare.start() :]), ""


def without_thoughts(answer: str) -> str:
    """Return an answer without byte order mark, with line feeds at the ends of lines, and without thinking sections.

    A section without a start is all that is before its end, because services cut off the start. A section without an
    end stays.
    """
    text = THOUGHT.sub("", "\n".join(LINE_END.split(answer.removeprefix("\ufeff"))))
    return THOUGHT_END.split(text)[-1]


def blocks(answer: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text, in order; a block that is not closed extends to the end."""
    found: list[Block] = []
    fence, language, before, lines = "", "", "", list[str]()
    for line in answer.split("\n"):
        mark = FENCE.match(line)
        if not fence and mark and "`" not in mark["info"]:
            name = LANGUAGE.match(mark["info"])
            fence, language, lines = mark["mark"], name[1].lower() if name else "", []
            before = mark["before"]
        elif fence and mark and _ends(fence, before, mark):
            found.append(Block(language, _shifted(lines, before), closed=True))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        found.append(Block(language, _shifted(lines, before), closed=False))
    return found


def _ends(fence: str, before: str, mark: re.Match[str]) -> bool:
    """Return whether a fence ends a block: it is as long, names no language, and is at most 3 characters further in."""
    own = mark["before"]
    is_end = not own.strip(" \t>") and not re.match(r"[\w{.]", mark["info"])
    return is_end and mark["mark"].startswith(fence) and _width(own) <= _width(before) + 3


def _indent(line: str) -> int:
    return _width(line[: len(line) - len(line.lstrip(" \t"))])


def _width(before: str) -> int:
    return len(before.expandtabs(4))


def _shifted(lines: list[str], before: str) -> str:
    """Return the lines of a block without the indentation and the quotation marks of its fence."""
    quotes = before.count(">")
    for _ in range(quotes):
        lines = [re.sub(r"^[ \t]*> ?", "", line) for line in lines]
    indent = before.rpartition(">")[2]
    width = _width(indent[1:] if quotes and indent.startswith(" ") else indent)
    width = min([width, *(_indent(line) for line in lines if line.strip())])
    if width:
        lines = [" " * max(0, _indent(line) - width) + line.lstrip(" \t") for line in lines]
    text = "\n".join(lines) + "\n"
    return text if DEFINES_PLAN.search(text) else textwrap.dedent(text)
