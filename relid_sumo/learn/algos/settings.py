"""The settings of IPPO and HPO; without torch, so that a wrong value is reported before torch is loaded."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from relid_sumo.base.settings import MOST_COUNT, MOST_FACTOR, Settings

ALPHAS = ("none", "dtw", "dtw+gate", "router", "decay")


class IppoSettings(Settings):
    """Settings of IPPO."""

    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-2
    """Adam's step size at the start."""
    schedule: Literal["linear", "constant"] = "linear"
    """Schedule of the step size: linear to 0 over the run, or constant."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Weight of later temporal-difference errors in the advantage."""
    clip: Annotated[float, Field(gt=0, le=MOST_FACTOR)] = 0.2
    """Clipping range of the probability ratio, 1 +- clip."""
    entropy: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    """Weight of the entropy bonus at the start; it falls linearly to 0 over the run."""
    epochs: Annotated[int, Field(ge=1, le=10**6)] = 16
    """Passes over a batch."""
    max_grad_norm: Annotated[float, Field(gt=0, le=MOST_FACTOR)] = 0.5
    """Largest norm of one agent's gradient."""
    hidden: Annotated[int, Field(ge=1, le=8192)] = 64
    """Width of the hidden layers."""
    scorer: Annotated[int, Field(ge=1, le=8192)] = 32
    """Width of the slot scorer."""
    octaves: Annotated[int, Field(ge=0, le=10)] = 0
    """Octaves of sines and cosines of distances that the actor also sees; the finest of k has the period
    ``d_max / 2^(k-1)``; 0 for none."""


class HpoSettings(IppoSettings):
    """Settings of HPO, in addition to those of IPPO."""

    octaves: Annotated[int, Field(ge=0, le=10)] = 6
    """See `IppoSettings`. An agent that imitates an expert must tell junctions apart; without an expert it learns more
    slowly with octaves."""
    alpha: str = "dtw+gate"
    """Weight of the expert loss: ``dtw`` (larger the further the agent's route is from the expert's), ``dtw+gate`` (and
    down to ``alpha_min`` once the expert is worse), ``decay`` (linear to 0), ``router`` (a learned weight),
    ``fixed:0.5``, ``none``."""
    alpha_max: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Largest alpha of ``dtw``, ``dtw+gate`` and ``decay``."""
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Smallest alpha of ``dtw`` and ``dtw+gate``: it keeps an agent close to its expert once it is there."""
    paired: bool = True
    """Whether advantages use the demonstration's return in the same traffic as a baseline (not with alpha ``none``)."""
    gate_s: Annotated[float, Field(gt=0, le=MOST_FACTOR)] = 10.0
    """Scale of the gate: difference in return between agent and expert, s."""
    expert_loss: Literal["ce", "sil", "ve"] = "ce"
    """Cross-entropy on the expert's actions: plain (``ce``), weighted by the positive part of their return minus V^a
    (``sil``), or by the exponential of their advantage over V^e (``ve``)."""
    imitation_steps: Annotated[int, Field(ge=0, le=MOST_COUNT)] = 600
    """Largest number of gradient steps of imitation before the first episode; 0 for none."""
    imitation_target: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Mean probability of the expert's actions at which imitation ends. The expert loss of an action is 0 at this
    probability or above, so that the rest remains for exploration."""

    @field_validator("alpha")
    @classmethod
    def _known(cls, alpha: str) -> str:
        kind, _, number = alpha.partition(":")
        if kind == "fixed":
            try:
                if 0.0 <= float(number) <= 1.0:
                    return alpha
            except ValueError:
                pass
            raise ValueError("give a number from 0 to 1, as in fixed:0.5")
        if alpha not in ALPHAS:
            raise ValueError(f"known are {', '.join(ALPHAS)} and fixed:0.5")
        return alpha

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.alpha.startswith("dtw") and self.alpha_min > self.alpha_max:
            raise ValueError("alpha_min must not be above alpha_max")
        return self
