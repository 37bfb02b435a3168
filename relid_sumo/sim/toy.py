"""A toy simulation in place of SUMO: deterministic and instant, for tests and for work on algorithms.

A vehicle crosses an edge in the free-flow time times ``1 + load / lanes``; `load` is the number of vehicles on the edge
when it enters. There is no background traffic, no queue and no teleport.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relid_sumo.network.graph import RoadGraph, order_slots
from relid_sumo.sim.trip_output import TripMeasures


@dataclass(eq=False)
class _Car:
    route: list[int]
    depart_s: float
    at: int = -1
    leaves_s: float = 0.0


class ToyBridge:
    """A `relid_sumo.sim.bridge.Bridge` without SUMO.

    Parameters
    ----------
    graph
        The network.
    slow
        Factors on the crossing time of single edges, by edge index. Default: 1.
    """

    in_process, mesoscopic = True, False

    def __init__(self, graph: RoadGraph, slow: dict[int, float] | None = None, *, step_length_s: float = 1.0) -> None:
        self._graph, self._slow, self._step_s = graph, slow or {}, step_length_s
        self._now = 0.0
        self._cars: dict[str, _Car] = {}
        self._departed: list[str] = []

    def step(self) -> float:
        """See `Bridge.step`."""
        now, self._now = self._now, self._now + self._step_s
        self._departed = []
        for name, car in sorted(self._cars.items()):
            if car.at < 0 and car.depart_s <= now:
                self._departed.append(name)
                self._enter(car, 0, max(now, car.depart_s))
            while car.at >= 0 and car.leaves_s <= now:
                if car.at + 1 == len(car.route):
                    del self._cars[name]
                    break
                self._enter(car, car.at + 1, car.leaves_s)
        return now

    def _enter(self, car: _Car, at: int, now: float) -> None:
        car.at = at
        car.leaves_s = now + self._seconds(car.route[at], leave_out=car)

    def _load(self, edge: int, leave_out: _Car | None = None) -> int:
        return sum(c.at >= 0 and c.route[c.at] == edge and c is not leave_out for c in self._cars.values())

    def _seconds(self, edge: int, leave_out: _Car | None = None) -> float:
        load = self._load(edge, leave_out)
        free = float(self._graph.free_flow_s[edge])
        return free * self._slow.get(edge, 1.0) * (1.0 + load / int(self._graph.lanes[edge]))

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """See `Bridge.add`. The toy never changes a route, and has one type of vehicle."""
        del rerouting, kind
        self._cars[vehicle] = _Car([self._graph.index[e] for e in route], depart_s)

    def set_route(self, vehicle: str, route: Sequence[str]) -> None:
        """See `Bridge.set_route`."""
        car = self._cars[vehicle]
        edges = [self._graph.index[e] for e in route]
        if edges[0] != car.route[car.at] or any(b not in self._graph.slots[a] for a, b in itertools.pairwise(edges)):
            raise ValueError(f"vehicle '{vehicle}': the route does not start at the vehicle's edge; start it there")
        car.route, car.at = edges, 0

    def road(self, vehicle: str) -> str | None:
        """See `Bridge.road`."""
        car = self._cars.get(vehicle)
        return None if car is None or car.at < 0 else str(self._graph.edge_ids[car.route[car.at]])

    def speed_factor(self, vehicle: str) -> float:
        """See `Bridge.speed_factor`. All vehicles drive at the speed limit."""
        del vehicle
        return 1.0

    def departed(self) -> Sequence[str]:
        """See `Bridge.departed`."""
        return self._departed

    def teleported(self) -> Sequence[str]:
        """See `Bridge.teleported`."""
        return ()

    def running(self) -> int:
        """See `Bridge.running`."""
        return sum(car.at >= 0 for car in self._cars.values())

    def waiting(self) -> int:
        """See `Bridge.waiting`."""
        return sum(car.at < 0 and car.depart_s < self._now for car in self._cars.values())

    def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
        """See `Bridge.travel_time`. The smoothed time equals the present one."""
        del vehicle, smoothed
        return self._seconds(self._graph.index[edge])

    def vehicles(self, edge: str) -> int:
        """See `Bridge.vehicles`."""
        return self._load(self._graph.index[edge])

    def fastest_route(self, edge: str, destination: str) -> Sequence[str]:
        """See `Bridge.fastest_route`."""
        graph = self._graph
        cost = np.array([self._seconds(e) for e in range(graph.n_edges)])
        return [str(graph.edge_ids[e]) for e in graph.path(graph.index[edge], graph.index[destination], cost)]

    def turn_away(self, begun: Sequence[str], closed: Sequence[str]) -> None:
        """See `Bridge.turn_away`. There is no background traffic."""

    def fingerprint(self) -> str:
        """See `Bridge.fingerprint`."""
        return "\n".join(f"{name} {car.route[max(car.at, 0)]} {car.leaves_s!r}" for name, car in self._cars.items())

    def measure_here(self) -> None:
        """See `Bridge.measure_here`. The toy measures no trips."""

    def measured(self) -> Mapping[str, TripMeasures]:
        """See `Bridge.measured`."""
        return {}

    def close(self) -> None:
        """See `Bridge.close`."""
        self._cars.clear()


def grid(side: int, *, block_m: float = 100.0, speed: float = 10.0) -> RoadGraph:
    """Return a grid of two-way streets with `side` x `side` junctions, without U-turns.

    Edges are named ``"a>b"`` after their junctions. Junctions are numbered row by row.
    """
    where = np.array([(x * block_m, y * block_m) for y in range(side) for x in range(side)], dtype=float)
    pairs = [
        (a, b)
        for a in range(side * side)
        for b in range(side * side)
        if math.isclose(float(np.abs(where[a] - where[b]).sum()), block_m)
    ]
    successors = [[j for j, (c, d) in enumerate(pairs) if c == b and d != a] for a, b in pairs]
    heading = np.array([math.atan2(*(where[b] - where[a])[::-1]) for a, b in pairs])
    n = len(pairs)
    return RoadGraph(
        edge_ids=np.array([f"{a}>{b}" for a, b in pairs]),
        length=np.full(n, block_m),
        speed=np.full(n, speed),
        lanes=np.ones(n, dtype=np.int32),
        slots=order_slots(successors, heading, heading, left_hand=False),
        shape_xy=np.array([xy for a, b in pairs for xy in (where[a], where[b])]),
        shape_start=np.arange(0, 2 * n + 1, 2, dtype=np.int32),
        from_junction=np.array([a for a, _ in pairs], dtype=np.int32),
        to_junction=np.array([b for _, b in pairs], dtype=np.int32),
        junction_xy=where,
        junction_signal=np.zeros(len(where), dtype=bool),
        projection=np.array([""]),
        offset=np.zeros(2),
        left_hand=np.array([False]),
    )


def two_routes(start_m: float = 100.0) -> RoadGraph:
    """Return two routes at 10 m/s: start, first, then top (30 s) or bottom (48 s), then end.

    A very long road leads from start to end too. The edges are start, long, first, top, bottom and end.
    """
    length = np.array([start_m, 5000.0, 100.0, 300.0, 480.0, 100.0])
    ends = [((0, 0), (1, 0)), ((1, 0), (3, 0)), ((1, 0), (2, 0)), ((2, 0), (3, 0)), ((2, 0), (3, 0)), ((3, 0), (4, 0))]
    return RoadGraph(
        edge_ids=np.array(["start", "long", "first", "top", "bottom", "end"]),
        length=length,
        speed=np.full(6, 10.0),
        lanes=np.array([4, 1, 4, 1, 1, 4], dtype=np.int32),
        slots=np.array([[1, 2], [5, -1], [3, 4], [5, -1], [5, -1], [-1, -1]], dtype=np.int32),
        shape_xy=100.0 * np.array([xy for pair in ends for xy in pair], dtype=float),
        shape_start=np.arange(0, 13, 2, dtype=np.int32),
        from_junction=np.array([a[0] for a, _ in ends], dtype=np.int32),
        to_junction=np.array([b[0] for _, b in ends], dtype=np.int32),
        junction_xy=100.0 * np.array([(x, 0) for x in range(5)], dtype=float),
        junction_signal=np.zeros(5, dtype=bool),
        projection=np.array([""]),
        offset=np.zeros(2),
        left_hand=np.array([False]),
    )
