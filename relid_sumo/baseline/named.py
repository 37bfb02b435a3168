"""Baselines by name, with their routes planned where they need it."""

from __future__ import annotations

from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.baseline import planners
from relid_sumo.baseline.planners import PLANNERS
from relid_sumo.env.policies import BASELINES, Policy
from relid_sumo.scenario.prepare import PreparedScenario


def plan_baselines(
    policies: dict[str, Policy],
    ready: PreparedScenario,
    workers: int | None = None,
) -> dict[str, Policy]:
    """Return policies with the routes of those that have to be planned for a scenario first."""
    return {
        name: planners.policy(policy.name, ready, workers) if policy.name in PLANNERS else policy
        for name, policy in policies.items()
    }


def baselines(names: str = ",".join(BASELINES)) -> dict[str, Policy]:
    """Return policies that need no learning, by their names with commas between; see `plan_baselines`.

    Raises
    ------
    InputError
        There is none of that name.
    """
    known = ("random", *BASELINES, *PLANNERS)
    chosen: dict[str, Policy] = {}
    for word in filter(None, (part.strip() for part in names.split(","))):
        name = next((k for k in known if k == word), None)
        if name is None:
            raise InputError(f"there is no baseline '{word}'{did_you_mean(word, known)}; known are {', '.join(known)}")
        chosen[name] = Policy(name)
    return chosen
