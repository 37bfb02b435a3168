"""Incidents: edges or lanes that are closed or slowed for a time, the same in all traffic seeds or drawn in each.

An incident is part of the traffic of a seed. Draws depend on the scenario and the traffic seed only, so the incidents
of training, validation and evaluation differ as their seeds do. `relid_sumo.scenario.traffic.incident_file` writes
them for SUMO, `relid_sumo.env.closures` tells agents what they see of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Bools, Floats
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.toml import validate
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.lanes import Lane
from relid_sumo.network.network import Network, match_edge
from relid_sumo.scenario import events
from relid_sumo.scenario.settings import Events, Incident, RandomIncidents, Scenario

FORM = "EDGE@BEGIN-END closes an edge; EDGE:0,1@BEGIN-END its lanes 0 and 1; =3m/s or =20% after it slows instead"
WRITTEN = re.compile(r"(?P<edge>.+?)(?::(?P<lanes>\d+(?:,\d+)*))?@(?P<begin>[\d.]+)-(?P<end>[\d.]+)(?:=(?P<how>.+))?")
WITH_INCIDENTS = {events.INCIDENTS, events.BOTH}
SPEED = re.compile(r"([\d.]+) ?(m/s|%)")


@dataclass(frozen=True)
class Placed:
    """An incident on an edge of the network.

    Attributes
    ----------
    edge : int
        Edge index.
    name : str
        SUMO's name of the edge.
    lanes : tuple of int
        Lanes by SUMO's numbers; empty for all.
    begin_s, end_s : float
        Steps of the simulation at which it begins and ends, s after the warm-up.
    speed_mps : float or None
        Speed limit; None where the edge or its lanes are closed.
    shut : tuple of int
        The edges that are closed: the edge, and those that lead only to it, as drivers turn off at the last junction
        where they can. Empty where the whole edge is not closed.
    """

    edge: int
    name: str
    lanes: tuple[int, ...]
    begin_s: float
    end_s: float
    speed_mps: float | None = None
    shut: tuple[int, ...] = ()

    def describe(self) -> str:
        """Return the incident as one line."""
        lanes = f", lane{'s' * (len(self.lanes) > 1)} {', '.join(map(str, self.lanes))}," if self.lanes else ""
        what = "closed" if self.speed_mps is None else f"slowed to {self.speed_mps:.3g} m/s"
        return f"'{self.name}'{lanes} {what} from {self.begin_s:g} to {self.end_s:g} s"


@dataclass(frozen=True, eq=False)
class Incidents:
    """The incidents of a scenario, for any traffic seed.

    Attributes
    ----------
    fixed : tuple of Placed
        Incidents of all traffic seeds.
    random : tuple of (int, RandomIncidents)
        Draws, each with its position among the scenario's incidents.
    events : Events or None
        Types of days; those with incidents have draws of their own.
    weight : dict
        For each `RandomIncidents.where` that is used: weight of each edge, shape (E,).
    lanes : dict
        Lanes of each edge, where a draw may close one.
    spared : frozenset of int
        Edges that draws do not touch: origins and destinations of trips, edges closed for the whole episode, and edges
        for which own demand without routes is bound.
    """

    graph: RoadGraph | None = None
    fixed: tuple[Placed, ...] = ()
    random: tuple[tuple[int, RandomIncidents], ...] = ()
    events: Events | None = None
    weight: dict[str, Floats] = field(default_factory=dict)
    lanes: dict[int, list[Lane]] = field(default_factory=dict)
    spared: frozenset[int] = frozenset()
    horizon_s: float = 0.0
    step_s: float = 1.0
    _drawn_before: dict[int, tuple[Placed, ...]] = field(default_factory=dict, repr=False)

    def of(self, traffic_seed: int) -> tuple[Placed, ...]:
        """Return the incidents of a traffic seed, by begin.

        Raises
        ------
        InputError
            Too few edges are suitable for the draws.
        """
        if not self.is_random:
            return self.fixed
        if traffic_seed not in self._drawn_before:
            found = list(self.fixed)
            for number, table in self.random:
                rng = seeding.stream(traffic_seed, "incidents", number)
                found += self._drawn(f"incidents[{number}].random", table, traffic_seed, rng, found)
            if self.events is not None and events.day_type(self.events, traffic_seed) in WITH_INCIDENTS:
                rng = seeding.stream(traffic_seed, "events", "incidents")
                found += self._drawn("events.incidents", self.events.incidents, traffic_seed, rng, found)
            self._drawn_before[traffic_seed] = tuple(sorted(found, key=lambda one: (one.begin_s, one.name)))
        return self._drawn_before[traffic_seed]

    @property
    def is_random(self) -> bool:
        """Whether incidents differ between traffic seeds."""
        return bool(self.random) or self.events is not None

    def _drawn(
        self, key: str, table: RandomIncidents, traffic_seed: int, rng: np.random.Generator, others: Sequence[Placed]
    ) -> list[Placed]:
        assert self.graph is not None  # only incidents without draws have no network
        low, high = table.begin_s or (0.0, max(0.0, self.horizon_s - table.duration_s))
        begins = rng.uniform(low, high, table.count)
        kinds, factors = rng.random(table.count), rng.uniform(*table.factor, table.count)
        weight = self.weight[table.where]
        order = rng.choice(len(weight), np.count_nonzero(weight), replace=False, p=weight / weight.sum()).tolist()
        taken = {one.edge for one in others} | self.spared
        shut = {edge for one in others for edge in one.shut}
        found: list[Placed] = []
        for begin_s, kind, factor in zip(begins.tolist(), kinds.tolist(), factors.tolist(), strict=True):
            closes = kind < table.closed
            one_lane = not closes and kind < table.closed + table.lane
            for edge in order:
                if edge in taken:
                    continue
                spare = _spare_lanes(self.lanes[edge]) if one_lane else []
                with_it = shut_with(self.graph, edge, self.spared) if closes else ()
                if (closes and not self._open_without(shut, with_it)) or (one_lane and not spare):
                    continue
                break
            else:
                what = "closed" if closes else "closed by one lane" if one_lane else "slowed"
                raise InputError(
                    f"{key}: in traffic seed {traffic_seed} no further edge can be {what} without cutting other edges "
                    "or trips off; lower count or change where, closed and lane"
                )
            taken.add(edge)
            shut |= set(with_it)
            found.append(
                Placed(
                    edge=edge,
                    name=str(self.graph.edge_ids[edge]),
                    lanes=(spare[0],) if one_lane else (),
                    begin_s=on_grid(begin_s, self.step_s),
                    end_s=on_grid(begin_s + table.duration_s, self.step_s),
                    speed_mps=None if closes or one_lane else factor * float(self.graph.speed[edge]),
                    shut=with_it,
                )
            )
        return found

    def _open_without(self, shut: set[int], further: Sequence[int]) -> bool:
        """Return whether further edges can be closed so that all others reach each other as before."""
        assert self.graph is not None
        left = np.ones(self.graph.n_edges, dtype=bool)
        left[sorted({*shut, *further})] = False
        before, after = (_components(self.graph, gone)[left] for gone in (shut, {*shut, *further}))
        return len(np.unique(before)) == len(np.unique(after))


def with_closing(incidents: Incidents, traffic_seed: int, closing: Placed | None) -> tuple[Placed, ...]:
    """Return the incidents of a traffic seed and a further one, by begin."""
    found = incidents.of(traffic_seed)
    return found if closing is None else tuple(sorted((*found, closing), key=lambda one: (one.begin_s, one.name)))


def shut_with(graph: RoadGraph, edge: int, spared: Collection[int]) -> tuple[int, ...]:
    """Return an edge and all edges that lead only to it, except spared ones and what is behind these."""
    found, again = {edge}, [edge]
    while again:
        for one in np.flatnonzero((graph.slots == again.pop()).any(axis=1)).tolist():
            if one not in found and one not in spared and {*graph.slots[one].tolist()} - {-1} <= found:
                found.add(one)
                again.append(one)
    return (edge, *sorted(found - {edge}))


def _components(graph: RoadGraph, gone: set[int]) -> NDArray[np.int32]:
    """Return the strongly connected part of each edge without some edges, shape (E,)."""
    source, slot = np.nonzero(graph.slots >= 0)
    target = graph.slots[source, slot]
    stays: Bools = ~(np.isin(source, sorted(gone)) | np.isin(target, sorted(gone)))
    shape = (graph.n_edges, graph.n_edges)
    matrix = csr_array((np.ones(int(stays.sum())), (source[stays], target[stays])), shape=shape)
    return np.asarray(connected_components(matrix, directed=True, connection="strong")[1])


def _spare_lanes(lanes: list[Lane]) -> list[int]:
    """Return the lanes without which every next edge can still be reached."""
    every = {edge for lane in lanes for edge in lane.leads_to}
    return [
        lane.number
        for lane in lanes
        if len(lanes) > 1 and {edge for other in lanes if other is not lane for edge in other.leads_to} == every
    ]


def on_grid(seconds: float, step_s: float) -> float:
    """Return the first step of the simulation at or after a time, s."""
    return round(math.ceil(seconds / step_s - 1e-9) * step_s, 6)


def parse(text: str) -> Incident:
    """Return an incident from one word of the command line (see `FORM`).

    Raises
    ------
    InputError
        It has another form.

    Examples
    --------
    >>> parse("31#1@600-1200").end_s
    1200.0
    >>> parse("31#1:0@600-1200=20%").factor
    0.2
    """
    found = WRITTEN.fullmatch(text.strip())
    how = found and found["how"]
    speed = SPEED.fullmatch(how.strip()) if how else None
    if found is None or (how is not None and how.strip() != "closed" and speed is None):
        raise InputError(f"--incident {text}: not an incident; {FORM}")
    content: dict[str, object] = {"edge": found["edge"], "begin_s": _number(found["begin"], text)}
    content["end_s"] = _number(found["end"], text)
    if found["lanes"]:
        content["lanes"] = [int(word) for word in found["lanes"].split(",")]
    if speed is not None:
        value = _number(speed[1], text)
        content |= {"speed_mps": value} if speed[2] == "m/s" else {"factor": value / 100}
    return validate(content, Incident, f"--incident {text}")


def _number(word: str, text: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--incident {text}: '{word}' is no number; {FORM}") from None


def added(scenario: Scenario, texts: Sequence[str]) -> Scenario:
    """Return a scenario with further incidents from the command line.

    Raises
    ------
    InputError
        One is not an incident, or begins after the horizon.
    """
    if not texts:
        return scenario
    every = [*scenario.incidents, *map(parse, texts)]
    content = scenario.model_dump(mode="json", exclude_none=True)
    content["incidents"] = [one.model_dump(mode="json", exclude_none=True) for one in every]
    return validate(content, Scenario, "--incident").model_copy(update={"folder": scenario.folder})


def place(
    scenario: Scenario,
    network: Network,
    ends: Sequence[tuple[int, int]],
    closed: frozenset[int],
    vehicles: Callable[[], Floats],
    bound: frozenset[int] = frozenset(),
) -> Incidents:
    """Return the incidents of a scenario on its network.

    Parameters
    ----------
    ends
        Origin and destination edge of each trip.
    closed
        Edges closed for the whole episode.
    vehicles
        Returns the number of vehicles on each edge in training traffic, shape (E,).
    bound
        Edges that cannot be closed, as own demand without routes is bound for them.

    Raises
    ------
    InputError
        An edge or a lane does not exist, an incident changes nothing, two incidents are on an edge at the same time,
        or a draw finds too few edges.
    """
    of_days = None if scenario.events is None or not scenario.events.has_incidents else scenario.events
    if not scenario.incidents and of_days is None:
        return Incidents()
    graph = network.graph
    spared = closed | {edge for pair in ends for edge in pair} | bound
    fixed = place_fixed(scenario, network, spared)
    for i, one in fixed:
        if bound & set(one.shut):
            raise InputError(
                f"incidents[{i}]: edge '{one.name}' cannot be closed: trips or flows of the scenario's own demand name "
                "it in to or via, and SUMO cannot route them then; slow it instead (factor = 0.1), or give them routes"
            )
        if one.edge in closed:
            raise InputError(
                f"incidents[{i}]: edge '{one.name}' is closed for the whole episode; remove one of the two"
            )
    random = tuple((i, one.random) for i, one in enumerate(scenario.incidents) if one.random is not None)
    weight: dict[str, Floats] = {}
    tables = [*(table for _, table in random), *([] if of_days is None else [of_days.incidents])]
    for where in sorted({table.where for table in tables}):
        weight[where] = graph.length * (vehicles() if where == "busy" else 1.0)
        if not weight[where].any():
            raise InputError(
                f"incidents: where = '{where}' finds no edge, as no vehicle drives in the training traffic; use "
                "where = 'anywhere'"
            )
    placed = tuple(sorted((one for _, one in fixed), key=lambda one: (one.begin_s, one.name)))
    own = network.lanes if any(table.lane for table in tables) else {}
    timing = scenario.horizon_s, scenario.step_length_s
    found = Incidents(graph, placed, random, of_days, weight, own, spared, *timing)
    seeds = scenario.seeds
    for seed in (*seeds.training, *seeds.validation, *seeds.evaluation) if found.is_random else ():
        found.of(seed)
    return found


def place_fixed(scenario: Scenario, network: Network, spared: Collection[int] = ()) -> list[tuple[int, Placed]]:
    """Return the incidents of all traffic seeds, each with its position among the scenario's incidents.

    Parameters
    ----------
    spared
        Edges that are not closed with one to which they lead (`shut_with`).

    Raises
    ------
    InputError
        An edge or a lane does not exist, an incident changes nothing, or two incidents are on an edge at the same time.
    """
    fixed = [
        (i, _placed(scenario, network, i, one, spared))
        for i, one in enumerate(scenario.incidents)
        if one.random is None
    ]
    _check_overlaps(fixed)
    return fixed


def _placed(scenario: Scenario, network: Network, number: int, one: Incident, spared: Collection[int]) -> Placed:
    graph, where = network.graph, f"incidents[{number}]"
    name = one.edge if one.place is None else one.place.edge
    if one.place is not None and one.place.lon is not None and one.place.lat is not None:
        try:
            edge = match_edge(network, one.place.lon, one.place.lat, one.place.bearing or 0.0)
        except InputError as error:
            raise InputError(f"{where}.place: {error}") from None
    else:
        name = str(name)
        if name not in graph.index:
            raise InputError(
                f"{where}: network '{network.name}' has no edge '{name}'{did_you_mean(name, graph.index)}; edges have "
                "SUMO's names, as in the network's .net.xml"
            )
        edge = graph.index[name]
    name, own = str(graph.edge_ids[edge]), network.lanes[edge]
    numbers = [lane.number for lane in own]
    wrong = [lane for lane in one.lanes if lane not in numbers]
    if wrong:
        raise InputError(
            f"{where}: edge '{name}' has no lane {wrong[0]} for cars; its lanes are {', '.join(map(str, numbers))}"
        )
    chosen = () if set(one.lanes) == set(numbers) else tuple(sorted(one.lanes))
    limit = max(lane.speed_mps for lane in own if not chosen or lane.number in chosen)
    speed = one.speed_mps if one.factor is None else one.factor * limit
    if speed is not None and speed >= limit:
        raise InputError(
            f"{where}: {speed:g} m/s does not slow edge '{name}', whose limit is {limit:.3g} m/s; give a lower speed"
        )
    if chosen and speed is None:
        left = {edge for lane in own if lane.number not in chosen for edge in lane.leads_to}
        cut = sorted({edge for lane in own for edge in lane.leads_to} - left)
        if cut:
            raise InputError(
                f"{where}: without lane {', '.join(map(str, chosen))} edge '{name}' no longer leads to '{cut[0]}'; "
                "close other lanes, or the whole edge (without lanes)"
            )
    step_s = scenario.step_length_s
    begin_s, end_s = (on_grid(float(at or 0.0), step_s) for at in (one.begin_s, one.end_s))
    shut = () if chosen or speed is not None else shut_with(graph, edge, spared)
    return Placed(edge, name, chosen, begin_s, end_s, speed, shut)


def _check_overlaps(fixed: Sequence[tuple[int, Placed]]) -> None:
    for k, (i, one) in enumerate(fixed):
        for j, other in fixed[k + 1 :]:
            if one.edge == other.edge and one.begin_s < other.end_s and other.begin_s < one.end_s:
                begin_s, end_s = max(one.begin_s, other.begin_s), min(one.end_s, other.end_s)
                raise InputError(
                    f"incidents[{i}] and incidents[{j}]: both are on edge '{one.name}' from {begin_s:g} to {end_s:g} "
                    "s; move one of them in time, or remove it"
                )
