"""The routing task: the agents' trips and the distances to their destinations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph, follow
from relid_sumo.scenario.incidents import Incidents
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic.history import History
from relid_sumo.scenario.traffic.readings import Readings

ROWS_MIB = 256  # of the tables of destinations that a process caches
TASKS = 2  # tasks of traffic seeds that a process caches
Row = tuple[Float32s, NDArray[np.int32], Float32s]


@dataclass(frozen=True, eq=False)
class Trips:
    """The trips of a traffic seed; N agents.

    Attributes
    ----------
    names : tuple of str
        The agents.
    origin, destination : array of int, shape (N,)
        Edge indices.
    depart_s : array, shape (N,)
        Scheduled departures, s after the warm-up.
    vehicles : tuple of str
        Vehicles of the demand that these agents drive; empty for trips of the scenario itself.
    types : tuple of str
        Their vehicle types, "" for the default type; empty where all have it.
    """

    names: tuple[str, ...] = ()
    origin: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    destination: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    depart_s: Floats = field(default_factory=lambda: np.empty(0))
    vehicles: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Day:
    """The part of a task that differs between traffic seeds, in a compact form for simulation processes.

    Attributes
    ----------
    trips : Trips or None
        The trips of the fleet; None where the scenario's own trips are driven in all traffic seeds.
    """

    trips: Trips | None = None


@dataclass(frozen=True, eq=False)
class RoutingTask:
    """The agents' part of an episode: trips, and distances to their destinations.

    The task of a scenario with trips is the same in all episodes. That of a fleet is another in each traffic seed
    (see `DailyTasks`); before a traffic seed is chosen, it has no agents.

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
    edge_times : array, shape (E,), or None
        Mean travel time of each edge over the training traffic, s; for the distance ``time``.
    vehicles, types : tuple of str
        As in `Trips`.
    incidents : Incidents
        Incidents by traffic seed.
    readings : Readings or None
        Translates mesoscopic readings of congestion; None if the scenario is not prepared for that simulator.
    history : History or None
        The training traffic, for the observation ``connected``.
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
    edge_times: Floats | None = None
    vehicles: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    incidents: Incidents = field(default_factory=Incidents)
    readings: Readings | None = None
    history: History | None = None

    @cached_property
    def _open(self) -> dict[int, Bools]:
        """Open slots of all edges by row of the tables, shape (E, m_out); filled at first use of a row."""
        return {}

    @property
    def n_agents(self) -> int:
        """Number of agents, N."""
        return len(self.names)

    @property
    def observation_size(self) -> int:
        """Width of an observation; ``2 m_out + 2`` with the built-in kind."""
        return self.layout.size(self.graph.m_out)

    @cached_property
    def start_to_go(self) -> Floats:
        """Distance from each agent's origin to its destination, m, shape (N,)."""
        return self.to_go[self.row, self.origin].astype(np.float64)

    @cached_property
    def free_flow_s(self) -> Floats:
        """Time of each agent's fastest route on an empty network, its first and last edge in full, s, shape (N,)."""
        return self.graph.free_flow_s[self.origin] + self.free_to_go[self.row, self.origin].astype(np.float64)

    @cached_property
    def distance_scale_m(self) -> float:
        """Distance to which observations are scaled, m, at least 1.

        The largest one in `start_to_go`; for a fleet the diagonal of the network, the same in all traffic seeds.
        """
        if self.scenario.fleet is not None:
            return max(1.0, float(np.hypot(*np.ptp(self.graph.junction_xy, axis=0))))
        return max(1.0, float(self.start_to_go.max()))

    def mask(self, agent: int, edge: int) -> Bools:
        """Return which slots of an edge are open to an agent, shape (m_out,)."""
        row = int(self.row[agent])
        if row not in self._open:
            slots = self.graph.slots
            self._open[row] = (slots >= 0) & (self.to_go[row][slots] < np.inf)
        return np.array(self._open[row][edge])

    def fastest_open(self, agent: int, edge: int, mask: Bools) -> int:
        """Return the slot of an edge, among those in a mask, with the least free-flow time to the destination."""
        slots = self.graph.slots[edge]
        through = self.free_to_go[self.row[agent], slots] + self.graph.free_flow_s[slots]
        return int(np.argmin(np.where(mask, through, np.inf)))

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
    incidents: Incidents = Incidents(),  # noqa: B008 - frozen
) -> RoutingTask:
    """Build the task of a scenario; that of a fleet has no agents yet (see `DailyTasks`).

    Parameters
    ----------
    ends
        Origin and destination edge of each trip; none for a fleet.
    edge_times
        Mean travel time of each edge over the training traffic, s, shape (E,); needed for the distance ``time``.
    closed
        Edges closed to the agents.
    layout
        Widths of an observation.
    incidents
        Incidents by traffic seed.

    Raises
    ------
    InputError
        A trip starts where it ends or cannot reach its destination, the horizon is too short for it, or an incident
        closes its only route.
    """
    base = RoutingTask(
        scenario=scenario,
        graph=graph,
        **vars(Trips()),
        row=np.empty(0, dtype=np.int32),
        to_go=np.empty((0, graph.n_edges), dtype=np.float32),
        next_edge=np.empty((0, graph.n_edges), dtype=np.int32),
        free_to_go=np.empty((0, graph.n_edges), dtype=np.float32),
        closed=closed,
        layout=layout,
        edge_times=edge_times,
        incidents=incidents,
    )
    if scenario.fleet is not None:
        return base
    origin, destination = (np.array(part, dtype=np.int32) for part in zip(*ends, strict=True))
    names = tuple(trip.id for trip in scenario.trips)
    trips = Trips(names, origin, destination, np.array([trip.depart_s for trip in scenario.trips]))
    task = DailyTasks(base).of(Day(trips))
    _check(task)
    _check_incidents(task)
    return task


class DailyTasks:
    """The tasks of a scenario's traffic seeds. Tables of destinations are cached in this process.

    Parameters
    ----------
    task
        The scenario's task (`base`).
    """

    def __init__(self, task: RoutingTask) -> None:
        self.base = task
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._most_rows = max(1, ROWS_MIB * 2**20 // (12 * task.graph.n_edges))
        self._recent: OrderedDict[tuple[str, ...], RoutingTask] = OrderedDict()

    def of(self, day: Day, key: tuple[str, ...] = ()) -> RoutingTask:
        """Return the task of a traffic seed; with a key, the last ones are cached."""
        trips = day.trips
        if trips is None:
            return self.base
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        targets, row = np.unique(trips.destination, return_inverse=True)
        free, steps, metres = zip(*self._tables(targets.tolist()), strict=True)
        task = replace(
            self.base,
            **vars(trips),
            row=row.astype(np.int32),
            to_go=np.array(metres, dtype=np.float32),
            next_edge=np.array(steps, dtype=np.int32),
            free_to_go=np.array(free, dtype=np.float32),
        )
        if key:
            self._recent[key] = task
            if len(self._recent) > TASKS:
                self._recent.popitem(last=False)
        return task

    def _tables(self, targets: list[int]) -> list[Row]:
        """Return the rows of `RoutingTask.free_to_go`, `next_edge` and `to_go` of some destinations."""
        missing = [target for target in targets if target not in self._rows]
        if missing:
            self._rows.update(zip(missing, _rows(self.base, missing), strict=True))
        for target in targets:
            self._rows.move_to_end(target)
        found = [self._rows[target] for target in targets]
        while len(self._rows) > self._most_rows:
            self._rows.popitem(last=False)
        return found


def _rows(task: RoutingTask, targets: list[int]) -> list[Row]:
    shut = sorted(task.closed)
    cost = task.graph.free_flow_s.copy()
    cost[shut] = np.inf
    free, steps = task.graph.to_destinations(targets, cost)
    to_go = np.where(np.isfinite(free), _distance(task, targets, shut), np.inf)
    to_go[:, shut] = np.inf
    return list(zip(free.astype(np.float32), steps, to_go.astype(np.float32), strict=True))


def _distance(task: RoutingTask, targets: list[int], shut: list[int]) -> Floats:
    """Return the distance to each destination from the end of each edge, m, shape (destinations, E)."""
    graph, kind = task.graph, task.scenario.observation.distance
    if kind == "straight":
        gap = graph.end_xy[None] - graph.end_xy[targets][:, None]
        return np.asarray(np.hypot(gap[..., 0], gap[..., 1]))
    if kind == "network":
        cost = graph.length.copy()
        cost[shut] = np.inf
        return graph.to_destinations(targets, cost)[0]
    if task.edge_times is None:
        raise InputError(
            "observation.distance = 'time' needs the mean travel times of the training traffic; give edge_times"
        )
    cost = task.edge_times * (graph.length.sum() / graph.free_flow_s.sum())
    cost[shut] = np.inf
    return graph.to_destinations(targets, cost)[0]


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


def _check_incidents(task: RoutingTask) -> None:
    """Check that no incident of all traffic seeds closes the only route of a trip that has begun."""
    shut = [one for one in task.incidents.fixed if one.shut]
    for begin_s in sorted({one.begin_s for one in shut}):
        now = [one for one in shut if one.begin_s <= begin_s < one.end_s]
        cost = task.graph.free_flow_s.copy()
        cost[[*sorted(task.closed), *(edge for one in now for edge in one.shut)]] = np.inf
        for i, name in enumerate(task.names):
            if max(one.end_s for one in now) <= task.depart_s[i]:
                continue
            origin, destination = int(task.origin[i]), int(task.destination[i])
            ends = [one for one in now if one.edge in (origin, destination)]
            if ends:
                what = "starts" if ends[0].edge == origin else "ends"
                raise InputError(
                    f"scenario '{task.scenario.name}': edge {ends[0].describe()}, but trip '{name}' {what} there; "
                    "choose another edge, or another time"
                )
            if not np.isfinite(task.graph.to_destination(destination, cost)[0][origin]):
                edges = ", ".join(one.describe() for one in now)
                raise InputError(
                    f"scenario '{task.scenario.name}': trip '{name}' has no other route while incidents close its only "
                    f"one: edge {edges}; close another edge, slow it instead (factor), or move it in time"
                )
