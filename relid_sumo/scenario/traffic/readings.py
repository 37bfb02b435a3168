"""Readings of congestion: the same traffic reads alike in both simulators.

SUMO smooths the mean speed of every edge. Microscopically a speed is that of a moment: a vehicle drives freely, then
stands at the stop line. Mesoscopically it is the mean over a passage, queue included. So the same traffic gives other
travel times. A mesoscopic time is therefore translated into the microscopic time of the same rank on the same edge, by
the quantiles of both in background training traffic (quantile mapping, as for the bias of climate models: Panofsky and
Brier 1968). Above the largest quantile, the logarithm of the time is shifted as there. In the microscopic simulation
nothing is translated, so a scenario without mesoscopic episodes needs no measurement.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relid_sumo.base import cache, files, sumo, temporary
from relid_sumo.base.arrays import Floats
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.scenario.traffic.demand import routes
from relid_sumo.scenario.traffic.sumo_options import ADAPTATION, NEVER_S, READER, adaptation, simulation_options

log = logging.getLogger(__name__)

SEEDS = 4  # training traffic seeds, at most
LEVELS = (np.arange(33) + 0.5) / 33  # of the quantiles
NOISE = frozenset({"--weights.random-factor", "--weights.random-factor.dynamic"})
FORMAT = 1  # part of the cache key: raise it when the meaning of the cached values changes


@dataclass(frozen=True, eq=False)
class Readings:
    """Quantiles of the smoothed travel times in background training traffic.

    Attributes
    ----------
    micro, meso : array, shape (E, K)
        Logarithms to base 2 of the time over the free-flow time (at least 0), at `LEVELS`, ascending.
    """

    micro: Floats
    meso: Floats

    def translate(self, edge: int, octaves: float) -> float:
        """Return the microscopic reading of the same rank as a mesoscopic one; both as in the attributes."""
        meso, micro = self.meso[edge], self.micro[edge]
        if octaves > meso[-1]:
            return float(micro[-1] + octaves - meso[-1])
        highest = np.interp(octaves, meso, LEVELS)
        lowest = -np.interp(-octaves, -meso[::-1], -LEVELS[::-1])  # differs where quantiles are equal
        return float(np.interp((lowest + highest) / 2, LEVELS, micro))


def octaves(seconds: Floats, free_s: Floats) -> Floats:
    """Return the logarithm to base 2 of travel times over free-flow times, at least 0."""
    return np.log2(np.maximum(seconds / free_s, 1.0))


def measured(scenario: Scenario, network: Network, own: str | None) -> Readings:
    """Drive the background traffic in both simulators and return its quantiles; cached.

    The scenario's mesoscopic simulation must be calibrated. `own` is as in `edge_times.measured`.
    """
    assert scenario.meso is not None
    seeds = scenario.seeds.training[:SEEDS]

    def make() -> dict[str, Floats]:
        log.info(f"measuring readings of congestion over {len(seeds)} samples of traffic in both simulators")
        return {simulator: _quantiles(scenario, network, seeds, simulator) for simulator in ("micro", "meso")}

    def load(file: Path) -> Readings:
        with np.load(file) as data:
            return Readings(**data)

    def save(file: Path, arrays: dict[str, Floats]) -> None:
        files.write_npz(file, arrays, compressed=False)

    window_s, meso = scenario.observation.window_s, scenario.meso.model_dump(mode="json")
    content = [FORMAT, window_s, meso, *edge_times.identity(scenario, network, own, seeds)]
    return cache.cached("readings", network.name, content, ".npz", make, save, load)


def _quantiles(scenario: Scenario, network: Network, seeds: Sequence[int], simulator: Simulator) -> Floats:
    samples = sumo.each(lambda seed: sample(scenario, network, seed, simulator), seeds)
    every = octaves(np.concatenate(samples), network.graph.free_flow_s)
    return np.quantile(every, LEVELS, axis=0).T


def _without_noise(options: list[str]) -> list[str]:
    """Return options without random factors on travel times, with which SUMO 1.28 cannot write them: it crashes."""
    drop = {i for i, word in enumerate(options) if word in NOISE}
    return [word for i, word in enumerate(options) if i not in drop and i - 1 not in drop]


def sample(scenario: Scenario, network: Network, seed: int, simulator: Simulator) -> Floats:
    """Return smoothed travel times in the background traffic of a seed, s, shape (times, E); none before the agents."""
    index, rows = network.graph.index, []
    with temporary.folder("relid-sumo-") as folder:
        reader, times = folder / "reader.rou.xml", folder / "times.xml"
        # SUMO smooths travel times once there is a vehicle that could use them. Without deviation it draws no number.
        reader.write_text(
            f'<routes><vType id="{READER}" speedDev="0"><param key="has.rerouting.device" value="true"/></vType>'
            f'<vehicle id="{READER}" type="{READER}" depart="{NEVER_S:.0f}">'
            f'<route edges="{network.graph.edge_ids[0]}"/></vehicle></routes>',
            encoding="utf-8",
        )
        file = routes(scenario, network, seed)
        options = simulation_options(scenario, network, file, seed, simulator)
        options[options.index("-r") + 1] = f"{reader},{file}"
        options += [] if ADAPTATION in options else adaptation(scenario.observation.window_s)
        options = _without_noise(options)
        options += ["--device.rerouting.output", str(times)]
        sumo.run("sumo", [*options, "--no-step-log", "--end", str(scenario.end_s)])
        for _, interval in ET.iterparse(times):
            if interval.tag == "interval":
                if float(interval.get("begin", "0")) >= scenario.start_s:
                    row = np.empty(len(index))
                    for edge in interval:
                        if (e := index.get(edge.get("id", ""))) is not None:
                            row[e] = float(edge.get("traveltime", "nan"))
                    rows.append(row)
                interval.clear()
    return np.array(rows)
