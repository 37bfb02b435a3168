"""A fleet: vehicles of the demand that agents drive instead, drawn in each traffic seed.

The vehicles that may be drawn are shuffled by the traffic seed, and the first ones become agents: a larger fleet
contains the smaller one. Flows are written as single vehicles first, so that one of them can be drawn.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo.base import cache, files, seeding, temporary
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.events import PlacedSurge
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import MOST_AGENTS, Fleet, Scenario
from relid_sumo.scenario.task import Trips
from relid_sumo.scenario.traffic import flows
from relid_sumo.scenario.traffic import surge as surges
from relid_sumo.scenario.traffic.demand import own_file

FORMAT = 2  # part of the cache key: raise it when the meaning of the cached values changes
CAR = "passenger"
DEFAULT_TYPE = "DEFAULT_VEHTYPE"


@dataclass(frozen=True)
class Candidate:
    """A vehicle of the demand that may become an agent: id, type, departure in s after the warm-up, and its ends."""

    vehicle: str
    kind: str
    depart_s: float
    origin: int
    destination: int


def drawn(
    scenario: Scenario,
    network: Network,
    traffic_seed: int,
    closed: frozenset[int],
    surge: PlacedSurge | None = None,
) -> tuple[Trips, Path]:
    """Return the agents' trips of a traffic seed, and the route file of all other vehicles; cached.

    Parameters
    ----------
    closed
        Edges that no vehicle may use. Vehicles that cannot drive around them are not drawn.
    surge
        The surge of the traffic seed; its vehicles are drawn as all others are.

    Raises
    ------
    InputError
        No vehicle can be drawn, fewer than `Fleet.count`, or a vehicle type does not exist or is not that of cars.
    """
    fleet = scenario.fleet
    assert fleet is not None
    every = surges.routes(scenario, network, traffic_seed, surge=surge)
    remaining = surges.routes(scenario, network, traffic_seed, closed, surge)
    demand = [str(file.relative_to(cache.cache_folder())) for file in (every, remaining)]
    timing = [scenario.start_s, scenario.horizon_s, *scenario.window_s]
    content = [FORMAT, demand, fleet.model_dump(mode="json"), timing, traffic_seed, sorted(closed)]
    file = cache.cache_file("fleet", network.name, content, ".json")
    background = file.with_suffix(".rou.xml")

    def make() -> None:
        root = flows.unrolled(ET.parse(every).getroot(), traffic_seed, scenario.end_s)
        found = candidates(root, scenario, network.graph, traffic_seed)
        chosen = choose(found, scenario, network.graph, traffic_seed, closed)
        rest = root if remaining == every else ET.parse(remaining).getroot()
        leave_out(rest, {one.vehicle for one in chosen})
        with temporary.folder(".tmp-", _made(file.parent)) as folder:
            part = Path(folder) / "background.rou.xml"
            ET.ElementTree(rest).write(part, encoding="utf-8")
            files.put(part, background)
        files.write_json(file, [vars(one) for one in chosen])

    cache.once(file, make, [background])
    return _trips(json.loads(file.read_text(encoding="utf-8"))), background


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _trips(chosen: list[dict[str, Any]]) -> Trips:
    kinds = tuple(one["kind"] for one in chosen)
    return Trips(
        names=agent_names(len(chosen)),
        origin=np.array([one["origin"] for one in chosen], dtype=np.int32),
        destination=np.array([one["destination"] for one in chosen], dtype=np.int32),
        depart_s=np.array([one["depart_s"] for one in chosen]),
        vehicles=tuple(one["vehicle"] for one in chosen),
        types=kinds if any(kinds) else (),
    )


def agent_names(count: int) -> tuple[str, ...]:
    """Return the names of a fleet's agents, in the order of their departures."""
    return tuple(f"agent{i}" for i in range(count))


def candidates(root: ET.Element, scenario: Scenario, graph: RoadGraph, traffic_seed: int) -> list[Candidate]:
    """Return the vehicles of a route file that may be drawn, in the order of the file.

    Raises
    ------
    InputError
        A vehicle type of `Fleet.types` does not exist, or is not that of cars.
    """
    fleet = scenario.fleet
    assert fleet is not None
    own = scenario.demand.route_file is not None
    mixed = {kind.get("id", ""): _members(kind) for kind in root.iter("vTypeDistribution")}
    allowed = _allowed(root, mixed, fleet, scenario)
    ends_of = {route.get("id", ""): _ends(route) for route in root.findall("route")}
    (begin_s, end_s), middle = scenario.window_s, graph.middle_xy
    found = []
    for vehicle in root:
        if vehicle.tag not in {"vehicle", "trip"} or vehicle.find("stop") is not None:
            continue
        depart_s = seconds(vehicle.get("depart", "")) - scenario.start_s
        kind = vehicle.get("type", DEFAULT_TYPE)
        if not begin_s <= depart_s < end_s or kind not in allowed:
            continue
        route = vehicle.find("route")
        if route is not None and route.find("stop") is not None:
            continue
        named = ends_of.get(vehicle.get("route", ""), (vehicle.get("from", ""), vehicle.get("to", "")))
        ends = [graph.index.get(name, -1) for name in (named if route is None else _ends(route))]
        if min(ends) < 0 or ends[0] == ends[1]:
            continue
        if float(np.hypot(*(middle[ends[0]] - middle[ends[1]]))) >= fleet.min_distance_m:
            name = vehicle.get("id", "")
            if kind in mixed:
                kind = _member(mixed[kind], traffic_seed, name)
            found.append(Candidate(name, kind if own else "", depart_s, ends[0], ends[1]))
    return found


def _members(mixed: ET.Element) -> dict[str, float]:
    """Return the vehicle types of a distribution with their probabilities."""
    names, weights = mixed.get("vTypes", "").split(), mixed.get("probabilities", "").split()
    own = {kind.get("id", ""): float(kind.get("probability", "1")) for kind in mixed.findall("vType")}
    return dict(zip(names, map(float, weights or ["1"] * len(names)), strict=False)) | own


def _member(members: dict[str, float], traffic_seed: int, vehicle: str) -> str:
    weights = np.array(list(members.values()))
    draw = seeding.stream(traffic_seed, "type", vehicle)
    return str(draw.choice(list(members), p=weights / weights.sum()))


def _ends(route: ET.Element) -> tuple[str, str]:
    """Return the first and the last edge of a route; no edges where it contains stops."""
    edges = route.get("edges", "").split()
    return (edges[0], edges[-1]) if edges and route.find("stop") is None else ("", "")


def _allowed(root: ET.Element, mixed: dict[str, dict[str, float]], fleet: Fleet, scenario: Scenario) -> set[str]:
    """Return the vehicle types that may be drawn."""
    classes = {kind.get("id", ""): kind.get("vClass", CAR) for kind in root.iter("vType")} | {DEFAULT_TYPE: CAR}
    cars = {kind for kind, name in classes.items() if name == CAR}
    cars |= {kind for kind, members in mixed.items() if members and cars.issuperset(members)}
    if fleet.types is None:
        return cars
    source = own_file(scenario) or "the generated demand"
    for kind in fleet.types:
        if kind not in classes and kind not in mixed:
            known = [name for name in (*classes, *mixed) if name in cars]
            raise InputError(
                f"fleet.types: {source} has no vehicle type '{kind}'{did_you_mean(kind, known)}; its types of cars are "
                f"{', '.join(known)}"
            )
        if kind not in cars:
            raise InputError(
                f"fleet.types: vehicle type '{kind}' is not a car (vClass {classes.get(kind, 'of several types')}); "
                f"agents drive cars only: remove it"
            )
    return set(fleet.types)


def choose(
    found: Sequence[Candidate], scenario: Scenario, graph: RoadGraph, traffic_seed: int, closed: frozenset[int]
) -> list[Candidate]:
    """Draw the vehicles that become agents, and return them in the order of their departures.

    Raises
    ------
    InputError
        There is none, or fewer than `Fleet.count`.
    """
    fleet = scenario.fleet
    assert fleet is not None
    wanted = fleet.count if fleet.count is not None else round((fleet.share or 0.0) * len(found))
    order = seeding.stream(traffic_seed, "fleet").permutation(len(found)).tolist()
    chosen: list[int] = []
    while order and len(chosen) < wanted:
        short = wanted - len(chosen)
        some, order = order[:short], order[short:]
        chosen += [i for i in some if i in _arriving([(i, found[i]) for i in some], scenario, graph, closed)]
    where = f"scenario '{scenario.name}', traffic seed {traffic_seed}"
    begin_s, end_s = scenario.window_s
    window = f"{len(found)} cars of the demand can be drawn (departures from {begin_s:g} s to {end_s:g} s)"
    more = "set fleet.end_s higher, fleet.min_distance_m lower, or more demand"
    if not chosen or (fleet.count is not None and len(chosen) < wanted):
        size = f"share = {fleet.share:g}" if fleet.count is None else f"count = {fleet.count}"
        able = f", and {len(chosen)} can arrive before the horizon" if wanted <= len(found) and wanted else ""
        raise InputError(f"{where}: fleet.{size} gives too few agents: {window}{able}; {more}, or another size")
    if len(chosen) > MOST_AGENTS:
        raise InputError(f"{where}: a fleet of {len(chosen)} agents, more than {MOST_AGENTS}; lower fleet.share")
    return [found[i] for i in sorted(chosen, key=lambda i: (found[i].depart_s, i))]


def _arriving(
    some: list[tuple[int, Candidate]], scenario: Scenario, graph: RoadGraph, closed: frozenset[int]
) -> set[int]:
    """Return the vehicles that can reach their destination, and at free flow do so before the horizon."""
    cost = graph.free_flow_s.copy()
    cost[sorted(closed)] = np.inf
    targets = sorted({one.destination for _, one in some})
    to_go, row = graph.to_destinations(targets, cost)[0], {target: k for k, target in enumerate(targets)}
    return {
        i
        for i, one in some
        if one.depart_s + cost[one.origin] + to_go[row[one.destination], one.origin] < scenario.horizon_s
    }


def leave_out(root: ET.Element, vehicles: set[str]) -> None:
    """Remove vehicles from a route file."""
    for vehicle in [one for one in root if one.tag in {"vehicle", "trip"} and one.get("id") in vehicles]:
        root.remove(vehicle)
