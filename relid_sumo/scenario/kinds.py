"""Observations and rewards by name or by import path.

`relid_sumo.env.observation` and `relid_sumo.env.reward` define the built-in kinds, and document how to write another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.scenario.settings import CONNECTED, OBSERVATION, REWARD, Scenario

OBSERVATIONS = {OBSERVATION: "relid_sumo.env.observation:roads", CONNECTED: "relid_sumo.env.connected:connected"}
REWARDS = {REWARD: "relid_sumo.env.reward:progress"}


@dataclass(frozen=True)
class Layout:
    """Widths of an observation: `per_slot` values of each slot, slot by slot, then `own` values of the vehicle."""

    per_slot: int = 2
    own: int = 2

    def size(self, m_out: int) -> int:
        """Return the width of an observation at junctions with up to `m_out` slots."""
        return m_out * self.per_slot + self.own


def observation(kind: str) -> Callable[..., Any]:
    """Return the function that computes observations.

    Raises
    ------
    InputError
        No observation has that name, or it declares no layout.
    """
    found = _find(kind, OBSERVATIONS, "observation")
    if not isinstance(getattr(found, "layout", None), Layout):
        raise InputError(
            f"observation '{kind}': it declares no width; decorate the function with "
            "@relid_sumo.observation(per_slot=..., own=...)"
        )
    return found


def layout(scenario: Scenario) -> Layout:
    """Return the layout of a scenario's observations."""
    declared: Layout = observation(scenario.observation.kind).layout  # type: ignore[attr-defined]
    return declared


def reward(kind: str) -> Callable[..., Any]:
    """Return the function that computes rewards.

    Raises
    ------
    InputError
        No reward has that name.
    """
    return _find(kind, REWARDS, "reward")


def sources(scenario: Scenario, *unseen: str) -> dict[str, str]:
    """Return the SHA-256 of the source of each part of a scenario that is not built in, by its import path.

    `unseen` names parts to leave out.
    """
    kinds = {"observation": scenario.observation.kind, "reward": scenario.reward.kind}
    return {
        kind: extension.source_hash(kind, what)
        for what, kind in kinds.items()
        if extension.is_path(kind) and what not in unseen
    }


def located(scenario: Scenario, folder: Path | None = None) -> Scenario:
    """Return a scenario in which files in import paths are absolute."""
    changes: dict[str, Any] = {}
    for what in ("observation", "reward"):
        part = getattr(scenario, what)
        kind = extension.located(part.kind, folder)
        if kind != part.kind:
            changes[what] = part.model_copy(update={"kind": kind})
    return scenario.model_copy(update=changes) if changes else scenario


def _find(kind: str, built_in: dict[str, str], what: str) -> Callable[..., Any]:
    if not extension.is_path(kind) and kind not in built_in:
        raise InputError(
            f"there is no {what} '{kind}'{did_you_mean(kind, built_in)}; known are {', '.join(built_in)}, and your own "
            f"as {extension.FORM}"
        )
    found = extension.load(built_in.get(kind, kind), what)
    if not callable(found):
        raise InputError(f"{what} '{kind}': it is a {type(found).__name__}, not a function; name a function")
    return found  # type: ignore[no-any-return]
