"""Branching: exact outcomes of other choices, without any effect on the episode."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.episode import Episode
from relid_sumo.env.pettingzoo import RoutingEnv
from relid_sumo.env.play import Job, branch, drive, warmed
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.evaluation.evaluate import evaluate
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.snapshot import in_fork
from relid_sumo.sim.toy import ToyBridge

pytestmark = pytest.mark.sumo

Descendants = Callable[[], dict[int, str]]


def finish(episode: Episode, policy: Policy) -> EpisodeRecord:
    choose = policy.start()
    decisions = episode.open_decisions
    while decisions:
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
        decisions = episode.advance()
    return episode.record()


def to_decision(episode: Episode, number: int) -> None:
    """Drive by free-flow fastest paths until this number of decisions is answered."""
    choose = Policy("shortest").start()
    while episode.n_decisions < number:
        for decision in episode.open_decisions:
            episode.act(decision, choose(episode, decision))
        episode.advance()


def test_a_branch_equals_the_episode_with_that_choice(crossing: RoutingTask) -> None:
    episode = Episode(crossing, ToyBridge(crossing.graph))
    episode.advance()
    to_decision(episode, 4)
    decision = episode.open_decisions[0]
    slots = np.flatnonzero(decision.mask).tolist()
    ends = branch(episode, [{decision.agent: slot} for slot in slots], Policy("shortest"))
    own_way = Policy("shortest").start()(episode, decision)
    assert len({end.digest for end in ends}) == len(slots)
    record = finish(episode, Policy("shortest"))
    assert record.digest == ends[slots.index(own_way)].digest
    assert record.returns.tobytes() == ends[slots.index(own_way)].returns.tobytes()


@pytest.mark.parametrize("simulator", ["micro", "meso"])
def test_branches_of_sumo_are_exact(town_ready: PreparedScenario, simulator: Simulator) -> None:
    """The branch of each slot equals a new episode in which that slot is chosen."""

    def check() -> int:
        task, options = town_ready.task, town_ready.options(0, simulator)
        episode = Episode(task, warmed(task, options))
        episode.advance()
        to_decision(episode, 5)
        decision = episode.open_decisions[0]
        ends = branch(
            episode, [{decision.agent: int(slot)} for slot in np.flatnonzero(decision.mask)], Policy("shortest")
        )
        for slot, end in zip(np.flatnonzero(decision.mask), ends, strict=True):

            def new_episode(slot: int = int(slot)) -> str:
                other = Episode(task, warmed(task, options))
                other.advance()
                to_decision(other, 5)
                choose = Policy("shortest").start()
                for one in other.open_decisions:
                    other.act(one, slot if one.agent == decision.agent else choose(other, one))
                other.advance()
                return finish(other, Policy("shortest")).digest

            assert in_fork(new_episode) == end.digest
        assert finish(episode, Policy("shortest")).digest in {end.digest for end in ends}
        return len(ends)

    # in a separate process, because SUMO's state is global
    assert in_fork(check) >= 2


def test_impossible_branches_raise_an_error(crossing: RoutingTask, town_ready: PreparedScenario) -> None:
    episode = Episode(crossing, ToyBridge(crossing.graph))
    episode.advance()
    decision = episode.open_decisions[0]
    idle = next(i for i in range(6) if i != decision.agent)
    with pytest.raises(InputError, match=rf"agent 'a{idle}' has no open decision; these have: a{decision.agent}"):
        branch(episode, [{idle: 0}], Policy("shortest"))
    masked = int(np.flatnonzero(~decision.mask)[0]) if not decision.mask.all() else 99
    with pytest.raises(InputError, match="is masked"):
        branch(episode, [{decision.agent: masked}], Policy("shortest"))
    bridge = warmed(town_ready.task, town_ready.options(0), program="sumo")
    with pytest.raises(InputError, match="use libsumo, not traci"):
        branch(Episode(town_ready.task, bridge), [{}], Policy("shortest"))
    bridge.close()


def test_a_killed_branch_raises_an_error(
    crossing: RoutingTask, descendants: Descendants, wait_until: Callable[..., set[int]]
) -> None:
    class Slow(ToyBridge):
        def step(self) -> float:
            time.sleep(0.05)
            return super().step()

    episode = Episode(crossing, Slow(crossing.graph))
    episode.advance()
    before = set(descendants())

    def kill() -> None:
        for pid in wait_until(lambda: set(descendants()) - before, 60, every=0.01):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SimulationError, match="a branch of an episode died: ended by SIGKILL"):
        branch(episode, [{}], Policy("shortest"))
    killer.join()
    assert set(descendants()) == before


def test_branches_through_pettingzoo(town_ready: PreparedScenario) -> None:
    env = RoutingEnv(town_ready.task, town_ready.options, (0,))
    observations, infos = env.reset(options={"traffic_seed": 0})
    agent = next(name for name in env.agents if infos[name]["decides"])
    slots = np.flatnonzero(observations[agent]["action_mask"]).tolist()
    with pytest.raises(InputError, match="there is no agent 'agent99'"):
        env.branch([{"agent99": 0}], Policy("shortest"))
    with pytest.raises(InputError, match="is masked"):
        env.branch([{agent: 99}], Policy("shortest"))
    ends = env.branch([{agent: slot} for slot in slots], Policy("shortest"))
    again = env.branch([{agent: slot} for slot in slots], Policy("shortest"))
    assert [end.digest for end in ends] == [end.digest for end in again]
    assert len({end.digest for end in ends}) == len(slots)
    whole = drive(town_ready.task, Job(0, town_ready.options(0), Policy("shortest")))
    assert whole.digest in {end.digest for end in ends}  # `shortest` chooses one of the slots
    env.close()
    with pytest.raises(InputError, match=r"call reset\(\)"):
        env.branch([{}], Policy("shortest"))


def test_every_slot_is_tried_during_an_episode(town_ready: PreparedScenario) -> None:
    task = town_ready.task
    weights = Actor(task.n_agents, task.graph.m_out, hidden=8, scorer=8, octaves=3, seed=0).weights()
    job = Job(0, town_ready.options(0), Policy("learned", greedy=True, weights=weights), branches=0.2)
    with Rollouts(task, 1) as rollouts:
        record, without = rollouts.run([job, Job(0, job.options, job.policy)])
    assert record.digest == without.digest  # the branches do not change it
    assert without.branches == ()
    assert 0 < len(record.branches) < len(record.agent)
    for one in record.branches:
        taken = np.flatnonzero(one.slots == record.action[one.decision])
        assert set(one.slots) == set(np.flatnonzero(record.mask[one.decision]))
        # the policy does not draw, so the branch of its own choice has the outcome of the episode
        assert one.returns[taken[0]].tobytes() == record.returns.tobytes()
        assert one.travel_time[taken[0]].tobytes() == record.travel_time.tobytes()


def test_evaluation_measures_single_choices(town_ready: PreparedScenario) -> None:
    task = town_ready.task
    weights = Actor(task.n_agents, task.graph.m_out, hidden=8, scorer=8, octaves=3, seed=0).weights()
    policies = {"trained": Policy("learned", greedy=True, weights=weights), "shortest": Policy("shortest")}
    result = evaluate(town_ready, policies, n_seeds=1, branches=0.1)
    choices = result.policies["trained"].choices
    assert choices is not None
    assert result.policies["shortest"].choices is None
    assert choices.decisions > 0
    assert 0 <= choices.best.mean < 1  # an untrained policy is not always right
    assert choices.lost_s.mean > 0
    assert result.as_json()["policies"]["trained"]["choices"]["decisions"] == choices.decisions
