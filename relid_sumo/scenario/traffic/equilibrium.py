"""Route choice of the background traffic in equilibrium: drivers learn the travel times of the roads day by day.

On the first day all drivers route on free-flow times. After each day they know the mean of the travel times of all days
so far, by edge and five-minute bin (method of successive averages), and on the next day they route on it, with the same
random factors as at free flow. A day is the microscopic traffic of the first `SAMPLES` training seeds.

Stopping rule: drivers stop when the mean travel time per vehicle changes by less than `STABLE` from day to day twice in
a row, at the latest after `MOST_DAYS` days. The learned times are cached; vehicles of all traffic seeds route on them.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from relid_sumo.base import files, sumo, temporary
from relid_sumo.base.arrays import Floats
from relid_sumo.base.cache import once
from relid_sumo.base.errors import InputError
from relid_sumo.base.progress import counting
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import demand
from relid_sumo.scenario.traffic.edge_times import BIN_S
from relid_sumo.scenario.traffic.sumo_options import simulation_options

log = logging.getLogger(__name__)

SAMPLES = 2  # training seeds of a day
MOST_DAYS = 12
STABLE = 0.02  # relative change of the mean travel time; about the difference between two samples of traffic


def settle(scenario: Scenario, network: Network) -> None:
    """Let the drivers learn, where the scenario asks for it; the result is cached for `demand.routes`.

    Raises
    ------
    InputError
        The demand is the scenario's own, whose routes are given.
    """
    if scenario.demand.route_choice != "equilibrium":
        return
    if scenario.demand.route_file is not None:
        raise InputError(
            f"scenario '{scenario.name}': demand.route_choice = 'equilibrium' is for generated demand; the vehicles of "
            "your route file have their own routes: set demand.rerouting, or leave route_choice out"
        )
    file = demand.learned_file(scenario, network)
    once(file, lambda: _learn(scenario, network, file))


def _learn(scenario: Scenario, network: Network, file: Path) -> None:
    seeds, graph = scenario.seeds.training[:SAMPLES], network.graph
    bins = int(np.ceil(scenario.end_s / BIN_S))
    times = np.tile(graph.free_flow_s, (bins, 1))
    means: list[float] = []
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        temporary.folder(".tmp-", file.parent) as name,
        counting("learning routes, day", MOST_DAYS) as tick,
    ):
        folder, weights = Path(name), Path(name) / "times.xml"
        while len(means) < MOST_DAYS and not _stable(means):
            weights.write_text(_weights(times, graph), encoding="utf-8")
            parts = sumo.each(partial(_day, scenario, network, weights, folder), seeds)
            seconds, vehicles = sum(part.seconds for part in parts), sum(part.vehicles for part in parts)
            measured = np.where(vehicles > 0, seconds / np.maximum(vehicles, 1e-9), graph.free_flow_s)
            times += (np.maximum(measured, graph.free_flow_s) - times) / (len(means) + 1)
            means.append(float(np.mean([part.mean_s for part in parts])))
            log.info(f"route choice, day {len(means)}: {means[-1]:.1f} s of travel per vehicle")
            tick(None)
        if not _stable(means):
            log.info(f"route choice: not stable after {MOST_DAYS} days; the mean of all days is used")
        weights.write_text(_weights(times, graph), encoding="utf-8")
        files.put(weights, file)


def _stable(means: list[float]) -> bool:
    """Return whether the mean travel time of the last days no longer changes."""
    changes = np.abs(np.diff(means[-3:])) / means[-1] if means else np.empty(0)
    return len(changes) == 2 and bool((changes < STABLE).all())


@dataclass(frozen=True, eq=False)
class _Day:
    """Seconds spent and vehicles by bin and edge, each of shape (bins, E), and the mean travel time per vehicle, s."""

    seconds: Floats
    vehicles: Floats
    mean_s: float


def _day(scenario: Scenario, network: Network, weights: Path, folder: Path, seed: int) -> _Day:
    """Drive a day in one traffic seed, with routes on given travel times."""
    file = demand.routed(scenario, network, seed, weights, folder / f"{seed}.rou.xml")
    graph, bins = network.graph, int(np.ceil(scenario.end_s / BIN_S))
    seconds, vehicles = np.zeros((bins, graph.n_edges)), np.zeros((bins, graph.n_edges))
    with temporary.folder("relid-sumo-") as name:
        edges, wanted, totals = (Path(name) / part for part in ("edges.xml", "wanted.add.xml", "totals.xml"))
        wanted.write_text(
            f'<additional><edgeData id="times" file="{edges}" begin="0" period="{BIN_S}" excludeEmpty="true"/>'
            "</additional>",
            encoding="utf-8",
        )
        options = [*simulation_options(scenario, network, file, seed), "--no-step-log", "-a", str(wanted)]
        options += ["--end", str(scenario.end_s), "--statistic-output", str(totals)]
        sumo.run("sumo", options)
        for _, interval in ET.iterparse(edges):
            if interval.tag != "interval":
                continue
            at = min(bins - 1, int(float(interval.get("begin", "0")) // BIN_S))
            for edge in interval:
                e = graph.index.get(edge.get("id", ""))
                if e is not None and edge.get("traveltime") is not None:
                    spent = float(edge.get("sampledSeconds", "0"))
                    seconds[at, e] += spent
                    vehicles[at, e] += spent / max(float(edge.get("traveltime", "1")), 1e-3)
        inserted = ET.parse(totals).getroot().find("vehicles")
        count = 0 if inserted is None else int(inserted.get("inserted", "0"))
    return _Day(seconds, vehicles, float(seconds.sum()) / max(1, count))


def _weights(times: Floats, graph: RoadGraph) -> str:
    """Return travel times as SUMO's edge data; edges at free flow are left out."""
    lines = ["<meandata>"]
    for k, row in enumerate(times):
        slow = np.flatnonzero(row > 1.001 * graph.free_flow_s)
        lines.append(f'<interval id="learned" begin="{k * BIN_S:g}" end="{(k + 1) * BIN_S:g}">')
        lines += [f'<edge id="{graph.edge_ids[e]}" traveltime="{row[e]:.2f}"/>' for e in slow.tolist()]
        lines.append("</interval>")
    return "\n".join([*lines, "</meandata>"])
