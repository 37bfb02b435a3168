"""Independent PPO: every agent learns alone, from its own decisions.

Schulman et al. 2017 (arXiv 1707.06347) with the clipped objective, run by every agent on its own observations, rewards
and networks (de Witt et al. 2020, arXiv 2011.09533, without sharing). One update, in order:

1. all agents' decisions of the batch are stacked, shape (N, S), padded and masked;
2. values, then advantages (`relid_sumo.learn.algos.gae`, discount 1) on returns scaled by 1/100;
3. advantages are normalised per agent;
4. `epochs` passes over the whole batch: clipped policy loss, squared value loss, entropy bonus; the gradient is
   clipped per agent; one Adam step for all (Adam works element by element, so agents stay independent).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relid_sumo.env.choices import VALUE_SCALE_S
from relid_sumo.env.policies import Weights
from relid_sumo.learn.algos.gae import Batch, advantages
from relid_sumo.learn.algos.nets import Actor, Critic, SlotActor, SlotCritic, clip_each
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.learn.learner import Learner, LearnerSetup
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.settings import CONNECTED

RETURN_SCALE = VALUE_SCALE_S
LARGEST = 1e6  # weight, far beyond what training gives


class NotFiniteError(ArithmeticError):
    """A loss is not finite; `agents` lists whose."""

    def __init__(self, agents: list[int]) -> None:
        super().__init__(f"the loss of agents {agents} is not finite")
        self.agents = agents


class Ippo(Learner):
    """N independent learners, stacked along a leading agent axis.

    Parameters
    ----------
    agents, m_out
        Number of agents and of slots.
    settings
        See `IppoSettings`.
    seed
        Seed of the initial weights; nothing else here is random.
    layout
        Widths of an observation.
    connected
        Whether that is the built-in ``connected``, which has networks of its own (`SlotActor`, `SlotCritic`).
    """

    def __init__(
        self,
        agents: int,
        m_out: int,
        settings: IppoSettings,
        seed: int,
        layout: Layout = Layout(),  # noqa: B008 - frozen
        *,
        connected: bool = False,
    ) -> None:
        self.settings = s = settings
        self.actor: Actor | SlotActor
        self.critic: Critic | SlotCritic
        if connected:
            self.actor = SlotActor(agents, scorer=s.scorer, seed=seed)
            self.critic = SlotCritic(agents, hidden=s.hidden, seed=seed)
        else:
            self.actor = Actor(
                agents, m_out, hidden=s.hidden, scorer=s.scorer, octaves=s.octaves, seed=seed, layout=layout
            )
            self.critic = Critic(agents, layout.size(m_out), hidden=settings.hidden, seed=seed)
        self._parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.Adam(self._parameters, lr=settings.learning_rate, eps=1e-5)

    def weights(self) -> Weights:
        """Return the actors' weights, for the simulation processes."""
        return self.actor.weights()

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from one batch.

        Parameters
        ----------
        batch
            Decisions of the episodes driven with the present weights.
        progress
            Share of the run that is over, 0 to 1.

        Returns
        -------
        dict
            ``policy_loss``, ``value_loss``, ``entropy`` [nat], ``kl`` [nat], ``clip_share``, ``explained_variance``,
            ``grad_norm``, ``learning_rate``; means over decisions and epochs.
        """
        s = self.settings
        left = 1.0 - progress
        rate = self._rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seen = self._seen_by_critic(batch)
        observation, mask = torch.from_numpy(batch.observation), torch.from_numpy(batch.mask)
        action = torch.from_numpy(batch.action)[..., None]
        valid = torch.from_numpy(batch.valid)
        share = shares(valid)
        with torch.no_grad():
            old = self.actor(observation, mask).gather(-1, action)[..., 0]
            value = self.critic(seen)
        promised = (
            value.numpy() if batch.traffic_baseline is None else value.numpy() + batch.traffic_baseline / RETURN_SCALE
        )
        gain = torch.from_numpy(advantages(batch.reward / RETURN_SCALE, promised, batch.last, s.gae_lambda))
        target = gain + value
        gain = normalised(gain, share)
        sums: dict[str, float] = {}
        for _ in range(s.epochs):
            log_p = self.actor(observation, mask)
            ratio = (log_p.gather(-1, action)[..., 0] - old).exp()
            clipped = ratio.clamp(1 - s.clip, 1 + s.clip)
            policy_loss = -(share * torch.minimum(ratio * gain, clipped * gain)).sum(1)
            entropy = -(share * (log_p.exp() * log_p.clamp(min=-100.0)).sum(-1)).sum(1)
            value_loss = (share * (self.critic(seen) - target).square()).sum(1)
            loss = self._with_expert(policy_loss - s.entropy * left * entropy) + 0.5 * value_loss
            if not bool(torch.isfinite(loss).all()):
                raise NotFiniteError(torch.nonzero(~torch.isfinite(loss))[:, 0].tolist())
            self.optimiser.zero_grad()
            loss.sum().backward()
            norms = clip_each(self._parameters, s.max_grad_norm)
            self.optimiser.step()
            self._after_step()
            with torch.no_grad():
                measured = {
                    "policy_loss": policy_loss.mean(),
                    "value_loss": value_loss.mean(),
                    "entropy": entropy.mean(),
                    "kl": (share * (ratio - 1 - ratio.log())).sum(1).mean(),
                    "clip_share": (share * ((ratio - 1).abs() > s.clip)).sum(1).mean(),
                    "grad_norm": norms.mean(),
                }
            for name, number in measured.items():
                sums[name] = sums.get(name, 0.0) + float(number) / s.epochs
        sums["explained_variance"] = explained(value, target, valid)
        sums["learning_rate"] = rate
        return sums

    def _rate(self, progress: float) -> float:
        s = self.settings
        return s.learning_rate * (1.0 - progress if s.schedule == "linear" else 1.0)

    def _seen_by_critic(self, batch: Batch) -> Tensor:
        """Return the critic's input at each decision, shape (N, S, width)."""
        return torch.from_numpy(batch.observation)

    def _with_expert(self, loss: Tensor) -> Tensor:
        """Return the agents' policy losses, shape (N,), unchanged: IPPO has no experts."""
        return loss

    def _after_step(self) -> None:
        """Do nothing: IPPO has no further networks."""

    def state(self) -> dict[str, object]:
        """Return everything that learning continues from."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        restore_network(self.actor, state["actor"])
        restore_network(self.critic, state["critic"])
        restore_optimiser(self.optimiser, state["optimiser"])


def restore_network(network: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Continue from the weights of a network.

    Raises
    ------
    ValueError
        A weight is not finite, or so large that a network cannot have learned it.
    """
    network.load_state_dict(dict(state))
    for name, value in network.state_dict().items():
        if not bool((value.abs() <= LARGEST).all()):
            raise ValueError(f"the weights {name} are not finite, or above {LARGEST:g}")


def restore_optimiser(optimiser: torch.optim.Adam, state: Mapping[str, Any]) -> None:
    """Continue from the state of an optimiser.

    Raises
    ------
    ValueError
        The state is of other settings or other parameters, or not finite.
    """
    own = [{k: v for k, v in group.items() if k not in {"params", "lr"}} for group in optimiser.param_groups]
    optimiser.load_state_dict(dict(state))
    for before, group in zip(own, optimiser.param_groups, strict=True):
        if before != {k: v for k, v in group.items() if k not in {"params", "lr"}}:
            raise ValueError("the optimiser has other settings")
        for parameter in group["params"]:
            for name, value in optimiser.state.get(parameter, {}).items():
                wanted = () if name == "step" else parameter.shape
                if not isinstance(value, Tensor) or value.shape != wanted or not bool(torch.isfinite(value).all()):
                    raise ValueError(f"the optimiser's {name} does not fit, or is not finite")


def build(setup: LearnerSetup, checkpoint: Mapping[str, Any] | None) -> Ippo:
    """Return the learner of a run, at its start or as of a checkpoint."""
    connected = setup.ready.scenario.observation.kind == CONNECTED
    own = setup.settings
    learner = Ippo(setup.agents, setup.m_out, own.ippo, own.seed, setup.layout, connected=connected)
    if checkpoint is not None:
        learner.restore(checkpoint["learner"])
    return learner


def shares(valid: Tensor) -> Tensor:
    """Return weights (N, S) for means over each agent's own decisions; `valid` (N, S) is false where padded."""
    return valid / valid.sum(1, keepdim=True).clamp(min=1)


def normalised(gain: Tensor, share: Tensor) -> Tensor:
    """Return advantages (N, S) with mean 0 and deviation 1 per agent; `share` (N, S) weighs them, 0 where padded."""
    mean = (share * gain).sum(1, keepdim=True)
    deviation = (share * (gain - mean).square()).sum(1, keepdim=True).sqrt()
    return torch.where(share > 0, (gain - mean) / (deviation + 1e-8), 0.0)


def explained(value: Tensor, target: Tensor, valid: Tensor) -> float:
    """Return the share of the targets' variance that the values explain; 0 where there is no variance."""
    got, want = value[valid].double(), target[valid].double()
    spread = float(want.var(unbiased=False)) if want.numel() else 0.0
    return float(np.clip(1.0 - float((want - got).var(unbiased=False)) / spread, -10.0, 1.0)) if spread > 0 else 0.0
