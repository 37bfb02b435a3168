"""Measure the speed of a fleet, compared with ten agents, in one sitting: CPU time per vehicle-second.

    python tools/bench_fleet.py orlando hong_kong

A vehicle-second is one simulated second of one vehicle, agent or not. Each setting drives one episode with an untrained
policy in this process after the warm-up, in turn, and the median of the rounds is printed. An untrained policy decides
far more often than a trained one, so this is the slowest case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from relid_sumo.env.play import job, play, warmed
from relid_sumo.env.policies import Policy
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sim.bridge import SumoBridge
from relid_sumo.sim.snapshot import in_fork

SHARE, ROUNDS, SEED = 0.2, 3, 0


def episode(ready: PreparedScenario, simulator: Simulator, policy: Policy) -> tuple[float, int, int]:
    """Return the CPU time of an episode after its warm-up, s, its vehicle-seconds, and its decisions."""
    task = ready.on(SEED).task
    one = job(ready, SEED, policy, simulator, background=True)
    bridge = warmed(task, one.options)
    vehicles = 0
    step: Callable[[], float] = bridge.step

    def counted(bridge: SumoBridge) -> float:
        nonlocal vehicles
        vehicles += bridge.running()
        return step()

    bridge.step = partial(counted, bridge)  # type: ignore[method-assign]
    start = time.process_time()
    record = play(task, one, bridge)
    spent = time.process_time() - start
    bridge.close()
    return spent, vehicles, len(record.agent)


def measured(name: str, simulator: Simulator) -> dict[str, Any]:
    """Return microseconds per vehicle-second with ten agents and with a fleet, and their ratio."""
    settings = {"10 agents": load_scenario(name), "fleet": load_scenario(name, fleet=SHARE)}
    several = {label: prepare(scenario, simulators=(simulator,)) for label, scenario in settings.items()}
    rounds: dict[str, list[tuple[float, int, int]]] = {label: [] for label in several}
    for _ in range(ROUNDS):
        for label, ready in several.items():
            networks = 1 if ready.scenario.fleet is not None else ready.task.n_agents
            actor = Actor(networks, ready.task.graph.m_out, hidden=64, scorer=32, octaves=0, seed=SEED)
            policy = Policy("learned", seed=1, weights=actor.weights())
            rounds[label].append(in_fork(partial(episode, ready, simulator, policy)))
    cost = {label: [1e6 * spent / vehicles for spent, vehicles, _ in rows] for label, rows in rounds.items()}
    return {
        "scenario": name,
        "simulator": simulator,
        "agents of the fleet": several["fleet"].on(SEED).task.n_agents,
        "decisions": {label: rows[0][2] for label, rows in rounds.items()},
        "us per vehicle-second": {label: round(statistics.median(values), 2) for label, values in cost.items()},
        "ratio": round(statistics.median(b / a for a, b in zip(cost["10 agents"], cost["fleet"], strict=True)), 2),
    }


def main() -> None:
    """Print one JSON object per scenario and simulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=["orlando", "hong_kong"])
    parser.add_argument("--simulators", nargs="*", default=["micro", "meso"])
    given = parser.parse_args()
    for name in given.scenarios:
        for simulator in given.simulators:
            print(json.dumps(measured(name, simulator)), flush=True)


if __name__ == "__main__":
    main()
