"""The comparison in `tools/torchrl_ippo.py` is fair: TorchRL's targets, losses and update equal the project's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from relid_sumo.env.decisions import AgentDecisions
from relid_sumo.learn.algos.gae import Batch, advantages
from relid_sumo.learn.algos.ippo import RETURN_SCALE, Ippo
from relid_sumo.learn.algos.settings import IppoSettings

pytest.importorskip("torchrl", reason="TorchRL is not installed: pip install 'relid_sumo[torchrl]'")

from torchrl_ippo import Learner, batch_of

M_OUT = 4


def episodes(lengths: list[int], seed: int = 0) -> list[AgentDecisions]:
    """Return invented decisions of one agent; an episode of length 0 is one in which it made none."""
    rng = np.random.default_rng(seed)

    def episode(length: int) -> AgentDecisions:
        mask = np.zeros((length, M_OUT), dtype=bool)
        for row in mask:
            row[rng.choice(M_OUT, size=int(rng.integers(2, M_OUT + 1)), replace=False)] = True
        action = np.array([rng.choice(np.flatnonzero(row)) for row in mask], dtype=np.int64)
        observation = rng.uniform(-1, 1, (length, 2 * M_OUT + 2)).astype(np.float32)
        reward = rng.normal(-30, 20, length).astype(np.float32)
        return AgentDecisions(observation, mask, action, reward, float(reward.sum()), "arrived", 100.0)

    return [episode(length) for length in lengths]


def own_batch(made: list[AgentDecisions]) -> Batch:
    return Batch(
        observation=np.concatenate([one.observation for one in made])[None],
        mask=np.concatenate([one.action_mask for one in made])[None],
        action=np.concatenate([one.action for one in made])[None],
        reward=np.concatenate([one.reward for one in made])[None],
        last=np.array([[k == len(one.action) - 1 for one in made for k in range(len(one.action))]]),
        valid=np.ones((1, sum(len(one.action) for one in made)), dtype=bool),
    )


def copy_weights(ours: Ippo, theirs: Learner) -> list[torch.nn.Linear]:
    """Give our weights to TorchRL's networks; return the layers of its critic."""
    critic = ours.critic.state_dict()
    layers = [layer for layer in theirs.critic_net if isinstance(layer, torch.nn.Linear)]
    theirs.net.load_state_dict({f"actor.{name}": value for name, value in ours.actor.state_dict().items()})
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(critic[f"layers.{i}.weight"][0].T)
            layer.bias.copy_(critic[f"layers.{i}.bias"][0])
    return layers


def test_torchrl_gives_the_advantages_and_targets_of_our_gae() -> None:
    made = episodes([3, 0, 1, 4])
    learner, batch, own = Learner(M_OUT, IppoSettings(), "mlp", seed=0), batch_of(made), own_batch(made)
    learner.gae(batch)
    with torch.no_grad():
        value = learner.critic_net(batch["observation"]).numpy().T
    gain = advantages(own.reward / RETURN_SCALE, value, own.last, learner.settings.gae_lambda)
    np.testing.assert_allclose(batch["advantage"].numpy().T, gain, atol=1e-6)
    np.testing.assert_allclose(batch["value_target"].numpy().T, gain + value, atol=1e-6)


def test_torchrl_updates_the_same_networks_as_we_do() -> None:
    """Apart from the deviation that advantages are divided by: TorchRL's is that of a sample, (n - 1) for n.

    What that leaves is 3e-5; one pass less, or another lambda, clip, entropy or gradient norm, leaves 7e-3 or more.
    """
    settings, made = IppoSettings(), episodes([100] * 4)
    ours, theirs = Ippo(1, M_OUT, settings, seed=0), Learner(M_OUT, settings, "own", seed=1)
    actor, critic = ours.actor.state_dict(), ours.critic.state_dict()  # these follow the update
    layers = copy_weights(ours, theirs)
    before = {name: value.clone() for name, value in actor.items()}
    ours.update(own_batch(made), progress=0.25)
    theirs.learn(batch_of(made), progress=0.25)
    assert max(float((value - before[name]).abs().max()) for name, value in actor.items()) > 0.05
    for name, value in theirs.net.state_dict().items():
        torch.testing.assert_close(value, actor[name.removeprefix("actor.")], atol=2e-4, rtol=0.0)
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer.weight.detach(), critic[f"layers.{i}.weight"][0].T, atol=2e-4, rtol=0.0)


def test_losses_and_gradients_of_torchrl_are_ours_on_the_same_batch() -> None:
    """In float64, with our normalised advantages; the second pass is away from the policy that drove."""
    settings, made = IppoSettings(epochs=2, max_grad_norm=1e6, entropy=0.05), episodes([30] * 4)
    ours, theirs = Ippo(1, M_OUT, settings, seed=0), Learner(M_OUT, settings, "own", seed=1)
    layers = copy_weights(ours, theirs)
    for network in (ours.actor, ours.critic, theirs.loss):
        network.double()
    batch, own = batch_of(made), own_batch(made)
    for name in ("observation", ("next", "observation"), ("next", "reward")):
        batch[name] = batch[name].double()
    own = replace(own, observation=own.observation.astype(np.float64), reward=own.reward.astype(np.float64))
    numbers = ours.update(own, progress=0.5)
    theirs.loss.normalize_advantage = False
    theirs.loss.entropy_coeff.fill_(0.5 * settings.entropy)
    for group in theirs.optimiser.param_groups:
        group["lr"] = 0.5 * settings.learning_rate
    with torch.no_grad():
        batch["action_log_prob"] = theirs.actor.get_dist(batch).log_prob(batch["action"])
        theirs.gae(batch)
    gain = batch["advantage"]
    batch["advantage"] = (gain - gain.mean()) / (gain.std(correction=0) + 1e-8)
    sums = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0}
    for _ in range(2):
        losses = theirs.loss(batch)
        sums["policy_loss"] += float(losses["loss_objective"].detach()) / 2
        sums["value_loss"] += float(losses["loss_critic"].detach())  # its coefficient is a half
        sums["entropy"] += float(losses["entropy"]) / 2
        theirs.optimiser.zero_grad()
        (losses["loss_objective"] + losses["loss_entropy"] + losses["loss_critic"]).backward()
        theirs.optimiser.step()
    for name, value in sums.items():
        assert numbers[name] == pytest.approx(value, abs=1e-5), name
    largest = 0.0
    for name, parameter in theirs.net.named_parameters():
        wanted = dict(ours.actor.named_parameters())[name.removeprefix("actor.")].grad
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-5, rtol=0.0)
        largest = max(largest, float(wanted.abs().max()))  # type: ignore[union-attr]
    for i, layer in enumerate(layers):
        wanted = dict(ours.critic.named_parameters())[f"layers.{i}.weight"].grad
        torch.testing.assert_close(layer.weight.grad, wanted[0].T, atol=1e-5, rtol=0.0)  # type: ignore[index]
    assert largest > 1e-2
