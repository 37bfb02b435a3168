"""The environment passes PettingZoo's own test, and keeps its further promises."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pettingzoo.test.parallel_test import parallel_api_test

import relid_sumo
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.pettingzoo import RoutingEnv
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Decision
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo

Descendants = Callable[[], dict[int, str]]
Moment = tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]


@pytest.fixture(scope="module")
def env(town_ready: PreparedScenario) -> Iterator[RoutingEnv]:
    """Return one environment for all tests that do not break it, because its process takes a second to start."""
    env = relid_sumo.parallel_env(town_ready.scenario)
    yield env
    env.close()


@pytest.fixture
def own_env(town_ready: PreparedScenario) -> Iterator[RoutingEnv]:
    env = RoutingEnv(town_ready.task, town_ready.options, town_ready.scenario.seeds.training)
    yield env
    env.close()


class Chooser:
    """Random slots, drawn as in a rollout by seed, agent and index of the decision."""

    def __init__(self, env: RoutingEnv, seed: int = 0) -> None:
        self._index = {name: i for i, name in enumerate(env.possible_agents)}
        self._choose, self._numbers = Policy("random", seed=seed).start(), dict.fromkeys(env.possible_agents, 0)

    def __call__(self, seen: dict[str, Any], infos: dict[str, Any]) -> dict[str, int]:
        actions = {}
        for name, info in infos.items():
            if info["decides"]:
                mask = seen[name]["action_mask"].astype(bool)
                asked = Decision(self._index[name], self._numbers[name], 0.0, 0, mask, seen[name]["observation"])
                actions[name] = self._choose(None, asked)  # type: ignore[arg-type] # random reads only the mask
                self._numbers[name] += 1
        return actions


def play(env: RoutingEnv, seed: int = 0, **reset: Any) -> list[Moment]:  # noqa: ANN401 - as RoutingEnv.reset
    """Play an episode and return every moment of it. The first moment has no rewards and no ends."""
    choose = Chooser(env, seed)
    seen, infos = env.reset(**reset)
    moments: list[Moment] = [(seen, {}, {}, {}, infos)]
    while env.agents:
        moments.append(env.step(choose(moments[-1][0], moments[-1][4])))
    return moments


def as_bytes(value: Any) -> Any:  # noqa: ANN401 - nested dicts of arrays and numbers
    if isinstance(value, dict):
        return [(key, as_bytes(item)) for key, item in value.items()]
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


# --- PettingZoo's test ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_pettingzoo_s_own_test(env: RoutingEnv, capsys: pytest.CaptureFixture[str]) -> None:
    parallel_api_test(env, num_cycles=150)
    assert "Passed" in capsys.readouterr().out


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes(env: RoutingEnv, own_env: RoutingEnv) -> None:
    one, digest = play(env, seed=5), env.digest
    played = [play(e, seed=5, options={"traffic_seed": env.traffic_seed}) for e in (env, own_env)]
    assert env.digest == own_env.digest == digest
    for moments in played:
        assert [as_bytes(list(moment)) for moment in moments] == [as_bytes(list(moment)) for moment in one]


def test_the_reset_seed_decides_all_later_traffic(env: RoutingEnv, town_ready: PreparedScenario) -> None:
    def drawn(seed: int) -> list[int | None]:
        env.reset(seed=seed)
        first = env.traffic_seed
        env.reset()
        return [first, env.traffic_seed]

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1
    assert set(drawn(3)) <= set(town_ready.scenario.seeds.training)


def test_other_traffic_gives_another_episode(env: RoutingEnv) -> None:
    digests = []
    for traffic_seed in (0, 1):
        play(env, seed=5, options={"traffic_seed": traffic_seed})
        digests.append(env.digest)
    assert len({*digests}) == 2
    assert None not in digests


def test_episodes_equal_those_of_rollouts(env: RoutingEnv, town_ready: PreparedScenario) -> None:
    moments = play(env, seed=9, options={"traffic_seed": 2})
    record = drive(town_ready.task, Job(2, town_ready.options(2), Policy("random", seed=9)))
    assert env.digest == record.digest
    for i, name in enumerate(env.possible_agents):
        assert sum(rewards.get(name, 0.0) for _, rewards, *_ in moments) == pytest.approx(record.returns[i])
        (last,) = (infos[name] for *_, ended, _, infos in moments if ended.get(name))
        assert last["status"] == record.status[i]
        assert last["travel_time_s"] == record.travel_time[i]


# --- masks and who decides --------------------------------------------------------------------------------------------


def test_spaces_masks_and_asynchrony(env: RoutingEnv) -> None:
    env.reset(seed=1)
    alone = 0
    for seen, _, _, _, infos in play(env, seed=1):
        deciding = 0
        for name, observation in seen.items():
            assert env.observation_space(name).contains(observation)
            mask = observation["action_mask"]
            assert mask.dtype == np.int8
            if infos[name]["decides"]:
                deciding += 1
                assert mask.sum() >= 2
                absent = np.repeat(mask == 0, 2)
                assert (observation["observation"][:-2][absent] == 1).all()
            else:
                assert mask.sum() == 1
                assert not observation["observation"].any()
        assert deciding >= 1 or all("status" in info for info in infos.values())
        alone += 0 < deciding < sum("status" not in info for info in infos.values())
    assert alone > 50


def test_a_masked_or_missing_action_changes_nothing(env: RoutingEnv) -> None:
    expected = play(env, seed=2, options={"traffic_seed": 0})
    choose = Chooser(env, seed=2)
    seen, infos = env.reset(options={"traffic_seed": 0})
    for _, moment in zip(range(10), expected[1:], strict=False):
        actions = choose(seen, infos)
        for name in actions:
            masked = np.flatnonzero(seen[name]["action_mask"] == 0)
            for slot in [*masked.tolist(), -1, len(seen[name]["action_mask"])]:
                with pytest.raises(InputError, match=rf"agent '{name}': slot {slot} is masked; use one of \["):
                    env.step({**actions, name: slot})
            with pytest.raises(InputError, match=f"agent '{name}' must decide but has no action"):
                env.step({other: slot for other, slot in actions.items() if other != name})
        idle = {name: 99 for name in env.agents if not infos[name]["decides"]}  # ignored
        got = env.step({**actions, **idle})
        assert as_bytes(list(got)) == as_bytes(list(moment))
        seen, infos = got[0], got[4]


# --- ends -------------------------------------------------------------------------------------------------------------


def greedy(env: RoutingEnv, seen: dict[str, Any], infos: dict[str, Any]) -> dict[str, int]:
    """Choose the edge whose end is nearest to the destination."""
    actions = {}
    for name in env.agents:
        if infos[name]["decides"]:
            away = np.where(seen[name]["action_mask"] == 1, seen[name]["observation"][1:-2:2], np.inf)
            actions[name] = int(np.argmin(away))
    return actions


def test_every_agent_ends_once_and_its_rewards_sum_to_its_return(env: RoutingEnv, town_ready: PreparedScenario) -> None:
    seen, infos = env.reset(options={"traffic_seed": 0})
    task, w_d = town_ready.task, town_ready.scenario.reward.w_d
    paid = dict.fromkeys(env.possible_agents, 0.0)
    ended_as: dict[str, dict[str, Any]] = {}
    assert env.agents == env.possible_agents
    while env.agents:
        before = list(env.agents)
        seen, rewards, ended, cut, infos = env.step(greedy(env, seen, infos))
        assert list(seen) == list(rewards) == list(ended) == list(cut) == list(infos) == before
        assert not any(cut.values())
        for name in before:
            paid[name] += rewards[name]
            assert ("status" in infos[name]) == ended[name]
            if ended[name]:
                assert name not in ended_as
                ended_as[name] = infos[name]
        assert env.agents == [name for name in before if not ended[name]]
        assert (env.digest is None) == bool(env.agents)
    assert set(ended_as) == set(env.possible_agents)
    statuses = [ended_as[name]["status"] for name in env.possible_agents]
    assert "arrived" in statuses
    for i, name in enumerate(env.possible_agents):
        took, d_0 = ended_as[name]["travel_time_s"], task.start_to_go[i]
        if statuses[i] == "arrived":
            assert paid[name] == pytest.approx(w_d * d_0 - took)
        else:
            credit = paid[name] + 600 - task.depart_s[i]
            assert w_d * (d_0 - task.to_go[task.row[i]].max()) <= credit < w_d * d_0
    with pytest.raises(InputError, match=r"the episode is over; call reset\(\)"):
        env.step({})


def test_a_step_before_the_first_reset_raises_an_error(town_ready: PreparedScenario) -> None:
    env = RoutingEnv(town_ready.task, town_ready.options, (0,))
    with pytest.raises(InputError, match=r"call reset\(\)"):
        env.step({})
    env.close()


# --- processes --------------------------------------------------------------------------------------------------------


def test_several_environments_in_one_program(env: RoutingEnv, own_env: RoutingEnv) -> None:
    expected = {}
    for traffic_seed in (0, 1):
        play(env, seed=traffic_seed, options={"traffic_seed": traffic_seed})
        expected[traffic_seed] = env.digest
    envs = [env, own_env]
    choosers = [Chooser(env, seed=0), Chooser(own_env, seed=1)]
    states = [one.reset(options={"traffic_seed": k}) for k, one in enumerate(envs)]
    while any(one.agents for one in envs):
        for k, one in enumerate(envs):
            if one.agents:
                seen, _, _, _, infos = one.step(choosers[k](*states[k]))
                states[k] = seen, infos
    assert {k: one.digest for k, one in enumerate(envs)} == expected


def started(env: RoutingEnv, descendants: Descendants) -> tuple[list[int], dict[str, int]]:
    """Reset; return the processes that this starts, parents first, and actions for the first step."""
    before = set(descendants())
    actions = greedy(env, *env.reset(options={"traffic_seed": 0}))
    return sorted(set(descendants()) - before), actions


@pytest.mark.parametrize("fork", [True, False], ids=["snapshots", "no snapshots"])
@pytest.mark.parametrize("which", [0, -1], ids=["all of it", "the episode alone"])
def test_a_killed_simulation_raises_an_error(
    town_ready: PreparedScenario, descendants: Descendants, which: int, fork: bool
) -> None:
    own_env = RoutingEnv(town_ready.task, town_ready.options, (0, 1), fork=fork)
    pids, actions = started(own_env, descendants)
    assert len(pids) == (3 if fork else 1)  # the processes of the environment, the snapshot and the episode
    os.kill(pids[which], signal.SIGKILL)
    with pytest.raises(SimulationError, match=r"died \(ended by SIGKILL\); call reset\(\)"):
        own_env.step(actions)
    assert own_env.agents == []
    assert pids[which] not in descendants()
    with pytest.raises(InputError, match=r"call reset\(\)"):
        own_env.step({})
    assert len(play(own_env, options={"traffic_seed": 0})) > 10
    own_env.close()
    assert set(descendants()).isdisjoint(pids)


def test_a_sumo_that_does_not_start_raises_an_error(town_ready: PreparedScenario, tmp_path: Path) -> None:
    good = town_ready.options(0)
    bad = tuple(str(tmp_path / "nowhere.net.xml") if part.endswith(".net.xml") else part for part in good)
    options: list[tuple[str, ...]] = [good, bad, good]
    env = RoutingEnv(town_ready.task, lambda _: options.pop(0), (0,))
    env.reset()
    with pytest.raises(SimulationError, match=r"nowhere.net.xml' is not accessible"):
        env.reset()
    assert env.agents == []
    with pytest.raises(InputError, match=r"call reset\(\)"):
        env.step({})
    env.reset()
    assert env.agents == env.possible_agents
    env.close()


def test_closing_ends_all_processes(
    town_ready: PreparedScenario, descendants: Descendants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    env = RoutingEnv(town_ready.task, town_ready.options, (0,))
    env.close()  # before any process starts
    pids, _ = started(env, descendants)
    env.close()
    assert set(descendants()).isdisjoint(pids)
    assert env.agents == []
    env.close()
    assert list(tmp_path.iterdir()) == []
    assert set(started(env, descendants)[0]).isdisjoint(pids)  # a reset starts them again
    env.close()


def test_an_interrupted_step_ends_the_episode(own_env: RoutingEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    own_env.reset(options={"traffic_seed": 0})
    assert own_env._child is not None
    pipe = own_env._child.pipe

    class Interrupted:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a pipe's
            return getattr(pipe, name)

        def recv(self) -> None:
            time.sleep(0.1)
            raise KeyboardInterrupt

    monkeypatch.setattr(own_env._child, "pipe", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        own_env.reset(options={"traffic_seed": 1})
    assert own_env.agents == []
    one = play(own_env, seed=1, options={"traffic_seed": 0})
    assert len(one) > 10
