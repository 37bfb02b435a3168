"""Travel times of every vehicle, edge and turn in background traffic, over samples of traffic.

Each traffic seed is driven once. Calibration, the choice of trips and the turn times all read the cached result.
"""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from relid_sumo.base import cache, files, sumo, temporary
from relid_sumo.base.arrays import Floats
from relid_sumo.base.npz import read_npz
from relid_sumo.base.progress import phase
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic.demand import routes
from relid_sumo.scenario.traffic.sumo_options import simulation_options, with_additional

log = logging.getLogger(__name__)

BIN_S = 300.0
MOST_SAMPLES = 16  # samples of traffic whose mean is known beforehand; more cost time and change it little
SAMPLE_ARRAYS = {"vehicle", "vehicle_s", "counts", "cause", "place"}
TELEPORT = re.compile(r"Teleporting vehicle '[^']*'; waited too long \(([a-z ]+)[^)]*\), lane='(.*)_\d+'")
TRIPS, STATISTICS = "trips.xml", "statistics.xml"
# Settings that do not change these measurements, which are of traffic without incidents and surges. The key of the
# network represents the network.
NOT_TRAFFIC = {
    *("trips", "fleet", "network", "seeds", "observation", "reward", "name", "simulator", "meso"),
    *("incidents", "events"),
}
FORMAT, SAMPLE_FORMAT = 2, 2  # part of the cache key: raise one when the meaning of its cached values changes


@dataclass(frozen=True, eq=False)
class Measured:
    """Time spent on the roads by five-minute bin, summed over vehicles and samples of traffic.

    Bins start at the agents' time 0 and end at the horizon.

    Attributes
    ----------
    edge_s, edge_vehicles : array, shape (bins, E)
        Seconds on each edge, and their number of vehicles; a vehicle that is on an edge for a part of a bin counts in
        part.
    turn_s, turn_vehicles : array, shape (bins, E, m_out)
        Seconds from entering each edge to leaving it by each of its slots, by the bin in which it is entered; whole
        passages of vehicles that did not depart there.
    """

    edge_s: Floats
    edge_vehicles: Floats
    turn_s: Floats
    turn_vehicles: Floats


@dataclass(frozen=True, eq=False)
class Sample:
    """The microscopic background traffic of one traffic seed.

    Attributes
    ----------
    trips : dict
        Travel time by vehicle, departure delay included, s; of an unfinished trip, its time so far.
    departed, teleports : int
        Vehicles that departed; jam and yield teleports.
    teleported : list of tuple
        Cause (jam, yield or wrong lane) and edge of each teleport.
    times : Measured
        Times of edges and turns.
    """

    trips: dict[str, float]
    departed: int
    teleports: int
    teleported: list[tuple[str, str]]
    times: Measured


def measured(
    scenario: Scenario,
    network: Network,
    own: str | None,
    traffic_seeds: Sequence[int] | None = None,
) -> Measured:
    """Drive the background traffic alone, microscopically, and return its times; cached.

    Parameters
    ----------
    own
        The checksum of the scenario's own route file, if it has one (`PreparedScenario.demand`).
    traffic_seeds
        Traffic seeds. Default: the training seeds, at most the first `MOST_SAMPLES`.
    """
    seeds = tuple(scenario.seeds.training[:MOST_SAMPLES] if traffic_seeds is None else traffic_seeds)

    def make() -> dict[str, Floats]:
        log.info(f"measuring travel times over {len(seeds)} samples of traffic")
        with phase("travel times measured"):
            parts = [vars(one.times) for one in sumo.each(lambda seed: sample(scenario, network, own, seed), seeds)]
            return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}

    def load(file: Path) -> Measured:
        return Measured(**read_npz(file, {f.name for f in fields(Measured)}, "measured times", "measure again"))

    def save(file: Path, arrays: dict[str, Floats]) -> None:
        files.write_npz(file, arrays, compressed=False)

    content = [FORMAT, *identity(scenario, network, own, seeds)]
    return cache.cached("traffic", network.name, content, ".npz", make, save, load)


def edge_times(
    scenario: Scenario,
    network: Network,
    own: str | None,
    traffic_seeds: Sequence[int] | None = None,
) -> Floats:
    """Return mean travel times by edge and bin, s, shape (bins, E); see `measured`.

    An edge without vehicles in a bin has its free-flow time.
    """
    took = measured(scenario, network, own, traffic_seeds)
    free = np.broadcast_to(network.graph.free_flow_s, took.edge_s.shape)
    mean = np.where(took.edge_vehicles > 0, took.edge_s / np.maximum(took.edge_vehicles, 1), free)
    return np.maximum(mean, free)


def identity(scenario: Scenario, network: Network, own: str | None, seeds: Sequence[int]) -> list[object]:
    """Return the inputs of the microscopic background traffic of some seeds, without the agents, as JSON."""
    settings = scenario.model_dump(mode="json", exclude=NOT_TRAFFIC)
    if scenario.demand.rerouting:
        settings["window_s"] = scenario.observation.window_s  # of the smoothed travel times that vehicles reroute on
    return [network.key, settings, own, list(seeds), sumo.version()]


def sample(scenario: Scenario, network: Network, own: str | None, seed: int) -> Sample:
    """Drive the background traffic of one traffic seed alone, microscopically, and return its times; cached."""

    def load(file: Path) -> Sample:
        names = [field.name for field in fields(Measured)]
        data = read_npz(file, {*SAMPLE_ARRAYS, *names}, "a sample of traffic", "measure again")
        trips = dict(zip(data["vehicle"].tolist(), data["vehicle_s"].tolist(), strict=True))
        departed, teleports = data["counts"].tolist()
        teleported = list(zip(data["cause"].tolist(), data["place"].tolist(), strict=True))
        return Sample(trips, departed, teleports, teleported, Measured(*(data[name] for name in names)))

    def save(file: Path, made: Sample) -> None:
        trips = {"vehicle": np.array(list(made.trips), dtype=str), "vehicle_s": np.array(list(made.trips.values()))}
        counts = {"counts": np.array([made.departed, made.teleports])}
        cause, place = (np.array([one[k] for one in made.teleported], dtype=str) for k in range(2))
        files.write_npz(file, {**trips, **counts, "cause": cause, "place": place, **vars(made.times)})

    content = [SAMPLE_FORMAT, *identity(scenario, network, own, [seed])]
    return cache.cached("samples", network.name, content, ".npz", lambda: _driven(scenario, network, seed), save, load)


def _driven(scenario: Scenario, network: Network, seed: int) -> Sample:
    with temporary.folder("relid-sumo-") as folder:
        edges, vehicles, wanted = (folder / file for file in ("edges.xml", "driven.xml", "wanted.add.xml"))
        wanted.write_text(
            f'<additional><edgeData id="times" file="{edges}" begin="{scenario.start_s}" period="{BIN_S}" '
            'excludeEmpty="true"/></additional>',
            encoding="utf-8",
        )
        options = [*simulation_options(scenario, network, routes(scenario, network, seed), seed), "--no-step-log"]
        options = with_additional(options, wanted)
        options += ["--end", str(scenario.end_s), "--vehroute-output", str(vehicles)]
        options += ["--vehroute-output.exit-times", "--vehroute-output.write-unfinished", *record(folder)]
        said = sumo.run("sumo", [word for word in options if word != "--no-warnings"])
        edge, turn = _of_edges(edges, scenario, network.graph), turns_of(vehicles, scenario, network.graph)
        return Sample(*travel_times(folder), TELEPORT.findall(said), Measured(*edge, *turn))


def record(folder: Path) -> list[str]:
    """Return SUMO's options that write the files that `travel_times` reads."""
    flags = ("--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted")
    return ["--tripinfo-output", str(folder / TRIPS), *flags, "--statistic-output", str(folder / STATISTICS)]


def travel_times(folder: Path) -> tuple[dict[str, float], int, int]:
    """Return travel times by vehicle [s], vehicles departed, and jam and yield teleports; see `record`."""
    times = {}
    for _, info in ET.iterparse(folder / TRIPS):
        if info.tag == "tripinfo":
            times[info.get("id", "")] = float(info.get("duration", "0")) + float(info.get("departDelay", "0"))
    root = ET.parse(folder / STATISTICS).getroot()
    count = {key: int(number) for part in ("vehicles", "teleports") for key, number in root.find(part).items()}  # type: ignore[union-attr] # SUMO always writes both
    return times, count["inserted"], count["jam"] + count["yield"]


def _bins(scenario: Scenario) -> int:
    return max(1, int(np.ceil(scenario.horizon_s / BIN_S)))


def _of_edges(file: Path, scenario: Scenario, graph: RoadGraph) -> tuple[Floats, Floats]:
    """Read SUMO's edge data: `Measured.edge_s` and `edge_vehicles`."""
    index, bins = graph.index, _bins(scenario)
    total, vehicles = np.zeros((bins, len(index))), np.zeros((bins, len(index)))
    for _, interval in ET.iterparse(file):
        if interval.tag != "interval":
            continue
        at = min(bins - 1, int((float(interval.get("begin", "0")) - scenario.start_s) // BIN_S))
        for edge in interval:
            e = index.get(edge.get("id", ""))
            if e is not None and edge.get("traveltime") is not None:
                seconds = float(edge.get("sampledSeconds", "0"))
                total[at, e] += seconds
                vehicles[at, e] += seconds / max(float(edge.get("traveltime", "1")), 1e-3)
    return total, vehicles


def turns_of(file: Path, scenario: Scenario, graph: RoadGraph) -> tuple[Floats, Floats]:
    """Read the vehicles' routes with exit times: `Measured.turn_s` and `turn_vehicles`."""
    bins = _bins(scenario)
    total, vehicles = (np.zeros((bins, *graph.slots.shape)) for _ in range(2))
    for edge, k, enter_s, took_s in turns_taken(file, graph, scenario.start_s):
        at = min(bins - 1, int(enter_s // BIN_S))
        total[at, edge, k] += took_s
        vehicles[at, edge, k] += 1
    return total, vehicles


def turns_taken(file: Path, graph: RoadGraph, start_s: float) -> Iterator[tuple[int, int, float, float]]:
    """Yield (edge, slot, entered, taken) from routes with exit times, for edges entered after `start_s`.

    `entered` is in s since `start_s`, `taken` in s.
    """
    slot = {(e, after): k for e, row in enumerate(graph.slots.tolist()) for k, after in enumerate(row) if after >= 0}
    for _, element in ET.iterparse(file):
        if element.tag == "vehicle":
            for edge, after, enter_s, left_s in passages(element, graph, start_s):
                k = slot.get((edge, after))
                if k is not None and enter_s >= 0:
                    yield edge, k, enter_s, left_s - enter_s
            element.clear()


def passages(vehicle: ET.Element, graph: RoadGraph, start_s: float) -> list[tuple[int, int, float, float]]:
    """Return (edge, next edge, entered, left) of a vehicle, s after `start_s`; not of the edge it departs on."""
    route = vehicle.findall(".//route")[-1]  # the driven route follows those that it replaced
    edges = [graph.index.get(name, -1) for name in route.get("edges", "").split()]
    left = [float(word) - start_s for word in route.get("exitTimes", "").split()]
    done = next((k for k, at_s in enumerate(left) if at_s + start_s < 0), len(left))
    return [(edges[k], edges[k + 1], left[k - 1], left[k]) for k in range(1, min(done, len(edges) - 1))]
