"""Probes: a look around each demonstration, before it is imitated, for a way that is quicker in traffic.

All agents try their k-th way at the same time, beside their demonstrations in the same traffic: first in the simulation
that plans were refined in, in one half of the training traffic; then the best few of each agent microscopically, in the
other half, so that what was lucky in the first is found out. A way takes the demonstration's place when its mean return
there is better by more than its standard error. Every probe counts as an episode of the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from relid_sumo import atlas, results, traffic
from relid_sumo.graph import Floats
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready
from relid_sumo.rollout import Job, Rollouts
from relid_sumo.scenario import Simulator
from relid_sumo.trips import alternatives

WAYS = 8  # of each agent, beside its demonstration
MOST_SHARED = 0.85  # of a way's length with any other: a detour around one junction is worth a try
SIFTED = 2  # ways of each agent that are tried microscopically
Route = Sequence[int]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Probed:
    """What probes came to: each agent's best way, what it gains over the demonstration [s], episodes driven."""

    routes: tuple[tuple[int, ...], ...]
    gain_s: tuple[float, ...]
    episodes: int


def probe(
    ready: Ready, demonstrated: Sequence[Route], rollouts: Rollouts, sieve: Simulator, report: Report = lambda _: None
) -> Probed:
    """Return every agent's best way; cached, as nothing that learns has a part in it.

    Parameters
    ----------
    ready
        The scenario, prepared for `sieve` and ``micro``.
    demonstrated
        The demonstrated route of every agent, edges.
    sieve
        The simulation for the first look.
    """
    content = [ready.identity, sieve, [list(map(int, route)) for route in demonstrated]]
    file = atlas.kept("probes", ready.network.name, content, ".json")
    if not file.is_file():
        results.write_json(file, asdict(_probed(ready, demonstrated, rollouts, sieve, report)))
    found = results.read_json(file)
    return Probed(tuple(map(tuple, found["routes"])), tuple(found["gain_s"]), found["episodes"])


def _probed(
    ready: Ready, demonstrated: Sequence[Route], rollouts: Rollouts, sieve: Simulator, report: Report
) -> Probed:
    seeds = ready.scenario.seeds.training
    half = max(1, len(seeds) // 2)
    ways = _ways(ready, demonstrated)
    report(f"probing {sum(map(len, ways)) - len(ways)} ways beside the demonstrations")
    quick = _driven(ready, ways, rollouts, seeds[:half], sieve)
    few = []
    for routes, returns in zip(ways, quick, strict=True):
        best = 1 + np.argsort(-returns[1:].mean(axis=1), kind="stable")[:SIFTED]
        few.append([routes[0], *(routes[k] for k in best.tolist())])
    chosen, gains = [], []
    for routes, returns in zip(few, _driven(ready, few, rollouts, seeds[-half:], "micro"), strict=True):
        ahead = returns - returns[0]
        sure = ahead.mean(axis=1) - ahead.std(axis=1) / np.sqrt(max(1, half - 1))
        k = int(np.argmax(np.where(sure > 0, ahead.mean(axis=1), 0.0)))
        chosen.append(tuple(map(int, routes[k])))
        gains.append(float(ahead[k].mean()))
    return Probed(tuple(chosen), tuple(gains), half * (max(map(len, ways)) + max(map(len, few))))


def _ways(ready: Ready, demonstrated: Sequence[Route]) -> list[list[Route]]:
    """Return each agent's demonstration and ways beside it, quickest in mean training traffic first."""
    task = ready.task
    seconds = traffic.edge_times(ready.scenario, ready.network).mean(axis=0)
    seconds[sorted(task.closed)] = np.inf
    found: list[list[Route]] = []
    for route, origin, destination in zip(demonstrated, task.origin.tolist(), task.destination.tolist(), strict=True):
        others = alternatives(task.graph, origin, destination, WAYS + 1, seconds=seconds, most_shared=MOST_SHARED)
        found.append([route, *[way for way in others if way != list(route)][:WAYS]])
    return found


def _driven(
    ready: Ready, ways: Sequence[Sequence[Route]], rollouts: Rollouts, seeds: Sequence[int], simulator: Simulator
) -> list[Floats]:
    """Return the return of each agent's ways, s, shape (ways, seeds); who has no k-th way drives its first."""
    rounds = max(map(len, ways))
    jobs = [
        Job(
            seed,
            ready.options(seed, simulator),
            Policy("fixed", routes={i: routes[k if k < len(routes) else 0] for i, routes in enumerate(ways)}),
        )
        for k in range(rounds)
        for seed in seeds
    ]
    returns = np.array([record.returns for record in rollouts.run(jobs)]).reshape(rounds, len(seeds), -1)
    return [returns[: len(routes), :, i] for i, routes in enumerate(ways)]
