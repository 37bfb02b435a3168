"""Presets: the algorithm, the budget and the final evaluation of a training run that names none of its own.

Each setting that a user gives replaces the preset's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.learn import algorithms


@dataclass(frozen=True)
class Preset:
    """A choice of algorithm and budget.

    Attributes
    ----------
    about : str
        What it is for.
    expert_episodes, other_episodes : int
        Training episodes of an algorithm with experts, and of any other.
    evaluation_seeds : int
        Held-out traffic seeds in which the policy and the baselines are compared after training.
    of_experts : mapping
        Further settings of algorithms with experts.
    """

    about: str
    expert_episodes: int
    other_episodes: int
    evaluation_seeds: int
    of_experts: Mapping[str, Any]


RECOMMENDED, OF_FLEET = "reled", "ippo"  # a fleet has other trips in each traffic seed, and RELED one expert per agent
CURRICULUM = (("meso", 0.8), ("micro", 0.2))
PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        "a first look", 16, 64, 2, {"probes": False, "feedback": False, "score_seeds": 1, "renew_every": 0}
    ),
    "standard": Preset("recommended", 64, 400, 5, {}),
    "paper": Preset("as on the results page", 64, 320, 10, {"renew_every": 0}),
}
STANDARD = "standard"


def find(name: str) -> Preset:
    """Return a preset by name.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in PRESETS:
        raise InputError(f"--preset {name}: there is no such preset{did_you_mean(name, PRESETS)}; known are {listed()}")
    return PRESETS[name]


def listed() -> str:
    """Return the names of the presets with what each is for."""
    return ", ".join(f"{name} ({preset.about})" for name, preset in PRESETS.items())


def filled(name: str, given: Mapping[str, Any], *, fleet: bool = False) -> dict[str, Any]:
    """Return the settings of a training run: a preset's, replaced by those that are given.

    Parameters
    ----------
    name
        The preset.
    given
        Fields of `TrainSettings`. A value of None counts as not given.
    fleet
        Whether the agents are a fleet.

    Raises
    ------
    InputError
        There is no such preset or algorithm.
    """
    preset = find(name)
    chosen = {key: value for key, value in given.items() if value is not None}
    algo = str(chosen.get("algo", OF_FLEET if fleet else RECOMMENDED))
    experts = algorithms.find(algo).experts
    content = {
        "algo": algo,
        "episodes": preset.expert_episodes if experts else preset.other_episodes,
        "curriculum": CURRICULUM,
    }
    return {**content, **(preset.of_experts if experts else {}), **chosen}
