"""The demand of a traffic seed with its surge: the route file that SUMO gets."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from relid_sumo.base import cache, files, temporary
from relid_sumo.base.errors import InputError
from relid_sumo.network.network import Network
from relid_sumo.scenario.events import PlacedSurge
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import demand

FORMAT = 1  # part of the cache key: raise it when the meaning of the cached values changes
DEPARTING = {"vehicle", "trip", "flow"}


def routes(
    scenario: Scenario,
    network: Network,
    traffic_seed: int,
    closed: frozenset[int] = frozenset(),
    surge: PlacedSurge | None = None,
) -> Path:
    """Return the .rou.xml of a traffic seed's demand, with the vehicles of its surge where it has one; cached.

    Drivers in a surge choose their routes as those of generated demand do: before they depart, on the travel times of
    ordinary days, with random factors. `closed` is as in `relid_sumo.scenario.traffic.demand.routes`.

    Raises
    ------
    InputError
        As in `relid_sumo.scenario.traffic.demand.routes`, or a vehicle of the demand has the name of one of the surge.
    """
    ordinary = demand.routes(scenario, network, traffic_seed, closed)
    if surge is None:
        return ordinary
    learned = demand.known_times(scenario, network)
    trips = list(_trips(scenario, network, surge))
    named = [str(ordinary.relative_to(cache.cache_folder())), learned and learned.name]
    file = cache.cache_file("surge", network.name, [FORMAT, *named, traffic_seed, sorted(closed), trips], ".rou.xml")
    shut = [str(network.graph.edge_ids[edge]) for edge in sorted(closed)]

    def make() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(".tmp-", file.parent) as folder:
            own, both = Path(folder) / "surge.rou.xml", Path(folder) / "both.rou.xml"
            demand.route_trips(trips, network, traffic_seed, shut, own, learned, "surge")
            root = merged(ET.parse(ordinary).getroot(), ET.parse(own).getroot(), scenario)
            ET.ElementTree(root).write(both, encoding="utf-8")
            files.put(both, file)

    cache.once(file, make)
    return file


def _trips(scenario: Scenario, network: Network, surge: PlacedSurge) -> Iterator[str]:
    ids = network.graph.edge_ids
    kind = "" if scenario.demand.route_file is not None else ' type="background"'
    for i, (at_s, o, d) in enumerate(zip(surge.depart_s, surge.origin, surge.destination, strict=True)):
        yield (
            f'<trip id="surge{i}"{kind} depart="{scenario.start_s + at_s:.2f}" from="{ids[o]}" to="{ids[d]}"'
            ' departLane="best" departSpeed="max"/>'
        )


def merged(root: ET.Element, surge: ET.Element, scenario: Scenario) -> ET.Element:
    """Return a route file with the vehicles of another one among its own, by departure, as SUMO wants them."""
    names = {one.get("id") for one in root if one.tag in DEPARTING}
    further = [one for one in surge if one.tag == "vehicle"]
    taken = [one.get("id") for one in further if one.get("id") in names]
    if taken:
        raise InputError(
            f"scenario '{scenario.name}': a vehicle of its demand is named '{taken[0]}', as those of surges are; "
            "rename it in the route file"
        )
    result = ET.Element(root.tag, root.attrib)
    for element in root:
        at_s = seconds(element.get("depart", element.get("begin", ""))) if element.tag in DEPARTING else -1.0
        while further and seconds(further[0].get("depart", "")) < at_s:
            result.append(further.pop(0))
        result.append(element)
    result.extend(further)
    return result
