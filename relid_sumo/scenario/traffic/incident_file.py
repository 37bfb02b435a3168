"""Incidents for SUMO, as an additional file of rerouters and variable speed signs, which plain SUMO reads too.

In the microscopic simulation:

- With a closed edge, the edges that lead only to it are closed.
- A closed edge or lane has no permissions from the step of its begin to that of its end. Vehicles on it, or in the
  junction before it, drive on.
- A background vehicle whose route leads over a closed edge takes another route when it is on the edge before it: the
  fastest one at free flow. If there is none, it waits; SUMO teleports it after ``teleport_after_s``. If its destination
  is a closed edge, its trip ends on the edge before. SUMO leaves out vehicles that would depart on a closed edge.
- On a slowed edge or lane the speed limit is lower.

SUMO's mesoscopic simulation has no lanes: there, an edge with closed or slowed lanes gets the mean speed limit of its
lanes, where a closed lane counts as 0. Its rerouters do not turn vehicles that stand before an edge when it closes;
`relid_sumo.sim.bridge.SumoBridge.turn_away` does.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from relid_sumo.base import files
from relid_sumo.base.cache import cache_file, once
from relid_sumo.network.network import Network
from relid_sumo.scenario.incidents import Placed
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.traffic.sumo_options import REROUTING_TYPE

OWN_TYPES = ("DEFAULT_VEHTYPE", "DEFAULT_TAXITYPE", "DEFAULT_BIKETYPE", "DEFAULT_CONTAINERTYPE", "DEFAULT_RAILTYPE")


def incident_file(
    incidents: Sequence[Placed], network: Network, start_s: float, simulator: Simulator, traffic: Sequence[Path]
) -> Path:
    """Return the additional file of some incidents, cached by its content.

    Parameters
    ----------
    start_s
        Simulation time of the agents' time 0, s.
    traffic
        Files of the background traffic, whose vehicle types are rerouted. Agents are not: they choose.
    """
    root = ET.Element("additional")
    own = {*OWN_TYPES, *(kind for file in traffic for kind in vehicle_types(file))}
    types = " ".join(sorted({*own, REROUTING_TYPE, *(f"{REROUTING_TYPE}@{kind}" for kind in own)}))
    for number, one in enumerate(incidents):
        begin, end = (f"{start_s + at_s:.3f}" for at_s in (one.begin_s, one.end_s))
        if one.speed_mps is None and (one.shut or simulator == "micro"):
            rerouter = {"id": f"incident {number}", "edges": " ".join(before(network, one)), "vTypes": types}
            interval = ET.SubElement(ET.SubElement(root, "rerouter", rerouter), "interval", begin=begin, end=end)
            for edge in one.shut:
                ET.SubElement(interval, "closingReroute", id=str(network.graph.edge_ids[edge]), disallow="all")
            if one.shut:
                ET.SubElement(interval, "destProbReroute", id="terminateRoute")
            for lane in one.lanes:
                ET.SubElement(interval, "closingLaneReroute", id=f"{one.name}_{lane}", disallow="all")
            continue
        for lane, speed_mps in _limits(one, network, simulator):
            sign = {"id": f"incident {number} lane {lane}", "lanes": f"{one.name}_{lane}"}
            signs = ET.SubElement(root, "variableSpeedSign", sign)
            ET.SubElement(signs, "step", time=begin, speed=f"{speed_mps:.6g}")
            ET.SubElement(signs, "step", time=end)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode") + "\n"
    file = cache_file("incidents", network.name, text, ".add.xml")
    once(file, lambda: files.write(file, text.encode()))
    return file


def before(network: Network, one: Placed) -> list[str]:
    """Return the names of the edges that lead to the edges of an incident."""
    leading = set[str]().union(*(network.before.get(edge, ()) for edge in one.shut or (one.edge,)))
    return sorted(leading - {str(network.graph.edge_ids[edge]) for edge in one.shut})


def _limits(one: Placed, network: Network, simulator: Simulator) -> Iterable[tuple[int, float]]:
    """Return lanes and their speed limits, m/s; mesoscopically one lane stands for the edge."""
    lanes = network.lanes[one.edge]
    chosen = {lane.number for lane in lanes} if not one.lanes else set(one.lanes)
    limits = {
        lane.number: min(one.speed_mps or 0.0, lane.speed_mps) if lane.number in chosen else lane.speed_mps
        for lane in lanes
    }
    if simulator == "meso":
        return [(lanes[0].number, sum(limits.values()) / len(limits))]
    return [(lane, limit) for lane, limit in limits.items() if lane in chosen]


@lru_cache(maxsize=8)
def bound_for(file: Path) -> frozenset[str]:
    """Return the edges that trips and flows of a route file name in ``to`` or ``via``, for SUMO to route them.

    SUMO stops where such a via edge is closed at a departure. Where a destination is, the vehicle stands on its first
    edge.
    """
    found = set()
    for _, element in ET.iterparse(file):
        if element.tag in {"trip", "flow", "vehicle"}:
            found.update(f"{element.get('to', '')} {element.get('via', '')}".split())
            element.clear()
    return frozenset(found)


@lru_cache(maxsize=8)
def vehicle_types(file: Path) -> frozenset[str]:
    """Return the ids of the vehicle types in a route file or an additional file."""
    found = set()
    for _, element in ET.iterparse(file):
        if element.tag == "vType":
            found.add(element.get("id", ""))
        if element.tag in {"vehicle", "trip", "flow", "person"}:
            element.clear()
    return frozenset(found)
