"""Renewal: programs plan again for the partly trained agents, and better plans become demonstrations.

The loop of SED runs again with all agents outside a subset on the present policies, so that D_in and F_out describe the
learners. A model or the template writes new programs; recorded programs run and are scored again. A plan that scores
better than the demonstration of its subset is driven in the simulator the agents are evaluated in, with all other
agents on their demonstrations. It replaces the demonstration where it is better by more than the standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relid_sumo.base import stats
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed import run as sed
from relid_sumo.sed.bench import Bench
from relid_sumo.sed.programs import feedback
from relid_sumo.sed.programs.plans import Routes

TRIED_SEEDS = 8  # training traffic seeds in which a plan is compared with the demonstrations
LOGGED = ("d_in", "f_out", "f_out_floor", "score", "travel_time_s")
Route = tuple[int, ...]


@dataclass(frozen=True)
class Renewed:
    """Every agent's route, and means over subsets of the demonstrations' numbers under the present policies."""

    routes: tuple[Route, ...]
    numbers: dict[str, float]


def renew(
    bench: Bench,
    routes: Sequence[Route],
    subsets: Sequence[Sequence[int]],
    ask: sed.Ask | None,
    folder: Path,
    simulator: Simulator,
) -> Renewed:
    """Score the demonstrations under the present policies, and replace those for which better plans are found.

    Parameters
    ----------
    routes
        The demonstrated route of every agent, edges.
    subsets
        Agents that plan together.
    ask
        The source of new programs; None for none, and then nothing is replaced.
    folder
        Folder for prompts, answers and programs.
    simulator
        Simulator in which better plans are confirmed.
    """
    refined = None if ask is None else sed.looped(bench, folder, ask)
    reference = bench.reference() if refined is None else refined.reference
    tried = bench.try_out([{i: routes[i] for i in agents} for agents in subsets])
    weights = bench.settings.weight_out, bench.settings.weight_in
    numbers = [
        feedback.measure(records, reference, agents, weights, bench.present.probabilities)
        for records, agents in zip(tried, subsets, strict=True)
    ]
    score = {tuple(agents): own.score for agents, own in zip(subsets, numbers, strict=True)}
    rivals = [
        best.routes
        for subset in (refined.subsets if refined is not None else ())
        if (best := subset.best) is not None and best.routes is not None and best.numbers is not None
        if any(best.routes[i] != routes[i] for i in subset.agents)
        if best.numbers.score > score.get(subset.agents, -np.inf)
    ]
    means = {name: float(np.mean([getattr(own, name) or 0.0 for own in numbers])) for name in LOGGED}
    return Renewed(_confirmed(bench, routes, rivals, simulator), means)


def _confirmed(
    bench: Bench, routes: Sequence[Route], rivals: Sequence[Routes], simulator: Simulator
) -> tuple[Route, ...]:
    """Return the routes; a rival replaces them where it is better by more than the standard error."""
    now = dict(enumerate(routes))
    if rivals:
        plans = [Policy("fixed", routes=now | rival) for rival in [{}, *rivals]]
        driven = bench.drive(plans, bench.ready.scenario.seeds.training[:TRIED_SEEDS], simulator)
        returns = np.array([[record.returns.mean() for record in records] for records in driven])
        for rival, gain in zip(rivals, returns[1:] - returns[0], strict=True):
            if stats.above_zero(gain):
                now |= rival
    return tuple(now[i] for i in range(len(routes)))
