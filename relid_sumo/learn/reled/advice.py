"""The expert's action at any decision of an agent: along the demonstrated route, and off it along a new route.

Off the demonstrated route, and where a closed road that the agent has seen is ahead on it, the route is planned again
from the present edge: the fastest one by the mean travel times of the training traffic in the five minutes of the
decision, which is the traffic that the demonstrations were planned for, around the closed roads that the agent knows.
An agent knows a closed road from the junction before it, until it sees it open (`relid_sumo.env.closures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from relid_sumo.base.arrays import Bools, Floats
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.roads_now import rest
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.edge_times import BIN_S

MOST_TABLES = 2000  # of destinations, times and closed roads that are cached
Labels = np.ndarray[Any, np.dtype[np.int64]]


class Advice:
    """Experts' actions of N agents.

    Parameters
    ----------
    task
        The task of these agents.
    times
        Mean travel times by bin of `BIN_S` seconds and edge, s, shape (bins, E); None plans on free-flow times.
    """

    def __init__(self, task: RoutingTask, times: Floats | None = None) -> None:
        self._task = task
        self._times = task.graph.free_flow_s[None] if times is None else times
        self._tables: dict[tuple[int, int, frozenset[int]], tuple[Floats, Floats]] = {}

    def labels(self, record: EpisodeRecord, routes: Sequence[Sequence[int]]) -> Labels:
        """Return the expert's action at each decision of an episode, shape (n,).

        Parameters
        ----------
        routes
            The demonstrated route of every agent, edges.
        """
        slots_of = self._task.graph.slots
        following = [dict(pairwise(route)) for route in routes]
        labels = np.array(record.action, dtype=np.int64)
        for n, (agent, edge) in enumerate(zip(record.agent.tolist(), record.edge.tolist(), strict=True)):
            slots, mask = slots_of[edge], record.mask[n]
            known = record.known[n] if record.known else frozenset()
            successor = following[agent].get(edge, -1)
            is_free = not known or not known & set(rest(routes[agent], edge))
            if is_free and successor in slots[mask]:
                labels[n] = int(np.flatnonzero(slots == successor)[0])
            else:
                labels[n] = self._replanned(agent, edge, float(record.time[n]), known, mask)
        return labels

    def _replanned(self, agent: int, edge: int, time_s: float, known: frozenset[int], mask: Bools) -> int:
        """Return the open slot with the least time to the destination; one of least free-flow time where none leads."""
        task, slots = self._task, self._task.graph.slots[edge]
        at = int((time_s - task.scenario.start_s) // BIN_S)
        to_go, cost = self._table(int(task.destination[agent]), min(max(at, 0), len(self._times) - 1), known)
        through = np.where(mask, to_go[slots] + cost[slots], np.inf)
        return int(np.argmin(through)) if np.isfinite(through).any() else task.fastest_open(agent, edge, mask)

    def _table(self, destination: int, at: int, known: frozenset[int]) -> tuple[Floats, Floats]:
        key = destination, at, known
        if key not in self._tables:
            if len(self._tables) >= MOST_TABLES:
                self._tables.clear()
            cost = self._times[at].copy()
            cost[sorted(known | self._task.closed)] = np.inf
            self._tables[key] = self._task.graph.to_destination(destination, cost)[0], cost
        return self._tables[key]
