"""The networks: one actor and one critic per agent, stacked along a leading agent axis.

N independent networks are one batched matrix product. Nothing is shared between agents: the gradient of the sum of
their losses is each one's own.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from relid_sumo.base import seeding
from relid_sumo.env.choices import VALUE_SCALE_S
from relid_sumo.env.connected import LAYOUT, OWN_S
from relid_sumo.env.policies import SCORER_LAYERS, Weights
from relid_sumo.scenario.kinds import Layout

HIDDEN_GAIN = float(np.sqrt(2.0))
LAST_GAIN = 0.01  # of the actor: close to uniform at first
NEVER = -1e9
FIRST_GAIN = 6.0  # 1/min: the probability of a slot falls by a factor of e for each 10 s that it takes longer


class StackedLinear(nn.Module):
    """N affine maps side by side: (N, B, n_in) to (N, B, n_out).

    Weights start orthogonal, biases at 0; each agent's from a stream of its own, so that adding an agent changes no
    other's start.
    """

    def __init__(self, name: str, seed: int, agents: int, n_in: int, n_out: int, gain: float) -> None:
        super().__init__()
        start = np.empty((agents, n_in, n_out), dtype=np.float32)
        for i in range(agents):
            start[i] = gain * _orthogonal(seeding.stream(seed, "weights", name, i), n_in, n_out)
        self.weight = nn.Parameter(torch.from_numpy(start))
        self.bias = nn.Parameter(torch.zeros(agents, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, B, n_in) to (N, B, n_out)."""
        return torch.baddbmm(self.bias[:, None, :], x, self.weight)


def _orthogonal(rng: np.random.Generator, n_in: int, n_out: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    return q if n_in >= n_out else q.T


class Actor(nn.Module):
    """Logits of N agents: a slot scorer plus a network over the whole observation.

    The scorer sees each slot's values and the vehicle's own (`layout`), and is the same for all slots of an agent:
    what is learnt at one junction serves at every other. The other network sees distances through `octaves` sines and
    cosines too (`with_waves`), which tell one junction from the next. In numpy: `relid_sumo.env.policies.actor_logits`.
    """

    def __init__(
        self,
        agents: int,
        m_out: int,
        *,
        hidden: int,
        scorer: int,
        octaves: int,
        seed: int,
        layout: Layout = Layout(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.octaves, self.layout = octaves, layout
        width, features = layout.size(m_out) + 2 * octaves * (m_out + 1), layout.per_slot + layout.own
        self.slot = nn.ModuleList(
            [
                StackedLinear("actor.slot.0", seed, agents, features, scorer, HIDDEN_GAIN),
                StackedLinear("actor.slot.1", seed, agents, scorer, 1, LAST_GAIN),
            ]
        )
        self.whole = nn.ModuleList(
            [
                StackedLinear("actor.whole.0", seed, agents, width, hidden, HIDDEN_GAIN),
                StackedLinear("actor.whole.1", seed, agents, hidden, m_out, LAST_GAIN),
            ]
        )

    def forward(self, observation: Tensor, mask: Tensor) -> Tensor:
        """Return log-probabilities (N, B, m_out) of observations (N, B, width) under masks (N, B, m_out)."""
        (n, b, m_out), layout = mask.shape, self.layout
        slots = observation[..., : -layout.own].reshape(n, b, m_out, layout.per_slot)
        own = observation[..., None, -layout.own :].expand(n, b, m_out, layout.own)
        features = torch.cat([slots, own], dim=-1).reshape(n, b * m_out, layout.per_slot + layout.own)
        scored = self.slot[1](torch.tanh(self.slot[0](features))).reshape(n, b, m_out)
        whole = self.whole[1](torch.tanh(self.whole[0](with_waves(observation, self.octaves, layout))))
        return torch.log_softmax((scored + whole).masked_fill(~mask, NEVER), dim=-1)

    def weights(self) -> Weights:
        """Return the weights as arrays, for processes without torch."""
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}


class SlotActor(nn.Module):
    """Logits of N agents that observe ``connected``: a slot scorer, residual on the negative time-to-go.

    For any number of slots. In numpy: `relid_sumo.env.policies.slot_logits`, which describes it.
    """

    def __init__(self, agents: int, *, scorer: int, seed: int) -> None:
        super().__init__()
        sizes, gains = [LAYOUT.size(1), scorer, scorer, 1], [HIDDEN_GAIN, HIDDEN_GAIN, 0.0]
        self.scorer = nn.ModuleList(
            StackedLinear(f"actor.scorer.{i}", seed, agents, sizes[i], sizes[i + 1], gains[i])
            for i in range(SCORER_LAYERS)
        )
        self.gain = nn.Parameter(torch.full((agents, 1), FIRST_GAIN))

    def forward(self, observation: Tensor, mask: Tensor) -> Tensor:
        """Return log-probabilities (N, B, m_out) of observations (N, B, width) under masks (N, B, m_out)."""
        n, b, m_out = mask.shape
        x, slots = slot_features(observation, m_out)
        x = x.reshape(n, b * m_out, -1)
        for i, layer in enumerate(self.scorer):
            x = torch.tanh(layer(x)) if i < SCORER_LAYERS - 1 else layer(x)
        logits = x.reshape(n, b, m_out) - self.gain[:, :, None] * slots[..., 0]
        return torch.log_softmax(logits.masked_fill(~mask, NEVER), dim=-1)

    def weights(self) -> Weights:
        """Return the weights as arrays, for processes without torch."""
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}


class SlotCritic(nn.Module):
    """Values of N agents that observe ``connected``: (N, B, width) to (N, B), in units of 100 s, for any slots.

    The reward that is left for the distance minus the time-to-go by present times, plus a network of the vehicle's own
    values and the largest of each hidden value over the slots; that network starts close to 0.
    """

    def __init__(self, agents: int, *, hidden: int, seed: int) -> None:
        super().__init__()
        self.slot = StackedLinear("critic.slot", seed, agents, LAYOUT.size(1), hidden, HIDDEN_GAIN)
        self.layers = nn.ModuleList(
            [
                StackedLinear("critic.pooled.0", seed, agents, hidden + LAYOUT.own, hidden, HIDDEN_GAIN),
                StackedLinear("critic.pooled.1", seed, agents, hidden, 1, LAST_GAIN),
            ]
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Return values, shape (N, B)."""
        n, b = observation.shape[:2]
        m_out = (observation.shape[-1] - LAYOUT.own) // LAYOUT.per_slot
        x, _ = slot_features(observation, m_out)
        own = observation[..., -LAYOUT.own :]
        pooled = torch.tanh(self.slot(x.reshape(n, b * m_out, -1))).reshape(n, b, m_out, -1).amax(dim=2)
        rest = self.layers[1](torch.tanh(self.layers[0](torch.cat([pooled, own], dim=-1)))).squeeze(-1)
        return torch.as_tensor(rest + OWN_S / VALUE_SCALE_S * (own[..., 2] - own[..., 0]))


def slot_features(observation: Tensor, m_out: int) -> tuple[Tensor, Tensor]:
    """Return each slot's values with the vehicle's own, (N, B, m_out, features), and alone, (N, B, m_out, per_slot)."""
    n, b = observation.shape[:2]
    slots = observation[..., : -LAYOUT.own].reshape(n, b, m_out, LAYOUT.per_slot)
    own = observation[..., None, -LAYOUT.own :].expand(n, b, m_out, LAYOUT.own)
    return torch.cat([slots, own], dim=-1), slots


def with_waves(observation: Tensor, octaves: int, layout: Layout) -> Tensor:
    """Return observations (N, B, width) with the distances' waves behind, `2 octaves (m_out + 1)` of them.

    See `relid_sumo.env.policies.waves`.
    """
    if not octaves:
        return observation
    own = observation.shape[-1] - layout.own
    slots = observation[..., layout.per_slot - 1 : own : layout.per_slot]
    distance = torch.cat([slots, observation[..., own, None]], dim=-1)
    phase = (distance[..., None] * (np.pi * 2.0 ** torch.arange(octaves))).flatten(-2)
    return torch.cat([observation, phase.sin(), phase.cos()], dim=-1)


class Critic(nn.Module):
    """Values of N agents: (N, B, width) to (N, B)."""

    def __init__(self, agents: int, width: int, *, hidden: int, seed: int, name: str = "critic") -> None:
        super().__init__()
        sizes = [width, hidden, hidden, 1]
        gains = [HIDDEN_GAIN, HIDDEN_GAIN, 1.0]
        self.layers = nn.ModuleList(
            StackedLinear(f"{name}.{i}", seed, agents, sizes[i], sizes[i + 1], gains[i]) for i in range(3)
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Return values, shape (N, B)."""
        x = torch.tanh(self.layers[0](observation))
        x = torch.tanh(self.layers[1](x))
        return torch.as_tensor(self.layers[2](x)).squeeze(-1)


def clip_each(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale each agent's gradient to a norm of at most `most`; return the norms before, shape (N,)."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
    scale = (most / (norms + 1e-8)).clamp(max=1.0)
    for g in grads:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))
    return norms
