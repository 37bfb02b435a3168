"""Signal programs: limits the length of cycles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LONGEST_CYCLE_S = 120.0  # of an actuated signal


def limit_cycles(file: Path, target: Path) -> None:
    """Copy a network with the longest green times of actuated signals cut so that no cycle exceeds `LONGEST_CYCLE_S`.

    netconvert gives every green phase up to 50 s, which at large joined junctions adds up to cycles of six minutes.
    """
    with file.open(encoding="utf-8") as source, target.open("w", encoding="utf-8") as out:
        phases: list[dict[str, str]] = []
        for line in source:
            if "<phase " in line:
                phases.append(dict(re.findall(r'(\w+)="([^"]*)"', line)))
                continue
            if phases:
                out.writelines(_limited(phases))
                phases = []
            out.write(line)


def _limited(phases: list[dict[str, str]]) -> Iterator[str]:
    """Return the phases of one program as XML lines, their ``maxDur`` lowered where the cycle would be too long."""
    floor = sum(float(p.get("minDur", p["duration"])) for p in phases)
    spare = sum(float(p.get("maxDur", p["duration"])) for p in phases) - floor
    share = min(1.0, max(0.0, LONGEST_CYCLE_S - floor) / spare) if spare > 0 else 1.0
    for phase in phases:
        if "maxDur" in phase:
            low = float(phase["minDur"])
            phase["maxDur"] = f"{low + share * (float(phase['maxDur']) - low):.0f}"
            phase["duration"] = f"{min(float(phase['duration']), float(phase['maxDur'])):.0f}"
        yield "        <phase " + " ".join(f'{key}="{value}"' for key, value in phase.items()) + "/>\n"
