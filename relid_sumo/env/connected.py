"""The observation `connected`: what a vehicle knows that reads all roads and shares its plan.

No value names a junction, a trip or a city, so that one policy can serve all agents anywhere. Every slot has, float32:

=====  ================================================================================================================
index  value
=====  ================================================================================================================
0-2    time-to-go over this slot minus the best slot's, min, at most 4: by present times, by the times of the training
       traffic, and by present times plus the waits that the agents' plans will cause
3-5    the same, in units of 20 s, at most 1
6      deviation of the next road's reading from the expected one, min, -1 to 4
7      change of that deviation since the last reading, in units of 30 s, -2 to 2
8      vehicles on the next road relative to a full one, 0 to 1
9      wait at its end that the agents' plans will cause, min, at most 4
10     1 where it is the next road on the agent's plan
11     time of the turn in the training traffic minus that of the fastest turn, min, at most 4
12     class of the road: log10 of lanes x speed limit [m/s] / 10
=====  ================================================================================================================

A masked or absent slot has zeros. The vehicle itself has four values, in units of 10 min: time-to-go by present times,
time since the scheduled departure, the reward for the distance that is left (``w_d d``), and time-to-go by present
times minus that of the training traffic.

Readings are at most `relid_sumo.env.roads_now.READ_EVERY_S` old. Times to go are computed with them, for all
destinations in use at once; those of a destination that comes into use later, at its first use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.env.observation import Junction, Values, observation
from relid_sumo.env.roads_now import RoadsNow, others
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import Bridge

LAYOUT = Layout(per_slot=13, own=4)
AHEAD_S = 300.0  # plans that count
REMEMBERED = 8  # edges of its plan that an agent compares its options with
MOST_MIN = 4.0
OWN_S = 600.0
MAX_STEPS = 200
FAR_S = 1e5

KINDS = ("present", "history", "planned")  # times
Key = tuple[int, frozenset[int]]


@dataclass(eq=False)
class _Plan:
    """An agent's plan at its last decision: the next edges, its present edge, and the key of its tables."""

    edges: list[int]
    key: Key


class Connected:
    """What the agents of an episode know together.

    Parameters
    ----------
    task, bridge
        The task, with a history, and its running simulation.
    """

    def __init__(self, task: RoutingTask, bridge: Bridge) -> None:
        if task.history is None:
            raise InputError(
                f"scenario '{task.scenario.name}': its observation 'connected' needs the history of the training "
                "traffic; prepare the scenario with this observation"
            )
        self.task, graph = task, task.graph
        self.roads = RoadsNow(task, bridge, task.history)
        self.history, self._others = task.history, others(task)
        edge, slot = np.nonzero(graph.slots >= 0)
        order = np.lexsort((edge, graph.slots[edge, slot]))  # by next edge: rows of the reversed graph
        self._edge, self._slot = edge[order].astype(np.int32), slot[order]
        self._after = graph.slots[self._edge, self._slot]
        self._rows = np.searchsorted(self._after, np.arange(graph.n_edges + 1)).astype(np.int32)
        self._capacity = self.history.capacity
        self._road_class = np.log10(graph.lanes * graph.speed / 10.0)
        self._plans: dict[int, _Plan] = {}
        self._usual: dict[Key, Floats] = {}
        self._to_go: dict[Key, Floats] = {}
        self._next: dict[Key, NDArray[np.int32]] = {}
        self._bin = -1
        self.wait = np.zeros(graph.n_edges)
        self.turns = np.zeros((len(KINDS), *graph.slots.shape))
        self.values = np.zeros((graph.n_edges, 5), dtype=np.float32)

    def update(self, time_s: float) -> None:
        """Read the roads, if the last readings are too old, and compute times to go to all destinations in use."""
        if not self.roads.update(time_s):
            return
        at = self.history.bin(self.roads.now_s)
        seconds = self.history.times.seconds
        if at != self._bin:
            self._bin, self._usual = at, {}
        usual = 0.5 * (seconds[at] + seconds[min(at + 1, len(seconds) - 1)])
        present = np.maximum(usual + self.roads.deviation[:, None], self.task.graph.free_flow_s[:, None])
        self.wait = self._waits(self.history.flow[at])
        self.turns = np.stack([present, usual, present + self.wait[:, None]])
        self.values = np.stack(
            [
                minutes(self.roads.deviation, -1.0),
                np.clip(self.roads.trend / 30.0, -2.0, 2.0),
                self.roads.density,
                minutes(self.wait),
                self._road_class,
            ],
            axis=1,
        ).astype(np.float32)
        self._to_go = {}
        self._fill(sorted({plan.key[0] for plan in self._plans.values() if plan.key[1] == self.task.closed}))

    def _fill(self, destinations: list[int], avoid: frozenset[int] | None = None) -> None:
        """Compute the times to go to some destinations."""
        avoid = self.task.closed if avoid is None else avoid
        if not destinations:
            return
        keys = [(destination, avoid) for destination in destinations]
        present, steps = self._dijkstra(0, destinations, avoid)
        planned = self._dijkstra(2, destinations, avoid)[0] if self.wait.any() else present
        new = [key for key in keys if key not in self._usual]
        if new:
            found = self._dijkstra(1, [destination for destination, _ in new], avoid)[0]
            self._usual.update(zip(new, found, strict=True))
        for i, key in enumerate(keys):
            self._to_go[key] = np.stack([present[i], self._usual[key], planned[i]])
            self._next[key] = np.where(steps[i] < 0, -1, steps[i]).astype(np.int32)

    def _dijkstra(self, kind: int, destinations: list[int], avoid: frozenset[int]) -> tuple[Floats, NDArray[np.int32]]:
        """Return times from entering each edge to entering each destination, s, and the next edges, in rows."""
        cost = np.maximum(self.turns[kind][self._edge, self._slot], 1e-3)
        if avoid:
            cost = np.where(np.isin(self._after, sorted(avoid)), np.inf, cost)
        n = self.task.graph.n_edges
        backwards = csr_array((cost, self._edge, self._rows), shape=(n, n))
        to_go, steps = dijkstra(backwards, indices=destinations, return_predecessors=True)
        return to_go, steps

    def _waits(self, flow: Floats) -> Floats:
        """Return the mean wait at the end of each edge if the plans come true, s, shape (E,)."""
        usual = flow * AHEAD_S
        arrive = self._others * usual + self._load()
        leave = np.maximum(self._capacity * AHEAD_S, usual)
        return np.asarray(0.5 * np.maximum(0.0, arrive - leave) / self._capacity)

    def _load(self) -> Floats:
        """Return the number of agents that will enter each edge within `AHEAD_S`, shape (E,)."""
        load = np.zeros(self.task.graph.n_edges)
        plans = [(plan.edges[0], self._next[plan.key]) for _, plan in sorted(self._plans.items())]
        if not plans:
            return load
        at, tables = np.array([edge for edge, _ in plans]), np.stack([table for _, table in plans])
        rows, spent, seconds = np.arange(len(plans)), np.zeros(len(plans)), self.roads.seconds
        for _ in range(MAX_STEPS):
            np.add.at(load, at, 1.0)
            spent += seconds[at]
            at = tables[rows, at]
            go = (at >= 0) & (spent < AHEAD_S)
            if not go.any():
                break
            at, rows, spent = at[go], rows[go], spent[go]
        return load

    def to_go(self, key: Key) -> Floats:
        """Return the times from entering each edge to entering a destination, s, shape (3, E); inf where there is none.

        Parameters
        ----------
        key
            The destination, and the edges to avoid.

        Returns
        -------
        array
            By present times, by those of the training traffic, and by present times plus waits (`KINDS`).
        """
        if key not in self._to_go:
            self._fill([key[0]], key[1])
        return self._to_go[key]

    def planned_road(self, agent: int, edge: int) -> int:
        """Return the edge that follows on the agent's plan; -1 where it is off its plan."""
        plan = self._plans.get(agent)
        if plan is None or edge not in plan.edges[:-1]:
            return -1
        return plan.edges[plan.edges.index(edge) + 1]

    def note(self, agent: int, successor: int, key: Key) -> None:
        """Share the plan of an agent that has chosen its next edge: from there the fastest path by present times."""
        self.to_go(key)
        edges, table = [successor], self._next[key]
        while len(edges) < REMEMBERED and table[edges[-1]] >= 0:
            edges.append(int(table[edges[-1]]))
        self._plans[agent] = _Plan(edges, key)

    def forget(self, agent: int) -> None:
        """Drop the plan of an agent whose trip has ended."""
        self._plans.pop(agent, None)


def minutes(seconds: Floats, lowest: float = 0.0) -> Floats:
    """Return times in minutes, limited to `MOST_MIN`."""
    return np.clip(seconds / 60.0, lowest, MOST_MIN)


def gaps(through: Floats) -> Floats:
    """Return values 0 to 5 of k open slots, shape (k, 6), from their times to go in the order of `KINDS`, (3, k)."""
    best = through.min(axis=1, keepdims=True)
    more = (through - np.where(np.isfinite(best), best, 0.0)).T
    return np.concatenate([np.minimum(more / 60.0, MOST_MIN), np.minimum(more / 20.0, 1.0)], axis=1)


@observation(per_slot=LAYOUT.per_slot, own=LAYOUT.own)
def connected(junction: Junction) -> Values:
    """Observe all roads; see the module's docstring."""
    known, task = junction.connected, junction.task
    if known is None:
        raise InputError("observation 'connected': the episode was started without observations; start it with them")
    known.update(junction.time_s)
    edge, open_slots = junction.edge, np.flatnonzero(junction.mask)
    after = task.graph.slots[edge, open_slots]
    turns = known.turns[:, edge, open_slots]
    through = turns + known.to_go(known_key(task, junction.agent, junction.avoid))[:, after]
    found = np.empty((len(after), LAYOUT.per_slot), dtype=np.float32)
    found[:, :6] = gaps(through)
    values = known.values[after]
    found[:, 6:10], found[:, 12] = values[:, :4], values[:, 4]
    found[:, 10] = after == known.planned_road(junction.agent, edge)
    found[:, 11] = np.minimum((turns[1] - turns[1].min()) / 60.0, MOST_MIN)
    slots = np.zeros((task.graph.m_out, LAYOUT.per_slot), dtype=np.float32)
    slots[open_slots] = found
    present, usual = min(float(through[0].min()), FAR_S), min(float(through[1].min()), FAR_S)
    credit_s = task.scenario.reward.w_d * junction.to_go(edge)
    own = (present, junction.elapsed_s, credit_s, present - usual)
    return slots, np.array([min(max(value / OWN_S, -6.0), 6.0) for value in own], dtype=np.float32)


def known_key(task: RoutingTask, agent: int, avoid: frozenset[int]) -> Key:
    """Return the key of an agent's times to go: its destination, and the edges that it avoids."""
    return int(task.destination[agent]), avoid | task.closed
