"""MAPPO: as IPPO, but the value functions get the last observations of all agents.

Yu et al. 2022 (arXiv 2103.01955): training is centralised, acting is not. Agents decide at different times here, so the
joint observation at a decision is the deciding agent's own, followed by the last one of each agent (zeros before the
first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import Batch, make_batch
from relid_sumo.learn.algos.ippo import Ippo
from relid_sumo.learn.algos.nets import Critic
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.learn.learner import LearnerSetup
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.settings import Simulator


class Mappo(Ippo):
    """N learners with central critics, stacked; see `Ippo`. Batches are made with ``joint=True``."""

    def __init__(
        self,
        agents: int,
        m_out: int,
        settings: IppoSettings,
        seed: int,
        layout: Layout = Layout(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(agents, m_out, settings, seed, layout)
        width = (agents + 1) * layout.size(m_out)
        self.critic = Critic(agents, width, hidden=settings.hidden, seed=seed, name="central_critic")
        self._parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.Adam(self._parameters, lr=settings.learning_rate, eps=1e-5)

    def batch(
        self, records: Sequence[EpisodeRecord], simulator: Simulator, progress: float
    ) -> tuple[Batch, dict[str, float]]:
        """See `Learner.batch`: each decision gets the last observations of all agents."""
        del simulator, progress
        return make_batch(records, len(records[0].status), joint=True), {}

    def _seen_by_critic(self, batch: Batch) -> Tensor:
        """See `Ippo`."""
        assert batch.joint is not None
        return torch.from_numpy(batch.joint)


def build(setup: LearnerSetup, checkpoint: Mapping[str, Any] | None) -> Mappo:
    """Return the learner of a run, at its start or as of a checkpoint."""
    learner = Mappo(setup.agents, setup.m_out, setup.settings.ippo, setup.settings.seed, setup.layout)
    if checkpoint is not None:
        learner.restore(checkpoint["learner"])
    return learner
