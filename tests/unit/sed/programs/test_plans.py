"""Plans are checked against the network, and what is wrong is told exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.programs import plans
from relid_sumo.sed.programs.plans import check
from relid_sumo.sim.toy import grid

GOOD = ["0>1", "1>2", "2>5", "5>8"]


@pytest.fixture(scope="module")
def task(toy_task: Callable[..., RoutingTask]) -> RoutingTask:
    return toy_task(grid(3), [("0>1", "5>8"), ("6>7", "5>2"), ("0>3", "7>8")], closed=["4>5"])


def test_a_valid_plan_is_taken_as_edges(task: RoutingTask) -> None:
    routes, problem = check({"a0": GOOD}, task, (0,))
    assert problem == ""
    assert routes is not None
    assert [str(task.graph.edge_ids[edge]) for edge in routes[0]] == GOOD


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (None, "plan returned of type NoneType; it has to return a dict"),
        ([], "plan returned an empty list"),
        ({}, "vehicle 'a0' is missing"),
        ({"a0": GOOD, "a1": []}, "there is no vehicle 'a1' to plan for"),
        ({"a0": GOOD, "a00": []}, "there is no vehicle 'a00' to plan for (did you mean 'a0'?)"),
        ({"a0": []}, "its route is an empty list"),
        ({"a0": "0>1"}, "its route is of type str"),
        ({"a0": [1]}, "edge 0 of its route, 'int', is of type int, not the name of an edge"),
        ({"a0": ["0>1", "x" * 1000]}, "xxx...', is not in the network"),
        ({"a0": ["0>1", "2>5"]}, "edge 1 of its route, '2>5', does not follow on '0>1', from where one can only go to"),
        ({"a0": ["0>1", "1>4", "4>3", "3>0", "0>1"]}, "edge 4 of its route, '0>1', is in it already (edge 0)"),
        ({"a0": ["0>1", "1>4", "4>5"]}, "edge 2 of its route, '4>5', is closed"),
        ({"a0": GOOD[1:]}, "its route starts on '1>2' and not on '0>1'"),
        ({"a0": GOOD[:-1]}, "its route ends on '2>5' and not on '5>8'"),
    ],
)
def test_what_is_wrong_is_told(task: RoutingTask, plan: Any, told: str) -> None:  # noqa: ANN401 - whatever a program gives
    routes, problem = check(plan, task, (0,))
    assert routes is None
    assert told in problem


def test_every_vehicle_is_told_once_and_the_list_is_bounded(task: RoutingTask) -> None:
    _, problem = check({"a0": [], "a1": ["x"], **{f"z{i}": [] for i in range(20)}}, task, (0, 1, 2))
    lines = problem.splitlines()
    assert lines[0] == "vehicle 'a2' is missing"
    assert lines[-1] == "and 17 more faults"
    assert len(lines) == 7


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(GOOD),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a0", "a1", "b"]), inner, max_size=3),
    max_leaves=20,
)


@given(plan=json_values)
def test_nothing_that_json_can_hold_breaks_the_check(plan: object) -> None:
    routes, problem = check(plan, TASK, (0,))
    assert (routes is None) == bool(problem)


@given(data=st.data())
def test_a_walk_on_the_network_is_valid_exactly_where_it_should_be(data: st.DataObject) -> None:
    """Random walks: valid where they reach the destination without an edge twice, and never otherwise."""
    graph, route = TASK.graph, [int(TASK.origin[0])]
    for _ in range(data.draw(st.integers(0, 8))):
        ways = [int(way) for way in graph.slots[route[-1]] if way >= 0]
        route.append(data.draw(st.sampled_from(ways)))
    valid = route[-1] == TASK.destination[0] and len(set(route)) == len(route)
    routes, _ = check({"a0": [str(graph.edge_ids[edge]) for edge in route]}, TASK, (0,))
    assert (routes == {0: tuple(route)}) if valid else (routes is None)


def _fixed_task() -> RoutingTask:
    from relid_sumo.scenario.settings import Demand, Place, Scenario, Trip  # noqa: PLC0415 - for this alone
    from relid_sumo.scenario.task import make_task  # noqa: PLC0415

    nowhere = Place(lon=0, lat=0, bearing=0)
    trip = Trip(id="a0", origin=nowhere, destination=nowhere, depart_s=0)
    scenario = Scenario(name="toy", network="toy", demand=Demand(warmup_s=0, rate_vph=0), trips=(trip,))
    graph = grid(3)
    return make_task(scenario, graph, [(graph.index["0>1"], graph.index["5>8"])], np.array([]))


TASK = _fixed_task()


def test_any_number_of_vehicles_is_checked_without_looking_each_up(
    task: RoutingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = list[str]()

    def look_up(name: str, _: object) -> str:
        looked_up.append(name)
        return ""

    monkeypatch.setattr(plans, "did_you_mean", look_up)
    _, problem = check({f"{'v' * 200}{i}": [] for i in range(60_000)}, task, (0, 1, 2))
    assert problem.splitlines()[-1] == "and 59997 more faults"
    assert len(looked_up) <= plans.MOST_FAULTS
    assert max(map(len, looked_up)) <= plans.SHOWN


def test_names_are_shown_without_control_characters(task: RoutingTask) -> None:
    _, problem = check({"\x1b[31m\u202e\ud800": [], "a0": ["\x00\x9b"], "a1": [], "a2": []}, task, (0, 1, 2))
    assert "'\\x1b[31m\\u202e\\ud800'" in problem
    assert problem.replace("\n", "").isprintable()
