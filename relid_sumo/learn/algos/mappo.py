"""MAPPO: as IPPO, but the value functions see what all agents last saw.

Yu et al. 2022 (arXiv 2103.01955): training is centralised, acting is not. Agents decide at different times here, so the
joint observation at a decision is the deciding agent's own beside everybody's last one (zeros before the first).
"""

from __future__ import annotations

import torch
from torch import Tensor

from relid_sumo.learn.algos.gae import Batch
from relid_sumo.learn.algos.ippo import Ippo, IppoSettings
from relid_sumo.learn.algos.nets import Critic


class Mappo(Ippo):
    """N learners with central critics, stacked; see `Ippo`. Batches are made with ``joint=True``."""

    def __init__(self, agents: int, m_out: int, settings: IppoSettings, seed: int) -> None:
        super().__init__(agents, m_out, settings, seed)
        width = (agents + 1) * (2 * m_out + 2)
        self.critic = Critic(agents, m_out, hidden=settings.hidden, seed=seed, name="central_critic", width=width)
        self._parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.Adam(self._parameters, lr=settings.learning_rate, eps=1e-5)

    def _seen_by_critic(self, batch: Batch) -> Tensor:
        """See `Ippo`."""
        assert batch.joint is not None
        return torch.from_numpy(batch.joint)
