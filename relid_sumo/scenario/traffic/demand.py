"""Background traffic: samples trips and routes them once."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from relid_sumo.base import files, seeding, sumo, temporary
from relid_sumo.base.cache import cache_file, cache_folder, once
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Demand, Scenario
from relid_sumo.scenario.traffic import own_demand as route_files

RIM_M = 150.0  # junctions this near to the hull of the network are its rim, where traffic enters and leaves
ROUTE_SPREAD = 2.0  # for each vehicle the time of each edge is multiplied by a random factor from 1 to this
CLOSED_S = 1e6  # cost of a closed road for background traffic
MOST_TRIPS = 10_000_000  # background vehicles of an episode, so that they fit into memory
FORMAT = 1  # part of the cache key: raise it when the meaning of the cached values changes
LEARNED_FORMAT = 1  # the same for the travel times that drivers learn
VEHICLE_TYPE = '<vType id="background" vClass="passenger"/>'


def routes(scenario: Scenario, network: Network, traffic_seed: int, closed: frozenset[int] = frozenset()) -> Path:
    """Return the .rou.xml of a traffic seed's background demand, generated and cached at first use.

    The scenario's demand must have a rate (see `calibrated`) or its own route file, of which SUMO gets a rewritten copy
    (see `relid_sumo.scenario.traffic.own_demand`). Vehicles are routed around
    `closed` edges, and left out where that is impossible; the routes of all others do not change.

    Raises
    ------
    InputError
        The scenario's own route file does not exist, or contains more than a description of traffic.
    """
    demand, own = scenario.demand, own_file(scenario)
    if own is not None:
        return route_files.cleaned(own)
    if demand.rate_vph is None:
        raise InputError(f"scenario '{scenario.name}': demand.rate_vph is missing; calibrate it first")
    learned = known_times(scenario, network)
    return _routes(demand, demand.rate_vph, network, traffic_seed, scenario.end_s, closed, learned)


def known_times(scenario: Scenario, network: Network) -> Path | None:
    """Return the file of the travel times on which drivers choose their routes; None for those at free flow.

    Raises
    ------
    InputError
        The drivers have not learned them yet.
    """
    if scenario.demand.route_choice != "equilibrium":
        return None
    learned = learned_file(scenario, network)
    if not learned.is_file():
        raise InputError(f"scenario '{scenario.name}': its drivers have not learned their routes; prepare it first")
    return learned


def learned_file(scenario: Scenario, network: Network) -> Path:
    """Return the file of the travel times that drivers have learned (see `relid_sumo.scenario.traffic.equilibrium`)."""
    timing = [scenario.end_s, scenario.step_length_s, scenario.teleport_after_s, *_window(scenario)]
    content = [LEARNED_FORMAT, network.key, sumo.version(), scenario.demand.model_dump(mode="json"), timing]
    return cache_file("equilibrium", network.name, [*content, list(scenario.seeds.training[:2])], ".xml")


def _window(scenario: Scenario) -> list[float]:
    return [scenario.observation.window_s] if scenario.demand.rerouting else []


def routed(scenario: Scenario, network: Network, traffic_seed: int, learned: Path, file: Path) -> Path:
    """Write the vehicles of a traffic seed, routed on given travel times (SUMO's edge data), and return the file."""
    demand = scenario.demand
    trips = _trips(demand, demand.rate_vph or 0.0, network, traffic_seed, scenario.end_s)
    route_trips(trips, network, traffic_seed, [], file, learned)
    return file


def own_file(scenario: Scenario) -> Path | None:
    """Return a scenario's own route file; None where its demand is generated.

    Raises
    ------
    InputError
        The file does not exist.
    """
    if scenario.demand.route_file is None:
        return None
    file = scenario.folder / scenario.demand.route_file
    if not file.is_file():
        raise InputError(
            f"{file}: no such route file (demand.route_file of scenario '{scenario.name}'); correct the path"
        )
    return file


def own_demand(scenario: Scenario) -> str | None:
    """Return the checksum of a scenario's own route file and additional file; None where its demand is generated.

    `prepare` computes it once; a `PreparedScenario` carries it as `demand`.
    """
    file = own_file(scenario)
    if file is None:
        return None
    digest = route_files.digest(file)
    other = scenario.demand.additional_file
    return digest if other is None else f"{digest} {route_files.digest(scenario.folder / other)}"


def _routes(
    demand: Demand,
    rate_vph: float,
    network: Network,
    traffic_seed: int,
    end_s: float,
    closed: frozenset[int],
    learned: Path | None,
) -> Path:
    settings = demand.model_dump(mode="json", exclude={"level", "rate_vph", "max_running", "warmup_s", "rerouting"})
    parts = [settings, round(rate_vph, 3), end_s, sorted(closed)]
    key = cache_key(network, *parts, *([] if learned is None else [learned.name]))
    file = cache_folder() / "demand" / key / f"{traffic_seed}.rou.xml"

    def make() -> None:
        shut = [str(network.graph.edge_ids[e]) for e in closed]
        route_trips(_trips(demand, rate_vph, network, traffic_seed, end_s), network, traffic_seed, shut, file, learned)

    once(file, make)
    return file


def _trips(demand: Demand, rate_vph: float, network: Network, traffic_seed: int, end_s: float) -> list[str]:
    graph = network.graph
    depart, origin, destination = sample(demand, rate_vph, graph, traffic_seed, end_s)
    return [
        f'<trip id="b{i}" type="background" depart="{t:.2f}" from="{graph.edge_ids[o]}" to="{graph.edge_ids[d]}"'
        ' departLane="best" departSpeed="max"/>'
        for i, (t, o, d) in enumerate(zip(depart, origin, destination, strict=True))
    ]


def cache_key(network: Network, *parts: object) -> str:
    """Return the name of a cache folder for results of a network and some settings."""
    text = json.dumps([FORMAT, network.key, sumo.version(), *parts], sort_keys=True)
    return f"{network.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def route_trips(
    trips: list[str],
    network: Network,
    traffic_seed: int,
    closed: list[str],
    file: Path,
    learned: Path | None,
    stream: str = "routing",
) -> None:
    """Route trips once with duarouter, on learned travel times if given, and write the result as a complete file.

    `stream` names the random numbers of the drivers' choices.
    """
    seed = seeding.sumo_seed(traffic_seed, stream)
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary.folder(".tmp-", file.parent) as folder:
        source, weights, result = (Path(folder) / name for name in ("trips.xml", "weights.xml", "out.rou.xml"))
        source.write_text("\n".join(["<routes>", VEHICLE_TYPE, *trips, "</routes>"]), encoding="utf-8")
        options = ["--weights.random-factor", ROUTE_SPREAD, "--seed", seed, "--ignore-errors", "--no-warnings"]
        if closed or learned is not None:
            weights.write_text(_weights(closed, learned), encoding="utf-8")
            options += ["--weight-files", weights, "--weight-attribute", "traveltime"]
        arguments = ["-n", network.net_file, "-r", source, "-o", result, "--no-step-log", *options]
        sumo.run("duarouter", [str(a) for a in arguments])
        if closed:
            _leave_out(result, set(closed))
        files.put(result, file)


def _weights(closed: list[str], learned: Path | None) -> str:
    """Return learned travel times as SUMO's edge data, with closed edges at a prohibitive time."""
    root = ET.Element("meandata") if learned is None else ET.parse(learned).getroot()
    shut = set(closed)
    for interval in root:
        for edge in [one for one in interval if one.get("id") in shut]:
            interval.remove(edge)
    if closed:
        interval = ET.SubElement(root, "interval", id="closed", begin="0", end=f"{CLOSED_S}")
        for name in closed:
            ET.SubElement(interval, "edge", id=name, traveltime=f"{CLOSED_S}")
    return ET.tostring(root, encoding="unicode")


def _leave_out(file: Path, closed: set[str]) -> None:
    """Remove vehicles that drive on closed edges from a route file."""
    tree = ET.parse(file)
    root = tree.getroot()
    for vehicle in root.findall("vehicle"):
        route = vehicle.find("route")
        if route is None or closed & set(route.get("edges", "").split()):
            root.remove(vehicle)
    tree.write(file, encoding="utf-8")


def sample(
    demand: Demand,
    rate_vph: float,
    graph: RoadGraph,
    traffic_seed: int,
    end_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Sample background trips.

    Returns
    -------
    depart : array, shape (n,)
        Rising, s since the start of the warm-up.
    origin, destination : array of int, shape (n,)
        Edge indices.

    Raises
    ------
    InputError
        There are too many.
    """
    rng = seeding.stream(traffic_seed, "demand")
    times, factors = np.array(demand.profile).T
    grid = np.arange(0.0, end_s + 1.0)
    cumulative = np.concatenate([[0.0], np.cumsum(np.interp(grid[:-1] + 0.5, times, factors))]) * rate_vph / 3600.0
    if cumulative[-1] > MOST_TRIPS:
        raise InputError(
            f"demand: {cumulative[-1]:.3g} background vehicles are more than {MOST_TRIPS:.0e}; lower demand.rate_vph, "
            "demand.profile or horizon_s"
        )
    n = int(rng.poisson(cumulative[-1])) if cumulative[-1] > 0 else 0
    depart = np.interp(np.sort(rng.uniform(0.0, cumulative[-1], n)), cumulative, grid)
    start_rim, end_rim = rim_edges(graph)
    weight = graph.length * graph.lanes * graph.speed
    origin_share, destination_share = (
        w / w.sum() for w in (np.where(rim, demand.fringe_factor, 1.0) * weight for rim in (start_rim, end_rim))
    )
    middle = np.array([graph.point_along(e, 0.5)[:2] for e in range(graph.n_edges)])
    span = float(np.hypot(*np.ptp(graph.junction_xy, axis=0)))
    apart = min(demand.min_distance_m, span / 4)
    origin = rng.choice(graph.n_edges, n, p=origin_share)
    destination = rng.choice(graph.n_edges, n, p=destination_share)
    for _ in range(100):
        near = np.hypot(*(middle[origin] - middle[destination]).T) < apart
        if not near.any():
            break
        destination[near] = rng.choice(graph.n_edges, int(near.sum()), p=destination_share)
    return depart, origin, destination


def rim_edges(graph: RoadGraph) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which edges start, and which end, at the rim of the network, each of shape (E,)."""
    hull = ConvexHull(graph.junction_xy)
    inside_m = -(graph.junction_xy @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=1)
    rim = inside_m < RIM_M
    return rim[graph.from_junction], rim[graph.to_junction]
