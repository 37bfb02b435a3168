"""The environment for libraries that step all agents together: PettingZoo's own test, and what the module promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pettingzoo.test.parallel_test import parallel_api_test

import relid_sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.lockstep import LockstepEnv
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo


@pytest.fixture(scope="module")
def env(town_ready: PreparedScenario) -> Iterator[LockstepEnv]:
    env = relid_sumo.lockstep_env(town_ready.scenario)
    yield env
    env.close()


def first_open(seen: dict[str, Any]) -> dict[str, int]:
    """Return the leftmost open slot of every agent, as a library that knows no idle agents would."""
    return {name: int(np.argmax(one["action_mask"])) for name, one in seen.items()}


@pytest.mark.filterwarnings("error")
def test_pettingzoo_s_own_test(env: LockstepEnv, capsys: pytest.CaptureFixture[str]) -> None:
    parallel_api_test(env, num_cycles=150)
    assert "Passed" in capsys.readouterr().out


def test_every_agent_is_in_every_step_and_only_decisions_have_a_choice(env: LockstepEnv) -> None:
    everybody = env.possible_agents
    seen, infos = env.reset(options={"traffic_seed": 0})
    shown = dict.fromkeys(everybody, np.zeros(env.routing.task.observation_size, np.float32))
    have_ended: set[str] = set()
    while env.agents:
        for name in everybody:
            assert env.observation_space(name).contains(seen[name])
            if infos[name]["decides"]:
                assert seen[name]["action_mask"].sum() >= 2
                shown[name] = seen[name]["observation"]
            else:
                assert seen[name]["action_mask"].tolist() == [1] + [0] * (len(seen[name]["action_mask"]) - 1)
            if name in have_ended:
                assert (seen[name]["observation"] == -1).all()
            else:
                assert (seen[name]["observation"] == shown[name]).all()
        seen, rewards, ended, cut, infos = env.step(first_open(seen))
        assert all(list(part) == everybody for part in (seen, rewards, ended, cut, infos))
        for name, info in infos.items():
            assert info.keys() == {"decides", "arrived", "travel_time_s"}
            if rewards[name]:  # what an agent earns is paid when it decides again, or ends
                assert name not in have_ended
                assert info["decides"] or info["travel_time_s"] > 0
            if info["travel_time_s"] > 0:
                have_ended.add(name)
        assert not any(cut.values())
        assert set(ended.values()) == {not env.agents}
    assert have_ended == set(everybody)
    with pytest.raises(InputError, match=r"the episode is over; call reset\(\)"):
        env.step({})


def test_it_is_the_episode_that_rollouts_drive(env: LockstepEnv, town_ready: PreparedScenario) -> None:
    record = drive(town_ready.task, Job(1, town_ready.options(1), Policy("shortest")))
    chosen = {name: record.action[record.agent == i].tolist()[::-1] for i, name in enumerate(env.possible_agents)}
    _, infos = env.reset(options={"traffic_seed": 1})
    earned = dict.fromkeys(env.possible_agents, 0.0)
    while env.agents:
        actions = {name: chosen[name].pop() if infos[name]["decides"] else 0 for name in env.agents}
        _, rewards, _, _, infos = env.step(actions)
        earned = {name: total + rewards[name] for name, total in earned.items()}
    assert env.routing.digest == record.digest
    assert list(earned.values()) == pytest.approx(record.returns)
    assert [infos[name]["travel_time_s"] for name in earned] == pytest.approx(record.travel_time)
    assert [infos[name]["arrived"] for name in earned] == [status == "arrived" for status in record.status]


def test_a_masked_action_of_an_agent_that_decides_is_an_error(env: LockstepEnv) -> None:
    seen, infos = env.reset(options={"traffic_seed": 0})
    name = next(name for name in seen if infos[name]["decides"])
    with pytest.raises(InputError, match=f"agent '{name}': slot 99 is masked"):
        env.step({**first_open(seen), name: 99})
    assert env.agents == env.possible_agents
    env.step(first_open(seen))


def test_a_step_before_the_first_reset(town_ready: PreparedScenario) -> None:
    env = relid_sumo.lockstep_env(town_ready.scenario)
    with pytest.raises(InputError, match=r"call reset\(\)"):
        env.step({})
    env.close()
