"""Run one episode from a job: a policy drives the agents in a simulation of this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo.base import seeding
from relid_sumo.base.errors import InputError
from relid_sumo.env.closures import closes_edges
from relid_sumo.env.episode import Episode, warm_up
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Branch, Decision, EpisodeRecord, Measures
from relid_sumo.scenario.incidents import Incidents, Placed, with_closing
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import DailyTasks, Day, RoutingTask
from relid_sumo.sim.bridge import Bridge, SumoBridge
from relid_sumo.sim.snapshot import in_fork
from relid_sumo.sim.trip_output import TripMeasures


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to run: the traffic (its seed and SUMO's options) and the policy.

    `day` contains the trips of a fleet in this traffic seed; the function `job` fills it in. With `background` the
    episode continues until the background traffic has been measured. At a share `branches` of the decisions, every open
    slot is tried in a fork, which the policy continues without draws. With `measures` SUMO measures the agents' trips,
    and writes all trips to `trip_file`, if there is one. `closing` closes an edge in this episode alone.
    """

    traffic_seed: int
    options: tuple[str, ...]
    policy: Policy
    background: bool = False
    branches: float = 0.0
    day: Day = Day()  # noqa: RUF009 - frozen
    measures: bool = False
    trip_file: Path | None = None
    closing: Placed | None = None


def job(
    ready: PreparedScenario,
    traffic_seed: int,
    policy: Policy,
    simulator: Simulator = "micro",
    *,
    background: bool = False,
    branches: float = 0.0,
    measures: bool = False,
    closing: Placed | None = None,
) -> Job:
    """Return the job of an episode of a prepared scenario; see `Job`."""
    options, day = ready.options(traffic_seed, simulator, closing), ready.day(traffic_seed)
    return Job(traffic_seed, options, policy, background, branches, day, measures, closing=closing)


def bridge_settings(task: RoutingTask) -> dict[str, Any]:
    """Return the settings of a task that `SumoBridge` needs."""
    closed = [str(task.graph.edge_ids[edge]) for edge in sorted(task.closed)]
    return {"window_s": task.scenario.observation.window_s, "closed": closed}


def open_bridge(
    task: RoutingTask,
    options: Sequence[str],
    *,
    program: str = "libsumo",
    **settings: Any,  # noqa: ANN401
) -> SumoBridge:
    """Start SUMO for a task and close the task's closed edges. Other settings are those of `SumoBridge`."""
    return SumoBridge(options, **bridge_settings(task), program=program, **settings)


def drive(task: RoutingTask, job: Job, *, program: str = "libsumo") -> EpisodeRecord:
    """Run one episode in this process, from SUMO's start to its end."""
    task = DailyTasks(task).of(job.day)
    bridge = warmed(task, job.options, program=program, measures=job.measures, trip_file=job.trip_file)
    try:
        return play(task, job, bridge)
    finally:
        bridge.close()


def warmed(
    task: RoutingTask,
    options: Sequence[str],
    *,
    program: str = "libsumo",
    **settings: Any,  # noqa: ANN401
) -> SumoBridge:
    """Return a simulation after its warm-up. Other settings are those of `SumoBridge`."""
    bridge = open_bridge(task, options, program=program, **settings)
    try:
        warm_up(bridge, task.scenario)
    except BaseException:
        bridge.close()
        raise
    return bridge


def play(task: RoutingTask, job: Job, bridge: Bridge) -> EpisodeRecord:
    """Run one episode in a simulation after its warm-up. A simulation that measures ends with it."""
    if job.measures:
        bridge.measure_here()
    if job.closing is not None:
        task = replace(task, incidents=Incidents(fixed=with_closing(task.incidents, job.traffic_seed, job.closing)))
    episode = begin(task, job, bridge)
    choose = job.policy.start()
    branches: list[Branch] = []
    while decisions := episode.advance():
        if job.branches > 0:
            branches += _tried(episode, decisions, job)
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    closed = -1 if job.closing is None else job.closing.edge
    record = replace(episode.record(), branches=tuple(branches), closed=closed)
    return replace(record, measures=_measures(task.names, bridge.measured())) if job.measures else record


def _measures(names: Sequence[str], trips: Mapping[str, TripMeasures]) -> Measures:
    columns = [one.name for one in fields(Measures)]
    return Measures(**{name: np.array([getattr(trips.get(a), name, np.nan) for a in names]) for name in columns})


def begin(task: RoutingTask, job: Job, bridge: Bridge) -> Episode:
    """Return the episode of a job, at its start, in a simulation after its warm-up."""
    return Episode(
        task,
        bridge,
        traffic_seed=job.traffic_seed,
        observe=job.policy.observes,
        rerouting=job.policy.name == "rerouting" and not closes_edges(task, job.traffic_seed),
        background=job.background,
    )


def branch(episode: Episode, alternatives: Sequence[Mapping[int, int]], policy: Policy) -> list[EpisodeRecord]:
    """Return how an episode would end after other choices now. The result is exact; the episode does not change.

    Each alternative runs to its end in a fork of this process.

    Parameters
    ----------
    episode
        An episode with open decisions, in a simulation of this process.
    alternatives
        Slots by agent, for any agents that have an open decision.
    policy
        Policy for all other decisions, open now or later.

    Raises
    ------
    InputError
        An agent has no open decision, its slot is masked, the simulation runs in another process, or the system cannot
        fork.
    SimulationError
        SUMO failed in a branch, or its process died.
    """
    if not episode.bridge.in_process:
        raise InputError("a branch needs a simulation in this process; use libsumo, not traci")
    names, asked = episode.task.names, {decision.agent: decision for decision in episode.open_decisions}
    for agent in sorted({agent for one in alternatives for agent in one} - asked.keys()):
        raise InputError(
            f"agent '{names[agent]}' has no open decision; these have: {', '.join(names[i] for i in asked) or 'none'}"
        )
    return [in_fork(partial(_finish, episode, one, policy)) for one in alternatives]


def _finish(episode: Episode, slots: Mapping[int, int], policy: Policy) -> EpisodeRecord:
    episode.bridge.measure_here()
    choose, decisions = policy.start(), episode.open_decisions
    while decisions:
        for decision in decisions:
            slot = slots.get(decision.agent)
            episode.act(decision, choose(episode, decision) if slot is None else slot)
        slots, decisions = {}, episode.advance()
    return episode.record()


def _tried(episode: Episode, decisions: Sequence[Decision], job: Job) -> Iterator[Branch]:
    """Yield the outcomes of every open slot, for a random selection of simultaneous decisions."""
    policy = replace(job.policy, greedy=True)
    for place, decision in enumerate(decisions):
        draw = seeding.stream(job.traffic_seed, "branch", decision.agent, decision.number).random()
        if draw < job.branches:
            slots = np.flatnonzero(decision.mask).astype(np.int32)
            ends = branch(episode, [{decision.agent: int(slot)} for slot in slots], policy)
            returns, times = (np.array([getattr(end, name) for end in ends]) for name in ("returns", "travel_time"))
            yield Branch(episode.n_decisions + place, slots, returns, times)
