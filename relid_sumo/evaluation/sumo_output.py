"""SUMO's own outputs of each episode of an evaluation, and its numbers by edge as a CSV file.

Each policy and traffic seed has a folder:

================  =====================================================================================================
tripinfo.xml      every trip of every vehicle; those of the agents with emissions
summary.xml       the state of the network in each step
edgedata.xml      traffic on each edge after the warm-up, in intervals of 900 s (or until the horizon)
emissions.xml     emissions and fuel on each edge, in the same intervals
================  =====================================================================================================
"""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from relid_sumo.base import files
from relid_sumo.env.episode import BACKGROUND_S
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import sumo_options

TRIPS, SUMMARY, EDGES, EMISSIONS, REQUEST = (
    "tripinfo.xml",
    "summary.xml",
    "edgedata.xml",
    "emissions.xml",
    "output.add.xml",
)
COLUMNS = (
    "policy",
    "traffic_seed",
    "edge",
    "street",
    "length_m",
    "agents",
    "vehicles",
    "speed_mps",
    "travel_time_s",
    "density_per_km",
    "waiting_s",
    "time_loss_s",
    "co2_g",
    "fuel_g",
)
TRAFFIC = ("speed", "traveltime", "density", "waitingTime", "timeLoss")
GASES = ("CO2_abs", "fuel_abs")
MG_PER_G = 1000.0


def place(root: Path, policy: str, traffic_seed: int) -> Path:
    """Return the folder of an episode's outputs."""
    return root / re.sub(r"[^A-Za-z0-9_.-]", "_", policy) / str(traffic_seed)


def with_outputs(options: Sequence[str], scenario: Scenario, folder: Path) -> tuple[str, ...]:
    """Return SUMO's options with its outputs, except tripinfo.xml; the folder is made.

    Raises
    ------
    OSError
        The folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = ET.Element("additional")
    for name, more in ((EDGES, {}), (EMISSIONS, {"type": "emissions"})):
        period_s = min(BACKGROUND_S, scenario.horizon_s)
        times = {"begin": f"{scenario.start_s:g}", "period": f"{period_s:g}", "excludeEmpty": "true"}
        ET.SubElement(root, "edgeData", {"id": name, "file": name, **more, **times})
    ET.indent(root)
    request = folder.resolve() / REQUEST
    request.write_bytes(ET.tostring(root) + b"\n")
    more_options = sumo_options.with_additional(options, request)
    return (*more_options, "--summary-output", str(folder.resolve() / SUMMARY))


def write_edges(
    file: Path, ready: PreparedScenario, records: Mapping[str, Sequence[EpisodeRecord]], root: Path
) -> None:
    """Write one row per policy, traffic seed and edge with traffic, from the outputs in a folder.

    ``agents`` is the number of agents that drive on the edge in the whole episode. All else is of all vehicles in the
    first interval after the warm-up (900 s, or until the horizon), as SUMO measures it: ``vehicles`` that enter or
    depart, mean ``speed_mps`` and ``travel_time_s``, ``density_per_km``, and sums of waiting time, time loss, CO2 and
    fuel. An edge on which only agents drive, later, has empty values.
    """
    graph, streets, text = ready.network.graph, ready.network.streets, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for policy, rows in records.items():
        for record in rows:
            folder = place(root, policy, record.traffic_seed)
            traffic, gases = (dict(_first_interval(folder / name)) for name in (EDGES, EMISSIONS))
            agents = np.bincount(np.concatenate([np.unique(route) for route in record.routes]), minlength=graph.n_edges)
            for edge, name in enumerate(graph.names):
                if name in traffic or agents[edge]:
                    seen, air = traffic.get(name, {}), gases.get(name, {})
                    vehicles = sum(int(float(seen.get(key, "0"))) for key in ("entered", "departed"))
                    writer.writerow(
                        [
                            *(policy, record.traffic_seed, name, streets.get(name, "")),
                            *(f"{graph.length[edge]:.1f}", agents[edge], vehicles),
                            *(seen.get(key, "") for key in TRAFFIC),
                            *(f"{float(air[key]) / MG_PER_G:.3f}" if key in air else "" for key in GASES),
                        ]
                    )
    files.write(file, text.getvalue().encode())


def _first_interval(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the edges of the first interval of SUMO's edge data, with their values."""
    for _, element in ET.iterparse(file):
        if element.tag == "interval":
            return
        if element.tag == "edge":
            yield element.attrib["id"], dict(element.attrib)
