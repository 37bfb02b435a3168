"""Compare the policies of each scenario: one row per policy and one row per pair of policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import stats
from relid_sumo.base.stats import Estimate
from relid_sumo.reports.read import Run
from relid_sumo.runs import summary
from relid_sumo.runs.summary import StoredEvaluation

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class PooledOutcome:
    """Held-out results of one policy. Arrays have one value per training seed (one value for a baseline).

    Attributes
    ----------
    learned
        Whether the policy was trained.
    seeds
        Training seeds; empty for a baseline.
    mean_return, travel_time_s, arrival_rate
        Means over agents and traffic seeds.
    teleports, background_vehicle_s
        Totals over all episodes: number of teleports, and vehicle-seconds of the background traffic.
    by_traffic
        Mean travel time over agents, s, shape (training seeds, or 1 for a baseline; traffic seeds).
    times
        All travel times, s, over training seeds, traffic seeds and agents.
    """

    name: str
    learned: bool
    seeds: tuple[int, ...]
    mean_return: Floats
    travel_time_s: Floats
    arrival_rate: Floats
    teleports: Floats
    background_vehicle_s: Floats
    by_traffic: Floats
    times: Floats


@dataclass(frozen=True)
class Row:
    """One policy in the comparison table. Ratios to `shortest` are shares; None if `shortest` was not evaluated."""

    name: str
    learned: bool
    seeds: int
    travel_time_s: Estimate
    iqm_s: Estimate
    mean_return: Estimate
    arrival_rate: Estimate
    over_shortest: Estimate | None
    background_over_shortest: Estimate | None
    teleports: float


@dataclass(frozen=True)
class Pair:
    """One policy compared with another.

    Attributes
    ----------
    difference_s
        Mean travel time of the first minus that of the second, s, paired by training seed and traffic seed, with the
        95 % interval of `relid_sumo.base.stats.paired`. Negative: first is faster.
    seeds
        Training seeds that both policies have (all seeds of the first if the second is a baseline).
    p, p_holm
        p of the same test, and p corrected for the number of pairs of the scenario. None where it cannot be tested.
    improvement
        Probability that a seed of the first is faster than a seed of the second.
    """

    first: str
    second: str
    seeds: int
    difference_s: Estimate
    p: float | None
    p_holm: float | None
    improvement: Estimate

    @property
    def beyond_noise(self) -> bool:
        """Whether seeds alone do not explain the difference."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


@dataclass(frozen=True, eq=False)
class Comparison:
    """The policies of one scenario. `notes` are caveats for the reader; `traffic_seeds` counts those compared."""

    scenario: str
    horizon_s: float
    traffic_seeds: int
    agents: int
    driven: list[PooledOutcome]
    rows: list[Row]
    pairs: list[Pair]
    notes: list[str]


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Return the comparison of each scenario that has evaluated runs."""
    evaluated = [run for run in runs if run.evaluation is not None]
    return [_scenario(name, [run for run in evaluated if run.scenario == name]) for name in _names(evaluated)]


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.scenario for run in runs))


def _scenario(name: str, runs: list[Run]) -> Comparison:
    traffic = [_of(run).traffic_seeds for run in runs]
    common = [seed for seed in traffic[0] if all(seed in seeds for seeds in traffic)]
    notes = []
    if not common:
        notes.append(
            "Runs have no common traffic seed, so differences are not tested: evaluate them on the same seeds."
        )
    elif any(len(seeds) > len(common) for seeds in traffic):
        notes.append(
            f"Runs were evaluated on different traffic seeds: only the {len(common)} that all have are compared."
        )
    driven = [
        _learned(algorithm, [run for run in runs if run.algorithm == algorithm], common)
        for algorithm in _algorithms(runs)
    ]
    for baseline in dict.fromkeys(policy for run in runs for policy in _of(run).policies if policy != "trained"):
        found = [_on(_of(run), baseline, common) for run in runs if baseline in _of(run).policies]
        if any(result.travel_time_s != found[0].travel_time_s for result in found):
            notes.append(
                f"{baseline} gave different results in some runs (other traffic seeds or versions): the first is shown."
            )
        driven.append(_driven(baseline, (), found[:1]))
    shortest = next((one for one in driven if one.name == "shortest"), None)
    if any(one.learned and len(one.seeds) == 1 for one in driven):
        notes.append("With one training seed, results are about that training only: another may learn something else.")
    some = _of(runs[0])
    if some.fleet:
        notes.append(f"The agents are a fleet, with other trips in each traffic seed: up to {len(some.agents)} agents.")
    return Comparison(
        scenario=name,
        horizon_s=some.horizon_s,
        traffic_seeds=len(common or traffic[0]),
        agents=len(some.agents),
        driven=driven,
        rows=[_row(one, shortest) for one in driven],
        pairs=_pairs(driven, tested=bool(common)),
        notes=notes,
    )


def _on(evaluation: StoredEvaluation, policy: str, seeds: Sequence[int]) -> summary.PolicyOutcome:
    """Return the results of a policy on some traffic seeds; on all of its own where none are named."""
    driven = evaluation.policies[policy]
    if not seeds or list(seeds) == evaluation.traffic_seeds:
        return driven
    places = [evaluation.traffic_seeds.index(seed) for seed in seeds]
    by_seed = {name: value for name, value in driven if isinstance(value, list)}
    return driven.model_copy(update={name: [value[place] for place in places] for name, value in by_seed.items()})


def _of(run: Run) -> StoredEvaluation:
    assert run.evaluation is not None
    return run.evaluation


def _algorithms(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.algorithm for run in runs))


def _learned(name: str, runs: list[Run], traffic: Sequence[int]) -> PooledOutcome:
    runs = sorted(runs, key=lambda run: run.seed)
    return _driven(name, tuple(run.seed for run in runs), [_on(_of(run), "trained", traffic) for run in runs])


def _driven(name: str, seeds: tuple[int, ...], found: list[summary.PolicyOutcome]) -> PooledOutcome:
    times = [np.array([np.mean(agents) for agents in result.travel_time_s]) for result in found]
    same_traffic = len({len(one) for one in times}) == 1
    return PooledOutcome(
        name=name,
        learned=bool(seeds),
        seeds=seeds,
        mean_return=np.array([np.mean([np.mean(agents) for agents in result.return_s]) for result in found]),
        travel_time_s=np.array([one.mean() for one in times]),
        arrival_rate=np.array([result.arrived for result in found]),
        teleports=np.array([float(np.sum(result.teleports)) for result in found]),
        background_vehicle_s=np.array([np.sum(result.background_vehicle_s) for result in found]),
        by_traffic=np.array(times) if same_traffic else np.array([[one.mean()] for one in times]),
        times=np.concatenate([result.travel_times for result in found]),
    )


def _row(one: PooledOutcome, shortest: PooledOutcome | None) -> Row:
    over = background = None
    if shortest is not None:
        over = stats.estimate(one.travel_time_s / shortest.travel_time_s - 1.0)
        if shortest.background_vehicle_s.all():
            background = stats.estimate(one.background_vehicle_s / shortest.background_vehicle_s - 1.0)
    return Row(
        name=one.name,
        learned=one.learned,
        seeds=len(one.seeds),
        travel_time_s=stats.estimate(one.travel_time_s),
        iqm_s=stats.iqm([one.travel_time_s]),
        mean_return=stats.estimate(one.mean_return),
        arrival_rate=stats.estimate(one.arrival_rate),
        over_shortest=over,
        background_over_shortest=background,
        teleports=float(one.teleports.mean()),
    )


def _pairs(driven: list[PooledOutcome], *, tested: bool) -> list[Pair]:
    """Return a pair for each trained policy and each policy after it: other trained ones, then the baselines."""
    pairs = []
    for i, ours in enumerate(driven):
        for theirs in driven[i + 1 :] if ours.learned else []:
            common = [seed for seed in ours.seeds if seed in theirs.seeds] if theirs.learned else list(ours.seeds)
            if not common:
                continue
            mine = ours.by_traffic[[ours.seeds.index(seed) for seed in common]]
            its = theirs.by_traffic[[theirs.seeds.index(seed) for seed in common] if theirs.learned else [0]]
            faster = stats.probability_of_improvement([-ours.travel_time_s], [-theirs.travel_time_s])
            if tested:
                found = stats.paired(mine - its)
            else:
                found = stats.Paired(float(mine.mean() - its.mean()), None, None, None)
            difference = Estimate(found.mean, found.low, found.high)
            pairs.append(Pair(ours.name, theirs.name, len(common), difference, found.p, None, faster))
    corrected = stats.holm([pair.p for pair in pairs])
    return [Pair(**{**vars(pair), "p_holm": p}) for pair, p in zip(pairs, corrected, strict=True)]


@dataclass(frozen=True)
class Overall:
    """One algorithm over all scenarios: interquartile mean of its travel time relative to `shortest`, minus 1."""

    name: str
    scenarios: int
    seeds: int
    iqm: Estimate


def overall(comparisons: Sequence[Comparison]) -> list[Overall]:
    """Return the algorithms trained on every scenario, if at least two scenarios have `shortest` evaluated."""
    if len(comparisons) < 2:
        return []
    by_scenario = [{one.name: one for one in comparison.driven} for comparison in comparisons]
    if not all("shortest" in policies for policies in by_scenario):
        return []
    everywhere = [one.name for one in comparisons[0].driven if one.learned and all(one.name in p for p in by_scenario)]
    rows = []
    for name in everywhere:
        ratios = [p[name].travel_time_s / float(p["shortest"].travel_time_s[0]) - 1.0 for p in by_scenario]
        rows.append(Overall(name, len(ratios), sum(map(len, ratios)), stats.iqm(ratios)))
    return rows
