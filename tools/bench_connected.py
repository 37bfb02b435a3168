"""Measure what a decision costs: with the observation `roads` and its actor, and with `connected` and the slot scorer.

The cost is the processor time to observe, choose and act, with all readings and times to go that it needs, in
milliseconds per decision. Both drive the agents of the same traffic seeds, untrained and drawn from their policies.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from relid_sumo.env.episode import Episode
from relid_sumo.env.play import warmed
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Decision
from relid_sumo.learn.algos.nets import Actor, SlotActor
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator

KINDS = ("roads", "connected")
EXAMPLES = """examples:
  python tools/bench_connected.py town --fleet 0.2
  python tools/bench_connected.py orlando-event hong_kong-event --seeds 2
"""


class Timed(Episode):
    """An episode that measures the processor time of its observations and actions."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as Episode
        super().__init__(*args, **options)
        self.spent_s = 0.0
        self._observe = self.timed(self._observe)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose processor time is added to `spent_s`."""

        def call(*args: Any) -> Any:  # noqa: ANN401 - as the function
            start = time.process_time()
            try:
                return function(*args)
            finally:
                self.spent_s += time.process_time() - start

        return call


def cost(ready: PreparedScenario, kind: str, seed: int, simulator: Simulator) -> tuple[float, int]:
    """Return the processor time of all decisions of an episode, s, and their number."""
    ready, layout = ready.on(seed), ready.task.layout
    m_out = ready.task.graph.m_out
    actor = SlotActor(1, scorer=32, seed=0)
    own = Actor(1, m_out, hidden=64, scorer=32, octaves=0, seed=0, layout=layout)
    weights = (actor if kind == "connected" else own).weights()
    bridge = warmed(ready.task, ready.options(seed, simulator))
    try:
        episode = Timed(ready.task, bridge, traffic_seed=seed)
        chosen = Policy("learned", weights=weights).start()

        def decide(decision: Decision) -> None:
            episode.act(decision, chosen(episode, decision))

        answer = episode.timed(decide)
        while decisions := episode.advance():
            for decision in decisions:
                answer(decision)
        return episode.spent_s, episode.n_decisions
    finally:
        bridge.close()


def measured(name: str, fleet: float | None, seeds: int, simulator: Simulator) -> dict[str, float]:
    """Return the cost of a decision by observation, ms."""
    found = {}
    for kind in KINDS:
        scenario = load_scenario(name, changes=[f"observation.kind={kind}"], fleet=fleet)
        ready = prepare(scenario, simulators=(simulator,))
        parts = [cost(ready, kind, seed, simulator) for seed in scenario.seeds.validation[:seeds]]
        found[kind] = 1000.0 * sum(spent for spent, _ in parts) / sum(count for _, count in parts)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    parser.add_argument("scenarios", nargs="*", default=["town"], help="default: town")
    parser.add_argument("--fleet", type=float, help="share of the demand that agents drive (default: the scenario's)")
    parser.add_argument("--seeds", type=int, default=1, help="validation traffic seeds (default: 1)")
    parser.add_argument("--simulator", choices=("micro", "meso"), default="meso", help="default: meso")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in given.scenarios:
        found = measured(name, given.fleet, given.seeds, given.simulator)
        times = ", ".join(f"{kind} {value:.3f} ms" for kind, value in found.items())
        print(f"{name}: a decision costs {times}; ratio {found['connected'] / found['roads']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
