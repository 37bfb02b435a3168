"""HPO, hybrid expert-agent policy optimisation: every agent learns from its own decisions and from its expert's.

arXiv 2511.19368 has two value functions and a weight from dynamic time warping between an agent's route and its
expert's. Its public summary leaves the formulas open; those here are this project's choice. One update, in order:

1. own decisions are stacked, and advantages estimated from V^a, as in IPPO (`relid_sumo.learn.algos.ippo`);
2. alpha_i of each agent is computed from its episodes (see `alphas`);
3. `epochs` passes: ``(1 - alpha_i) (L^a - c entropy) + alpha_i L^e + (L_Va + L_Ve) / 2``. L^a is PPO's clipped loss,
   L^e the expert loss, L_Va and L_Ve squared errors of V^a on own returns and of V^e on the expert's. No value loss is
   scaled by alpha, and each value function learns its own returns alone.

With ``alpha = "none"`` this is IPPO, bit for bit. Before the first update `imitate` brings the actor to its expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relid_sumo.base.arrays import Floats
from relid_sumo.learn.algos.gae import Batch
from relid_sumo.learn.algos.ippo import RETURN_SCALE, Ippo, restore_network, restore_optimiser, shares
from relid_sumo.learn.algos.nets import Critic, clip_each
from relid_sumo.learn.algos.settings import HpoSettings
from relid_sumo.scenario.kinds import Layout

MOST_WEIGHT = 20.0  # of `ve`, whose exp is of advantages over 100 s


@dataclass(frozen=True, eq=False)
class Expert:
    """Decisions of all agents' experts; N agents.

    Attributes
    ----------
    batch : Batch
        Their decisions; `Batch.action` is the action to imitate.
    returns : array, shape (N, S)
        Return from each decision to the end, s.
    valued : array of bool, shape (N, S)
        Decisions of undisturbed demonstrations: V^e learns only from these.
    """

    batch: Batch
    returns: Floats
    valued: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class RouteGap:
    """Distance and lead of each agent's expert, from which alpha is computed; arrays of shape (N,).

    Attributes
    ----------
    distance : array
        Mean DTW distance between the episodes of a batch and the demonstration, m.
    scale : array
        A third of the untrained policy's distance, m.
    lead : array
        Mean return of the demonstration minus that of the agent, in the same traffic, s.
    """

    distance: Floats
    scale: Floats
    lead: Floats


def alphas(settings: HpoSettings, gap: RouteGap | None, agents: int, progress: float) -> Floats:
    """Return alpha of each agent, shape (N,).

    ``dtw``: from ``alpha_min`` towards ``alpha_max`` by ``1 - exp(-d / s)`` with d the DTW distance and s the scale;
    ``dtw+gate``: by that times ``sigmoid(lead / gate_s)``, so that alpha falls to ``alpha_min`` for an agent that does
    better than its expert.
    """
    kind, _, number = settings.alpha.partition(":")
    if kind == "fixed":
        return np.full(agents, float(number))
    if kind == "decay":
        return np.full(agents, settings.alpha_max * (1.0 - progress))
    if kind in {"none", "router"} or gap is None:
        return np.zeros(agents)
    share = 1.0 - np.exp(-gap.distance / np.maximum(gap.scale, 1.0))
    if kind == "dtw+gate":
        share = share / (1.0 + np.exp(-np.clip(gap.lead / settings.gate_s, -50.0, 50.0)))
    return np.asarray(settings.alpha_min + (settings.alpha_max - settings.alpha_min) * share)


class Hpo(Ippo):
    """N learners with one expert each, stacked; see the module's docstring and `Ippo`."""

    settings: HpoSettings

    def __init__(
        self,
        agents: int,
        m_out: int,
        settings: HpoSettings,
        seed: int,
        layout: Layout = Layout(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(agents, m_out, settings, seed, layout)
        width = layout.size(m_out)
        self.expert_critic = Critic(agents, width, hidden=settings.hidden, seed=seed, name="expert_critic")
        self.gate = torch.zeros(agents, requires_grad=settings.alpha == "router")
        self._expert_parameters = [*self.expert_critic.parameters()]
        own = [*self._expert_parameters, *([self.gate] if self.gate.requires_grad else [])]
        self.expert_optimiser = torch.optim.Adam(own, lr=settings.learning_rate, eps=1e-5)
        self.expert = None
        self._numbers: dict[str, float] = {}
        self._alpha = torch.zeros(agents)

    @property
    def expert(self) -> Expert | None:
        """Decisions of the agents' experts; None before there are any."""
        return self._expert

    @expert.setter
    def expert(self, expert: Expert | None) -> None:
        self._expert, self._seen = expert, None if expert is None else _Seen(expert)

    def imitate(self, agents: Sequence[int] | None = None) -> dict[str, float]:
        """Fit the actors to their experts' actions, and both value functions to the experts' returns.

        Parameters
        ----------
        agents
            Agents that imitate; all where not given.

        Returns
        -------
        dict
            ``steps``, and ``imitated``: the mean probability of these experts' actions at the end.
        """
        assert self._seen is not None
        seen, chosen = self._seen, torch.zeros(len(self._alpha))
        chosen[slice(None) if agents is None else list(agents)] = 1.0
        chosen *= seen.any  # an agent without decisions has nothing to learn
        everything = [*self._parameters, *self._expert_parameters]
        optimiser = torch.optim.Adam(everything, lr=self.settings.learning_rate, eps=1e-5)
        reached, steps = 0.0, 0
        for steps in range(self.settings.imitation_steps + 1):
            log_p = self.actor(seen.observation, seen.mask).gather(-1, seen.action)[..., 0]
            imitated = (seen.share * log_p.detach().exp()).sum(1)
            reached = float((imitated * chosen).sum() / chosen.sum()) if chosen.any() else 1.0
            if reached >= self.settings.imitation_target or steps == self.settings.imitation_steps:
                break
            values = sum(
                (seen.valued * (critic(seen.observation) - seen.returns).square()).sum(1)
                for critic in (self.critic, self.expert_critic)
            )
            optimiser.zero_grad()
            ((values - (seen.share * log_p).sum(1)) * chosen).sum().backward()
            clip_each(everything, self.settings.max_grad_norm)
            optimiser.step()
        optimiser.zero_grad()  # otherwise the next step of the expert critic would add to these gradients
        return {"steps": steps, "imitated": reached}

    def follow(self, gap: RouteGap | None, progress: float) -> Floats:
        """Compute alpha for the next update, and return it, shape (N,)."""
        alpha = alphas(self.settings, gap, len(self._alpha), progress)
        if self.settings.alpha == "router" and self.expert is not None:
            alpha = torch.sigmoid(self.gate).detach().numpy().astype(np.float64)
        self._alpha = torch.from_numpy(alpha.astype(np.float32))
        return alpha

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from one batch, with the alpha of `follow`.

        In addition to IPPO's numbers: ``alpha``, ``expert_loss``, ``expert_value_loss`` and ``imitated``, the mean
        probability of the expert's actions; the last two are of the last pass.
        """
        self._numbers = {}
        for group in self.expert_optimiser.param_groups:
            group["lr"] = self._rate(progress)
        return super().update(batch, progress) | {"alpha": float(self._alpha.mean())} | self._numbers

    def _with_expert(self, loss: Tensor) -> Tensor:
        """Return the agents' losses, blended with the expert losses, shape (N,)."""
        seen = self._seen
        if seen is None or self.settings.alpha == "none":
            return loss
        alpha = torch.sigmoid(self.gate) if self.gate.requires_grad else self._alpha
        log_p = self.actor(seen.observation, seen.mask).gather(-1, seen.action)[..., 0]
        missing = (np.log(self.settings.imitation_target) - log_p).clamp(min=0.0)
        expert_loss: Tensor = (seen.share * self._weight(seen) * missing).sum(1)
        self._numbers["expert_loss"] = float(expert_loss.detach().mean())
        self._numbers["imitated"] = float((seen.share * log_p.detach().exp()).sum(1)[seen.any].mean())
        blended: Tensor = (1 - alpha) * loss + alpha * expert_loss
        return blended

    def _weight(self, seen: _Seen) -> Tensor:
        """Return the weight of each of the expert's actions in the expert loss, shape (N, S).

        Where the expert only gave advice, its return is unknown: the weight is 0 with ``sil`` and 1 with ``ve``.
        """
        if self.settings.expert_loss == "ce":
            return torch.ones_like(seen.returns)
        critic = self.critic if self.settings.expert_loss == "sil" else self.expert_critic
        with torch.no_grad():
            gain: Tensor = seen.returns - critic(seen.observation)
        done = seen.valued > 0
        if self.settings.expert_loss == "sil":
            return gain.clamp(min=0.0) * done
        return torch.where(done, gain.exp().clamp(max=MOST_WEIGHT), torch.ones_like(gain))

    def _after_step(self) -> None:
        """Take a gradient step of the expert critic and of the router."""
        seen = self._seen
        if seen is None or self.settings.alpha == "none":
            return
        value_loss = (seen.valued * (self.expert_critic(seen.observation) - seen.returns).square()).sum(1)
        (0.5 * value_loss).sum().backward()
        clip_each(self._expert_parameters, self.settings.max_grad_norm)
        self.expert_optimiser.step()  # the gate's gradient is that of the blended losses
        self.expert_optimiser.zero_grad()
        self._numbers["expert_value_loss"] = float(value_loss.detach().mean())

    def state(self) -> dict[str, object]:
        """See `Ippo.state`."""
        return {
            **super().state(),
            "expert_critic": self.expert_critic.state_dict(),
            "expert_optimiser": self.expert_optimiser.state_dict(),
            "gate": self.gate.detach(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Ippo.restore`."""
        super().restore(state)
        restore_network(self.expert_critic, state["expert_critic"])
        restore_optimiser(self.expert_optimiser, state["expert_optimiser"])
        with torch.no_grad():
            self.gate.copy_(torch.as_tensor(state["gate"]))


class _Seen:
    """An expert's decisions as tensors; `share` weighs each agent's decisions to a sum of 1."""

    def __init__(self, expert: Expert) -> None:
        batch = expert.batch
        self.observation, self.mask = torch.from_numpy(batch.observation), torch.from_numpy(batch.mask)
        self.action = torch.from_numpy(batch.action)[..., None]
        self.returns = torch.from_numpy((expert.returns / RETURN_SCALE).astype(np.float32))
        self.share, self.valued = (shares(torch.from_numpy(valid)) for valid in (batch.valid, expert.valued))
        self.any = torch.from_numpy(batch.valid.any(axis=1))
