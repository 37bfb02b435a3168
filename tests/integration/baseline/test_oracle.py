"""Bounds in SUMO: never slower in that very traffic than the plan they start from; turn times of a drive by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.baseline import oracle
from relid_sumo.baseline.named import baselines, plan_baselines
from relid_sumo.evaluation import evaluate as evaluation
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.traffic.history import History
from relid_sumo.sim.toy import two_routes

TOP, BOTTOM = 3, 4


@pytest.mark.sumo
def test_an_oracle_is_never_slower_than_the_plan_it_starts_from(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "STEPS", 2)
    table = evaluation.episodes(town_ready, baselines("turns,oracle"), [200], workers=2)
    spent = {name: records[0].travel_time.mean() for name, records in table.items()}
    assert spent["oracle"] <= spent["turns"]
    assert table["oracle"][0].arrival_rate == 1.0
    (planned,) = plan_baselines(baselines("oracle"), town_ready, traffic_seed=200).values()
    assert {agent: list(route) for agent, route in planned.routes.items()} == {
        agent: route.tolist() for agent, route in enumerate(table["oracle"][0].routes)
    }, "the agents drive the plan"


def test_a_bound_needs_a_traffic_seed(town_ready: PreparedScenario) -> None:
    with pytest.raises(InputError, match="plans for the traffic of one seed"):
        plan_baselines(baselines("so"), town_ready)


def test_a_day_has_its_own_turn_times(free_history: Callable[..., History]) -> None:
    """Five vehicles take 130 s each on the top road (free: 30 s): with five of `DOUBT` at 130 s, the mean is 130 s."""
    known = free_history(two_routes()).times
    seconds, vehicles = np.zeros((2, *known.seconds.shape))
    seconds[0, TOP, 0], vehicles[0, TOP, 0] = 650.0, 5.0
    day = oracle.day_times(known, seconds, vehicles)
    assert day.seconds[0, TOP, 0] == pytest.approx(130.0)
    assert day.seconds[1, TOP, 0] == pytest.approx(30.0), "the next five minutes are ordinary"
    assert day.seconds[0, BOTTOM, 0] == pytest.approx(48.0)


def test_a_marginal_cost_counts_the_delay_twice(free_history: Callable[..., History]) -> None:
    """120 s on the top road, 90 s above free flow: the weight is 1 + 90 / 120."""
    known = free_history(two_routes(), {TOP: 120.0}).times
    weight = oracle.marginal_weight(known)
    assert weight[TOP] == pytest.approx(1.75)
    assert weight[BOTTOM] == pytest.approx(1.0)
