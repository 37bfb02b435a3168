"""A short trial run that shows on which edges vehicles end in the wrong lane."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relid_sumo.base import seeding, sumo
from relid_sumo.network.graph import RoadGraph

WRONG_LANE = re.compile(r"Teleporting vehicle '[^']*'; waited too long \(wrong lane\), lane='(.*)_\d+'")
DURATION_S = 600.0
TELEPORT_S = 120.0  # longer than any red, see netconvert.LONGEST_CYCLE_S
METRES_PER_VEHICLE = 400.0  # length of road per driving vehicle: light to moderate traffic
MOST_RUNNING = 1000.0  # bounds the cost on large networks
DELAY = 1.5  # a trip takes about this many times its free-flow time
WALK_EDGES = 25
TURN_EDGES = 3


@dataclass(frozen=True)
class Trial:
    """Result of a trial run.

    Attributes
    ----------
    vehicles
        Number of vehicles.
    wrong_lane
        Number of vehicles that SUMO teleported because they stood in the wrong lane, by edge.
    """

    vehicles: int
    wrong_lane: Counter[str]


def run(graph: RoadGraph, net_file: Path, work: Path, seed: int) -> Trial:
    """Drive vehicles through a network for 10 minutes.

    Half of the traffic takes fastest paths, half walks at random. In addition, on every edge with several lanes and
    successors, one vehicle for each lane and each successor starts at the edge's beginning: a vehicle that chooses its
    next edge when it enters an edge may have entered in any lane.

    Parameters
    ----------
    graph, net_file
        The network.
    work
        Folder for the route file.
    seed
        Seed of the traffic.
    """
    trips = _trips(graph, seed)
    routes = work / "trial.rou.xml"
    with routes.open("w", encoding="utf-8") as out:
        out.write("<routes>\n")
        for number, (depart, lane, path) in enumerate(trips):
            edges = " ".join(graph.edge_ids[path])
            out.write(f'<vehicle id="{number}" depart="{depart:.1f}" departLane="{lane}" departSpeed="max">')
            out.write(f'<route edges="{edges}"/></vehicle>\n')
        out.write("</routes>\n")
    log = sumo.run(
        "sumo",
        [
            *("--net-file", net_file, "--route-files", routes, "--no-step-log", "true"),
            *("--end", f"{DURATION_S + 1.5 * TELEPORT_S:g}", "--time-to-teleport", f"{TELEPORT_S:g}"),
            *("--max-depart-delay", "30", "--seed", str(seeding.sumo_seed(seed, "trial"))),
        ],
    )
    return Trial(len(trips), Counter(WRONG_LANE.findall(log)))


def _trips(graph: RoadGraph, seed: int) -> list[tuple[float, str, list[int]]]:
    """Return departure time (s), departure lane and edges of every vehicle, in order of departure."""
    rng = seeding.stream(seed, "trial", "routes")
    trips: list[tuple[float, str, list[int]]] = []

    def depart(path: list[int], lane: str) -> None:
        trips.append((float(rng.uniform(0.0, DURATION_S)), lane, path))

    for edge in np.flatnonzero((graph.lanes > 1) & (graph.n_successors > 1)).tolist():
        for turn in graph.slots[edge, : graph.n_successors[edge]].tolist():
            for lane in range(graph.lanes[edge]):
                depart(_walk(graph, [edge, turn], TURN_EDGES, rng), str(lane))
    weight = graph.length * graph.lanes / (graph.length * graph.lanes).sum()
    busy_s = min(graph.length.sum() / METRES_PER_VEHICLE, MOST_RUNNING) * DURATION_S
    while busy_s > 0:
        start, end = rng.choice(graph.n_edges, 2, p=weight).tolist()
        for path in (graph.path(start, end), _walk(graph, [start], WALK_EDGES, rng)):
            depart(path, "best")
            busy_s -= DELAY * float(graph.free_flow_s[path].sum())
    return sorted(trips)


def _walk(graph: RoadGraph, path: list[int], edges: int, rng: np.random.Generator) -> list[int]:
    """Return a path that continues at random up to a number of edges."""
    path = list(path)
    while len(path) < edges:
        here = path[-1]
        path.append(int(graph.slots[here, rng.integers(graph.n_successors[here])]))
    return path
