"""Turn times of the training traffic: the travel time of an edge by the next edge and the time of day.

The mean travel time of an edge hides its queues: at a signal, vehicles that turn left may wait for minutes while those
that go straight on pass. Times are measured on background vehicles, from entering an edge to leaving it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.scenario.traffic.edge_times import BIN_S

DOUBT = 5.0  # pseudo-count of vehicles at the mean of the edge (or turn), added to those of a turn (in a bin)
WAIT_BIN_S = 60.0  # bins of extra waits
UNSEEN_S = 10.0  # extra time of a turn that no vehicle took, compared with the mean of its edge


@dataclass(frozen=True, eq=False)
class TurnTimes:
    """Mean travel times in training traffic.

    Attributes
    ----------
    seconds : array, shape (bins, E, m_out)
        From entering edge e to leaving it by a slot, s, for vehicles that enter in a bin of `BIN_S`.
    last : array, shape (E,)
        From entering an edge to its end, over all turns, s.
    """

    graph: RoadGraph
    seconds: Floats
    last: Floats

    @cached_property
    def _lists(self) -> list[list[list[float]]]:
        return self.seconds.tolist()  # type: ignore[no-any-return]

    @cached_property
    def _successors(self) -> list[list[int]]:
        return self.graph.slots.tolist()  # type: ignore[no-any-return]

    def _bin(self, at_s: float) -> int:
        return min(len(self.seconds) - 1, max(0, int(at_s // BIN_S)))

    def fastest(
        self,
        origin: int,
        destination: int,
        depart_s: float,
        weight: Floats | None = None,
        closed: frozenset[int] = frozenset(),
        waits: Sequence[Sequence[float]] = (),
    ) -> list[int]:
        """Return the fastest path of a vehicle that enters its first edge at `depart_s`; [] where there is none.

        Time-dependent Dijkstra over edges (Dreyfus 1969): the time of an edge depends on when it is entered. Where a
        later bin is so much faster that a later vehicle leaves earlier, the path may be slightly slower than optimal.

        Parameters
        ----------
        weight
            Factor on the time of each edge, shape (E,). Default: 1.
        closed
            Edges that the path must not use.
        waits
            Extra time at the end of each edge by the minute in which it is entered, s. Default: none.
        """
        slots, seconds, heavy = self._successors, self._lists, None if weight is None else weight.tolist()
        before: dict[int, int] = {}
        heap = [(0.0, depart_s, origin, -1)]
        while heap:
            cost, at_s, edge, came = heapq.heappop(heap)
            if edge in before:
                continue
            before[edge] = came
            if edge == destination:
                break
            takes, factor = seconds[self._bin(at_s)][edge], 1.0 if heavy is None else heavy[edge]
            wait_s = _wait(waits, edge, at_s)
            for slot, after in enumerate(slots[edge]):
                if after >= 0 and after not in before and after not in closed:
                    spent_s = takes[slot] + wait_s
                    heapq.heappush(heap, (cost + factor * spent_s, at_s + spent_s, after, edge))
        if destination not in before:
            return []
        path = [destination]
        while before[path[-1]] >= 0:
            path.append(before[path[-1]])
        return path[::-1]

    def entries(self, route: Sequence[int], depart_s: float, waits: Sequence[Sequence[float]] = ()) -> list[float]:
        """Return when each edge of a route is entered, s; `waits` is as in `fastest`."""
        found = [depart_s]
        for edge, after in pairwise(route):
            at_s = found[-1]
            takes = self._lists[self._bin(at_s)][edge][self._successors[edge].index(after)]
            found.append(at_s + takes + _wait(waits, edge, at_s))
        return found

    def duration(self, route: Sequence[int], depart_s: float) -> float:
        """Return the travel time of a route, s."""
        return self.entries(route, depart_s)[-1] + float(self.last[route[-1]]) - depart_s


def _wait(waits: Sequence[Sequence[float]], edge: int, at_s: float) -> float:
    return waits[edge][min(len(waits[edge]) - 1, max(0, int(at_s // WAIT_BIN_S)))] if waits else 0.0


def measured(scenario: Scenario, network: Network, own: str | None) -> TurnTimes:
    """Return the turn times of the training traffic, microscopic.

    Means are shrunk: a turn's mean in a bin towards its mean over all bins, that mean towards the mean of the edge, and
    this one towards free flow, each with the weight of `DOUBT` vehicles. `own` is as in `edge_times.measured`.
    """
    took = edge_times.measured(scenario, network, own)
    return TurnTimes(network.graph, *_means(network.graph, took.turn_s, took.turn_vehicles))


def _means(graph: RoadGraph, total: Floats, vehicles: Floats) -> tuple[Floats, Floats]:
    """Return the arrays of `TurnTimes` from summed seconds and vehicles, both of shape (bins, E, m_out)."""
    edge = leaning(total.sum(axis=(0, 2)), vehicles.sum(axis=(0, 2)), graph.free_flow_s)
    turn = leaning(total.sum(axis=0), vehicles.sum(axis=0), edge[:, None])
    turn = np.where(vehicles.sum(axis=0) > 0, turn, edge[:, None] + UNSEEN_S)
    return leaning(total, vehicles, turn[None]), edge


def leaning(seconds: Floats, count: Floats, on: Floats) -> Floats:
    """Return means of summed seconds, shrunk towards other means with the weight of `DOUBT` vehicles, s."""
    return np.asarray((seconds + DOUBT * on) / (count + DOUBT))
