"""What background traffic does to the roads: mean travel time of every edge over the training traffic."""

from __future__ import annotations

import io
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from relid_sumo import atlas, results, sumo
from relid_sumo.demand import own_demand, routes, simulation_options
from relid_sumo.graph import Floats
from relid_sumo.network import Network
from relid_sumo.scenario import Scenario

BIN_S = 300.0
# What changes nothing measured here; of the network, its key counts.
NOT_TRAFFIC = {"trips", "network", "seeds", "observation", "reward", "name", "simulator", "meso"}
FORMAT = 1  # part of the cache key: raise it when what is cached changes its meaning


def edge_times(
    scenario: Scenario,
    network: Network,
    traffic_seeds: Sequence[int] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Floats:
    """Return mean travel times by edge and five-minute bin, s, shape (bins, E); measured microscopically, and cached.

    Bins start at the agents' time 0 and reach to the horizon. An edge that nobody used in a bin has its free-flow time.

    Parameters
    ----------
    traffic_seeds
        The training seeds where not given.
    """
    seeds = tuple(scenario.seeds.training if traffic_seeds is None else traffic_seeds)
    file = atlas.kept("traffic", network.name, [FORMAT, *identity(scenario, network, seeds)], ".npy")
    if not file.is_file():
        report(f"measuring travel times over {len(seeds)} samples of traffic")
        parts = sumo.each(lambda seed: _one(scenario, network, seed), seeds)
        total, vehicles = (np.sum([part[i] for part in parts], axis=0) for i in (0, 1))
        free = np.broadcast_to(network.graph.free_flow_s, total.shape)
        mean = np.where(vehicles > 0, total / np.maximum(vehicles, 1), free)
        measured = io.BytesIO()
        np.save(measured, np.maximum(mean, free))
        results.write(file, measured.getvalue())
    return np.asarray(np.load(file))


def identity(scenario: Scenario, network: Network, seeds: Sequence[int]) -> list[object]:
    """Return what decides the background traffic of some seeds, microscopic, without the agents; as JSON."""
    settings = scenario.model_dump(mode="json", exclude=NOT_TRAFFIC)
    return [network.key, settings, own_demand(scenario, network), list(seeds), sumo.version()]


def _one(scenario: Scenario, network: Network, seed: int) -> tuple[Floats, Floats]:
    """Return summed travel times [s] and vehicles counted, each of shape (bins, E), of one traffic seed."""
    index = network.graph.index
    bins = max(1, int(np.ceil(scenario.horizon_s / BIN_S)))
    total, vehicles = np.zeros((bins, len(index))), np.zeros((bins, len(index)))
    with tempfile.TemporaryDirectory(prefix="relid-sumo-") as name:
        result, wanted = Path(name) / "edges.xml", Path(name) / "wanted.add.xml"
        wanted.write_text(
            f'<additional><edgeData id="times" file="{result}" begin="{scenario.start_s}" period="{BIN_S}" '
            'excludeEmpty="true"/></additional>',
            encoding="utf-8",
        )
        options = simulation_options(scenario, network, routes(scenario, network, seed), seed)
        sumo.run("sumo", [*options, "-a", wanted, "--end", str(scenario.end_s), "--no-step-log"])
        for _, interval in ET.iterparse(result):
            if interval.tag != "interval":
                continue
            at = min(bins - 1, int((float(interval.get("begin", "0")) - scenario.start_s) // BIN_S))
            for edge in interval:
                e = index.get(edge.get("id", ""))
                if e is not None and edge.get("traveltime") is not None:
                    weight = float(edge.get("sampledSeconds", "0")) / max(float(edge.get("traveltime", "1")), 1e-3)
                    total[at, e] += float(edge.get("sampledSeconds", "0"))
                    vehicles[at, e] += weight
    return total, vehicles
