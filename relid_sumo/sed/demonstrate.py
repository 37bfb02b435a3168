"""Drives the best plans together, on training traffic and, microscopically, on held-out traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from relid_sumo.base import stats
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed import demonstrations
from relid_sumo.sed.bench import Bench
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.loop import Refined, Subset


@dataclass(frozen=True)
class PlanComparison:
    """The best plans compared with the baselines in the same traffic; means over agents and traffic seeds.

    Attributes
    ----------
    traffic, simulator
        The set of traffic seeds, and the simulator.
    seeds : tuple of int
    mean_return, mean_travel_time_s, arrival_rate : dict of policy to float
        s, s, share; policies are ``demonstrations``, ``shortest``, ``reactive``.
    gain : dict of baseline to (mean, low, high)
        Return of the demonstrations minus the baseline's, s, with a 95 % bootstrap interval over traffic seeds.
    """

    traffic: str
    simulator: str
    seeds: tuple[int, ...]
    mean_return: dict[str, float]
    mean_travel_time_s: dict[str, float]
    arrival_rate: dict[str, float]
    gain: dict[str, tuple[float, float, float]]


def drive_best(bench: Bench, refined: Refined, simulator: Simulator) -> Demonstrations:
    """Drive the best plans of all subsets together on all training traffic seeds.

    Agents of a subset without a valid plan take the free-flow fastest route; ``meta`` then lists no routes for them.
    """
    ready = bench.ready
    (records,) = bench.drive([Policy("fixed", routes=refined.routes)], ready.scenario.seeds.training, simulator)
    meta = {
        "scenario": ready.scenario.name,
        "network_key": ready.network.key,
        "simulator": simulator,
        "subsets": [_summary(subset, ready) for subset in refined.subsets],
    }
    return demonstrations.collect(ready.task, records, meta)


def demonstrate(bench: Bench, refined: Refined) -> tuple[Demonstrations, list[PlanComparison]]:
    """Drive the best plans of all subsets together in the scenario's simulator, and compare them with the baselines."""
    plans = Policy("fixed", routes=refined.routes)
    return drive_best(bench, refined, bench.ready.scenario.simulator), [
        _compare(bench, plans, "training", bench.seeds),
        _compare(bench, plans, "evaluation", bench.ready.scenario.seeds.evaluation[: bench.settings.held_out]),
    ]


def _summary(subset: Subset, ready: PreparedScenario) -> dict[str, Any]:
    best, task = subset.best, ready.task
    routes = {} if best is None or best.routes is None else best.routes
    return {
        "vehicles": [task.names[i] for i in subset.agents],
        "routes": {task.names[i]: [str(task.graph.edge_ids[edge]) for edge in route] for i, route in routes.items()},
        "program": None if best is None else best.program,
        "numbers": None if best is None or best.numbers is None else asdict(best.numbers),
    }


def _compare(bench: Bench, plans: Policy, traffic: str, seeds: Sequence[int]) -> PlanComparison:
    policies = {"demonstrations": plans, "shortest": Policy("shortest"), "reactive": Policy("reactive")}
    by_policy = dict(zip(policies, bench.drive(list(policies.values()), seeds, "micro"), strict=True))
    returns = {name: np.array([record.returns.mean() for record in rows]) for name, rows in by_policy.items()}
    return PlanComparison(
        traffic=traffic,
        simulator="micro",
        seeds=tuple(seeds),
        mean_return={name: float(values.mean()) for name, values in returns.items()},
        mean_travel_time_s={name: _mean(rows, "travel_time") for name, rows in by_policy.items()},
        arrival_rate={name: float(np.mean([row.arrival_rate for row in rows])) for name, rows in by_policy.items()},
        gain={
            name: _with_interval(returns["demonstrations"] - returns[name])
            for name in policies
            if name != "demonstrations"
        },
    )


def _mean(rows: Sequence[EpisodeRecord], name: str) -> float:
    return float(np.mean([getattr(row, name) for row in rows]))


def _with_interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Return a mean and its 95 % bootstrap interval; three times the mean where there is one value."""
    mean = stats.estimate(values)
    if mean.low is None or mean.high is None:
        return mean.mean, mean.mean, mean.mean
    return mean.mean, mean.low, mean.high


def rate(valid: int, written: int) -> tuple[float, float, float] | None:
    """Return a share and its 95 % interval (Wilson 1927); None where no program was written."""
    if not written:
        return None
    from scipy.stats import binomtest  # noqa: PLC0415 - a second to import, and only a finished run needs it

    interval = binomtest(valid, written).proportion_ci(0.95, method="wilson")
    return valid / written, float(interval.low), float(interval.high)
