"""Prepares a scenario for simulation: network, calibrated demand, travel times, task."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from relid_sumo.base import cache, sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.network import account, network
from relid_sumo.network.catalogue import NetworkSettings
from relid_sumo.network.network import Network
from relid_sumo.scenario import events, incidents, kinds
from relid_sumo.scenario.files import own_roads
from relid_sumo.scenario.settings import CONNECTED, Place, Scenario, Simulator
from relid_sumo.scenario.task import DailyTasks, Day, RoutingTask, make_task
from relid_sumo.scenario.traffic import (
    calibration,
    demand,
    edge_times,
    equilibrium,
    fleet,
    history,
    incident_file,
    meso,
    own_traffic,
    readings,
    sumo_options,
    surge,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PreparedScenario:
    """A scenario that is ready for simulation.

    Attributes
    ----------
    task : RoutingTask
        The task of all traffic seeds. That of a fleet has no agents: `on` returns the task of a traffic seed.
    demand : str or None
        Checksum of the scenario's own route file; None where its demand is generated.
    micro_only : bool
        SUMO cannot drive the demand mesoscopically, so that `options` are microscopic for both simulators.
    """

    scenario: Scenario
    network: Network
    task: RoutingTask
    demand: str | None = None
    micro_only: bool = False
    _drawn: dict[int, tuple[Day, Path]] = field(init=False, repr=False, default_factory=dict)
    _tasks: list[DailyTasks] = field(init=False, repr=False, default_factory=list)

    def identity(self, *unseen: str) -> list[object]:
        """Return the inputs of an episode, without traffic seed, simulator and policy, as JSON.

        `unseen` names parts of the scenario to leave out, which the policy does not see.
        """
        own = self.scenario.model_dump(mode="json", exclude={"name", "network", *unseen})
        sources = kinds.sources(self.scenario, *unseen)
        content: list[object] = [
            cache.code(),
            sumo.version(),
            self.network.key,
            own,
            self.demand,
            sorted(self.task.closed),
        ]
        return [*content, sources] if sources else content

    def options(
        self, traffic_seed: int, simulator: Simulator = "micro", closing: incidents.Placed | None = None
    ) -> tuple[str, ...]:
        """Return SUMO's options for a traffic seed, with its incidents and surge; its demand is made at first use.

        Parameters
        ----------
        closing
            A further incident, of one episode alone.

        Raises
        ------
        InputError
            The simulator is mesoscopic and not calibrated.
        """
        if self.micro_only:
            simulator = "micro"
        if simulator == "meso" and self.scenario.meso is None:
            raise InputError(
                f"scenario '{self.scenario.name}': its mesoscopic simulation is not calibrated; prepare it with "
                'simulators=("meso",), or give it a table [meso]'
            )
        _, file = self._traffic(traffic_seed)
        options = sumo_options.simulation_options(self.scenario, self.network, file, traffic_seed, simulator)
        drawn = incidents.with_closing(self.task.incidents, traffic_seed, closing)
        if drawn:
            traffic = [file, Path(options[options.index("-a") + 1])] if "-a" in options else [file]
            added = incident_file.incident_file(drawn, self.network, self.scenario.start_s, simulator, traffic)
            options = sumo_options.with_additional(options, added)
        return tuple(options)

    def day(self, traffic_seed: int) -> Day:
        """Return what differs in a traffic seed: the trips of a fleet.

        Raises
        ------
        InputError
            The traffic seed gives the fleet too few agents.
        """
        return self._traffic(traffic_seed)[0]

    def on(self, traffic_seed: int) -> PreparedScenario:
        """Return the scenario with the task of a traffic seed; the same scenario where it is the same in all seeds.

        Raises
        ------
        InputError
            As in `day`.
        """
        if self.scenario.fleet is None:
            return self
        if not self._tasks:
            self._tasks.append(DailyTasks(self.task))
        return replace(self, task=self._tasks[0].of(self.day(traffic_seed), (str(traffic_seed),)))

    def day_type(self, traffic_seed: int) -> str | None:
        """Return the type of a traffic seed's day (`relid_sumo.scenario.events`); None where all days are alike."""
        return None if self.scenario.events is None else events.day_type(self.scenario.events, traffic_seed)

    def surge(self, traffic_seed: int) -> events.PlacedSurge | None:
        """Return the surge of a traffic seed; None where it has none."""
        settings = self.scenario.events
        if settings is None or self.day_type(traffic_seed) not in {events.SURGE, events.BOTH}:
            return None
        place = settings.surge.place
        middle = None if place is None else _located(self.network, place)
        return events.drawn(settings.surge, self.network.graph, traffic_seed, middle)

    def events_of(self, traffic_seed: int) -> list[tuple[int, str]]:
        """Return the incidents and the surge of a traffic seed, each as an edge and one line of text."""
        found = [(one.edge, one.describe()) for one in self.task.incidents.of(traffic_seed)]
        crowd = self.surge(traffic_seed)
        return found if crowd is None else [*found, (crowd.edge, crowd.describe())]

    def describe_day(self, traffic_seed: int) -> str:
        """Return the day of a traffic seed in one line: its type, incidents and surge; "" where nothing happens."""
        happens = "; ".join(said for _, said in self.events_of(traffic_seed))
        return ": ".join(filter(None, (self.day_type(traffic_seed), happens)))

    def _traffic(self, traffic_seed: int) -> tuple[Day, Path]:
        """Return the agents' part of a traffic seed, and the route file of the other vehicles."""
        closed = self.task.closed
        if self.scenario.fleet is None:
            crowd = self.surge(traffic_seed)
            return Day(), surge.routes(self.scenario, self.network, traffic_seed, closed, crowd)
        if traffic_seed not in self._drawn:
            crowd = self.surge(traffic_seed)
            trips, file = fleet.drawn(self.scenario, self.network, traffic_seed, closed, crowd)
            self._drawn[traffic_seed] = Day(trips), file
        return self._drawn[traffic_seed]


def build_network(scenario: Scenario) -> Network:
    """Return a scenario's network: from the catalogue, or from the OSM file in the scenario's folder."""
    file = own_roads(scenario)
    return roads(scenario.name, file or Path(scenario.network), scenario.network_options)


def roads(name: str, source: Path, options: NetworkSettings) -> Network:
    """Return the network of an OSM file, or of the catalogue.

    Raises
    ------
    InputError
        There is no such network, or options are given for one of the catalogue.
    """
    if source.is_file() or source.is_absolute():
        return network.build(source, options, name=name)
    if options != NetworkSettings():
        raise InputError(
            f"scenario '{name}': network_options are for an OSM file; network '{source}' has its own; remove them"
        )
    return network.find(str(source))


def ends(scenario: Scenario, roads: Network) -> list[tuple[int, int]]:
    """Return origin and destination edge of each trip; none for a fleet.

    Raises
    ------
    InputError
        A trip starts or ends away from the network.
    """
    found = []
    for trip in scenario.trips:
        try:
            origin, destination = (_located(roads, place) for place in (trip.origin, trip.destination))
        except InputError as error:
            raise InputError(f"scenario '{scenario.name}', trip '{trip.id}': {error}") from None
        found.append((origin, destination))
    return found


def _located(roads: Network, place: Place) -> int:
    if place.lon is not None and place.lat is not None and place.bearing is not None:
        return network.match_edge(roads, place.lon, place.lat, place.bearing)
    return _edge(roads, str(place.edge))


def prepare(
    scenario: Scenario,
    *,
    simulators: Sequence[Simulator] = ("micro",),
    closed: Sequence[str] = (),
    known: Scenario | None = None,
) -> PreparedScenario:
    """Build the network of a scenario, and calibrate and measure its traffic; all results are cached.

    Parameters
    ----------
    simulators
        Simulators to prepare for; the mesoscopic one is calibrated where it is among them, and its readings of
        congestion are compared with the microscopic ones.
    closed
        Edges (SUMO's names) that no vehicle may use.
    known
        The calibrated scenario whose mean travel times agents know (``observation.distance = "time"``, and the
        observation ``connected``). Default: the scenario itself.

    Raises
    ------
    InputError
        The scenario cannot be simulated; the message says why.
    """
    if scenario.rough:
        log.warning(f"scenario '{scenario.name}' is a rough draft (--quick): {'; '.join(scenario.rough)}")
    layout = kinds.layout(scenario)
    kinds.reward(scenario.reward.kind)
    built = build_network(scenario)
    for warning in account.warnings(built.summary):
        log.warning(warning)
    shut = frozenset(_edge(built, name) for name in closed)
    own = demand.own_demand(scenario)
    if own is not None:
        found = own_traffic.check(scenario, built, own)
        (log.warning if found.dropped or found.waiting else log.info)(found.describe())
    incidents.place_fixed(scenario, built)  # before the long calibration
    scenario = calibration.calibrated(scenario, built)
    equilibrium.settle(scenario, built)
    micro_only = "meso" in simulators and own is not None and not runs_meso(scenario, built, own)
    if "meso" in simulators and not micro_only:
        scenario = meso.calibrated(scenario, built, own)
    times = past = None
    knows_times, is_connected = scenario.observation.distance == "time", scenario.observation.kind == CONNECTED
    if knows_times or is_connected:
        known, own_known = (scenario, own) if known is None else (known, demand.own_demand(known))
        times = edge_times.edge_times(known, built, own_known).mean(axis=0) if knows_times else None
        past = history.measured(known, built, own_known) if is_connected else None
    if shut and scenario.demand.route_file is not None:
        raise InputError(
            "roads can be closed only with generated demand: own demand is not rerouted around them; remove "
            "demand.route_file or the closed roads"
        )
    where = ends(scenario, built)

    def vehicles() -> Floats:
        took = edge_times.measured(scenario, built, own, scenario.seeds.training[:1])
        return np.asarray(took.edge_vehicles.sum(axis=0))

    bound = frozenset[int]()
    has_events = scenario.events is not None and scenario.events.has_incidents
    if own is not None and (scenario.incidents or has_events):
        names = incident_file.bound_for(demand.routes(scenario, built, scenario.seeds.training[0]))
        bound = frozenset(built.graph.index[name] for name in names & built.graph.index.keys())
    found_incidents = incidents.place(scenario, built, where, shut, vehicles, bound)
    task = make_task(scenario, built.graph, where, times, shut, layout, found_incidents)
    if "meso" in simulators:
        task = replace(task, readings=readings.measured(scenario, built, own))
    task = replace(task, history=past)
    ready = PreparedScenario(scenario, built, task, own, micro_only)
    ready.options(scenario.seeds.training[0])  # so that a fault of the demand is reported now
    _check_surges(ready)
    return ready


def _check_surges(ready: PreparedScenario) -> None:
    """Draw a surge, so that a fault of its place is reported now."""
    seeds = ready.scenario.seeds
    for seed in (*seeds.training, *seeds.validation, *seeds.evaluation):
        try:
            if ready.surge(seed) is not None:
                return
        except InputError as error:
            raise InputError(f"scenario '{ready.scenario.name}': {error}") from None


def with_slots(ready: PreparedScenario, m_out: int) -> PreparedScenario:
    """Return a scenario whose edges have `m_out` slots, of which more than before are empty; nothing else changes.

    So a policy that was trained where junctions have more slots acts as it does there at a junction with fewer roads.
    """
    graph = ready.network.graph
    empty = np.full((graph.n_edges, m_out - graph.m_out), -1, dtype=graph.slots.dtype)
    wider = replace(graph, slots=np.hstack([graph.slots, empty]))
    task = replace(ready.task, graph=wider)
    return replace(ready, network=replace(ready.network, graph=wider), task=task)


def runs_meso(scenario: Scenario, roads: Network, own: str) -> bool:
    """Return whether SUMO can drive a scenario's own demand mesoscopically, and say so where it cannot."""
    fault = own_traffic.meso_fault(scenario, roads, own)
    if fault:
        log.warning(
            f"scenario '{scenario.name}': its demand cannot be driven mesoscopically, so all training is microscopic "
            f"({fault})"
        )
    return not fault


def _edge(roads: Network, name: str) -> int:
    index = roads.graph.index
    if name not in index:
        raise InputError(f"network '{roads.name}' has no edge '{name}'{did_you_mean(name, index)}")
    return index[name]
