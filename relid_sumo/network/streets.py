"""Street names of a network's edges, as SUMO's network file has them from OpenStreetMap."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import unescape
from pathlib import Path

_EDGE = re.compile(r"^\s*<edge\s[^>]*>")
_ID, _NAME = (re.compile(rf'\s{key}="([^"]*)"') for key in ("id", "name"))


def read_names(net_file: Path) -> dict[str, str]:
    """Return the street name of every edge that has one, by edge.

    SUMO writes each element on a line of its own, so no XML tree of the whole file is built.
    """
    names: dict[str, str] = {}
    opened = gzip.open if net_file.suffix == ".gz" else open
    with opened(net_file, "rt", encoding="utf-8") as lines:
        for line in lines:
            if _EDGE.match(line) and (name := _NAME.search(line)) and name[1] and (edge := _ID.search(line)):
                names[unescape(edge[1])] = unescape(name[1])
    return names


def labelled(edge: str, names: Mapping[str, str]) -> str:
    """Return an edge with its street: ``123#1 (Main Street)``."""
    return f"{edge} ({names[edge]})" if edge in names else edge


def longest(names: Mapping[str, str], lengths: Mapping[str, float], most: int) -> dict[str, str]:
    """Return the longest edge of each of the longest streets, by street.

    Parameters
    ----------
    lengths
        Length of each edge, m.
    most
        Number of streets.
    """
    of_street: defaultdict[str, list[str]] = defaultdict(list)
    for edge in lengths:
        if edge in names:
            of_street[names[edge]].append(edge)

    def metres(edges: Iterable[str]) -> float:
        return sum(lengths[edge] for edge in edges)

    ranked = sorted(of_street, key=lambda street: (-metres(of_street[street]), street))
    return {street: max(of_street[street], key=lambda edge: (lengths[edge], edge)) for street in ranked[:most]}
