"""The baselines: one table, which everything that names a baseline reads.

Another one is named by its import path, ``--baselines package.module:NAME`` (docs/extend/baseline.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Baseline:
    """What is known of a baseline.

    Attributes
    ----------
    plan : str
        Import path of a function of (prepared scenario, workers) that plans a route for every agent; empty
        where vehicles choose as they drive (`relid_sumo.env.policies`).
    by_default : bool
        Whether a policy is compared with it where nothing else is asked for.
    """

    plan: str = ""
    by_default: bool = False


BASELINES: Mapping[str, Baseline] = {
    "random": Baseline(),
    "shortest": Baseline(by_default=True),
    "reactive": Baseline(by_default=True),
    "rerouting": Baseline(by_default=True),
    "hist": Baseline("relid_sumo.baseline.planners:hist"),
    "turns": Baseline("relid_sumo.baseline.planners:by_turns"),
    "bestroute": Baseline("relid_sumo.baseline.planners:bestroute"),
    "due": Baseline("relid_sumo.baseline.planners:by_equilibrium"),
}
BY_DEFAULT = tuple(name for name, baseline in BASELINES.items() if baseline.by_default)
