"""One row per decision of each agent: the same as in the record of a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import relid_sumo
from relid_sumo.env.pettingzoo import RoutingEnv
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo


@pytest.fixture(scope="module")
def env(town_ready: PreparedScenario) -> Iterator[RoutingEnv]:
    env = relid_sumo.parallel_env(town_ready.scenario)
    yield env
    env.close()


def leftmost(agent: str, seen: dict[str, Any]) -> int:
    return int(np.argmax(seen["action_mask"]))


def test_the_rows_are_those_of_a_rollout(env: RoutingEnv, town_ready: PreparedScenario) -> None:
    policy = Policy("fixed", otherwise=Policy("random", seed=3))  # random slots, and observations in the record
    record = drive(town_ready.task, Job(1, town_ready.options(1), policy))
    rows_of = [np.flatnonzero(record.agent == i) for i in range(len(env.possible_agents))]
    chosen = {name: record.action[rows_of[i]].tolist()[::-1] for i, name in enumerate(env.possible_agents)}
    episode = relid_sumo.collect_episode(env, lambda agent, seen: chosen[agent].pop(), traffic_seed=1)
    assert env.digest == record.digest
    assert episode.traffic_seed == 1
    assert episode.mean_return_s == pytest.approx(record.returns.mean())
    assert episode.arrival_rate == record.arrival_rate
    first = record.time.min()
    for i, one in enumerate(episode.agents.values()):
        rows = rows_of[i]
        assert one.observation.tobytes() == record.observation[rows].tobytes()
        assert (one.action_mask == record.mask[rows]).all()
        assert (one.action == record.action[rows]).all()
        later = slice(int(record.time[rows[0]] == first), None)  # reset() pays nothing: see collect_episode
        assert one.reward[later] == pytest.approx(record.reward[rows][later], rel=1e-5)
        assert one.return_s == pytest.approx(record.returns[i])
        assert one.status == record.status[i]
        assert one.travel_time_s == pytest.approx(record.travel_time[i])


def test_drawn_traffic_follows_the_seed_of_reset(env: RoutingEnv) -> None:
    def drawn() -> list[int]:
        env.reset(seed=4)
        return [relid_sumo.collect_episode(env, leftmost).traffic_seed for _ in range(3)]

    assert drawn() == drawn()


def test_a_masked_slot_is_an_error(env: RoutingEnv) -> None:
    with pytest.raises(relid_sumo.InputError, match="slot 99 is masked"):
        relid_sumo.collect_episode(env, lambda agent, seen: 99, traffic_seed=0)
