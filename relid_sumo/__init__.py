"""From an OpenStreetMap extract of any city to vehicles that have learnt to route in SUMO.

>>> import relid_sumo
>>> run = relid_sumo.train("town", "runs/town", episodes=20)  # doctest: +SKIP
>>> result = relid_sumo.evaluate(run, relid_sumo.baselines("hist,shortest"), seeds=5)  # doctest: +SKIP

What `__all__` names is the public API: documented, tested and stable; everything else may change. A name is imported on
first use, so that processes which only drive a simulation never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relid_sumo.api.functions import evaluate, prepare, report, resume, train, verify, view
    from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError
    from relid_sumo.base.extras import require_extra
    from relid_sumo.baseline.named import baselines, planner
    from relid_sumo.env.decisions import AgentDecisions, CollectedEpisode, collect_episode
    from relid_sumo.env.lockstep import lockstep_env
    from relid_sumo.env.observation import Junction, observation
    from relid_sumo.env.pettingzoo import RoutingEnv, parallel_env
    from relid_sumo.env.policies import Policy
    from relid_sumo.env.records import EpisodeRecord
    from relid_sumo.env.reward import Leg
    from relid_sumo.evaluation.evaluate import Evaluation, Result
    from relid_sumo.evaluation.trained import load_policy
    from relid_sumo.evaluation.verify import Verification
    from relid_sumo.learn.algos.gae import Batch
    from relid_sumo.learn.learner import Learner, LearnerSetup
    from relid_sumo.learn.settings import TrainSettings
    from relid_sumo.reports.write import Written
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import PreparedScenario
    from relid_sumo.scenario.settings import Scenario
    from relid_sumo.sed.ask.provider import Answer, Asking, Question

__version__ = "0.1.0"
__all__ = [
    "AgentDecisions",
    "Answer",
    "Asking",
    "Batch",
    "CollectedEpisode",
    "EpisodeRecord",
    "Evaluation",
    "InputError",
    "Junction",
    "Learner",
    "LearnerSetup",
    "Leg",
    "Policy",
    "PreparedScenario",
    "Question",
    "RelidSumoError",
    "Result",
    "RoutingEnv",
    "Scenario",
    "SimulationError",
    "TrainSettings",
    "Verification",
    "Written",
    "baselines",
    "collect_episode",
    "evaluate",
    "load_policy",
    "load_scenario",
    "lockstep_env",
    "observation",
    "parallel_env",
    "planner",
    "prepare",
    "report",
    "require_extra",
    "resume",
    "train",
    "verify",
    "view",
]

_HOME = {
    "AgentDecisions": "env.decisions",
    "Answer": "sed.ask.provider",
    "Asking": "sed.ask.provider",
    "Batch": "learn.algos.gae",
    "CollectedEpisode": "env.decisions",
    "EpisodeRecord": "env.records",
    "Evaluation": "evaluation.evaluate",
    "InputError": "base.errors",
    "Junction": "env.observation",
    "Learner": "learn.learner",
    "LearnerSetup": "learn.learner",
    "Leg": "env.reward",
    "Policy": "env.policies",
    "PreparedScenario": "scenario.prepare",
    "Question": "sed.ask.provider",
    "RelidSumoError": "base.errors",
    "Result": "evaluation.evaluate",
    "RoutingEnv": "env.pettingzoo",
    "Scenario": "scenario.settings",
    "SimulationError": "base.errors",
    "TrainSettings": "learn.settings",
    "Verification": "evaluation.verify",
    "Written": "reports.write",
    "baselines": "baseline.named",
    "collect_episode": "env.decisions",
    "evaluate": "api.functions",
    "load_policy": "evaluation.trained",
    "load_scenario": "scenario.make",
    "lockstep_env": "env.lockstep",
    "observation": "env.observation",
    "parallel_env": "env.pettingzoo",
    "planner": "baseline.named",
    "prepare": "api.functions",
    "report": "api.functions",
    "require_extra": "base.extras",
    "resume": "api.functions",
    "train": "api.functions",
    "verify": "api.functions",
    "view": "api.functions",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what is asked for
    if name not in _HOME:
        raise AttributeError(f"module 'relid_sumo' has no attribute '{name}'")
    return getattr(importlib.import_module(f"relid_sumo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
