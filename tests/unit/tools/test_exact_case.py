"""IPPO and MAPPO reach the optimum of a game that `tools/exact_case.py` solves exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from exact_case import ALGORITHMS, Case, Solution, case, optimum, trained

from relid_sumo.env.policies import Policy
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.scenario.routes import alternatives


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def game() -> Case:
    return case(2)


@pytest.fixture(scope="module")
def solution(game: Case) -> Solution:
    return optimum(game)


def test_no_joint_plan_is_better_than_the_optimum(game: Case, solution: Solution) -> None:
    task = game.task
    assert solution.mean_return > solution.shortest + 20
    assert solution.is_equilibrium
    options = [
        [tuple(route) for route in alternatives(task.graph, int(o), int(d), 8)]
        for o, d in zip(task.origin, task.destination, strict=True)
    ]
    plans = [dict(enumerate(plan)) for plan in itertools.product(*options)]
    returns = [float(game.drive(Policy("fixed", routes=plan)).returns.mean()) for plan in plans]
    assert len(plans) > solution.plans, "the bound spares most plans"
    assert max(returns) <= solution.mean_return + 1e-9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_reaches_the_optimum(game: Case, solution: Solution, algorithm: str) -> None:
    curve, greedy = trained(game, algorithm, IppoSettings(entropy=0.05, epochs=8), 0, updates=60, episodes=8)
    assert greedy == pytest.approx(solution.mean_return)
    assert np.mean(curve[:5]) < solution.shortest, "it starts from random choices"
