"""The lanes for cars of a SUMO network, with the edges that each leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from relid_sumo.network.netfile import for_cars


@dataclass(frozen=True)
class Lane:
    """A lane for cars.

    Attributes
    ----------
    number : int
        SUMO's number of the lane, from 0 at the kerb.
    speed_mps : float
        Speed limit, m/s.
    leads_to : frozenset of str
        Names of the edges to which a connection leads from it.
    """

    number: int
    speed_mps: float
    leads_to: frozenset[str]


def read_lanes(file: Path, index: Mapping[str, int]) -> tuple[dict[int, list[Lane]], dict[int, frozenset[str]]]:
    """Read the lanes for cars of a .net.xml.

    Returns
    -------
    lanes : dict
        The lanes of each edge in `index`, by edge index and in order.
    before : dict
        Names of all edges that lead to each of them, also of edges that are not in `index`.
    """
    before: dict[int, set[str]] = {}
    speeds: dict[int, dict[int, float]] = {}
    leads: dict[tuple[int, int], set[str]] = {}
    for _, element in ET.iterparse(file):
        if element.tag == "edge":
            edge = index.get(element.get("id", ""))
            if edge is not None:
                cars = [lane for lane in element.iter("lane") if for_cars(dict(lane.attrib))]
                speeds[edge] = {int(lane.get("index", "0")): float(lane.get("speed", "0")) for lane in cars}
            element.clear()
        elif element.tag == "connection":
            edge, after = index.get(element.get("from", "")), element.get("to", "")
            if after in index and not element.get("from", "").startswith(":"):
                before.setdefault(index[after], set()).add(element.get("from", ""))
            if edge is not None and after in index and for_cars(dict(element.attrib)):
                leads.setdefault((edge, int(element.get("fromLane", "0"))), set()).add(after)
    lanes = {
        edge: [Lane(i, limit, frozenset(leads.get((edge, i), ()))) for i, limit in sorted(of_lanes.items())]
        for edge, of_lanes in speeds.items()
        if of_lanes
    }
    return lanes, {edge: frozenset(names) for edge, names in before.items()}
