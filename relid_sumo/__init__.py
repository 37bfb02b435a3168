"""From an OpenStreetMap extract of any city to vehicles that have learnt to route in SUMO.

>>> import relid_sumo
>>> scenario = relid_sumo.load_scenario("town")
>>> env = relid_sumo.parallel_env(scenario)

What is exported here is imported on first use, so that processes which only drive a simulation never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError
    from relid_sumo.base.extras import require_extra
    from relid_sumo.env.decisions import AgentDecisions, CollectedEpisode, collect_episode
    from relid_sumo.env.lockstep import lockstep_env
    from relid_sumo.env.pettingzoo import parallel_env
    from relid_sumo.evaluation.trained import load_policy
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.settings import Scenario

__version__ = "0.1.0"
__all__ = [
    "AgentDecisions",
    "CollectedEpisode",
    "InputError",
    "RelidSumoError",
    "Scenario",
    "SimulationError",
    "collect_episode",
    "load_policy",
    "load_scenario",
    "lockstep_env",
    "parallel_env",
    "require_extra",
]

_HOME = {
    "AgentDecisions": "env.decisions",
    "CollectedEpisode": "env.decisions",
    "InputError": "base.errors",
    "RelidSumoError": "base.errors",
    "Scenario": "scenario.settings",
    "SimulationError": "base.errors",
    "collect_episode": "env.decisions",
    "load_policy": "evaluation.trained",
    "load_scenario": "scenario.make",
    "lockstep_env": "env.lockstep",
    "parallel_env": "env.pettingzoo",
    "require_extra": "base.extras",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what is asked for
    if name not in _HOME:
        raise AttributeError(f"module 'relid_sumo' has no attribute '{name}'")
    return getattr(importlib.import_module(f"relid_sumo.{_HOME[name]}"), name)
