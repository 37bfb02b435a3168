from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relid_sumo.env.policies import Policy, probabilities
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import advantages, make_batch
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.scenario.task import RoutingTask

Drive = Callable[..., EpisodeRecord]


@pytest.fixture(scope="module")
def records(crossing: RoutingTask, toy_drive: Drive) -> list[EpisodeRecord]:
    """Return three episodes with observations; agent 4 makes no decision in the last two."""
    weights = Actor(crossing.n_agents, crossing.graph.m_out, hidden=4, scorer=4, octaves=3, seed=0).weights()
    driven = [toy_drive(crossing, Policy("learned", seed=s, weights=weights)) for s in range(3)]
    return [driven[0], *(without(record, 4) for record in driven[1:])]


def without(record: EpisodeRecord, agent: int) -> EpisodeRecord:
    keep = record.agent != agent
    fields = ("agent", "edge", "action", "time", "reward", "observation", "mask")
    return replace(record, **{name: getattr(record, name)[keep] for name in fields})


def test_a_batch_is_what_a_plain_loop_packs(records: list[EpisodeRecord], crossing: RoutingTask) -> None:
    batch = make_batch(records, crossing.n_agents)
    counts = [sum(int((r.agent == i).sum()) for r in records) for i in range(crossing.n_agents)]
    assert batch.valid.shape == (crossing.n_agents, max(counts))
    assert len(set(counts)) > 1
    for i in range(crossing.n_agents):
        k = 0
        for record in records:
            mine = np.flatnonzero(record.agent == i)
            for n, row in enumerate(mine):
                np.testing.assert_array_equal(batch.observation[i, k], record.observation[row])
                np.testing.assert_array_equal(batch.mask[i, k], record.mask[row])
                assert batch.action[i, k] == record.action[row]
                assert batch.reward[i, k] == np.float32(record.reward[row])
                assert batch.last[i, k] == (n == len(mine) - 1)
                assert batch.valid[i, k]
                k += 1
        assert k == counts[i]
        assert not batch.valid[i, k:].any()
        assert not batch.last[i, k:].any()
        assert not batch.reward[i, k:].any()
        assert not batch.observation[i, k:].any()
        assert batch.mask[i, k:].all()
        assert not batch.action[i, k:].any()
    kinds = [batch.observation.dtype, batch.mask.dtype, batch.action.dtype, batch.reward.dtype]
    assert kinds == [np.float32, np.bool_, np.int64, np.float32]


def test_with_one_network_for_all_agents_their_decisions_follow_each_other(
    records: list[EpisodeRecord], crossing: RoutingTask
) -> None:
    apart, together = make_batch(records, crossing.n_agents), make_batch(records, crossing.n_agents, shared=True)
    assert together.valid.shape == (1, sum(len(r.agent) for r in records))
    assert together.valid.all()
    for name in ("observation", "mask", "action", "reward", "last"):
        rows = [getattr(apart, name)[i, apart.valid[i]] for i in range(crossing.n_agents)]
        np.testing.assert_array_equal(getattr(together, name)[0], np.concatenate(rows))


def test_a_joint_observation_has_the_last_one_of_each_agent(
    records: list[EpisodeRecord], crossing: RoutingTask
) -> None:
    batch, n = make_batch(records, crossing.n_agents, joint=True), crossing.n_agents
    assert batch.joint is not None
    assert batch.joint.dtype == np.float32
    expected: list[list[Any]] = [[] for _ in range(n)]
    for record in records:
        seen = [np.zeros(record.observation.shape[1], np.float32)] * n
        for agent, observation in zip(record.agent, record.observation, strict=True):
            seen[agent] = observation
            expected[agent].append(np.concatenate([observation, *seen]))
    for i in range(n):
        np.testing.assert_array_equal(batch.joint[i, batch.valid[i]], np.array(expected[i]))
        assert not batch.joint[i, ~batch.valid[i]].any()
    assert make_batch(records, n).joint is None


def test_luck_goes_with_its_decision(records: list[EpisodeRecord], crossing: RoutingTask) -> None:
    traffic_baseline = [np.arange(len(r.agent), dtype=np.float64) + 1000 * e for e, r in enumerate(records)]
    batch = make_batch(records, crossing.n_agents, traffic_baseline=traffic_baseline)
    assert batch.traffic_baseline is not None
    for i in range(crossing.n_agents):
        expected = np.concatenate([values[r.agent == i] for r, values in zip(records, traffic_baseline, strict=True)])
        assert batch.traffic_baseline[i, batch.valid[i]].tolist() == expected.tolist()
        assert not batch.traffic_baseline[i, ~batch.valid[i]].any()
    assert make_batch(records, crossing.n_agents).traffic_baseline is None


def test_nobody_decides(records: list[EpisodeRecord], crossing: RoutingTask) -> None:
    empty = records[0]
    for agent in range(crossing.n_agents):
        empty = without(empty, agent)
    batch = make_batch([empty, empty], crossing.n_agents)
    assert batch.valid.shape == (crossing.n_agents, 1)
    assert not batch.valid.any()
    assert batch.mask.all()


def test_advantages_by_hand() -> None:
    # two episodes one behind the other: three decisions, then two
    reward = np.array([[1.0, -2.0, 3.0, 4.0, 5.0]], dtype=np.float32)
    value = np.array([[0.5, 1.0, -1.0, 2.0, 0.0]], dtype=np.float32)
    last = np.array([[False, False, True, False, True]])
    errors = [1 + 1 - 0.5, -2 - 1 - 1, 3 + 1, 4 + 0 - 2, 5 - 0]
    expected = [errors[0] + 0.5 * (errors[1] + 0.5 * errors[2]), errors[1] + 0.5 * errors[2], errors[2]]
    expected += [errors[3] + 0.5 * errors[4], errors[4]]
    np.testing.assert_allclose(advantages(reward, value, last, 0.5), [expected])


@given(
    lengths=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_closed_forms(lengths: list[list[int]], seed: int) -> None:
    """With lam = 1 the return to come minus the value, with lam = 0 the one-step error; padding changes neither."""
    rng = np.random.default_rng(seed)
    width = max(sum(parts) for parts in lengths)
    shape = len(lengths), width
    reward, value = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    last = np.zeros(shape, dtype=bool)
    for i, parts in enumerate(lengths):
        last[i, np.cumsum(parts) - 1] = True
        reward[i, sum(parts) :] = 0
    whole, one_step = (advantages(reward, value, last, lam) for lam in (1.0, 0.0))
    for i, parts in enumerate(lengths):
        start = 0
        for n in parts:
            for k in range(start, start + n):
                to_come = reward[i, k : start + n].sum()
                assert whole[i, k] == pytest.approx(to_come - value[i, k], abs=1e-4)
                after = value[i, k + 1] if k + 1 < start + n else 0.0
                assert one_step[i, k] == pytest.approx(reward[i, k] + after - value[i, k], abs=1e-4)
            start += n
    other = reward.copy()
    other[:, -1] += 100  # the end of the last episode says nothing about the ones before it
    first_ends = [parts[0] for parts in lengths if len(parts) > 1 and sum(parts) == width]
    rows = [i for i, parts in enumerate(lengths) if len(parts) > 1 and sum(parts) == width]
    changed = advantages(other, value, last, 0.9) - advantages(reward, value, last, 0.9)
    for i, n in zip(rows, first_ends, strict=True):
        assert not changed[i, :n].any()


def test_drawn_actions_are_those_the_actor_gives_a_share(records: list[EpisodeRecord], crossing: RoutingTask) -> None:
    batch = make_batch(records, crossing.n_agents)
    weights = Actor(crossing.n_agents, crossing.graph.m_out, hidden=4, scorer=4, octaves=3, seed=0).weights()
    for i, k in zip(*np.nonzero(batch.valid), strict=True):
        assert probabilities(weights, int(i), batch.observation[i, k], batch.mask[i, k])[batch.action[i, k]] > 0
