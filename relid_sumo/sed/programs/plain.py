"""Text that a program or a model wrote, made harmless before anything shows, stores or sends it."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"  # the shorter ones
)
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control, format (bidirectional overrides, zero width), lone surrogates, private use, not assigned.
REMOVED = {"Cc", "Cf", "Cs", "Co", "Cn"}
MOST_ACCENTS = 4  # combining marks on one letter; more pile up over neighbouring lines
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


def plain(text: str, most: int, *, end: bool = False) -> str:
    """Return a text without terminal sequences and characters that are not shown as themselves, cut to a length.

    Line feeds and tabs stay; every other line end becomes a line feed.

    Parameters
    ----------
    most
        Characters.
    end
        Of a longer text return the end, not the beginning.
    """
    part = text[-4 * most :] if end else text[: 4 * most]
    part = LINE_ENDS.sub("\n", ESCAPES.sub("", part))
    kept, accents = list[str](), 0
    for character in part:
        category = unicodedata.category(character)
        accents = accents + 1 if category in {"Mn", "Me"} else 0
        if character in "\n\t" or (category not in REMOVED and accents <= MOST_ACCENTS):
            kept.append(character)
    clean = BLANK_LINES.sub("\n\n", "".join(kept)).strip()
    return clean[-most:] if end else clean[:most]
