"""The settings of IPPO and HPO; no torch, so that a wrong one is found before torch is loaded."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from relid_sumo.base.settings import Settings

ALPHAS = ("none", "dtw", "dtw+gate", "router", "decay")


class IppoSettings(Settings):
    """Settings of IPPO."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Adam's step size at the start."""
    schedule: Literal["linear", "constant"] = "linear"
    """How the step size goes on: linearly to 0 over the run, or constant."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Weight of later errors in the advantage."""
    clip: Annotated[float, Field(gt=0)] = 0.2
    """How far the probability ratio counts, 1 +- clip."""
    entropy: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the entropy bonus at the start; it falls linearly to 0 over the run."""
    epochs: Annotated[int, Field(ge=1)] = 16
    """Passes over a batch."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    """Largest norm of one agent's gradient."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Width of the hidden layers."""
    scorer: Annotated[int, Field(ge=1)] = 32
    """Width of the slot scorer."""
    octaves: Annotated[int, Field(ge=0, le=10)] = 0
    """Octaves of waves through which the actor sees distances; the finest of k is ``d_max / 2^(k-1)`` long."""


class HpoSettings(IppoSettings):
    """Settings of HPO, beside those of IPPO."""

    octaves: Annotated[int, Field(ge=0, le=10)] = 6
    """See `IppoSettings`: who has an expert to imitate must tell junctions apart; who has none learns slower for it."""
    alpha: str = "dtw+gate"
    """How much an agent follows its expert: ``dtw`` (more the further its way is from the expert's), ``dtw+gate`` (and
    no more than ``alpha_min`` once the expert is worse), ``decay`` (falling linearly to 0), ``router`` (a learnt
    weight), ``fixed:0.5``, ``none``."""
    alpha_max: Annotated[float, Field(ge=0, le=1)] = 0.9
    """The largest alpha, of ``dtw``, ``dtw+gate`` and ``decay``."""
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The least alpha of ``dtw`` and ``dtw+gate``: what holds an agent that is close to its expert where it is."""
    paired: bool = True
    """Whether own advantages know how the demonstration fared in the same traffic (not with alpha ``none``)."""
    gate_s: Annotated[float, Field(gt=0)] = 10.0
    """How soon the gate closes, s of return between agent and expert."""
    expert_loss: Literal["ce", "sil", "ve"] = "ce"
    """Cross-entropy on the expert's actions: plain, weighted by how much better than V^a they came out (``sil``), or by
    exp of their advantage over V^e (``ve``)."""
    imitation_steps: Annotated[int, Field(ge=0)] = 600
    """Gradient steps of imitation before the first episode, at most; 0 for none."""
    imitation_target: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Mean probability of the expert's actions at which imitation ends; and who takes one with this probability or more
    is not drawn to it further: what is left is for trying other ways."""

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
