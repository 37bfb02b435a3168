"""What a policy considered at each decision, without SUMO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from relid_sumo.env.choices import Chooser, choices, critic_value, fitting_critic
from relid_sumo.env.episode import Episode
from relid_sumo.env.observation import scaled, times_free_flow
from relid_sumo.env.policies import Policy, probabilities
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import make_batch
from relid_sumo.learn.algos.ippo import RETURN_SCALE, Ippo
from relid_sumo.learn.algos.mappo import Mappo
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.toy import ToyBridge

Drive = Callable[..., EpisodeRecord]


def learner(kind: type[Ippo], task: RoutingTask) -> Ippo:
    """Return a learner whose networks have random weights instead of their almost constant initial ones."""
    made = kind(task.n_agents, task.graph.m_out, IppoSettings(), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in [*made.actor.parameters(), *made.critic.parameters()]:
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made


def policy_of(made: Ippo) -> Policy:
    critic = {name: value.numpy() for name, value in made.critic.state_dict().items()}
    return Policy("learned", seed=3, weights=made.weights(), critic=critic)


@pytest.mark.parametrize("kind", [Ippo, Mappo])
def test_value_is_the_one_that_the_learner_computes(crossing: RoutingTask, toy_drive: Drive, kind: type[Ippo]) -> None:
    made = learner(kind, crossing)
    policy = policy_of(made)
    record = toy_drive(crossing, policy)
    batch = make_batch([record], crossing.n_agents, joint=True)
    with torch.no_grad():
        expected = RETURN_SCALE * made.critic(made._seen_by_critic(batch)).numpy()
    explained = choices(crossing, policy, record)
    assert explained
    for one in explained:
        assert one.value_s == pytest.approx(float(expected[one.agent, one.number]), abs=0.01)


def test_probabilities_and_edges_are_those_of_the_open_slots(crossing: RoutingTask, toy_drive: Drive) -> None:
    policy = policy_of(learner(Ippo, crossing))
    record = toy_drive(crossing, policy)
    for k, one in enumerate(choices(crossing, policy, record)):
        mask = record.mask[k]
        shares = probabilities(policy.weights, one.agent, record.observation[k], mask)
        assert one.probabilities == tuple(shares[mask])
        assert sum(one.probabilities) == pytest.approx(1.0)
        assert one.edges == tuple(crossing.graph.slots[one.edge][mask])
        assert one.edges[one.chosen] == crossing.graph.slots[one.edge, record.action[k]]


def test_explaining_does_not_change_the_episode(crossing: RoutingTask, toy_drive: Drive) -> None:
    policy = policy_of(learner(Ippo, crossing))
    plain = toy_drive(crossing, policy)
    episode, choose, chooser = Episode(crossing, ToyBridge(crossing.graph)), policy.start(), Chooser(crossing, policy)
    seen = []
    while decisions := episode.advance():
        for decision in decisions:
            slot = choose(episode, decision)
            seen.append(chooser.explain(decision, slot))
            episode.act(decision, slot)
    assert episode.record().digest == plain.digest
    assert seen == choices(crossing, policy, plain)


def test_congestion_is_what_the_agent_observed(crossing: RoutingTask, toy_drive: Drive) -> None:
    policy, slow = policy_of(learner(Ippo, crossing)), dict.fromkeys(range(crossing.graph.n_edges), 4.0)
    seen = [c for one in choices(crossing, policy, toy_drive(crossing, policy, slow)) for c in one.congestion or ()]
    assert {round(c, 2) for c in seen} == {4.0, 8.0}, "vehicles ahead double the time of an edge"
    assert times_free_flow(scaled(np.array([0.0, 1.0, 6.0]))) == pytest.approx([1.0, 2.0, 64.0])


def test_remaining_time_is_the_distance_credit_minus_the_value(crossing: RoutingTask, toy_drive: Drive) -> None:
    policy, w_d = policy_of(learner(Ippo, crossing)), crossing.scenario.reward.w_d
    for one in choices(crossing, policy, toy_drive(crossing, policy)):
        to_go = float(crossing.to_go[crossing.row[one.agent], one.edge])
        assert one.value_s is not None
        assert one.remaining_s == pytest.approx(max(0.0, w_d * to_go - one.value_s))


def test_baselines_have_no_probabilities_and_no_value(crossing: RoutingTask, toy_drive: Drive) -> None:
    for one in choices(crossing, Policy("shortest"), toy_drive(crossing, Policy("shortest"))):
        assert (one.probabilities, one.congestion, one.value_s, one.remaining_s) == (None,) * 4
        assert len(one.edges) >= 2


def test_one_critic_serves_all_agents_that_share_it(crossing: RoutingTask) -> None:
    weights = policy_of(learner(Ippo, crossing)).critic
    shared = {name: value[:1] for name, value in weights.items()}
    seen = np.ones(crossing.observation_size, dtype=np.float32)
    last = np.zeros((crossing.n_agents, len(seen)), dtype=np.float32)
    assert critic_value(shared, 4, seen, last) == critic_value(weights, 0, seen, last)


def test_arrays_that_are_no_critic_of_the_run_are_recognised(crossing: RoutingTask) -> None:
    n, width = crossing.n_agents, crossing.observation_size
    own: dict[str, NDArray[np.float32]] = dict(policy_of(learner(Ippo, crossing)).critic)
    assert fitting_critic(own, n, width)
    assert fitting_critic(policy_of(learner(Mappo, crossing)).critic, n, width)
    assert not fitting_critic(own, n + 1, width)
    assert not fitting_critic(own, n, width + 1)
    assert not fitting_critic({**own, "more": own["layers.0.bias"]}, n, width)
    assert not fitting_critic({}, n, width)
    scalar: NDArray[np.float32] = np.zeros((), dtype=np.float32)
    assert not fitting_critic(own | {"layers.1.bias": scalar}, n, width)


def test_another_reward_gives_no_remaining_time(crossing: RoutingTask, toy_drive: Drive) -> None:
    policy = policy_of(learner(Ippo, crossing))
    record = toy_drive(crossing, policy)
    scenario = crossing.scenario.model_copy(
        update={"reward": crossing.scenario.reward.model_copy(update={"kind": "own.py:reward"})}
    )
    for one in choices(replace(crossing, scenario=scenario), policy, record):
        assert one.value_s is not None
        assert one.remaining_s is None
