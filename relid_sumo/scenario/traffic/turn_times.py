"""What training traffic says of every turn: how long a road takes by the road that is taken next, and when.

The mean travel time of a road hides what its queues are about: at a signal the left turn may wait for minutes while
those who go straight on flow past. The times are those of the background's own vehicles, entry to exit, road by road.
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

DOUBT = 5.0  # vehicles: so many at the mean of the road (or turn) are added to those of a turn (in a bin)
UNSEEN_S = 10.0  # what a turn that nobody took is taken to cost beyond the mean of its road


@dataclass(frozen=True, eq=False)
class TurnTimes:
    """Mean travel times in training traffic.

    Attributes
    ----------
    seconds : array, shape (bins, E, m_out)
        From entering edge e to leaving it by its slot, s, for those who enter in a bin of `BIN_S`.
    last : array, shape (E,)
        To the end of an edge, whatever comes next, s.
    """

    graph: RoadGraph
    seconds: Floats
    last: Floats

    @cached_property
    def _lists(self) -> list[list[list[float]]]:
        return self.seconds.tolist()  # type: ignore[no-any-return]

    @cached_property
    def _ways(self) -> list[list[int]]:
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
    ) -> list[int]:
        """Return the fastest path by edges for who enters its first at `depart_s`; empty where there is none.

        Time-dependent Dijkstra over edges (Dreyfus 1969): an edge takes what it takes when it is entered. Where a later
        bin is so much quicker that who enters later leaves earlier, the path may be a little slower than the fastest.

        Parameters
        ----------
        weight
            What a second on each edge counts, shape (E,); 1 where not given.
        closed
            Edges not to be used.
        """
        ways, seconds, heavy = self._ways, self._lists, None if weight is None else weight.tolist()
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
            for slot, way in enumerate(ways[edge]):
                if way >= 0 and way not in before and way not in closed:
                    heapq.heappush(heap, (cost + factor * takes[slot], at_s + takes[slot], way, edge))
        if destination not in before:
            return []
        path = [destination]
        while before[path[-1]] >= 0:
            path.append(before[path[-1]])
        return path[::-1]

    def duration(self, route: Sequence[int], depart_s: float) -> float:
        """Return how long a route takes, s."""
        at_s = depart_s
        for edge, way in pairwise(route):
            at_s += self._lists[self._bin(at_s)][edge][self._ways[edge].index(way)]
        return at_s + float(self.last[route[-1]]) - depart_s


def measured(scenario: Scenario, network: Network) -> TurnTimes:
    """Return the turn times of the training traffic, microscopic.

    A turn's mean in a bin leans on its mean over all bins, that on the road's mean, and that on free flow, each by the
    weight of `DOUBT` vehicles.
    """
    took = edge_times.measured(scenario, network)
    return TurnTimes(network.graph, *_means(network.graph, took.turn_s, took.turn_vehicles))


def _means(graph: RoadGraph, total: Floats, vehicles: Floats) -> tuple[Floats, Floats]:
    """Return what `TurnTimes` holds of summed seconds and vehicles, both of shape (bins, E, m_out)."""
    edge = leaning(total.sum(axis=(0, 2)), vehicles.sum(axis=(0, 2)), graph.free_flow_s)
    turn = leaning(total.sum(axis=0), vehicles.sum(axis=0), edge[:, None])
    turn = np.where(vehicles.sum(axis=0) > 0, turn, edge[:, None] + UNSEEN_S)
    return leaning(total, vehicles, turn[None]), edge


def leaning(seconds: Floats, count: Floats, on: Floats) -> Floats:
    """Return means of summed seconds that lean on others, s, by the weight of `DOUBT` vehicles."""
    return np.asarray((seconds + DOUBT * on) / (count + DOUBT))
