"""The reward of a leg, and rewards of the user's own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.env.reward import Leg, progress, rewarder
from relid_sumo.scenario.settings import Reward
from relid_sumo.scenario.task import RoutingTask

OWN = """
from relid_sumo import InputError

def minus_time(leg):
    return leg.begin_s - leg.end_s

def refuses(leg):
    raise InputError("this leg is refused")

def fails(leg):
    return leg.no_such_attribute

def infinite(leg):
    return float("inf")
"""


@pytest.fixture
def leg(crossing: RoutingTask) -> Leg:
    return Leg(
        task=crossing,
        bridge=None,  # type: ignore[arg-type] # these rewards do not read the simulation
        agent=0,
        edges=(),
        begin_s=10.0,
        end_s=40.0,
        begin_to_go_m=500.0,
        end_to_go_m=300.0,
        status=None,
    )


def of_kind(leg: Leg, kind: str) -> Leg:
    scenario = leg.task.scenario.model_copy(update={"reward": Reward(kind=kind, w_d=0.5)})
    return replace(leg, task=replace(leg.task, scenario=scenario))


def test_the_reward_is_minus_the_time_plus_the_weighted_gain_of_distance(leg: Leg) -> None:
    leg = of_kind(leg, "progress")
    assert progress(leg) == -30.0 + 0.5 * 200.0
    assert rewarder(leg.task) is progress


def test_an_own_reward_is_checked(leg: Leg, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    for name, message in {
        "refuses": "^this leg is refused$",
        "fails": r"reward '.*own.py:fails'.*no_such_attribute",
        "infinite": r"reward '.*own.py:infinite': at 40 s it returns inf, which is not finite",
    }.items():
        own = of_kind(leg, f"{file}:{name}")
        with pytest.raises(InputError, match=message):
            rewarder(own.task)(own)
    own = of_kind(leg, f"{file}:minus_time")
    assert rewarder(own.task)(own) == -30.0
