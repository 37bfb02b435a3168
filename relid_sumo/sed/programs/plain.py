"""Text that a program or a model wrote, made harmless before anything shows, stores or sends it.

Keys are hidden before a text is cut or changed, because the filter does not recognise a part of a key.
"""

from __future__ import annotations

import re
import unicodedata

from relid_sumo.base.redact import redact

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"  # the shorter ones
)
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
BACKTICKS = re.compile("`{3,}")
MOST_ACCENTS = 4  # combining marks on one letter; more pile up over neighbouring lines
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


def visible(text: str) -> str:
    """Return a text without terminal sequences and without characters that are not shown as themselves.

    These are control and format characters (bidirectional overrides, zero width), lone surrogates, private and
    unassigned ones. Line feeds and tabs stay; every other line end becomes a line feed, every other space a space.
    """
    kept, accents = list[str](), 0
    for character in LINE_ENDS.sub("\n", ESCAPES.sub("", text)):
        category = unicodedata.category(character)
        if category in {"Mn", "Me"}:
            accents += 1
            if accents <= MOST_ACCENTS:
                kept.append(character)
        elif category == "Zs" or character in "\n\t" or character.isprintable():
            kept.append(" " if category == "Zs" else character)
            accents = 0
    return "".join(kept)


def harmless(text: str) -> str:
    """Return a text as `visible` does, without keys, also such as characters that are not shown separate."""
    return redact(visible(redact(text)))


def plain(text: str, most: int, *, end: bool = False) -> str:
    """Return a text as `harmless` does, without runs of empty lines, cut to a length.

    Parameters
    ----------
    most
        Characters.
    end
        Of a longer text return the end, not the beginning.
    """
    clean = BLANK_LINES.sub("\n\n", harmless(text)).strip()
    return clean[-most:] if end else clean[:most]


def last_line(text: str) -> str:
    """Return what says most in a traceback: its last line."""
    return text.strip().splitlines()[-1] if text.strip() else ""


def fence(*texts: str) -> str:
    """Return a fence for blocks of code that none of some texts can close."""
    longest = max((len(run) for text in texts for run in BACKTICKS.findall(text)), default=0)
    return "`" * max(3, longest + 1)
