"""Export an episode as a folder that plain SUMO of the same version repeats exactly, on any machine.

In the episode, an agent gets the rest of its route at a junction, between two steps. A route file gives a vehicle all
of its route at departure, and it would choose its lanes earlier. So each change of a route becomes a rerouter of that
agent alone: it acts in one step, on the edge where the agent is. `export_bundle` runs plain SUMO on the folder and
compares every arrival.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import logging
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo.base import files, sumo, temporary
from relid_sumo.base.errors import InputError
from relid_sumo.env.episode import warm_up
from relid_sumo.env.play import Job, bridge_settings, play
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.sumo_options import REROUTE_EVERY_S, REROUTING_TYPE, adaptation
from relid_sumo.sim.bridge import SumoBridge
from relid_sumo.viewer.export import DIGITS, check_closed, heading, option_values, write_xml
from relid_sumo.viewer.repeat import Change, Course, course_options, read_course, settle

log = logging.getLogger(__name__)

NET, DEMAND, AGENTS, ROUTES = "network.net.xml", "demand.rou.xml", "agents.rou.xml", "reroutes.add.xml"
VIEW, ARRIVALS, README, TRIPS = "view.xml", "arrivals.csv", "README.md", "tripinfo.xml"
DEFAULT_TYPE = "DEFAULT_VEHTYPE"
COLOURS = ("0,114,178", "213,94,0", "0,158,115", "204,121,167", "230,159,0", "86,180,233", "136,34,85", "51,34,136")
MANY = 20  # agents that the README lists
SAME_S = 1e-6
COURSE = "episode.xml"
LOOK_S, MARGIN_M = 2.5, 20.0  # an agent plans for a step, its reaction and its braking distance; and some more
COMMENT = re.compile(rb"<!--.*?-->\s*", re.DOTALL)


@dataclass(frozen=True)
class Bundle:
    """An exported folder.

    Attributes
    ----------
    configuration
        The file that SUMO runs.
    agents
        Number of agents.
    other
        Agents that arrive at another time in plain SUMO: their travel times in the episode and there, s (None without
        an arrival). Empty where all are the same.
    """

    configuration: Path
    agents: int
    other: Mapping[str, tuple[float | None, float | None]]


class _Recorder(SumoBridge):
    """A simulation that notes the routes of the agents, from `add` on."""

    def __init__(self, options: Sequence[str], **settings: Any) -> None:  # noqa: ANN401 - as SumoBridge
        self.first: dict[str, tuple[list[str], bool, str]] = {}
        self.changes: list[Change] = []
        self._next_s = 0.0
        super().__init__(options, **settings)

    def step(self) -> float:
        """See `Bridge.step`."""
        now_s = super().step()
        self._next_s = now_s + self._step_ms / 1000.0
        return now_s

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """See `Bridge.add`."""
        self.first[vehicle] = list(route), rerouting, kind
        super().add(vehicle, route, depart_s, rerouting=rerouting, kind=kind)

    def set_route(self, vehicle: str, route: Sequence[str]) -> None:
        """See `Bridge.set_route`."""
        ours = self._vehicle
        left_m = self.api.lane.getLength(ours.getLaneID(vehicle)) - ours.getLanePosition(vehicle)
        fastest = ours.getSpeed(vehicle) + ours.getAccel(vehicle) * self._step_ms / 1000.0
        seen_m = LOOK_S * fastest + fastest**2 / (2.0 * ours.getDecel(vehicle)) + MARGIN_M
        one_lane = self._edge.getLaneNumber(route[0]) == 1
        self.changes.append(Change(self._next_s, vehicle, tuple(route), one_lane, left_m < seen_m))
        super().set_route(vehicle, route)


def export_bundle(ready: PreparedScenario, policy: Policy, traffic_seed: int, folder: Path, name: str = "") -> Bundle:
    """Run an episode, and write a folder that plain SUMO repeats: ``sumo -c NAME.sumocfg``.

    The folder has the network, the background traffic, the agents, additional files (incidents, and those of a given
    SUMO scenario), settings of sumo-gui, the arrivals and a README. All paths in it are relative.

    Parameters
    ----------
    policy
        The policy; routes of a baseline that plans are planned before (`relid_sumo.baseline.named.plan_baselines`).
    traffic_seed
        Traffic seed of the episode.
    folder
        The folder; it does not exist yet, or is empty.
    name
        Name of the configuration. Default: that of the scenario.

    Raises
    ------
    InputError
        The folder has files or cannot be made, or plain SUMO cannot run the scenario.
    SimulationError
        SUMO failed.
    """
    check_free(folder)
    check_closed(ready)
    ready = ready.on(traffic_seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name or ready.scenario.name)}.sumocfg"
    with temporary.folder(".bundle-", folder.parent) as work:
        here = work / "bundle"
        here.mkdir()
        simulation, episode, details = _driven(ready, policy, traffic_seed, work)
        head = heading(ready, policy, episode)
        given = _copied(ready.options(traffic_seed), here)
        types = _types(ready.options(traffic_seed))
        write_xml(_agents(ready.task, simulation, details, types), head, here / AGENTS)
        write_xml(_view(), head, here / VIEW)
        write_xml(_configuration(ready, given, simulation), head, here / file)

        def run(early: frozenset[int]) -> Course:
            write_xml(_reroutes(simulation.changes, early, ready.scenario.step_length_s), head, here / ROUTES)
            output = [
                "--tripinfo-output",
                str(work / "again.xml"),
                *course_options(work / "course.xml", ready.task.names),
            ]
            sumo.run("sumo", ["-c", here / file, *output, *DIGITS])
            return read_course(work / "course.xml")

        log.info("running the bundle with plain SUMO")
        settle(simulation.changes, run, read_course(work / COURSE))
        other = _compared(ready.task, episode, work / "again.xml")
        files.write(here / ARRIVALS, _arrivals(ready.task, episode))
        files.write(here / README, _readme(ready, head, file, episode, other).encode())
        if folder.is_dir():
            folder.rmdir()  # empty
        files.put(here, folder)
    return Bundle(folder / file, ready.task.n_agents, other)


def differences(bundle: Bundle) -> Iterator[str]:
    """Yield one line for each agent that arrives at another time in plain SUMO."""
    for name, (ours, theirs) in bundle.other.items():
        there, here = ("no arrival" if one is None else f"{one:g} s" for one in (ours, theirs))
        yield f"agent '{name}': {here} in plain SUMO, {there} in the episode"


def check_free(folder: Path) -> None:
    """Raise InputError where the folder of a bundle has files or cannot be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--bundle {folder}: it exists and is not an empty folder; choose another one, or delete it")
    above = files.nearest(folder.parent)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"--bundle {folder}: {above} is not a folder that you may write to; choose another place")


def _driven(
    ready: PreparedScenario, policy: Policy, traffic_seed: int, work: Path
) -> tuple[_Recorder, EpisodeRecord, dict[str, ET.Element]]:
    """Return an episode, its simulation with the agents' routes, and each agent's departure by SUMO."""
    job = Job(traffic_seed, ready.options(traffic_seed), policy, day=ready.day(traffic_seed))
    output = ["--tripinfo-output", str(work / TRIPS), *DIGITS, "--tripinfo-output.write-unfinished"]
    output += course_options(work / COURSE, ready.task.names)
    simulation = _Recorder([*job.options, *output], **bridge_settings(ready.task))
    try:
        warm_up(simulation, ready.scenario)
        episode = play(ready.task, job, simulation)
    finally:
        simulation.close()
    infos = {info.get("id", ""): info for info in ET.parse(work / TRIPS).getroot().iter("tripinfo")}
    return simulation, episode, {name: infos[name] for name in ready.task.names if name in infos}


def _copied(options: Sequence[str], folder: Path) -> dict[str, str]:
    """Copy the files that options name to a folder; return the options with the copies' names."""
    given = dict(option_values(options))
    for key, name in (("net-file", NET), ("route-files", DEMAND)):
        _copy(Path(given[key]), folder / name)
        given[key] = name
    names = []
    for number, one in enumerate(filter(None, given.get("additional-files", "").split(",")), start=1):
        names.append(f"additional-{number}.add.xml")
        _copy(Path(one), folder / names[-1])
    given["additional-files"] = ",".join([*names, ROUTES])
    given["route-files"] += f",{AGENTS}"  # after the demand: SUMO draws random numbers for vehicles in this order
    return given


def _copy(source: Path, place: Path) -> None:
    """Copy an XML file without its comments, in which SUMO's programs write paths of this machine."""
    content = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    place.write_bytes(COMMENT.sub(b"", content))


def _types(options: Sequence[str]) -> dict[str, ET.Element]:
    """Return the vehicle types that the files of a scenario define, by id."""
    given, found = dict(option_values(options)), {}
    for file in filter(None, f"{given.get('additional-files', '')},{given['route-files']}".split(",")):
        for _, element in ET.iterparse(file):
            if element.tag == "vType":
                found[element.get("id", "")] = element
            elif element.tag in {"vehicle", "trip", "flow", "person"}:
                element.clear()
    return found


def _agents(
    task: RoutingTask, simulation: _Recorder, details: Mapping[str, ET.Element], types: Mapping[str, ET.Element]
) -> ET.Element:
    root = ET.Element("routes")
    written: set[str] = set()
    for i in np.argsort(task.depart_s, kind="stable").tolist():
        name = task.names[i]
        route, rerouting, kind = simulation.first[name]
        own = _type_name(name, kind, rerouting=rerouting)
        if own not in written:
            written.add(own)
            root.append(_type(own, types.get(kind or DEFAULT_TYPE), rerouting=rerouting))
        info = details.get(name)
        seen = {} if info is None else info.attrib
        vehicle = ET.SubElement(
            root,
            "vehicle",
            id=name,
            type=own,
            depart=f"{task.scenario.start_s + float(task.depart_s[i])}",
            departLane=seen.get("departLane", "").rpartition("_")[2] or "best",
            departSpeed="max",
            speedFactor=seen.get("speedFactor", "1"),
            color=COLOURS[i % len(COLOURS)],
        )
        ET.SubElement(vehicle, "route", edges=" ".join(route))
    return root


def _type_name(agent: str, kind: str, *, rerouting: bool) -> str:
    """Return an agent's vehicle type: one of its own, so that rerouters can name it, or that of SUMO's device."""
    if rerouting:
        return f"{REROUTING_TYPE}@{kind}" if kind else REROUTING_TYPE
    return f"agent.{agent}"


def _type(name: str, like: ET.Element | None, *, rerouting: bool) -> ET.Element:
    kind = ET.Element("vType", vClass="passenger") if like is None else copy.deepcopy(like)
    kind.attrib.pop("probability", None)
    kind.set("id", name)
    if rerouting:
        for key, value in (("has.rerouting.device", "true"), ("device.rerouting.period", f"{REROUTE_EVERY_S}")):
            for old in [one for one in kind.iter("param") if one.get("key") == key]:
                kind.remove(old)
            ET.SubElement(kind, "param", key=key, value=value)
    return kind


def _reroutes(changes: Sequence[Change], early: frozenset[int], step_s: float) -> ET.Element:
    """Return a rerouter for each change of a route; some act one step earlier (`relid_sumo.viewer.repeat`)."""
    root = ET.Element("additional")
    for number, one in enumerate(changes):
        at_s = one.at_s - step_s if number in early else one.at_s
        ET.SubElement(root, "route", id=f"reroute.{number}", edges=" ".join(one.route))
        rerouter = ET.SubElement(
            root, "rerouter", id=f"rerouter.{number}", edges=one.route[0], vTypes=f"agent.{one.agent}"
        )
        interval = ET.SubElement(rerouter, "interval", begin=f"{at_s:.3f}", end=f"{at_s + step_s:.3f}")
        ET.SubElement(interval, "routeProbReroute", id=f"reroute.{number}", probability="1")
    return root


def _view() -> ET.Element:
    root = ET.Element("viewsettings")
    scheme = ET.SubElement(root, "scheme", name="agents in colour")
    ET.SubElement(scheme, "vehicles", vehicleMode="0", vehicleQuality="2", vehicle_exaggeration="1.5")
    ET.SubElement(root, "delay", value="50")
    return root


def _configuration(ready: PreparedScenario, given: Mapping[str, str], simulation: _Recorder) -> ET.Element:
    root = ET.Element("configuration")
    values = dict(given)
    if any(rerouting for _, rerouting, _ in simulation.first.values()):
        values |= dict(option_values(adaptation(ready.scenario.observation.window_s)))
    values |= {"end": f"{ready.scenario.end_s}", "gui-settings-file": VIEW, "tripinfo-output": TRIPS}
    for name, value in values.items():
        ET.SubElement(root, name, value=value)
    return root


def _compared(task: RoutingTask, episode: EpisodeRecord, trips: Path) -> dict[str, tuple[float | None, float | None]]:
    """Return the agents whose travel times differ: that of the episode and that of plain SUMO."""
    infos = {info.get("id"): info for info in ET.parse(trips).getroot().iter("tripinfo")}
    other = {}
    for agent, ours in zip(task.names, _travel_times(episode), strict=True):
        info = infos.get(agent)
        theirs = None if info is None else float(info.attrib["duration"]) + float(info.attrib["departDelay"])
        if (ours is None) != (theirs is None) or abs((ours or 0.0) - (theirs or 0.0)) > SAME_S:
            other[agent] = ours, theirs
    return other


def _travel_times(episode: EpisodeRecord) -> Iterator[float | None]:
    """Yield the travel time of each agent, s; None without an arrival."""
    for seconds, status in zip(episode.travel_time.tolist(), episode.status, strict=True):
        yield seconds if status == ARRIVED else None


def _arrivals(task: RoutingTask, episode: EpisodeRecord) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["agent", "status", "departure_s", "arrival_s", "travel_time_s"])
    for i, seconds in enumerate(_travel_times(episode)):
        departs_s = task.scenario.start_s + float(task.depart_s[i])
        known = ["", ""] if seconds is None else [f"{departs_s + seconds:g}", f"{seconds:g}"]
        writer.writerow([task.names[i], episode.status[i], f"{departs_s:g}", *known])
    return text.getvalue().encode()


def _readme(
    ready: PreparedScenario,
    head: str,
    file: str,
    episode: EpisodeRecord,
    other: Mapping[str, tuple[float | None, float | None]],
) -> str:
    about = "\n".join(line.strip() for line in head.splitlines())
    if other:
        checked = f"Plain SUMO gives other travel times than the episode for {len(other)} agents: {', '.join(other)}."
    else:
        checked = "Plain SUMO gives exactly the travel times of the episode, for every agent."
    rows = [
        f"| {name} | {status} | {'' if seconds is None else f'{seconds:g}'} |"
        for name, status, seconds in zip(ready.task.names, episode.status, _travel_times(episode), strict=True)
    ]
    more = [] if len(rows) <= MANY else ["", f"The first {MANY} of {len(rows)} agents; all are in {ARRIVALS}."]
    return "\n".join(
        [
            f"# {ready.scenario.name}",
            "",
            about,
            "",
            f"Run it in this folder with SUMO {sumo.version()}; nothing else is needed:",
            "",
            f"    sumo -c {file}",
            f"    sumo-gui -c {file}",
            "",
            f"SUMO writes {TRIPS}. {checked} Another version of SUMO may give other times.",
            "",
            "| agent | status | travel time, s |",
            "| --- | --- | ---: |",
            *rows[:MANY],
            *more,
            "",
            "| file | content |",
            "| --- | --- |",
            f"| {NET} | the road network |",
            f"| {DEMAND} | all other vehicles |",
            f"| {AGENTS} | the agents: departures, vehicle types and first routes |",
            f"| {ROUTES} | each change of an agent's route, in the step and on the edge where it happens |",
            "| additional-N.add.xml | incidents, and additional files of the scenario, where it has any |",
            f"| {ARRIVALS} | arrival of each agent in the episode |",
            f"| {VIEW} | settings of sumo-gui |",
            "",
            f"Map data: {ready.network.attribution}. Do not remove this line where you pass the folder on.",
            "",
        ]
    )
