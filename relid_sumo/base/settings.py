"""The base class of all settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_SEED = 2**63 - 1
MOST_COUNT = 10**9  # episodes, steps and the like: more than anybody runs, and far from any overflow
MOST_FACTOR = 1e9  # weights and limits without a unit
WEEK_S = 604_800
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]


class Settings(BaseModel):
    """Base of all settings. They are frozen; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
