"""Closed edges during an episode, and what each agent has seen of them.

An agent sees at a junction which next edges are closed, and remembers them until it sees them open. It plans around the
closed edges that it remembers, and knows of no other. If all its next edges are closed, it keeps its route and waits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Floats
from relid_sumo.network.graph import follow
from relid_sumo.scenario.task import RoutingTask

Tables = tuple[Floats, NDArray[np.int32]]


def closes_edges(task: RoutingTask, traffic_seed: int) -> bool:
    """Return whether an incident of a traffic seed closes an edge."""
    return any(one.shut for one in task.incidents.of(traffic_seed))


class Closures:
    """The closed edges of an episode.

    Parameters
    ----------
    task, traffic_seed
        Their incidents.

    Attributes
    ----------
    now : frozenset of int
        Edges that are closed at present.
    begun : frozenset of int
        Those of them whose closing began in the last `update`.
    """

    def __init__(self, task: RoutingTask, traffic_seed: int) -> None:
        start_s = task.scenario.start_s
        self._task = task
        self._windows = [
            (start_s + one.begin_s, start_s + one.end_s, edge)
            for one in task.incidents.of(traffic_seed)
            for edge in one.shut
        ]
        self._times = sorted({at_s for begin_s, end_s, _ in self._windows for at_s in (begin_s, end_s)}, reverse=True)
        self.now: frozenset[int] = frozenset()
        self.begun: frozenset[int] = frozenset()
        self._known: dict[int, frozenset[int]] = {}
        self._tables: dict[tuple[int, frozenset[int]], Tables] = {}

    def update(self, now: float) -> bool:
        """Set the closed edges to those of a step, s; return whether they changed."""
        if not self._times or now < self._times[-1] - 1e-6:
            return False
        while self._times and now >= self._times[-1] - 1e-6:
            self._times.pop()
        closed = frozenset(edge for begin_s, end_s, edge in self._windows if begin_s - 1e-6 <= now < end_s - 1e-6)
        self.begun, changed = closed - self.now, closed != self.now
        self.now = closed
        return changed

    def known(self, agent: int) -> frozenset[int]:
        """Return the closed edges that an agent has seen and not seen open since."""
        return self._known.get(agent, frozenset())

    def look(self, agent: int, edge: int) -> Bools:
        """Let an agent see which next edges of an edge are closed; return its open slots, shape (m_out,)."""
        mask = self._task.mask(agent, edge)
        if not self._windows:
            return mask
        slots = self._task.graph.slots[edge]
        ahead = {int(after) for after in slots if after >= 0}
        known = (self.known(agent) - ahead) | (self.now & ahead)
        if known or agent in self._known:
            self._known[agent] = known
        return np.asarray(mask & ~np.isin(slots, sorted(self.now & ahead)))

    def tables(self, agent: int) -> Tables:
        """Return free-flow times to go, s, and next edges of an agent around the closed edges that it knows.

        Both have the shape (E,). Where the destination cannot be reached around these edges, they are those of the
        open network.
        """
        task, row, known = self._task, int(self._task.row[agent]), self.known(agent)
        if not known:
            return task.free_to_go[row], task.next_edge[row]
        key = row, known
        if key not in self._tables:
            cost = task.graph.free_flow_s.copy()
            cost[sorted(known | task.closed)] = np.inf
            to_go, next_edge = task.graph.to_destination(int(task.destination[agent]), cost)
            none = ~np.isfinite(to_go)
            to_go[none], next_edge[none] = task.free_to_go[row][none], task.next_edge[row][none]
            self._tables[key] = to_go, next_edge
        return self._tables[key]

    def route(self, agent: int, edge: int) -> list[int]:
        """Return the free-flow fastest route of an agent from an edge around the closed edges that it knows."""
        if not self.known(agent):
            return self._task.route(agent, edge)
        return follow(self.tables(agent)[1], edge, int(self._task.destination[agent]))
