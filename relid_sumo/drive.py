"""Policies driven in the same traffic, each in every one of some traffic seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relid_sumo.env import EpisodeRecord
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready
from relid_sumo.rollout import Job, Rollouts
from relid_sumo.scenario import Simulator


def in_traffic(
    ready: Ready,
    rollouts: Rollouts,
    policies: Sequence[Policy],
    seeds: Sequence[int],
    simulator: Simulator = "micro",
    on_done: Callable[[EpisodeRecord], None] = lambda _: None,
) -> list[list[EpisodeRecord]]:
    """Return the episodes of each policy, one for each traffic seed, in the order given."""
    jobs = [Job(seed, ready.options(seed, simulator), policy) for policy in policies for seed in seeds]
    records = rollouts.run(jobs, on_done)
    return [records[i : i + len(seeds)] for i in range(0, len(records), len(seeds))]
