"""What is known about roads before an episode: times, flows and readings of the training traffic.

Online planners (`relid_sumo.baseline.online`) and connected vehicles (`relid_sumo.env.connected`) compare what they
read on the road with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relid_sumo.base import cache, files, sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.base.npz import read_npz
from relid_sumo.base.progress import phase
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.scenario.traffic import edge_times, readings, turn_times
from relid_sumo.scenario.traffic.edge_times import BIN_S
from relid_sumo.scenario.traffic.sumo_options import ADAPT_EVERY_S
from relid_sumo.scenario.traffic.turn_times import TurnTimes

CAPACITY_VPS = 0.2  # least capacity of a lane, vehicles per second: a saturated lane with green for 40 % of the time
MOST_S = 3600.0  # longest reading of an edge
FORMAT = 1  # part of the cache key: raise it when the meaning of the cached values changes


@dataclass(frozen=True, eq=False)
class History:
    """The training traffic, without agents, incidents and surges, by bins of `BIN_S` from the agents' time 0.

    Attributes
    ----------
    times : TurnTimes
        Mean travel times by edge, next edge and bin.
    flow : array, shape (bins, E)
        Vehicles that enter each edge, 1/s.
    reading : mapping
        Mean of each edge's smoothed travel time by simulator, s, shape (bins, E): what a vehicle expects to read there.
    """

    times: TurnTimes
    flow: Floats
    reading: Mapping[Simulator, Floats]

    @property
    def graph(self) -> RoadGraph:
        """The network."""
        return self.times.graph

    @property
    def capacity(self) -> Floats:
        """Vehicles that can leave each edge, 1/s, shape (E,): the largest flow seen, at least `CAPACITY_VPS` a lane."""
        return np.asarray(np.maximum(self.flow.max(axis=0), CAPACITY_VPS * self.graph.lanes))

    def bin(self, at_s: float) -> int:
        """Return the bin of a time, s after the warm-up."""
        return min(len(self.flow) - 1, max(0, int(at_s // BIN_S)))


def measured(scenario: Scenario, network: Network, own: str | None) -> History:
    """Return the history of a scenario; cached.

    The readings are those of at most `readings.SEEDS` training seeds, in the mesoscopic simulator only where it is
    calibrated. `own` is as in `edge_times.measured`.
    """
    took = edge_times.measured(scenario, network, own)
    samples = len(scenario.seeds.training[: edge_times.MOST_SAMPLES])
    simulators: tuple[Simulator, ...] = ("micro",) if scenario.meso is None else ("micro", "meso")
    return History(
        times=turn_times.measured(scenario, network, own),
        flow=took.turn_vehicles.sum(axis=2) / (samples * BIN_S),
        reading={one: _expected(scenario, network, own, one, len(took.edge_s)) for one in simulators},
    )


def _expected(scenario: Scenario, network: Network, own: str | None, simulator: Simulator, bins: int) -> Floats:
    """Return the mean readings in a simulator by bin, s, shape (bins, E); cached."""
    seeds = scenario.seeds.training[: readings.SEEDS]

    def make() -> Floats:
        with phase(f"expected readings measured ({simulator})"):
            every = sumo.each(lambda seed: readings.sample(scenario, network, seed, simulator), seeds)
            return by_bin(every, network.graph.free_flow_s, bins)

    def load(file: Path) -> Floats:
        return read_npz(file, {"seconds"}, "expected readings", "measure again")["seconds"]

    def save(file: Path, seconds: Floats) -> None:
        files.write_npz(file, {"seconds": seconds}, compressed=False)

    meso = scenario.meso.model_dump(mode="json") if simulator == "meso" and scenario.meso is not None else None
    traffic = edge_times.identity(scenario, network, own, seeds)
    content = [FORMAT, simulator, meso, scenario.observation.window_s, *traffic]
    return cache.cached("expected", network.name, content, ".npz", make, save, load)


def by_bin(samples: Sequence[Floats], free_s: Floats, bins: int) -> Floats:
    """Return mean readings by bin from those of each sample, shape (times, E), one every `ADAPT_EVERY_S`."""
    total, count = np.zeros((bins, len(free_s))), np.zeros((bins, 1))
    for rows in samples:
        at = np.minimum(np.arange(len(rows)) * ADAPT_EVERY_S // BIN_S, bins - 1).astype(int)
        np.add.at(total, at, np.clip(rows, free_s, MOST_S))
        np.add.at(count, at, 1.0)
    return np.where(count > 0, total / np.maximum(count, 1.0), free_s)
