"""Finds the program in the answer of a language model. Its text is never parsed as Python in this process."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relid_sumo.sed.programs.plain import plain

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*$")
DEFINES_PLAN = re.compile(r"^(async\s+)?def\s+plan\s*\(", re.MULTILINE)
BEGINS = re.compile(r"^(import |from \w|def |class |@)", re.MULTILINE)
PYTHON = {"", "python", "py", "python3"}
MOST_CHARACTERS = 60_000

WANTED = "answer with one Python code block that defines plan(network, trips, traffic)"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and whether it is closed."""

    language: str
    text: str
    closed: bool


def program_in(answer: str) -> tuple[str | None, str]:
    """Return the program in an answer; or None, and the reason.

    The last Python block that defines ``plan`` is used, as a later one corrects an earlier one; text around the blocks
    is ignored. An answer without fences is used from its first line of code. A cut-off answer is reported.
    """
    if len(answer) > MOST_CHARACTERS:
        return None, f"the answer has {len(answer)} characters, and {MOST_CHARACTERS} are the most that is read"
    found = blocks(answer)
    python = [block for block in found if block.language in PYTHON]
    planning = [block for block in python if DEFINES_PLAN.search(block.text)]
    bare = BEGINS.search(answer) if not found and DEFINES_PLAN.search(answer) else None
    problem = ""
    if not answer.strip():
        problem = f"the answer is empty; {WANTED}"
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
        return None, problem
    return (planning[-1].text if bare is None else answer[bare.start() :]), ""


def blocks(answer: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text, in order; a block that is not closed extends to the end."""
    found: list[Block] = []
    fence, language, lines = "", "", list[str]()
    for line in answer.splitlines():
        mark = FENCE.match(line)
        if not fence and mark:
            fence, language, lines = mark[1], mark[2].lower(), []
        elif fence and mark and mark[1].startswith(fence) and not mark[2]:
            found.append(Block(language, "\n".join(lines) + "\n", closed=True))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        found.append(Block(language, "\n".join(lines) + "\n", closed=False))
    return found
