"""The table of the built-in baselines.

Your own is given by its import path, ``--baselines package.module:NAME`` (docs/extend/baseline.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Baseline:
    """Properties of a baseline.

    Attributes
    ----------
    plan : str
        Import path of a function of (prepared scenario, workers) that plans a route for every agent; empty
        where vehicles choose at junctions (`relid_sumo.env.policies`).
    bound : str
        Import path of a function of (prepared scenario, traffic seed) that plans routes with knowledge of that very
        traffic (`relid_sumo.baseline.oracle`); empty for others.
    online : str
        Import path of a planner that vehicles ask while they drive (`relid_sumo.baseline.online`); empty for others.
    by_default : bool
        Whether policies are compared with it by default.
    """

    plan: str = ""
    bound: str = ""
    online: str = ""
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
    "blend": Baseline(online="relid_sumo.baseline.online:Blend"),
    "antic": Baseline(online="relid_sumo.baseline.online:Antic"),
    "ebksp": Baseline(online="relid_sumo.baseline.online:Ebksp"),
    "nrr": Baseline(online="relid_sumo.baseline.online:Nrr"),
    "oracle": Baseline(bound="relid_sumo.baseline.oracle:oracle"),
    "so": Baseline(bound="relid_sumo.baseline.oracle:system_optimum"),
}
BY_DEFAULT = tuple(name for name, baseline in BASELINES.items() if baseline.by_default)
