"""One episode from a job: a policy drives the agents through a simulation in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from relid_sumo.base import seeding
from relid_sumo.base.errors import InputError
from relid_sumo.env.episode import Episode, warm_up
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Branch, Decision, EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import Bridge, SumoBridge
from relid_sumo.sim.snapshot import in_fork


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to drive: in which traffic (its seed and SUMO's options for it), by which policy.

    With `background` the episode goes on until the effect on the background traffic has been measured. At a share
    `branches` of the decisions every open way is tried, and gone on from by the policy without draws.
    """

    traffic_seed: int
    options: tuple[str, ...]
    policy: Policy
    background: bool = False
    branches: float = 0.0


def bridge_settings(task: RoutingTask) -> dict[str, Any]:
    """Return what a `SumoBridge` has to know of a task."""
    closed = [str(task.graph.edge_ids[edge]) for edge in sorted(task.closed)]
    return {"window_s": task.scenario.observation.window_s, "closed": closed}


def open_bridge(task: RoutingTask, options: Sequence[str], *, program: str = "libsumo") -> SumoBridge:
    """Start SUMO for a task, with the task's closed edges closed."""
    return SumoBridge(options, **bridge_settings(task), program=program)


def drive(task: RoutingTask, job: Job, *, program: str = "libsumo") -> EpisodeRecord:
    """Drive one episode in this process, from SUMO's start to its end."""
    bridge = warmed(task, job.options, program=program)
    try:
        return play(task, job, bridge)
    finally:
        bridge.close()


def warmed(task: RoutingTask, options: Sequence[str], *, program: str = "libsumo") -> SumoBridge:
    """Return a simulation at the agents' time 0."""
    bridge = open_bridge(task, options, program=program)
    try:
        warm_up(bridge, task.scenario)
    except BaseException:
        bridge.close()
        raise
    return bridge


def play(task: RoutingTask, job: Job, bridge: Bridge) -> EpisodeRecord:
    """Drive one episode over a simulation that has been warmed up."""
    episode = Episode(
        task,
        bridge,
        traffic_seed=job.traffic_seed,
        observe=job.policy.observes,
        rerouting=job.policy.name == "rerouting",
        background=job.background,
    )
    choose = job.policy.start()
    branches: list[Branch] = []
    while decisions := episode.advance():
        if job.branches > 0:
            branches += _tried(episode, decisions, job)
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    return replace(episode.record(), branches=tuple(branches))


def branch(episode: Episode, alternatives: Sequence[Mapping[int, int]], policy: Policy) -> list[EpisodeRecord]:
    """Return how an episode would end if agents chose otherwise now; exact, and the episode itself goes on untouched.

    Each alternative is driven to its end in a fork of this process.

    Parameters
    ----------
    episode
        An episode with open decisions, over a simulation in this process.
    alternatives
        Slots by agent, for any of the agents that have a decision open.
    policy
        Answers all other decisions, those open now and those to come.

    Raises
    ------
    InputError
        An agent has no decision open, its slot is masked, the simulation is another process's, or the system does not
        fork.
    SimulationError
        SUMO failed in a branch, or its process died.
    """
    if not episode.bridge.in_process:
        raise InputError("only a simulation in this process (libsumo) can be branched, not one behind traci")
    names, asked = episode.task.names, {decision.agent: decision for decision in episode.open_decisions}
    for agent in sorted({agent for one in alternatives for agent in one} - asked.keys()):
        raise InputError(
            f"agent '{names[agent]}' has no decision open; open are {', '.join(names[i] for i in asked) or 'none'}"
        )
    return [in_fork(partial(_finish, episode, one, policy)) for one in alternatives]


def _finish(episode: Episode, slots: Mapping[int, int], policy: Policy) -> EpisodeRecord:
    choose, decisions = policy.start(), episode.open_decisions
    while decisions:
        for decision in decisions:
            slot = slots.get(decision.agent)
            episode.act(decision, choose(episode, decision) if slot is None else slot)
        slots, decisions = {}, episode.advance()
    return episode.record()


def _tried(episode: Episode, decisions: Sequence[Decision], job: Job) -> Iterator[Branch]:
    """Yield what every way would have come to, for those of some simultaneous decisions that are drawn."""
    policy = replace(job.policy, greedy=True)
    for place, decision in enumerate(decisions):
        draw = seeding.stream(job.traffic_seed, "branch", decision.agent, decision.number).random()
        if draw < job.branches:
            slots = np.flatnonzero(decision.mask).astype(np.int32)
            ends = branch(episode, [{decision.agent: int(slot)} for slot in slots], policy)
            returns, times = (np.array([getattr(end, name) for end in ends]) for name in ("returns", "travel_time"))
            yield Branch(episode.n_decisions + place, slots, returns, times)
