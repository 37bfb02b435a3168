"""The routes a policy drives, as files that plain SUMO plays."""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import AGENT_TYPE

ENDING = ".rou.xml"
SHORT = {"-n": "net-file", "-r": "route-files"}
DIGITS = ("--precision", "6")


def export_routes(ready: PreparedScenario, policy: Policy, traffic_seed: int, file: Path) -> Path:
    """Drive an episode and write the agents' routes; return the .sumocfg beside them, which plain SUMO plays.

    The files hold each agent as the episode had it: departure, vehicle type, lane of insertion, the driver's own speed
    factor, and the edges driven (with the free-flow way on from there, where the horizon cut a trip off). Network and
    background traffic are referred to where they lie.

    In plain SUMO the travel times are exactly the episode's where the agents keep to the ways they were planned on
    (always under `shortest`). One thing cannot be put into a route file: in the episode a vehicle is told its way
    junction by junction, here it knows all of it when it departs. Where that makes it choose another lane in good time,
    it arrives some seconds earlier or later, and the traffic around it is stirred too.

    Parameters
    ----------
    traffic_seed
        The traffic to drive in.
    file
        What to write, NAME.rou.xml; the configuration is NAME.sumocfg. Both are replaced where they exist.

    Raises
    ------
    InputError
        The file cannot be written, or plain SUMO could not play the scenario.
    SimulationError
        SUMO failed.
    """
    _check(ready, file)
    options = ready.options(traffic_seed)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=file.parent) as name:
            folder = Path(name)
            trips = ["--tripinfo-output", str(folder / "trips.xml"), *DIGITS]
            trips += ["--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted"]
            episode = drive(ready.task, Job(traffic_seed, (*options, *trips), policy))
            details = {info.get("id", ""): info for info in ET.parse(folder / "trips.xml").getroot().iter("tripinfo")}
            heading = _heading(ready, policy, episode)
            routes = _write(_routes(ready.task, episode, details), heading, folder / "routes")
            configuration = _write(_configuration(ready, options, file), heading, folder / "configuration")
            routes.replace(file)
            return configuration.replace(_beside(file))
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None


def _check(ready: PreparedScenario, file: Path) -> None:
    if not file.name.endswith(ENDING) or file.name == ENDING:
        raise InputError(f"{file}: routes go into a file whose name ends in {ENDING}; give it that ending")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; make it first")
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"{file}: cannot be written there; choose another place")
    if ready.task.closed and ready.scenario.demand.route_file is not None:
        raise InputError(
            f"scenario '{ready.scenario.name}' has its own demand, which does not know of the closed roads; plain SUMO "
            "would let it use them: export without closing roads"
        )


def _beside(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(ENDING) + ".sumocfg")


def _heading(ready: PreparedScenario, policy: Policy, episode: EpisodeRecord) -> str:
    arrived = episode.status.count(ARRIVED)
    lines = [
        f"Made by relid_sumo {version('relid_sumo')}: scenario '{ready.scenario.name}', policy '{policy.name}', "
        f"traffic seed {episode.traffic_seed}.",
        f"{arrived} of {len(episode.status)} agents arrived, mean travel time {episode.travel_time.mean():.1f} s.",
        f"Network '{ready.network.name}': {ready.network.attribution}.",
    ]
    return "\n     ".join(lines).replace("--", "- -")  # which a comment may not hold


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
    """Return the options of the episode, with the agents' routes beside the background's, as a configuration."""
    root = ET.Element("configuration")
    left = list(options)
    while left:
        word = left.pop(0)
        name = SHORT.get(word, word.lstrip("-"))
        value = "true" if not left or left[0].startswith("-") else left.pop(0)
        if name == "route-files":
            value = f"{Path(value).resolve()},{file.name}"
        ET.SubElement(root, name, value=value)
    ET.SubElement(root, "end", value=f"{ready.scenario.end_s}")
    return root


def _write(root: ET.Element, heading: str, file: Path) -> Path:
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    file.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {heading} -->\n{text}\n', encoding="utf-8")
    return file
