from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from relid_sumo.base import seeding
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import Batch, make_batch
from relid_sumo.learn.algos.ippo import Ippo, explained, normalised
from relid_sumo.learn.algos.nets import clip_each
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.scenario.task import RoutingTask

Drive = Callable[..., EpisodeRecord]
STACKED = [f.name for f in fields(Batch) if f.name not in {"joint", "traffic_baseline"}]
SMALL = IppoSettings(hidden=8, scorer=6, epochs=4)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small matrices: a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch_of(agents: int, slots: int, counts: list[int], seed: int, kind: type = np.float32) -> Batch:
    """Return random decisions; `counts` says how many each agent makes, in episodes of about four."""
    rng = np.random.default_rng(seed)
    shape = agents, max(1, *counts)
    valid = np.arange(shape[1]) < np.array(counts)[:, None]
    mask = rng.random((*shape, slots)) < 0.7
    action = rng.integers(0, slots, shape)
    np.put_along_axis(mask, action[..., None], True, axis=-1)
    mask |= ~valid[..., None]
    last = valid & ((np.arange(shape[1]) % 4 == 3) | (np.arange(shape[1]) == np.array(counts)[:, None] - 1))
    return Batch(
        observation=np.where(valid[..., None], rng.uniform(-1, 1, (*shape, 2 * slots + 2)), 0).astype(kind),
        mask=mask,
        action=np.where(valid, action, 0),
        reward=np.where(valid, rng.normal(-30, 10, shape), 0).astype(kind),
        last=last,
        valid=valid,
    )


def only(batch: Batch, agent: int) -> Batch:
    """Return one agent's decisions, without padding."""
    n = max(1, int(batch.valid[agent].sum()))
    return Batch(**{name: getattr(batch, name)[agent : agent + 1, :n] for name in STACKED})


def parameters(learner: Ippo) -> dict[str, torch.Tensor]:
    nets = {"actor": learner.actor, "critic": learner.critic}
    return {f"{n}.{k}": v.detach().clone() for n, net in nets.items() for k, v in net.state_dict().items()}


def precise(learner: Ippo) -> Ippo:
    """Return the learner in float64: in float32, Adam makes visible steps of gradients that are but rounding."""
    learner.actor.double()
    learner.critic.double()
    return learner


def same(one: Ippo, other: Ippo) -> bool:
    a, b = parameters(one), parameters(other)
    return all(torch.equal(a[k], b[k]) for k in a)


# --- independence -----------------------------------------------------------------------------------------------------


def test_a_stacked_update_is_every_agent_learning_alone() -> None:
    agents, slots = 4, 3
    stacked = precise(Ippo(agents, slots, SMALL, seed=1))
    alone = []
    for i in range(agents):
        learner = precise(Ippo(1, slots, SMALL, seed=99))
        for mine, all_of_them in ((learner.actor, stacked.actor), (learner.critic, stacked.critic)):
            mine.load_state_dict({k: v[i : i + 1].clone() for k, v in all_of_them.state_dict().items()})
        alone.append(learner)
    before = parameters(stacked)
    for step, counts in enumerate([[12, 5, 0, 1], [3, 9, 0, 8], [0, 7, 0, 11], [6, 6, 0, 6]]):
        batch = batch_of(agents, slots, counts, seed=step, kind=np.float64)
        stacked.update(batch, progress=step / 10)
        for i, learner in enumerate(alone):
            learner.update(only(batch, i), progress=step / 10)
    after = parameters(stacked)
    for name, value in after.items():
        for i, learner in enumerate(alone):
            torch.testing.assert_close(value[i : i + 1], parameters(learner)[name], atol=1e-7, rtol=0)
        assert torch.equal(value[2], before[name][2])  # who never decides never changes
        if name.endswith("weight"):
            assert not torch.equal(value[0], before[name][0])


def test_padding_does_not_matter() -> None:
    batch = batch_of(3, 4, [9, 4, 6], seed=0, kind=np.float64)
    wider = Batch(
        **{
            name: np.concatenate(
                [getattr(batch, name), np.full_like(getattr(batch, name)[:, :3], name == "mask")], axis=1
            )
            for name in STACKED
        }
    )
    one, other = (precise(Ippo(3, 4, SMALL, seed=0)) for _ in range(2))
    told = one.update(batch, 0.0), other.update(wider, 0.0)
    for name, value in parameters(one).items():
        torch.testing.assert_close(value, parameters(other)[name], atol=1e-7, rtol=0)
    assert told[0] == pytest.approx(told[1], abs=1e-6)


def test_the_gradient_is_clipped_agent_by_agent() -> None:
    a, b = (torch.nn.Parameter(torch.zeros(shape)) for shape in [(3, 2, 2), (3, 4)])
    a.grad, b.grad = torch.zeros(3, 2, 2), torch.zeros(3, 4)
    a.grad[0], b.grad[0] = 3.0, 4.0  # norm 10
    b.grad[1] = 0.1  # norm 0.2
    norms = clip_each([a, b], 0.5)
    torch.testing.assert_close(norms, torch.tensor([10.0, 0.2, 0.0]))
    assert a.grad[0].flatten().tolist() == pytest.approx([0.15] * 4)
    assert b.grad[0].tolist() == pytest.approx([0.2] * 4)
    assert b.grad[1].tolist() == pytest.approx([0.1] * 4)
    assert not a.grad[2].any()


def test_advantages_are_normalised_per_agent_over_its_own_decisions() -> None:
    gain = torch.tensor([[1.0, 2.0, 3.0, 99.0], [-50.0, 99.0, 99.0, 99.0], [7.0, 9.0, 99.0, 99.0]])
    valid = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    result = normalised(gain, valid / valid.sum(1, keepdim=True))
    torch.testing.assert_close(result[0, :3], torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)
    torch.testing.assert_close(result[2, :2], torch.tensor([-1.0, 1.0]))
    assert result[1, 0] == 0
    assert not result[~valid].any()


# --- one update -------------------------------------------------------------------------------------------------------


def test_the_first_pass_is_at_the_policy_that_drove() -> None:
    learner = Ippo(3, 4, IppoSettings(hidden=8, scorer=6, epochs=1), seed=0)
    learner.update(batch_of(3, 4, [9, 4, 6], seed=0), 0.0)  # away from where it started
    told = learner.update(batch_of(3, 4, [9, 4, 6], seed=1), 0.0)
    assert told["kl"] == pytest.approx(0, abs=1e-7)
    assert told["clip_share"] == 0
    assert told["policy_loss"] == pytest.approx(0, abs=1e-6)  # minus the mean of normalised advantages
    assert told["entropy"] > 0
    later = Ippo(3, 4, SMALL, seed=0).update(batch_of(3, 4, [9, 4, 6], seed=1), 0.0)
    assert later["kl"] > 1e-6


def plain_ppo(learner: Ippo, batch: Batch, progress: float) -> None:
    """Update a single agent's networks as the papers have it, decision by decision, in plain Python."""
    s = learner.settings
    adam = torch.optim.Adam([*learner.actor.parameters(), *learner.critic.parameters()], lr=s.learning_rate, eps=1e-5)
    for group in adam.param_groups:
        group["lr"] = s.learning_rate * (1 - progress)
    seen, mask = torch.from_numpy(batch.observation), torch.from_numpy(batch.mask)
    n, action, reward = batch.valid.sum(), batch.action[0].tolist(), (batch.reward[0] / 100).tolist()
    with torch.no_grad():
        old, value = learner.actor(seen, mask)[0].tolist(), learner.critic(seen)[0].tolist()
    gain = [0.0] * n
    for k in reversed(range(n)):
        ends = batch.last[0, k]
        error = reward[k] + (0.0 if ends else value[k + 1]) - value[k]
        gain[k] = error + (0.0 if ends else s.gae_lambda * gain[k + 1])
    target = [gain[k] + value[k] for k in range(n)]
    scaled = ((np.array(gain) - np.mean(gain)) / (np.std(gain) + 1e-8)).tolist()
    for _ in range(s.epochs):
        log_p, now = learner.actor(seen, mask)[0], learner.critic(seen)[0]
        loss = torch.zeros(())
        for k in range(n):
            ratio = (log_p[k, action[k]] - old[k][action[k]]).exp()
            bounded = torch.clamp(ratio, 1 - s.clip, 1 + s.clip)
            allowed = log_p[k][mask[0, k]]
            entropy = -(allowed.exp() * allowed).sum()
            loss = loss - torch.min(ratio * scaled[k], bounded * scaled[k]) / n
            loss = loss - s.entropy * (1 - progress) * entropy / n + 0.5 * (now[k] - target[k]) ** 2 / n
        adam.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([*learner.actor.parameters(), *learner.critic.parameters()], s.max_grad_norm)
        adam.step()


@pytest.mark.parametrize("max_grad_norm", [0.01, 0.5, 1e6])
def test_an_update_is_what_the_papers_say(max_grad_norm: float) -> None:
    changes = {"entropy": 0.3, "learning_rate": 0.05, "epochs": 12, "max_grad_norm": max_grad_norm}
    settings = SMALL.model_copy(update=changes)
    batch = batch_of(1, 3, [14], seed=0, kind=np.float64)
    one, other = (precise(Ippo(1, 3, settings, seed=0)) for _ in range(2))
    assert one.update(batch, 0.25)["clip_share"] > 0.1
    plain_ppo(other, batch, 0.25)
    for name, value in parameters(one).items():
        torch.testing.assert_close(value, parameters(other)[name], atol=1e-5, rtol=0)


def test_a_better_action_becomes_likelier() -> None:
    slots, n = 3, 30
    rng = np.random.default_rng(0)
    action = rng.integers(0, slots, (1, n))
    batch = Batch(
        observation=np.zeros((1, n, 2 * slots + 2), dtype=np.float32),
        mask=np.ones((1, n, slots), dtype=bool),
        action=action,
        reward=np.where(action == 1, -20.0, -60.0).astype(np.float32),
        last=np.ones((1, n), dtype=bool),
        valid=np.ones((1, n), dtype=bool),
    )
    learner = Ippo(1, slots, IppoSettings(), seed=0)
    seen, mask = torch.from_numpy(batch.observation), torch.from_numpy(batch.mask)

    def thinks() -> tuple[float, float]:
        with torch.no_grad():
            return learner.actor(seen, mask)[0, 0, 1].exp().item(), learner.critic(seen)[0, 0].item()

    before = thinks()
    for _ in range(3):
        learner.update(batch, 0.0)
    after = thinks()
    assert after[0] > before[0] + 0.2
    mean = float(batch.reward.mean()) / 100
    assert abs(after[1] - mean) < abs(before[1] - mean)


@pytest.mark.parametrize(("schedule", "rates"), [("linear", [0.01, 0.005, 0.0]), ("constant", [0.01] * 3)])
def test_the_learning_rate_schedule(schedule: Any, rates: list[float]) -> None:  # noqa: ANN401 - a literal
    learner = Ippo(2, 3, SMALL.model_copy(update={"schedule": schedule, "learning_rate": 0.01}), seed=0)
    batch = batch_of(2, 3, [8, 8], seed=0)
    for progress, rate in zip((0.0, 0.5, 1.0), rates, strict=True):
        before = copy.deepcopy(learner)
        assert learner.update(batch, progress)["learning_rate"] == pytest.approx(rate)
        assert same(before, learner) == (rate == 0)


def test_the_entropy_bonus_falls_to_nothing() -> None:
    batch = batch_of(2, 3, [8, 8], seed=0)

    def updated(entropy: float, progress: float) -> Ippo:
        learner = Ippo(2, 3, SMALL.model_copy(update={"schedule": "constant", "entropy": entropy}), seed=0)
        learner.update(batch, progress)
        return learner

    assert same(updated(1.0, 1.0), updated(0.0, 1.0))
    assert same(updated(0.5, 0.5), updated(0.25, 0.0))
    assert not same(updated(1.0, 0.0), updated(0.0, 0.0))


def test_explained_variance() -> None:
    target = torch.tensor([[1.0, 2.0, 3.0, 50.0]])
    valid = torch.tensor([[True, True, True, False]])
    assert explained(target, target, valid) == pytest.approx(1.0)
    assert explained(torch.full_like(target, 2.0), target, valid) == pytest.approx(0.0)
    assert explained(target, torch.ones_like(target), valid) == 0.0
    assert explained(target, target, torch.zeros_like(valid)) == 0.0


def test_nobody_decides() -> None:
    learner, before = (Ippo(2, 3, SMALL, seed=0) for _ in range(2))
    told = learner.update(batch_of(2, 3, [0, 0], seed=0), 0.0)
    assert same(learner, before)
    assert all(np.isfinite(value) for value in told.values())


# --- whole trainings --------------------------------------------------------------------------------------------------


def train(
    task: RoutingTask, drive: Drive, seed: int, episodes: int, settings: IppoSettings | None = None
) -> tuple[Ippo, list[float]]:
    """Train on one slow road, which differs from episode to episode; four episodes a batch."""
    learner = Ippo(task.n_agents, task.graph.m_out, settings or IppoSettings(), seed)
    returns = []
    for first in range(0, episodes, 4):
        weights = learner.weights()
        records = []
        for e in range(first, first + 4):
            slow = {int(seeding.stream(e % 16, "slow").integers(task.graph.n_edges)): 3.0}
            policy = Policy("learned", seed=seeding.derive(seed, "episode", e), weights=weights)
            records.append(drive(task, policy, slow))
        returns += [float(record.returns.mean()) for record in records]
        learner.update(make_batch(records, task.n_agents), first / episodes)
    return learner, returns


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns(crossing: RoutingTask, toy_drive: Drive, seed: int) -> None:
    _, returns = train(crossing, toy_drive, seed, 80)
    assert np.mean(returns[-20:]) > np.mean(returns[:20]) + 80  # measured: +143, +156 and +136 s


def test_one_seed_one_training(crossing: RoutingTask, toy_drive: Drive) -> None:
    one, again, other = (train(crossing, toy_drive, seed, 12, SMALL) for seed in (3, 3, 4))
    assert same(one[0], again[0])
    assert one[1] == again[1]
    assert not same(one[0], other[0])
    assert one[1] != other[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("network", ["actor", "critic"])
def test_weights_that_no_training_gives_are_not_restored(network: str, value: float) -> None:
    saved: Any = Ippo(3, 4, SMALL, seed=5).state()
    next(iter(saved[network].values())).view(-1)[0] = value
    with pytest.raises(ValueError, match="not finite, or above"):
        Ippo(3, 4, SMALL, seed=5).restore(saved)


def test_a_restored_learner_goes_on_exactly() -> None:
    batches = [batch_of(3, 4, [9, 4, 6], seed=s) for s in range(4)]
    learner = Ippo(3, 4, SMALL, seed=0)
    for k in (0, 1):
        learner.update(batches[k], k / 4)
    saved: Any = copy.deepcopy(learner.state())
    told = [learner.update(batches[k], k / 4) for k in (2, 3)]
    restored = Ippo(3, 4, SMALL, seed=77)
    restored.restore(saved)
    assert [restored.update(batches[k], k / 4) for k in (2, 3)] == told
    assert same(restored, learner)


def test_weights_are_a_copy() -> None:
    learner = Ippo(2, 3, SMALL, seed=0)
    weights = learner.weights()
    before = {name: value.copy() for name, value in weights.items()}
    learner.update(batch_of(2, 3, [8, 8], seed=0), 0.0)
    assert all(np.array_equal(weights[name], before[name]) for name in before)
    assert any(not np.array_equal(learner.weights()[name], before[name]) for name in before)
