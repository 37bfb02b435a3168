"""Everything that has to be there before vehicles drive: network, calibrated demand, travel times, task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relid_sumo import demand, network, traffic
from relid_sumo.atlas import NetworkSettings
from relid_sumo.env import RoutingTask, make_task
from relid_sumo.errors import InputError, did_you_mean
from relid_sumo.network import Network
from relid_sumo.scenario import Scenario


@dataclass(frozen=True, eq=False)
class Ready:
    """A scenario that can be driven."""

    scenario: Scenario
    network: Network
    task: RoutingTask

    def options(self, traffic_seed: int) -> tuple[str, ...]:
        """Return SUMO's options for a traffic seed; its demand is made on first use."""
        file = demand.routes(self.scenario, self.network, traffic_seed, self.task.closed)
        return tuple(demand.simulation_options(self.scenario, self.network, file, traffic_seed))


def build_network(scenario: Scenario, report: Callable[[str], None] = lambda _: None) -> Network:
    """Return a scenario's network: from the catalogue, or from the OSM file beside the scenario."""
    beside = scenario.folder / scenario.network
    if not beside.is_file():
        return network.find(scenario.network, report=report)
    settings = NetworkSettings(bbox=scenario.bbox)
    return network.build(beside.resolve(), settings, name=scenario.name, report=report)


def ends(scenario: Scenario, roads: Network) -> list[tuple[int, int]]:
    """Return origin and destination edge of each trip.

    Raises
    ------
    InputError
        A trip lies off the network.
    """
    found = []
    for trip in scenario.trips:
        try:
            origin, destination = (
                network.match_edge(roads, p.lon, p.lat, p.bearing) for p in (trip.origin, trip.destination)
            )
        except InputError as error:
            raise InputError(f"scenario '{scenario.name}', trip '{trip.id}': {error}") from None
        found.append((origin, destination))
    return found


def prepare(scenario: Scenario, *, closed: Sequence[str] = (), report: Callable[[str], None] = lambda _: None) -> Ready:
    """Build, calibrate and measure what a scenario needs; everything is cached.

    Parameters
    ----------
    closed
        Edges (SUMO's names) that nobody may use.
    report
        Told what is being done.

    Raises
    ------
    InputError
        The scenario cannot be driven; the message says why.
    """
    roads = build_network(scenario, report)
    shut = frozenset(_edge(roads, name) for name in closed)
    scenario = demand.calibrated(scenario, roads, report)
    times = None
    if scenario.observation.distance == "time":
        times = traffic.edge_times(scenario, roads, report=report).mean(axis=0)
    return Ready(scenario, roads, make_task(scenario, roads.graph, ends(scenario, roads), times, shut))


def _edge(roads: Network, name: str) -> int:
    index = roads.graph.index
    if name not in index:
        raise InputError(f"network '{roads.name}' has no edge '{name}'{did_you_mean(name, index)}")
    return index[name]
