"""The comparison in `tools/torchrl_ippo.py` is fair: TorchRL's targets and update equal the project's."""

from __future__ import annotations

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
    layers = [layer for layer in theirs.critic_net if isinstance(layer, torch.nn.Linear)]
    theirs.net.load_state_dict({f"actor.{name}": value for name, value in actor.items()})
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(critic[f"layers.{i}.weight"][0].T)
            layer.bias.copy_(critic[f"layers.{i}.bias"][0])
    before = {name: value.clone() for name, value in actor.items()}
    ours.update(own_batch(made), progress=0.25)
    theirs.learn(batch_of(made), progress=0.25)
    assert max(float((value - before[name]).abs().max()) for name, value in actor.items()) > 0.05
    for name, value in theirs.net.state_dict().items():
        torch.testing.assert_close(value, actor[name.removeprefix("actor.")], atol=2e-4, rtol=0.0)
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer.weight.detach(), critic[f"layers.{i}.weight"][0].T, atol=2e-4, rtol=0.0)
