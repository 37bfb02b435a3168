"""A scenario's own demand as SUMO runs it: numbers of vehicles, dropped vehicles, and driven routes."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

from relid_sumo.base import cache, sumo, temporary
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.network.network import Network
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import MOST_AGENTS, Scenario
from relid_sumo.scenario.traffic.demand import own_file, routes
from relid_sumo.scenario.traffic.sumo_options import AGENT_TYPE, READER, REROUTING_TYPE, simulation_options

FORMAT = 1  # part of the cache key: raise it when the meaning of the cached values changes
TAKEN_TYPES = frozenset(
    {AGENT_TYPE, REROUTING_TYPE, READER, "DEFAULT_VEHTYPE"}
)  # types of the agents, and the type that theirs derive from
CANNOT_RUN = "SUMO cannot run this demand on its network; correct it, or give the routes of this network"
SHOWN = 5  # ids in a message
ON_THE_ROAD = re.compile(r"emergency|eleporting|collision|junction-blocker|brak")  # of vehicles that drive on
WARNING = re.compile(r"Warning: ((?:The edge|Vehicle|Person|Flow|Trip|Transportable|Container|No ).*)")


@dataclass(frozen=True)
class OwnTraffic:
    """Result of a route file in one episode without agents.

    Attributes
    ----------
    loaded, departed, waiting
        Vehicles that SUMO loaded until the end of the episode, those that departed, and those that still wait for
        insertion.
    persons
        Persons that were loaded.
    clashes
        Ids of vehicles that are also ids of agents.
    said
        SUMO's first warning about a dropped vehicle; empty without a warning.
    """

    loaded: int
    departed: int
    waiting: int
    persons: int
    clashes: list[str]
    said: str

    @property
    def dropped(self) -> int:
        """Vehicles that SUMO dropped: their mode is not allowed on a lane of their route, or they have no route."""
        return self.loaded - self.departed - self.waiting

    def describe(self) -> str:
        """Return the account as one line."""
        text = f"own demand: {self.loaded} vehicles until the end of the episode, of which {self.departed} depart"
        text += f", {self.waiting} find no room" if self.waiting else ""
        text += f", {self.dropped} are dropped" + (f" ({self.said})" if self.said else "") if self.dropped else ""
        return text + (f"; {self.persons} person{'s' * (self.persons > 1)}" if self.persons else "")


def measured(scenario: Scenario, network: Network, checksum: str) -> OwnTraffic:
    """Drive a scenario's own demand once, on the first training seed, and return the account; cached.

    Parameters
    ----------
    checksum
        As `demand.own_demand` returns it.

    Raises
    ------
    InputError
        SUMO cannot run the route file; the message contains SUMO's own line.
    """
    seed, names = scenario.seeds.training[0], sorted(trip.id for trip in scenario.trips)
    if scenario.fleet is not None:
        names = [f"agent{i}" for i in range(MOST_AGENTS)]
    timing = [scenario.end_s, scenario.step_length_s, scenario.teleport_after_s]
    own = scenario.demand.model_dump(mode="json")
    content = [FORMAT, network.key, checksum, seed, timing, names, own, sumo.version()]

    def make() -> dict[str, object]:
        file = routes(scenario, network, seed)
        options = [o for o in simulation_options(scenario, network, file, seed) if o != "--no-warnings"]
        with temporary.folder("relid-sumo-") as name:
            driven_file, statistics = Path(name) / "driven.xml", Path(name) / "statistics.xml"
            arguments = ["--end", str(scenario.end_s), "--aggregate-warnings", "1", "--no-step-log"]
            arguments += [*record(driven_file), "--statistic-output", str(statistics)]
            try:
                log = sumo.run("sumo", [*options, *arguments])
            except SimulationError as error:
                raise InputError(f"{_named(scenario)}: {CANNOT_RUN}: {error}") from None
            root = ET.parse(statistics).getroot()
            vehicles, persons = root.find("vehicles"), root.find("persons")
            count = {} if vehicles is None else vehicles.attrib
            driven_ids = {vehicle.get("id", "") for vehicle in driven(driven_file)}
        ids = driven_ids | {one.get("id", "") for one in _elements(file, {"vehicle", "trip"})}
        said = next((one for one in WARNING.finditer(log) if not ON_THE_ROAD.search(one[1])), None)
        result = OwnTraffic(
            loaded=int(count["loaded"]),
            departed=int(count["inserted"]),
            waiting=int(count["waiting"]),
            persons=0 if persons is None else int(persons.get("loaded", "0")),
            clashes=sorted(ids & set(names)),
            said=said[1] if said else "",
        )
        return asdict(result)

    return cache.cached_json("own", network.name, content, make, OwnTraffic)


def meso_fault(scenario: Scenario, network: Network, checksum: str) -> str:
    """Return why SUMO cannot drive a scenario's own demand mesoscopically, as with some trains; "" where it can.

    Parameters
    ----------
    checksum
        As `demand.own_demand` returns it.
    """
    seed = scenario.seeds.training[0]
    timing = [scenario.end_s, scenario.step_length_s, scenario.teleport_after_s]
    content = [FORMAT, "meso", network.key, checksum, timing, scenario.demand.model_dump(mode="json"), sumo.version()]

    def make() -> str:
        options = simulation_options(scenario, network, routes(scenario, network, seed), seed, "meso")
        try:
            sumo.run("sumo", [*options, "--end", str(scenario.end_s), "--no-step-log"])
        except SimulationError as error:
            return str(error)
        return ""

    return cache.cached_json("own", f"{network.name}-meso", content, make, str)


def check(scenario: Scenario, network: Network, checksum: str) -> OwnTraffic:
    """Return the account of a scenario's own demand.

    Parameters
    ----------
    checksum
        As `demand.own_demand` returns it.

    Raises
    ------
    InputError
        SUMO cannot run it, or it uses ids or vehicle types of the agents.
    """
    file = _named(scenario)
    cleaned = routes(scenario, network, scenario.seeds.training[0])
    types = {one.get("id", "") for one in _elements(cleaned, {"vType", "vTypeDistribution"})} & TAKEN_TYPES
    if types:
        raise InputError(
            f"{file}: vehicle type {_some(sorted(types))}: the agents' own types have this name or are made from it; "
            "give yours another id"
        )
    found = measured(scenario, network, checksum)
    if found.clashes:
        raise InputError(
            f"{file}: vehicles have the ids of agents: {_some(found.clashes)}; rename them, or the trips of scenario "
            f"'{scenario.name}'"
        )
    if found.loaded and found.dropped == found.loaded:
        raise InputError(
            f"{file}: none of its vehicles can drive on network '{network.name}'"
            + (f" ({found.said})" if found.said else "")
            + "; give the routes of this network, or the network of these routes"
        )
    return found


def _named(scenario: Scenario) -> str:
    """Return the name of a scenario's demand for messages: its file, if the user has written it."""
    file = own_file(scenario)
    made_here = file is not None and file.resolve().is_relative_to(cache.cache_folder().resolve())
    return f"demand of scenario '{scenario.name}'" if made_here else str(file)


def record(file: Path) -> list[str]:
    """Return SUMO's options that write every vehicle's driven route, with its planned departure."""
    flags = ("write-unfinished", "intended-depart")
    return ["--vehroute-output", str(file), *(f"--vehroute-output.{flag}" for flag in flags)]


def driven(file: Path) -> list[ET.Element]:
    """Return the vehicles of a file of `record` by departure, each with its driven route.

    Vehicles that wait for a person (``depart="triggered"``) are left out: their time depends on the person.
    """
    found = []
    for vehicle in _elements(file, {"vehicle"}):
        if not math.isnan(seconds(vehicle.get("depart", ""))):
            for choice in vehicle.findall("routeDistribution"):
                vehicle.append(choice.findall("route")[-1])  # the driven route follows those that it replaced
                vehicle.remove(choice)
            found.append(vehicle)
    return sorted(found, key=lambda vehicle: (seconds(vehicle.get("depart", "")), vehicle.get("id", "")))


def types(file: Path) -> list[ET.Element]:
    """Return the vehicle types of a route file."""
    return _elements(file, {"vType", "vTypeDistribution"}, whole=True)


def _elements(file: Path, tags: set[str], *, whole: bool = False) -> list[ET.Element]:
    """Return the elements of a file with some tags; with `whole`, only those directly below its root."""
    depth, found = 0, list[ET.Element]()
    for event, element in ET.iterparse(file, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if event == "end":
            if element.tag in tags and (depth == 1 or not whole):
                found.append(element)
            elif depth == 1:
                element.clear()
    return found


def _some(ids: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in ids[:SHOWN])
    return shown + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
