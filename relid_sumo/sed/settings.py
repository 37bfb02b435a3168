"""The settings of SED, in one place; ``--set sed.KEY=VALUE`` on the command line."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relid_sumo.base.settings import Settings
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed.ask.prompt import PromptSettings
from relid_sumo.sed.ask.provider import LlmSettings
from relid_sumo.sed.partition import PartitionSettings
from relid_sumo.sed.programs.sandbox import SandboxSettings


class SedSettings(Settings):
    """Settings of SED."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """Rounds: the first writes programs, each later one refines them."""
    samples: Annotated[int, Field(ge=1)] = 2
    """Programs of a subset in each round."""
    patience: Annotated[int, Field(ge=1)] = 2
    """A subset stops after so many rounds in a row without a better plan."""
    seeds: Annotated[int, Field(ge=1)] = 8
    """Training traffic seeds that each plan is driven in; below 8, F_out is little more than chance."""
    held_out: Annotated[int, Field(ge=1)] = 10
    """Evaluation traffic seeds that the held plans are compared on at the end, microscopically."""
    simulator: Simulator = "meso"
    """What plans are driven in while they are refined."""
    weight_out: Annotated[float, Field(ge=0)] = 0.2
    """Weight of F_out in the score."""
    weight_in: Annotated[float, Field(ge=0)] = 0.2
    """Weight of D_in in the score."""
    partition: PartitionSettings = PartitionSettings()
    """Who plans together."""
    prompt: PromptSettings = PromptSettings()
    """What is asked."""
    llm: LlmSettings = LlmSettings()
    """Who is asked, with --llm openai."""
    sandbox: SandboxSettings = SandboxSettings()
    """What programs may use."""
