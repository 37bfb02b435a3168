"""Planners that vehicles ask while they drive: at departure and at the first junction after each `EVERY_S`.

``blend``: the fastest path on the turn times of the training traffic plus the present deviation of every road
(time-dependent Dijkstra, Dreyfus 1969). ``antic``: the same with the queues that the plans of all agents will cause, as
vehicles share their plans. ``ebksp``: entropy-balanced k shortest paths (Pan et al. 2013, IEEE Transactions on
Vehicular Technology 62). ``nrr``: next-road rerouting (Wang et al. 2016, IEEE Transactions on Intelligent
Transportation Systems 17).

What vehicles know is in `relid_sumo.env.roads_now`. They know of closed edges that they have seen. The two published
methods are implemented from their descriptions; where these leave something open, the classes say what is done here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import free_flow_slot, slot_of
from relid_sumo.env.records import Decision
from relid_sumo.env.roads_now import RoadsNow, ordinary_arrivals, others, rest, waits
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.routes import distinct_routes
from relid_sumo.scenario.traffic.edge_times import BIN_S
from relid_sumo.scenario.traffic.history import History
from relid_sumo.scenario.traffic.turn_times import WAIT_BIN_S

EVERY_S = 60.0
CONGESTED = 0.7  # density of a congested road (both published methods)
K_PATHS = 4


@dataclass(frozen=True)
class Trip:
    """A vehicle that asks for a path: agent, present edge, destination, time after the warm-up [s], edges to avoid."""

    agent: int
    edge: int
    destination: int
    at_s: float
    avoid: frozenset[int]


class Online:
    """Agents that follow their plans. A subclass defines `plan`, and where needed `is_due` and `renew`.

    Attributes
    ----------
    roads : RoadsNow
        Readings of the present episode.
    plans : dict
        Rest of each agent's path, present edge included, by agent.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.plans: dict[int, list[int]] = {}
        self._since: dict[int, float] = {}

    def __call__(self, episode: Episode, decision: Decision) -> int:
        """Return the slot of the next edge on the agent's plan."""
        if not self._since:
            self.roads = RoadsNow(episode.task, episode.bridge, self.history)
            self.share = others(episode.task)
        if self.roads.update(decision.time):
            self._drop_passed(episode)
            self.renew()
        agent, edge = decision.agent, decision.edge
        avoid = episode.task.closed | episode.closures.known(agent)
        trip = Trip(agent, edge, int(episode.task.destination[agent]), self.roads.now_s, avoid)
        ahead = rest(self.plans.get(agent, ()), edge)
        if not ahead or avoid & set(ahead) or self.is_due(trip, ahead, trip.at_s - self._since[agent]):
            found = self.plan(trip)
            self._since[agent] = trip.at_s
            if found:
                self.plans[agent], ahead = found, found[1:]
        if ahead and ahead[0] in episode.task.graph.slots[edge][decision.mask]:
            return slot_of(episode, decision, ahead[0])
        return free_flow_slot(episode, decision)

    def plan(self, trip: Trip) -> list[int]:
        """Return a path from the present edge to the destination, both included; [] where there is none."""
        raise NotImplementedError

    def is_due(self, trip: Trip, ahead: Sequence[int], age_s: float) -> bool:
        """Return whether a vehicle asks again, s after it asked."""
        del trip, ahead
        return age_s >= EVERY_S

    def renew(self) -> None:
        """Use new readings. The default does nothing."""

    def _drop_passed(self, episode: Episode) -> None:
        """Shorten the plans to what is ahead; remove those of trips that have ended."""
        for agent in list(self.plans):
            vehicle = episode.vehicles[agent]
            if vehicle.status is not None:
                del self.plans[agent]
            elif ahead := rest(self.plans[agent], vehicle.on):
                self.plans[agent] = [vehicle.on, *ahead]


class Blend(Online):
    """The fastest path by `RoadsNow.times`, in which present deviations last."""

    def plan(self, trip: Trip) -> list[int]:
        """See `Online.plan`."""
        return self.roads.times.fastest(trip.edge, trip.destination, trip.at_s, closed=trip.avoid)


class Antic(Online):
    """`Blend` plus fluid queues (`relid_sumo.env.roads_now.waits`) of the vehicles that will arrive at each road.

    These are the background, by the flows of the training traffic, and all other agents, by their plans.
    """

    _arrivals: Floats
    _ordinary: Floats

    def _entries(self, path: Sequence[int], at_s: float) -> list[tuple[int, int]]:
        """Return edge and bin of each edge that a path enters after its first one."""
        times = self.roads.times.entries(path, at_s, self._waits)
        last = self._arrivals.shape[1] - 1
        return [(edge, min(last, int(t // WAIT_BIN_S))) for edge, t in zip(path[1:], times[1:], strict=True)]

    def renew(self) -> None:
        """Time all plans again from where the vehicles are."""
        if not self._since:
            bins = math.ceil(len(self.history.flow) * BIN_S / WAIT_BIN_S) + 1
            self._ordinary = ordinary_arrivals(self.history, bins)
            self._capacity = self.history.capacity
            self._waits: list[list[float]] = np.zeros_like(self._ordinary).tolist()
        self._arrivals = np.zeros_like(self._ordinary)
        self._own: dict[int, list[tuple[int, int]]] = {}
        for agent, path in self.plans.items():
            self._add(agent, self._entries(path, self.roads.now_s))
        self._queue(range(len(self._arrivals)))

    def _add(self, agent: int, entries: list[tuple[int, int]], sign: float = 1.0) -> None:
        for edge, at in entries:
            self._arrivals[edge, at] += sign
        self._own[agent] = entries

    def _queue(self, edges: Sequence[int]) -> None:
        """Compute the queues of some edges from now on."""
        if not len(edges):
            return
        rows = list(edges)
        usual = self._ordinary[rows]
        usual[:, : int(self.roads.now_s // WAIT_BIN_S)] = 0.0  # the readings show what has passed
        found = waits(self.share * usual + self._arrivals[rows], usual, self._capacity[rows])
        for edge, row in zip(rows, found.tolist(), strict=True):
            self._waits[edge] = row

    def plan(self, trip: Trip) -> list[int]:
        """Return the fastest path past the queues of the others, and share it."""
        before = self._own.get(trip.agent, [])
        self._add(trip.agent, before, -1.0)
        self._queue(sorted({edge for edge, _ in before}))
        path = self.roads.times.fastest(trip.edge, trip.destination, trip.at_s, closed=trip.avoid, waits=self._waits)
        entries = self._entries(path, trip.at_s) if path else []
        self._add(trip.agent, entries)
        self._queue(sorted({edge for edge, _ in entries}))
        return path


class Ebksp(Online):
    """Entropy-balanced k shortest paths.

    A vehicle gets the least popular of up to `K_PATHS` clearly different paths (`relid_sumo.scenario.routes`), which
    are fastest by present readings. It asks at departure, and then where a road ahead is congested. The footprint of a
    road is the number of vehicles whose plan contains it, times ``mean length / (lanes length)`` and ``mean speed /
    speed``. The popularity of a path is ``exp(E)``, ``E = -sum_i f_i ln f_i`` over its roads, with f the road's share
    of all footprints in the network. Where no vehicle has planned yet, the fastest path is taken.
    """

    def renew(self) -> None:
        """Count all plans again."""
        graph = self.history.graph
        self._weight = (graph.length.mean() / (graph.lanes * graph.length)) * (graph.speed.mean() / graph.speed)
        self._planned = np.zeros(graph.n_edges)
        for path in self.plans.values():
            self._planned[path[1:]] += 1

    def is_due(self, trip: Trip, ahead: Sequence[int], age_s: float) -> bool:
        """Return whether a road ahead is congested, at most every `EVERY_S`."""
        del trip
        return age_s >= EVERY_S and bool((self.roads.density[list(ahead)] >= CONGESTED).any())

    def plan(self, trip: Trip) -> list[int]:
        """See `Online.plan`."""
        graph, cost = self.history.graph, self.roads.seconds.copy()
        cost[sorted(trip.avoid)] = np.inf
        found = distinct_routes(
            graph,
            lambda weight: graph.path(trip.edge, trip.destination, cost * weight),
            lambda path: float(cost[path].sum()),
            K_PATHS,
        )
        if found:
            self._planned[self.plans.get(trip.agent, [])[1:]] -= 1
        best = least_popular(found, self._planned * self._weight)
        self._planned[best[1:]] += 1
        return best


def least_popular(paths: Sequence[list[int]], footprint: Floats) -> list[int]:
    """Return the path with the lowest popularity, the first of equals (see `Ebksp`); [] without paths."""
    if not paths:
        return []
    total = footprint.sum()
    if total <= 0:
        return paths[0]

    def entropy(path: list[int]) -> float:
        shares = footprint[path] / total
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())

    return min(paths, key=entropy)


class Nrr(Online):
    """Next-road rerouting.

    A vehicle follows its fastest route by history. Where the next road on it is congested, it takes the next road with
    the lowest cost, and from there its fastest route by history. The cost is the mean of four factors, each relative to
    the largest one among the candidates: density, present travel time, straight distance from the road's end to the
    destination, and closeness of the congestion, ``1 / (1 m + distance between the ends of both roads)``.
    """

    def is_due(self, trip: Trip, ahead: Sequence[int], age_s: float) -> bool:
        """Return whether the next road is congested."""
        del trip, age_s
        return bool(self.roads.density[ahead[0]] >= CONGESTED)

    def plan(self, trip: Trip) -> list[int]:
        """See `Online.plan`."""
        times = self.history.times
        ahead = rest(self.plans.get(trip.agent, ()), trip.edge)
        if not ahead or ahead[0] in trip.avoid:
            return times.fastest(trip.edge, trip.destination, trip.at_s, closed=trip.avoid)
        graph = self.history.graph
        options = []
        for successor in graph.slots[trip.edge].tolist():
            if successor >= 0 and successor not in trip.avoid:
                path = times.fastest(successor, trip.destination, trip.at_s, closed=trip.avoid | {trip.edge})
                options += [path] if path else []
        if not options:
            return []
        edges = [path[0] for path in options]
        best = int(np.argmin(next_road_costs(graph, self.roads, edges, trip.destination, ahead[0])))
        return [trip.edge, *options[best]]


def next_road_costs(
    graph: RoadGraph, roads: RoadsNow, edges: Sequence[int], destination: int, congested: int
) -> Floats:
    """Return the cost of each candidate for the next road (see `Nrr`)."""
    chosen, end = list(edges), graph.end_xy
    factors = [
        roads.density[chosen],
        roads.seconds[chosen],
        np.hypot(*(end[chosen] - end[destination]).T),
        1.0 / (1.0 + np.hypot(*(end[chosen] - end[congested]).T)),
    ]
    return np.asarray(np.mean([factor / max(float(factor.max()), 1e-9) for factor in factors], axis=0))
