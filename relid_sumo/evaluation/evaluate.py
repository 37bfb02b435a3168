"""Evaluate a trained policy and baselines on held-out traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.stats import Estimate, estimate
from relid_sumo.baseline.named import planned_by_seed
from relid_sumo.env.play import Job
from relid_sumo.env.play import job as job_of
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import LOST, NEVER_INSERTED, EpisodeRecord
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.evaluation import sumo_output
from relid_sumo.evaluation.numbers import NUMBERS, Numbers, numbers
from relid_sumo.scenario.events import DAY_TYPES
from relid_sumo.scenario.prepare import PreparedScenario


@dataclass(frozen=True)
class Choices:
    """Quality of single choices in hindsight: every open slot is tried from the same moment, in the same traffic.

    Attributes
    ----------
    decisions
        Number of decisions tried.
    best
        Share of decisions for which no other slot would give an earlier arrival.
    lost_s
        Difference between the trip's travel time and that with the best slot, s.
    """

    decisions: int
    best: Estimate
    lost_s: Estimate


@dataclass(frozen=True)
class Result:
    """Results of one policy. Every figure is a mean over agents, estimated over traffic seeds.

    Attributes
    ----------
    mean_return, mean_travel_time_s
        s. For a vehicle that does not arrive: the time to the horizon plus the remaining free-flow time.
    arrival_rate
        Share of the agents that arrived.
    background_over_shortest
        Vehicle-seconds of the background traffic after the warm-up (for 900 s, or to the horizon) relative to those
        under `shortest`, minus 1; None if `shortest` was not evaluated.
    vehicles_over_shortest
        The same of all vehicles, agents included.
    travel_time_over_shortest
        Mean travel time relative to that of `shortest` in the same traffic, minus 1; None likewise.
    teleports, lost, never_inserted, diverted
        Counts over all agents and seeds; the last one of closed edges that were next on a vehicle's route.
    choices
        Quality of single choices; None by default.
    numbers
        Further numbers: delay, stops, emissions, spread over the agents and others.
    """

    mean_return: Estimate
    mean_travel_time_s: Estimate
    arrival_rate: Estimate
    background_over_shortest: Estimate | None
    vehicles_over_shortest: Estimate | None
    travel_time_over_shortest: Estimate | None
    teleports: int
    lost: int
    never_inserted: int
    diverted: int
    numbers: Numbers
    choices: Choices | None = None


@dataclass(frozen=True)
class DayType:
    """Results by policy on the days of one type."""

    seeds: tuple[int, ...]
    policies: dict[str, Result]


@dataclass(frozen=True)
class Evaluation:
    """Results by policy, and the traffic they were measured in.

    `by_day_type` has the same for each type of days that occurs, where the scenario has events. `what_if` names the
    changes of the scenario.
    """

    scenario: str
    traffic: str
    seeds: tuple[int, ...]
    greedy: bool
    policies: dict[str, Result]
    by_day_type: dict[str, DayType] = field(default_factory=dict)
    what_if: tuple[str, ...] = ()
    records: dict[str, list[EpisodeRecord]] = field(default_factory=dict, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return one object: the means of each policy, with the bounds of intervals under ``interval_95``."""
        return {
            "scenario": self.scenario,
            "traffic": self.traffic,
            "seeds": list(self.seeds),
            "what_if": list(self.what_if),
            "actions": "greedy" if self.greedy else "sampled",
            "means_over": {name: number.over for name, number in NUMBERS.items()},
            "policies": {name: _flat(result) for name, result in self.policies.items()},
            **({"by_day_type": days} if (days := self._days()) else {}),
        }

    def _days(self) -> dict[str, Any]:
        return {
            name: {"seeds": list(days.seeds), "policies": {one: _flat(row) for one, row in days.policies.items()}}
            for name, days in self.by_day_type.items()
        }


def _flat(result: Result) -> dict[str, Any]:
    values: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    content = asdict(result)
    for name, value in (content | content.pop("numbers")).items():
        if name == "choices":
            if value is not None:
                values[name] = value
        elif isinstance(value, dict):
            values[name] = value["mean"]
            intervals[name] = None if value["low"] is None else [value["low"], value["high"]]
        else:
            values[name] = value
    return {**values, "interval_95": intervals}


def evaluate(
    ready: PreparedScenario,
    policies: dict[str, Policy],
    *,
    traffic: str = "evaluation",
    n_seeds: int | None = None,
    branches: float = 0.0,
    workers: int | None = None,
    what_if: Sequence[str] = (),
    outputs: Path | None = None,
) -> Evaluation:
    """Evaluate policies on the same trips in the same traffic.

    Parameters
    ----------
    policies
        Policies by name. Include ``shortest`` to compare the others with it.
    traffic, n_seeds
        Set of traffic seeds (evaluation, validation or training), and how many of them. Default: all.
    branches
        Share of the learnt policies' decisions at which every slot is tried (`Choices`). Each slot costs an episode.
    workers
        Number of simulation processes. It does not change the results.
    what_if
        Changes with which `ready` was made; reported with the results.
    outputs
        Folder for SUMO's own outputs (`relid_sumo.evaluation.sumo_output`). SUMO then starts for each episode.

    Raises
    ------
    InputError
        There are fewer seeds than requested, or `outputs` and `branches` are both given.
    """
    seeds = choose_seeds(ready, traffic, n_seeds)
    table = episodes(ready, policies, seeds, branches=branches, workers=workers, outputs=outputs)
    free_flow_s = {seed: ready.on(seed).task.free_flow_s for seed in seeds}
    results = _results(table, free_flow_s)
    greedy = all(p.greedy for p in policies.values() if p.name == "learned")
    days = _by_day_type(ready, table, free_flow_s)
    return Evaluation(ready.scenario.name, traffic, seeds, greedy, results, days, tuple(what_if), table)


def episodes(
    ready: PreparedScenario,
    policies: dict[str, Policy],
    seeds: Sequence[int],
    *,
    branches: float = 0.0,
    workers: int | None = None,
    on_done: Callable[[EpisodeRecord], None] = lambda _: None,
    outputs: Path | None = None,
) -> dict[str, list[EpisodeRecord]]:
    """Run policies in each traffic seed, and return their episodes in the order of the seeds.

    `branches` and `outputs` are as in `evaluate`; `on_done` is called with each finished episode. Routes of baselines
    are planned first if needed.
    """
    if outputs is not None and branches:
        raise InputError("SUMO's outputs cannot be written while choices are tried in branches; ask for one of the two")
    copies = {name: replace(policy) for name, policy in policies.items()}  # one object for each name
    planned = planned_by_seed(copies, ready, seeds, workers)
    names = {id(policy): name for several in planned.values() for name, policy in zip(policies, several, strict=True)}

    def job(seed: int, policy: Policy) -> Job:
        tried = branches if policy.name == "learned" else 0.0
        one = job_of(ready, seed, seeded(policy, seed), background=True, branches=tried, measures=True)
        if outputs is None:
            return one
        folder = sumo_output.place(outputs, names[id(policy)], seed)
        options = sumo_output.with_outputs(one.options, ready.scenario, folder)
        return replace(one, options=options, trip_file=folder.resolve() / sumo_output.TRIPS)

    what = "evaluating episode"
    with Rollouts(ready.task, workers, fork=outputs is None) as rollouts:
        records = in_traffic(ready, rollouts, planned, seeds, job=job, what=what, on_done=on_done)
    return dict(zip(policies, records, strict=True))


def named_changes(
    changes: Sequence[str], closed: Sequence[str], incidents: Sequence[str], fleet: float | None = None
) -> list[str]:
    """Return the names of the changes of a scenario, for `Evaluation.what_if`."""
    size = [] if fleet is None else [f"fleet: {fleet:g}"]
    return [*changes, *size, *(f"closed: {edge}" for edge in closed), *(f"incident: {one}" for one in incidents)]


def choose_seeds(ready: PreparedScenario, traffic: str, n_seeds: int | None) -> tuple[int, ...]:
    """Return the first `n_seeds` of a set of traffic seeds. Default: all.

    Raises
    ------
    InputError
        There is no such set, or it has fewer seeds.
    """
    sets = ready.scenario.seeds.model_dump()
    if traffic not in sets:
        raise InputError(f"there are no '{traffic}' traffic seeds{did_you_mean(traffic, sets)}; use {', '.join(sets)}")
    every: tuple[int, ...] = sets[traffic]
    if n_seeds is not None and not 1 <= n_seeds <= len(every):
        raise InputError(f"--seeds {n_seeds}: give 1 to {len(every)}, the {traffic} seeds of '{ready.scenario.name}'")
    return every[:n_seeds]


def seeded(policy: Policy, traffic_seed: int) -> Policy:
    """Return a policy whose draws also depend on the traffic seed."""
    return replace(policy, seed=seeding.derive(policy.seed, "evaluation", traffic_seed))


def _by_day_type(
    ready: PreparedScenario, table: Mapping[str, Sequence[EpisodeRecord]], free_flow_s: Mapping[int, Floats]
) -> dict[str, DayType]:
    """Return the results on the days of each type that occurs; none for a scenario without events."""
    seeds = list(free_flow_s)
    types = [ready.day_type(seed) for seed in seeds]
    found = {}
    for name in (one for one in DAY_TYPES if one in types):
        days = [i for i, one in enumerate(types) if one == name]
        rows = {policy: [records[i] for i in days] for policy, records in table.items()}
        found[name] = DayType(tuple(seeds[i] for i in days), _results(rows, free_flow_s))
    return found


def _results(table: Mapping[str, Sequence[EpisodeRecord]], free_flow_s: Mapping[int, Floats]) -> dict[str, Result]:
    return {name: _result(rows, free_flow_s, table.get("shortest")) for name, rows in table.items()}


def _result(
    rows: Sequence[EpisodeRecord], free_flow_s: Mapping[int, Floats], shortest: Sequence[EpisodeRecord] | None
) -> Result:
    statuses = [status for row in rows for status in row.status]
    times = np.array([row.travel_time.mean() for row in rows])
    over_background = over_all = over_time = None
    if shortest is not None:
        over_time = estimate(times / np.array([row.travel_time.mean() for row in shortest]) - 1.0)
        over_background, over_all = (_over(rows, shortest, name) for name in ("background_vehicle_s", "vehicle_s"))
    return Result(
        mean_return=estimate(np.array([row.returns.mean() for row in rows])),
        mean_travel_time_s=estimate(times),
        arrival_rate=estimate(np.array([row.arrival_rate for row in rows])),
        background_over_shortest=over_background,
        vehicles_over_shortest=over_all,
        travel_time_over_shortest=over_time,
        teleports=int(sum(row.teleports.sum() for row in rows)),
        lost=statuses.count(LOST),
        never_inserted=statuses.count(NEVER_INSERTED),
        diverted=int(sum(row.diverted.sum() for row in rows)),
        choices=_choices(rows),
        numbers=numbers(rows, [free_flow_s[row.traffic_seed] for row in rows]),
    )


def _over(rows: Sequence[EpisodeRecord], shortest: Sequence[EpisodeRecord], name: str) -> Estimate | None:
    """Return vehicle-seconds relative to those under `shortest`, minus 1; None where there were none."""
    ours, theirs = (np.array([getattr(row, name) for row in several]) for several in (rows, shortest))
    return estimate(ours / theirs - 1.0) if theirs.all() else None


def _choices(rows: Sequence[EpisodeRecord]) -> Choices | None:
    lost = []
    for row in rows:
        here = []
        for branch in row.branches:
            own = branch.travel_time[:, row.agent[branch.decision]]
            here.append(float(own[branch.slots == row.action[branch.decision]][0] - own.min()))
        if here:
            lost.append(np.array(here))
    if not lost:
        return None
    best, mean = (np.array([f(one) for one in lost]) for f in (lambda x: (x <= 0).mean(), np.mean))
    return Choices(sum(map(len, lost)), estimate(best), estimate(mean))
