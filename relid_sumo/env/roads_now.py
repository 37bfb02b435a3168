"""What connected vehicles know about all roads while an episode runs, besides what was known before it.

A reading is the travel time of an edge's exponentially smoothed mean speed. A mean of travel times would be ruined by a
single standing vehicle. Its deviation from the reading that this simulator shows there on average means the same in
both simulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.history import MOST_S, History
from relid_sumo.scenario.traffic.turn_times import WAIT_BIN_S, TurnTimes
from relid_sumo.sim.bridge import Bridge

READ_EVERY_S = 30.0
VEHICLE_M = 7.5  # length of road per standing vehicle


class RoadsNow:
    """Readings of all roads, at most `READ_EVERY_S` old.

    Parameters
    ----------
    task, bridge
        The task, and its running simulation.
    history
        The training traffic.

    Attributes
    ----------
    seconds : array, shape (E,)
        Readings, s, at least the free-flow times.
    deviation : array, shape (E,)
        Readings minus those expected at this time of day, s.
    trend : array, shape (E,)
        Change of `deviation` since the last reading, s.
    """

    def __init__(self, task: RoutingTask, bridge: Bridge, history: History) -> None:
        self.history, self._bridge, self._start_s = history, bridge, task.scenario.start_s
        self.graph: RoadGraph = task.graph
        self._simulator: Simulator = "meso" if bridge.mesoscopic else "micro"
        self._next_s = -np.inf
        self.now_s = 0.0
        self.seconds = self.graph.free_flow_s
        self.deviation = self.trend = np.zeros(self.graph.n_edges)

    def update(self, time_s: float) -> bool:
        """Read the roads if the last readings are too old; return whether that was done."""
        self.now_s = time_s - self._start_s
        if time_s < self._next_s - 1e-6:
            return False
        first, self._next_s = self._next_s == -np.inf, time_s + READ_EVERY_S
        read, names, before = self._bridge.travel_time, self.graph.names, self.deviation
        found = np.array([read(name, smoothed=True) for name in names])
        self.seconds = np.clip(np.nan_to_num(found, nan=MOST_S), self.graph.free_flow_s, MOST_S)
        self.deviation = self.seconds - self.history.reading[self._simulator][self.history.bin(self.now_s)]
        self.trend = np.zeros_like(before) if first else self.deviation - before
        self.__dict__.pop("times", None)
        self.__dict__.pop("density", None)
        return True

    @cached_property
    def times(self) -> TurnTimes:
        """Expected travel times: those of the history plus the present deviations, at least free flow."""
        known, free = self.history.times, self.graph.free_flow_s
        seconds = np.maximum(known.seconds + self.deviation[:, None], free[:, None])
        return TurnTimes(self.graph, seconds, np.maximum(known.last + self.deviation, free))

    @cached_property
    def density(self) -> Floats:
        """Vehicles on each edge relative to a full one, 0 to 1, shape (E,)."""
        vehicles = np.array([self._bridge.vehicles(name) for name in self.graph.names])
        return np.minimum(1.0, vehicles * VEHICLE_M / (self.graph.lanes * self.graph.length))


def waits(arrivals: Floats, ordinary: Floats, capacity: Floats) -> Floats:
    """Return the extra wait at the end of edges whose arrivals exceed their ordinary ones, s.

    A fluid queue: what arrives in a bin of `WAIT_BIN_S` beyond the capacity waits for the next bin.

    Parameters
    ----------
    arrivals, ordinary : array, shape (edges, bins)
        Expected and ordinary vehicles that arrive in each bin. Ordinary queues are part of the known travel times.
    capacity : array, shape (edges,)
        Vehicles that can leave, 1/s.

    Returns
    -------
    array, shape (edges, bins)
    """
    leave = capacity * WAIT_BIN_S
    queue, usual, out = np.zeros(len(arrivals)), np.zeros(len(arrivals)), np.empty_like(arrivals)
    for b in range(arrivals.shape[1]):
        queue = np.maximum(0.0, queue + arrivals[:, b] - leave)
        usual = np.maximum(0.0, usual + ordinary[:, b] - leave)
        out[:, b] = np.maximum(0.0, queue - usual) / capacity
    return out


def ordinary_arrivals(history: History, bins: int) -> Floats:
    """Return the vehicles that enter each edge in ordinary traffic by bins of `WAIT_BIN_S`, shape (E, bins)."""
    at = [history.bin((b + 0.5) * WAIT_BIN_S) for b in range(bins)]
    return np.asarray(history.flow[at].T * WAIT_BIN_S)


def others(task: RoutingTask) -> float:
    """Return the share of the demand that agents do not drive: a fleet with a share takes its trips from the demand."""
    fleet = task.scenario.fleet
    return 1.0 if fleet is None or fleet.share is None else 1.0 - fleet.share


def rest(path: Sequence[int], edge: int) -> Sequence[int]:
    """Return the part of a path after an edge; empty where the edge is not on it."""
    return path[list(path).index(edge) + 1 :] if edge in path else ()
