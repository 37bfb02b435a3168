"""The settings of SED, in one place; ``--set sed.KEY=VALUE`` on the command line."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relid_sumo.base.settings import Settings
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed.ask.prompt import PromptSettings
from relid_sumo.sed.partition import PartitionSettings
from relid_sumo.sed.programs.sandbox import SandboxSettings


class SedSettings(Settings):
    """Settings of SED."""

    rounds: Annotated[int, Field(ge=1, le=10**6)] = 3
    """Number of rounds: the first writes programs, each later one refines them."""
    samples: Annotated[int, Field(ge=1, le=10**6)] = 2
    """Programs that are written for a subset in each round."""
    patience: Annotated[int, Field(ge=1, le=10**6)] = 2
    """Number of consecutive rounds without a better plan after which a subset stops."""
    seeds: Annotated[int, Field(ge=1, le=10**6)] = 8
    """Number of training traffic seeds in which each plan is driven; with fewer than 8, F_out is mostly noise."""
    held_out: Annotated[int, Field(ge=1, le=10**6)] = 10
    """Number of evaluation traffic seeds on which the best plans are compared at the end, microscopically."""
    simulator: Simulator = "meso"
    """Simulator in which plans are driven while they are refined."""
    weight_out: Annotated[float, Field(ge=0, le=1e6)] = 0.2
    """Weight of F_out in the score."""
    weight_in: Annotated[float, Field(ge=0, le=1e6)] = 0.2
    """Weight of D_in in the score."""
    partition: PartitionSettings = PartitionSettings()
    """How agents are grouped."""
    prompt: PromptSettings = PromptSettings()
    """How prompts are written."""
    sandbox: SandboxSettings = SandboxSettings()
    """Limits of programs."""
