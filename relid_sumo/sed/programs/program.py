"""The input of planning programs: network, trips and traffic. This module imports only the standard library.

`objects` makes them from JSON, for the call ``plan(network, trips, traffic)``, or ``plan(network, trips)`` where the
regime of the prompt is bare: then the network has no path searches. Times are in s since the agents' time 0, lengths
in m.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Weight = Mapping[str, float] | Callable[[str], float] | None

PENALTY = 1.5  # factor on the cost of used edges in the search for the next clearly different path
MOST_SHARED = 0.7  # largest shared share of length of clearly different paths


class Roads:
    """The road network; an edge is one direction of a road between two junctions.

    Attributes
    ----------
    edges : list of str
    length, speed : dict of edge to float
        m, and m/s (the limit).
    lanes : dict of edge to int
    signal : dict of edge to bool
        Whether it ends at a traffic signal.
    successors : dict of edge to list of edges
        Permitted next edges, left to right as driven.
    start, end : dict of edge to (x, y)
        m.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.edges: list[str] = data["edges"]
        self.length: dict[str, float] = _by_edge(self.edges, data["length"])
        self.speed = _by_edge(self.edges, data["speed"])
        self.lanes = _by_edge(self.edges, data["lanes"])
        self.signal = _by_edge(self.edges, data["signal"])
        self.start = {edge: (x, y) for edge, (x, y) in zip(self.edges, data["start"], strict=True)}
        self.end = {edge: (x, y) for edge, (x, y) in zip(self.edges, data["end"], strict=True)}
        self.successors = {
            edge: [self.edges[i] for i in row] for edge, row in zip(self.edges, data["successors"], strict=True)
        }


class Network(Roads):
    """The road network with its free-flow times and path searches.

    Attributes
    ----------
    free_flow : dict of edge to float
        s to cross it at the limit.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.free_flow = {edge: self.length[edge] / self.speed[edge] for edge in self.edges}
        self._predecessors: dict[str, list[str]] = {edge: [] for edge in self.edges}
        for edge in self.edges:
            for after in self.successors[edge]:
                self._predecessors[after].append(edge)

    def shortest_path(self, origin: str, destination: str, weight: Weight = None) -> list[str]:
        """Return the cheapest path, both ends included; [] where there is none.

        `weight` is a dict of edge to cost (edges it lacks cost their free-flow time), a function of an edge, or None
        for free-flow time. A cost is at least 0; ``math.inf`` bars an edge.
        """
        cost = self._cost(weight)
        return self._search(origin, destination, cost, self._to_go(destination, cost, origin))

    def k_shortest_paths(self, origin: str, destination: str, k: int, weight: Weight = None) -> list[list[str]]:
        """Return up to k cheapest paths without a loop, cheapest first (Yen 1971); they may differ in one edge."""
        cost = self._cost(weight)
        to_go = self._to_go(destination, cost)
        best = self._search(origin, destination, cost, to_go)
        found = [best] if best else []
        waiting: list[tuple[float, list[str]]] = []
        while found and len(found) < k:
            last = found[-1]
            for i in range(len(last) - 1):
                root = last[: i + 1]
                barred = {path[i + 1] for path in found if path[: i + 1] == root and len(path) > i + 1}
                tail = self._search(root[-1], destination, cost, to_go, barred, set(root[:-1]))
                path = root[:-1] + tail
                if tail and all(path != other for _, other in waiting):
                    heapq.heappush(waiting, (sum(cost(edge) for edge in path), path))
            if not waiting:
                break
            found.append(heapq.heappop(waiting)[1])
        return found

    def alternative_paths(self, origin: str, destination: str, k: int, weight: Weight = None) -> list[list[str]]:
        """Return up to k clearly different paths, each sharing under 70 % of its length with every earlier one.

        Edges of the paths found are made dearer until another path is cheaper (penalty method), so later ones are not
        the cheapest of their kind.
        """
        base = self._cost(weight)
        dearer: dict[str, float] = {}
        found: list[list[str]] = []
        for _ in range(6 * k):
            path = self.shortest_path(origin, destination, lambda edge: base(edge) * dearer.get(edge, 1.0))
            if not path or len(found) >= k:
                break
            if all(self._shared(path, other) < MOST_SHARED for other in found):
                found.append(path)
            for edge in path[1:-1]:
                dearer[edge] = dearer.get(edge, 1.0) * PENALTY
        return found

    def _shared(self, path: list[str], other: list[str]) -> float:
        common = set(path) & set(other)
        return sum(self.length[edge] for edge in common) / sum(self.length[edge] for edge in path)

    def _cost(self, weight: Weight) -> Callable[[str], float]:
        """Return a function of an edge that checks each cost once."""
        known: dict[str, float] = {}
        give = weight if callable(weight) else None
        table = weight if isinstance(weight, Mapping) else {}

        def cost(edge: str) -> float:
            value = known.get(edge)
            if value is None:
                value = float(give(edge) if give is not None else table.get(edge, self.free_flow[edge]))
                if not value >= 0:
                    raise ValueError(f"weight of edge {edge!r} is {value}; a cost is at least 0")
                known[edge] = value
            return value

        return cost

    def _to_go(self, destination: str, cost: Callable[[str], float], origin: str | None = None) -> dict[str, float]:
        """Return the cost from the end of each edge to the end of the destination; up to an origin where given."""
        self._known(destination)
        if origin is not None:
            self._known(origin)
        done: dict[str, float] = {}
        heap = [(0.0, destination)]
        while heap:
            so_far, edge = heapq.heappop(heap)
            if edge in done:
                continue
            done[edge] = so_far
            if edge == origin:
                break
            through = so_far + cost(edge)
            if through < math.inf:
                for before in self._predecessors[edge]:
                    if before not in done:
                        heapq.heappush(heap, (through, before))
        return done

    def _search(
        self,
        origin: str,
        destination: str,
        cost: Callable[[str], float],
        to_go: dict[str, float],
        barred: Iterable[str] = (),
        closed: Iterable[str] = (),
    ) -> list[str]:
        """Return the cheapest path by A* with an exact bound; `barred` are first steps, `closed` edges not to use."""
        self._known(origin)
        shut, not_first = set(closed), set(barred)
        if origin not in to_go:
            return []
        count = itertools.count()
        before: dict[str, str | None] = {}
        heap: list[tuple[float, int, float, str, str | None]] = [(to_go[origin], next(count), 0.0, origin, None)]
        while heap:
            _, _, so_far, edge, came = heapq.heappop(heap)
            if edge in before:
                continue
            before[edge] = came
            if edge == destination:
                return _traced(before, edge)
            for way in self.successors[edge]:
                if way in to_go and way not in before and way not in shut and not (edge == origin and way in not_first):
                    reach = so_far + cost(way)
                    heapq.heappush(heap, (reach + to_go[way], next(count), reach, way, edge))
        return []

    def _known(self, edge: str) -> None:
        if edge not in self.length:
            raise KeyError(f"the network has no edge {edge!r}")


@dataclass(frozen=True)
class Tried:
    """A route that one vehicle has driven in the simulator: its edges, its mean travel time [s], over how many runs."""

    route: list[str]
    travel_time: float
    runs: int


@dataclass(frozen=True)
class BareTrip:
    """One vehicle: its name, first and last edge, and planned departure [s]."""

    id: str
    origin: str
    destination: str
    depart: float


@dataclass(frozen=True)
class Trip(BareTrip):
    """One vehicle with the routes tried so far, best first."""

    tried: list[Tried]


@dataclass(frozen=True)
class Other:
    """A vehicle that another program routes: its name, departure [s] and the route it is expected to take."""

    id: str
    depart: float
    route: list[str]


class Traffic:
    """Mean travel times of the edges by time of day, measured in the simulator without the planned vehicles.

    Attributes
    ----------
    bin_s : float
        Length of a time bin, s; bin i is for vehicles that enter from ``i bin_s`` on. The last bin has no end.
    travel_time : dict of edge to list of float
        Mean s to cross an edge, waiting at its end included, by bin.
    others : list of Other
        The vehicles that learn along with yours and that another program routes.
    """

    def __init__(self, network: Network, data: dict[str, Any]) -> None:
        self.bin_s = float(data["bin_s"])
        self.travel_time: dict[str, list[float]] = _by_edge(network.edges, data["travel_time"])
        self.others = [Other(**other) for other in data["others"]]
        self._network = network

    def time_on(self, edge: str, t: float) -> float:
        """Return the mean seconds to cross an edge that is entered at t, linear between the middles of the bins."""
        times: list[float] = self.travel_time[edge]
        at = t / self.bin_s - 0.5
        i = math.floor(at)
        if i < 0:
            return times[0]
        if i >= len(times) - 1:
            return times[-1]
        return times[i] + (at - i) * (times[i + 1] - times[i])

    def arrival_times(self, route: Sequence[str], depart: float) -> list[float]:
        """Return when a vehicle that departs at a time is expected to leave each edge of a route."""
        now, left = depart, []
        for edge in route:
            now += self.time_on(edge, now)
            left.append(now)
        return left

    def fastest_path(
        self, origin: str, destination: str, depart: float, extra: Mapping[str, float] | None = None
    ) -> list[str]:
        """Return the path that is expected to arrive first, times of day respected; [] where there is none.

        `extra` gives seconds to add on some edges (at least 0, ``math.inf`` bars one).
        """
        more = extra or {}
        before: dict[str, str | None] = {}
        heap: list[tuple[float, str, str | None]] = [(depart, origin, None)]
        self._network._known(origin)
        self._network._known(destination)
        while heap:
            now, edge, came = heapq.heappop(heap)
            if edge in before:
                continue
            before[edge] = came
            if edge == destination:
                return _traced(before, edge)
            now += self.time_on(edge, now) + max(0.0, more.get(edge, 0.0))
            if now < math.inf:
                for after in self._network.successors[edge]:
                    if after not in before:
                        heapq.heappush(heap, (now, after, edge))
        return []


def _traced(before: Mapping[str, str | None], edge: str) -> list[str]:
    """Return the path to an edge; `before` maps each edge to its predecessor, None at the origin."""
    path = [edge]
    while (came := before[path[-1]]) is not None:
        path.append(came)
    return path[::-1]


def _by_edge(edges: list[str], values: list[Any]) -> dict[str, Any]:
    return dict(zip(edges, values, strict=True))


def objects(data: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of ``plan``: network, trips and traffic, or network and trips where there is no traffic."""
    if "traffic" not in data:
        return Roads(data["network"]), [BareTrip(**trip) for trip in data["trips"]]
    network = Network(data["network"])
    trips = [Trip(**{**trip, "tried": [Tried(**tried) for tried in trip["tried"]]}) for trip in data["trips"]]
    return network, trips, Traffic(network, data["traffic"])
