"""Times in SUMO's files."""

from __future__ import annotations

import math
import re

CLOCK = re.compile(r"(-?)(?:(\d+):)?(\d+):(\d+):(\d+(?:\.\d+)?)")


def seconds(text: str) -> float:
    """Return a time in s, from seconds or ``(d:)h:m:s``; nan for other words, such as ``triggered``."""
    if clock := CLOCK.fullmatch(text.strip()):
        days, hours, minutes, rest = (float(part or 0) for part in clock.groups()[1:])
        return (-1 if clock[1] else 1) * (((days * 24 + hours) * 60 + minutes) * 60 + rest)
    try:
        return float(text)
    except ValueError:
        return math.nan
