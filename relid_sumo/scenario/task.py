"""The routing task: the agents' trips and the distances to their destinations, the same in all episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph, follow
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.settings import Scenario


@dataclass(frozen=True, eq=False)
class RoutingTask:
    """The part of a scenario that is the same in all episodes: trips, and distances to their destinations.

    Attributes
    ----------
    names : tuple of str
        The N agents.
    origin, destination : array of int, shape (N,)
        Edge indices.
    depart_s : array, shape (N,)
        Scheduled departures, s after the warm-up.
    row : array of int, shape (N,)
        Each agent's row in the tables below; agents with the same destination share a row.
    to_go : array, shape (rows, E)
        Distance from the end of each edge to the destination, m, as `Observation.distance` measures it; inf where the
        destination cannot be reached.
    next_edge : array of int, shape (rows, E)
        The next edge on the free-flow fastest path.
    free_to_go : array, shape (rows, E)
        Free-flow time from the end of each edge, s.
    closed : frozenset of int
        Edges that no agent may choose.
    layout : Layout
        Widths of an observation.
    """

    scenario: Scenario
    graph: RoadGraph
    names: tuple[str, ...]
    origin: NDArray[np.int32]
    destination: NDArray[np.int32]
    depart_s: Floats
    row: NDArray[np.int32]
    to_go: Float32s
    next_edge: NDArray[np.int32]
    free_to_go: Float32s
    closed: frozenset[int] = frozenset()
    layout: Layout = field(default_factory=Layout)

    @property
    def n_agents(self) -> int:
        """Number of agents, N."""
        return len(self.names)

    @property
    def observation_size(self) -> int:
        """Width of an observation; ``2 m_out + 2`` with the built-in kind."""
        return self.layout.size(self.graph.m_out)

    @property
    def start_to_go(self) -> Floats:
        """Distance from each agent's origin to its destination, m, shape (N,)."""
        return self.to_go[self.row, self.origin].astype(np.float64)

    @property
    def distance_scale_m(self) -> float:
        """The largest distance in `start_to_go`, m; at least 1, as origin and destination may end at the same point."""
        return max(1.0, float(self.start_to_go.max()))

    def mask(self, agent: int, edge: int) -> Bools:
        """Return which slots of an edge are open to an agent, shape (m_out,)."""
        to_go = self.to_go[self.row[agent]]
        return np.array([after >= 0 and bool(to_go[after] < np.inf) for after in self.graph.slots[edge].tolist()])

    def route(self, agent: int, edge: int) -> list[int]:
        """Return the free-flow fastest route of an agent from an edge, both ends included."""
        return follow(self.next_edge[self.row[agent]], edge, int(self.destination[agent]))


def make_task(
    scenario: Scenario,
    graph: RoadGraph,
    ends: Sequence[tuple[int, int]],
    edge_times: Floats | None = None,
    closed: frozenset[int] = frozenset(),
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> RoutingTask:
    """Build the task of a scenario.

    Parameters
    ----------
    ends
        Origin and destination edge of each trip.
    edge_times
        Mean travel time of each edge over the training traffic, s, shape (E,); needed for the distance ``time``.
    closed
        Edges closed to the agents.
    layout
        Widths of an observation.

    Raises
    ------
    InputError
        A trip starts where it ends or cannot reach its destination, or the horizon is too short for it.
    """
    origin, destination = (np.array(part, dtype=np.int32) for part in zip(*ends, strict=True))
    targets, row = np.unique(destination, return_inverse=True)
    shut = sorted(closed)
    free, steps, metres = [], [], []
    for target in targets:
        cost = graph.free_flow_s.copy()
        cost[shut] = np.inf
        free_to_go, next_edge = graph.to_destination(int(target), cost)
        free.append(free_to_go)
        steps.append(next_edge)
        to_go = _distance(scenario, graph, int(target), edge_times, shut)
        to_go = np.where(np.isfinite(free_to_go), to_go, np.inf)
        to_go[shut] = np.inf
        metres.append(to_go)
    task = RoutingTask(
        scenario=scenario,
        graph=graph,
        names=tuple(trip.id for trip in scenario.trips),
        origin=origin,
        destination=destination,
        depart_s=np.array([trip.depart_s for trip in scenario.trips]),
        row=row.astype(np.int32),
        to_go=np.array(metres, dtype=np.float32),
        next_edge=np.array(steps, dtype=np.int32),
        free_to_go=np.array(free, dtype=np.float32),
        closed=closed,
        layout=layout,
    )
    _check(task)
    return task


def _distance(scenario: Scenario, graph: RoadGraph, target: int, edge_times: Floats | None, shut: list[int]) -> Floats:
    kind = scenario.observation.distance
    if kind == "straight":
        gap = graph.end_xy - graph.end_xy[target]
        return np.asarray(np.hypot(gap[:, 0], gap[:, 1]))
    if kind == "network":
        cost = graph.length.copy()
        cost[shut] = np.inf
        return graph.to_destination(target, cost)[0]
    if edge_times is None:
        raise InputError(
            "observation.distance = 'time' needs the mean travel times of the training traffic; give edge_times"
        )
    cost = edge_times * (graph.length.sum() / graph.free_flow_s.sum())
    cost[shut] = np.inf
    return graph.to_destination(target, cost)[0]


def _check(task: RoutingTask) -> None:
    where = f"scenario '{task.scenario.name}'"
    for i, name in enumerate(task.names):
        origin, destination = int(task.origin[i]), int(task.destination[i])
        if origin == destination:
            raise InputError(f"{where}: trip '{name}' starts and ends on the same edge; move its origin or destination")
        free = task.graph.free_flow_s[origin] + task.free_to_go[task.row[i], origin]
        if not np.isfinite(free) or not np.isfinite(task.to_go[task.row[i], origin]):
            shut = " while edges are closed" if task.closed else ""
            raise InputError(
                f"{where}: trip '{name}' cannot reach its destination{shut}; move its origin or destination"
            )
        if task.depart_s[i] + free >= task.scenario.horizon_s:
            raise InputError(
                f"{where}: horizon_s = {task.scenario.horizon_s:g} is too short: trip '{name}' needs {free:.0f} s at "
                f"free flow after its departure at {task.depart_s[i]:.0f} s; set it higher"
            )
