"""Measure how well the present traffic on an edge predicts its travel time: the potential of reacting to traffic.

    python tools/foresight.py orlando
    python tools/foresight.py hong_kong --seeds 6

Background traffic only, microscopic, training traffic seeds. The time of each passage of an edge is compared with the
mean of its turn. The residual is regressed on the excess of vehicles on that edge (then on the excess of halting
vehicles) some time before the vehicle entered. The last two seeds are held out. The output is the share of the residual
variance (R^2) that the regression explains on them, and the spread of its predictions. If little is explained one
minute ahead, a vehicle that reacts to queues is hardly better than one that follows a good plan.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.traffic import edge_times, turn_times
from relid_sumo.scenario.traffic.demand import routes
from relid_sumo.scenario.traffic.sumo_options import simulation_options
from relid_sumo.sim.bridge import SumoBridge

EVERY_S = 10  # interval between two counts
AHEAD_S = (0, 60, 120, 300)
HELD_OUT = 2  # traffic seeds
SMOOTH = 13  # counts over which the usual number is averaged

Floats = NDArray[np.float64]


def watched(ready: PreparedScenario, seed: int) -> tuple[Floats, Floats]:
    """Run the background traffic of a seed.

    Returns
    -------
    passages : array, shape (P, 4)
        Edge, slot, time of entry [s], time on the edge [s].
    counts : array, shape (2, looks, E)
        Vehicles on each edge, and halting vehicles.
    """
    scenario, network = ready.scenario, ready.network
    graph, names = network.graph, [str(name) for name in network.graph.edge_ids]
    looks: list[tuple[list[int], list[int]]] = []
    with tempfile.TemporaryDirectory(prefix="relid-sumo-") as folder:
        result = Path(folder) / "driven.xml"
        options = [*simulation_options(scenario, network, routes(scenario, network, seed), seed)]
        options += ["--vehroute-output", str(result), "--vehroute-output.exit-times"]
        bridge = SumoBridge([*options, "--vehroute-output.write-unfinished"])
        edge, now = bridge.api.edge, 0.0
        while now < scenario.end_s:
            now = bridge.step() + scenario.step_length_s
            if now >= scenario.start_s + EVERY_S * len(looks):
                every = zip(
                    *((edge.getLastStepVehicleNumber(n), edge.getLastStepHaltingNumber(n)) for n in names), strict=True
                )
                looks.append(tuple(map(list, every)))  # type: ignore[arg-type]
        bridge.close()
        passages = list(edge_times.turns_taken(result, graph, scenario.start_s))
    return np.array(passages), np.array(looks, dtype=np.float64).transpose(1, 0, 2)


def usual(counts: Floats) -> Floats:
    """Return the mean over seeds, smoothed over time; counts of shape (seeds, looks, E)."""
    kernel, pad = np.full(SMOOTH, 1 / SMOOTH), SMOOTH // 2
    mean = np.pad(counts.mean(axis=0), ((pad, pad), (0, 0)), mode="edge")
    return np.apply_along_axis(lambda column: np.convolve(column, kernel, "valid"), 0, mean)


def means(key: NDArray[np.int64], took: Floats, on: Floats) -> Floats:
    """Return mean times by key, s, with few observations pooled as turn times do."""
    total, count = (np.bincount(key, weights, len(on)).astype(np.float64) for weights in (took, None))
    return turn_times.leaning(total, count, on)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario")
    parser.add_argument(
        "--seeds", type=int, default=6, help=f"number of traffic seeds, {HELD_OUT} of them held out (default: 6)"
    )
    given = parser.parse_args()
    if given.seeds <= HELD_OUT:
        parser.error(f"--seeds {given.seeds}: {HELD_OUT} seeds are held out; give at least {HELD_OUT + 1}")
    ready = prepare(load_scenario(given.scenario))
    parts = [watched(ready, seed) for seed in ready.scenario.seeds.training[: given.seeds]]
    passages = np.concatenate([rows for rows, _ in parts])
    run = np.repeat(np.arange(len(parts)), [len(rows) for rows, _ in parts])
    known, n_edges, m_out = run < len(parts) - HELD_OUT, ready.network.graph.n_edges, ready.network.graph.m_out
    edge, turn = passages[:, 0].astype(int), (passages[:, 0] * m_out + passages[:, 1]).astype(int)
    entered, took = passages[:, 2:].T
    by_edge = means(edge[known], took[known], np.full(n_edges, took[known].mean()))
    expected = means(turn[known], took[known], np.repeat(by_edge, m_out))[turn]
    left = took - expected
    explained = 1 - left[~known].var() / took[~known].var()
    print(f"{given.scenario}: {len(took)} passages, {took.mean():.1f} s each, standard deviation {took.std():.1f} s")
    print(
        f"the mean of the turn explains {100 * explained:.0f} %; residual standard deviation {left[~known].std():.1f} s"
    )
    for k, name in enumerate(("vehicles on the edge", "halting vehicles")):
        counts = np.array([looks[k] for _, looks in parts])
        mean = usual(counts[: len(parts) - HELD_OUT])
        for ahead_s in AHEAD_S:
            look = ((entered - ahead_s) // EVERY_S).astype(int)
            at = (look >= 0) & (look < counts.shape[1])
            more = counts[run[at], look[at], edge[at]] - mean[look[at], edge[at]]
            features = np.stack([more, more * expected[at] / (mean[look[at], edge[at]] + 1), np.ones(at.sum())], axis=1)
            fit = np.linalg.lstsq(features[known[at]], left[at][known[at]])[0]
            predicted, there = (features @ fit)[~known[at]], left[at][~known[at]]
            share = 1 - (there - predicted).var() / there.var()
            print(
                f"{name}, {ahead_s:3d} s ahead: {100 * share:5.1f} % explained, "
                f"spread of predictions {predicted.std():.1f} s"
            )


if __name__ == "__main__":
    main()
