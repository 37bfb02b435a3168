"""An algorithm: REINFORCE (Williams 1992), each agent on its own returns to go.

relid-sumo train town --algo examples/algorithm.py:Reinforce --episodes 40 --set train.options.learning_rate=0.02
relid-sumo evaluate runs/town-Reinforce-0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from relid_sumo import Batch, Learner, LearnerSetup
from relid_sumo.learn.algos.nets import Actor


class Reinforce(Learner):
    """Policy gradient without a critic: returns to go, normalised for each agent."""

    class Settings(BaseModel):
        """Set by ``--set train.options.KEY=VALUE``; saved in settings.json."""

        learning_rate: float = 0.01

    def __init__(self, setup: LearnerSetup, checkpoint: Mapping[str, Any] | None) -> None:
        sizes = {"hidden": 64, "scorer": 32, "octaves": 0}
        self.actor = Actor(setup.agents, setup.m_out, **sizes, seed=setup.seed, layout=setup.layout)
        self.optimiser = torch.optim.Adam(self.actor.parameters(), lr=setup.settings.options["learning_rate"])
        if checkpoint is not None:  # the run is resumed
            self.actor.load_state_dict(checkpoint["learner"]["actor"])
            self.optimiser.load_state_dict(checkpoint["learner"]["optimiser"])

    def weights(self) -> Mapping[str, Any]:
        """Return what the simulation processes act by."""
        return self.actor.weights()

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take one gradient step; arrays have the shape (agents, decisions)."""
        returns = batch.reward.copy()
        for k in reversed(range(returns.shape[1] - 1)):
            returns[:, k] += np.where(batch.last[:, k], 0.0, returns[:, k + 1])
        valid = torch.from_numpy(batch.valid)
        count, returned = valid.sum(1, keepdim=True).clamp(min=1), torch.from_numpy(returns)
        gain = returned - (returned * valid).sum(1, keepdim=True) / count
        gain = gain / ((gain.square() * valid).sum(1, keepdim=True) / count).sqrt().clamp(min=1e-8)
        log_p = self.actor(torch.from_numpy(batch.observation), torch.from_numpy(batch.mask))
        chosen = log_p.gather(-1, torch.from_numpy(batch.action)[..., None])[..., 0]
        loss = -(chosen * gain * valid / count).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"policy_loss": float(loss.detach())}

    def state(self) -> dict[str, object]:
        """Return all that learning continues from; evaluation reads ``actor``."""
        return {"actor": self.actor.state_dict(), "optimiser": self.optimiser.state_dict()}
