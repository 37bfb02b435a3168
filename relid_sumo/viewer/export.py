"""Export the routes of an episode as files that plain SUMO can run."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from relid_sumo.base import files, temporary
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic import sumo_options
from relid_sumo.scenario.traffic.sumo_options import AGENT_TYPE

ENDING = ".rou.xml"
SHORT = {"-n": "net-file", "-r": "route-files", "-a": "additional-files"}
DIGITS = ("--precision", "6")


def export_routes(ready: PreparedScenario, policy: Policy, traffic_seed: int, file: Path) -> Path:
    """Run an episode and write the agents' routes; return the .sumocfg next to them, which plain SUMO can run.

    For each agent the files contain the departure, the vehicle type, the insertion lane, the driver's speed factor and
    the edges driven. An agent that was still driving at the horizon gets the free-flow route from there to its
    destination. The network, the background traffic and the incidents are referenced by path, not copied.

    In plain SUMO the travel times equal the episode's if the agents follow their initial routes (always under
    `shortest`). Otherwise they may differ by some seconds: in the episode a vehicle receives its next edge at each
    junction, but in a route file it knows the whole route at departure and may choose its lanes earlier. This also
    affects the traffic around it.

    Parameters
    ----------
    traffic_seed
        Traffic seed of the episode.
    file
        The route file, NAME.rou.xml; the configuration is NAME.sumocfg. Existing files are replaced.

    Raises
    ------
    InputError
        A file cannot be written, or plain SUMO cannot run the scenario.
    SimulationError
        SUMO failed.
    """
    _check(ready, file)
    ready = ready.on(traffic_seed)
    options = ready.options(traffic_seed)
    try:
        with temporary.folder("relid-sumo-export-") as folder:
            trips = ["--tripinfo-output", str(folder / "trips.xml"), *DIGITS]
            trips += ["--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted"]
            episode = drive(ready.task, Job(traffic_seed, (*options, *trips), policy))
            details = {info.get("id", ""): info for info in ET.parse(folder / "trips.xml").getroot().iter("tripinfo")}
            head = heading(ready, policy, episode)
        write_xml(_routes(ready.task, episode, details), head, file)
        write_xml(_configuration(ready, options, file), head, _configuration_file(file))
        return _configuration_file(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; choose another place") from None


def _check(ready: PreparedScenario, file: Path) -> None:
    if not file.name.endswith(ENDING) or file.name == ENDING:
        raise InputError(f"{file}: a route file has a name that ends in {ENDING}; change the name")
    if not file.parent.is_dir():
        raise InputError(f"{file}: the folder {file.parent} does not exist; make it first")
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"{file}: the file cannot be written; choose another place")
    check_closed(ready)


def check_closed(ready: PreparedScenario) -> None:
    """Raise InputError where plain SUMO would let vehicles use edges that are closed for the whole episode."""
    if ready.task.closed and ready.scenario.demand.route_file is not None:
        raise InputError(
            f"scenario '{ready.scenario.name}' has a route file of its own, which ignores closed edges; plain SUMO "
            "would let its vehicles use them: export without closed edges"
        )


def _configuration_file(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(ENDING) + ".sumocfg")


def heading(ready: PreparedScenario, policy: Policy, episode: EpisodeRecord) -> str:
    """Return what exported files say about their origin."""
    arrived = episode.status.count(ARRIVED)
    lines = [
        f"Made by relid_sumo {version('relid_sumo')}: scenario '{ready.scenario.name}', policy '{policy.name}', "
        f"traffic seed {episode.traffic_seed}.",
        f"{arrived} of {len(episode.status)} agents arrived, mean travel time {episode.travel_time.mean():.1f} s.",
        f"Network '{ready.network.name}': {ready.network.attribution}.",
        *(f"Event: {said}." for _, said in ready.events_of(episode.traffic_seed)),
    ]
    return "\n     ".join(lines).replace("--", "- -")  # an XML comment must not contain "--"


def _routes(task: RoutingTask, episode: EpisodeRecord, details: Mapping[str, ET.Element]) -> ET.Element:
    root = ET.Element("routes")
    ET.SubElement(root, "vType", id=AGENT_TYPE, vClass="passenger")
    for i in np.argsort(task.depart_s, kind="stable").tolist():
        name, driven = task.names[i], episode.routes[i].tolist()
        if episode.status[i] != ARRIVED:
            driven = [*driven[:-1], *task.route(i, driven[-1] if driven else int(task.origin[i]))]
        info = details[name]
        lane = info.get("departLane", "").rpartition("_")[2]
        vehicle = ET.SubElement(
            root,
            "vehicle",
            id=name,
            type=AGENT_TYPE,
            depart=f"{task.scenario.start_s + float(task.depart_s[i])}",
            departLane=lane or "best",
            departSpeed="max",
            speedFactor=info.get("speedFactor", "1"),
        )
        ET.SubElement(vehicle, "route", edges=" ".join(task.graph.edge_ids[driven].tolist()))
    return root


def _configuration(ready: PreparedScenario, options: Sequence[str], file: Path) -> ET.Element:
    """Return the episode's options as a configuration, with the agents' routes added to the background traffic's."""
    root = ET.Element("configuration")
    for name, given in option_values(options):
        value = given
        if name == "route-files":
            value = f"{Path(value).resolve()},{file.name}"
        if name == "additional-files":
            value = ",".join(str(Path(one).resolve()) for one in value.split(","))
        ET.SubElement(root, name, value=value)
    ET.SubElement(root, "end", value=f"{ready.scenario.end_s}")
    return root


def option_values(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line with their long names and values, as a configuration has them."""
    left = list(options)
    while left:
        word = left.pop(0)
        value = "true" if not left or sumo_options.is_option(left[0]) else left.pop(0)
        yield SHORT.get(word, word.lstrip("-")), value


def write_xml(root: ET.Element, head: str, file: Path) -> None:
    """Write an XML file that begins with a comment."""
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    files.write(file, f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {head} -->\n{text}\n'.encode())
