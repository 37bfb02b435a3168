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
    from relid_sumo.errors import InputError, RelidSumoError, SimulationError
    from relid_sumo.evaluate import load_policy
    from relid_sumo.pettingzoo_env import parallel_env
    from relid_sumo.scenario import Scenario
    from relid_sumo.scenario_files import load_scenario

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "RelidSumoError",
    "Scenario",
    "SimulationError",
    "load_policy",
    "load_scenario",
    "parallel_env",
]

_HOME = {
    "InputError": "errors",
    "RelidSumoError": "errors",
    "Scenario": "scenario",
    "SimulationError": "errors",
    "load_policy": "evaluate",
    "load_scenario": "scenario_files",
    "parallel_env": "pettingzoo_env",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what is asked for
    if name not in _HOME:
        raise AttributeError(f"module 'relid_sumo' has no attribute '{name}'")
    return getattr(importlib.import_module(f"relid_sumo.{_HOME[name]}"), name)
