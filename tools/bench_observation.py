"""Measure how alike the two simulators look to an agent: every entry of its observation.

Two samples of each entry are compared by their Kolmogorov-Smirnov distance: over the edges in background traffic, and
over the decisions of agents that drive the same routes (`shortest`). Traffic seeds are those of validation, of which
the translation of readings (`relid_sumo.scenario.traffic.readings`) knows nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from relid_sumo.base import files, sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.env.observation import scaled
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.traffic import readings

SIMULATORS: tuple[Simulator, Simulator] = ("micro", "meso")
SHARES = (5, 25, 50, 75, 95)  # percentiles
EXAMPLES = """examples:
  python tools/bench_observation.py                                        the embedded town
  python tools/bench_observation.py town orlando hong_kong --json observation.json
"""


def background(ready: PreparedScenario, seeds: Sequence[int]) -> dict[str, Floats]:
    """Return the congestion of every edge in background traffic, and without the translation, by simulator."""
    free = ready.network.graph.free_flow_s
    found = {}
    for simulator in SIMULATORS:
        times = sumo.each(partial(readings.sample, ready.scenario, ready.network, simulator=simulator), seeds)
        found[simulator] = readings.octaves(np.concatenate(times), free)
    raw, known = found["meso"], ready.task.readings
    assert known is not None
    table = np.array([[known.translate(e, float(x)) for x in raw[:, e]] for e in range(len(free))])
    return {"micro": scaled(found["micro"]).ravel(), "meso": scaled(table).ravel(), "raw": scaled(raw).ravel()}


def decisions(
    ready: PreparedScenario, seeds: Sequence[int], workers: int | None = None
) -> dict[str, dict[str, Floats]]:
    """Return the values of every entry at the decisions of `shortest`, by simulator; of slots, the open ones."""
    found: dict[str, dict[str, Floats]] = {}
    with Rollouts(ready.task, workers) as rollouts:
        for simulator in SIMULATORS:
            records = in_traffic(ready, rollouts, [Policy("fixed")], seeds, simulator)[0]
            seen = np.concatenate([record.observation for record in records]).astype(float)
            mask = np.concatenate([record.mask for record in records])
            slots = {
                f"{name} {j}": seen[mask[:, j], 2 * j + k]
                for j in range(mask.shape[1])
                for k, name in enumerate(("congestion", "distance"))
            }
            every = {name: np.concatenate([slots[f"{name} {j}"] for j in range(mask.shape[1])]) for name in NAMES}
            found[simulator] = {**slots, **every, "own distance": seen[:, -2], "elapsed": seen[:, -1]}
    return found


NAMES = ("congestion", "distance")


def distance(one: Floats, other: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples; nan where one is empty."""
    return float(stats.ks_2samp(one, other).statistic) if len(one) and len(other) else float("nan")


def compared(ready: PreparedScenario, seeds: Sequence[int], workers: int | None = None) -> dict[str, object]:
    """Return the distances of all entries, and percentiles of the congestion."""
    edges, seen = background(ready, seeds), decisions(ready, seeds, workers)
    return {
        "background": distance(edges["micro"], edges["meso"]),
        "background without translation": distance(edges["micro"], edges["raw"]),
        "decisions": {name: distance(seen["micro"][name], seen["meso"][name]) for name in seen["micro"]},
        "counted": {name: [len(seen[s][name]) for s in SIMULATORS] for name in seen["micro"]},
        "percentiles of background": {s: np.percentile(edges[s], SHARES).round(2).tolist() for s in edges},
        "percentiles of decisions": {
            s: np.percentile(seen[s]["congestion"], SHARES).round(2).tolist() for s in SIMULATORS
        },
    }


def show(name: str, figures: Mapping[str, object]) -> None:
    """Print a scenario's distances."""
    print(name)
    for title, value in figures.items():
        if isinstance(value, dict):
            print(f"  {title}")
            for entry, one in value.items():
                print(f"    {entry:<16} {one if isinstance(one, list) else round(one, 3)}")
        else:
            print(f"  {title}: {value:.3f}")


def main() -> None:
    """Measure the scenarios given and print their distances."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", default=["town"], help="scenarios (default: town)")
    parser.add_argument("--seeds", type=int, default=3, help="validation traffic seeds (default: 3)")
    parser.add_argument("--workers", type=int, help="simulation processes (default: one per core)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    found = {}
    for name in options.scenarios:
        ready = prepare(load_scenario(name), simulators=SIMULATORS)
        found[name] = compared(ready, ready.scenario.seeds.validation[: options.seeds], options.workers)
        show(name, found[name])
    if options.json:
        files.write_json(options.json, found)


if __name__ == "__main__":
    main()
