"""LEED's demonstrations: the prompt for an agent's sequence, and what its answer becomes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed import sequences
from relid_sumo.sed.sequences import Fastest, question, route_of, sequence_in


def names(task: RoutingTask, route: list[int]) -> list[str]:
    return [str(task.graph.edge_ids[edge]) for edge in route]


def test_a_prompt_shows_the_trip_and_edges_around_it_with_a_way_through(
    crossing: RoutingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "MOST_CHARACTERS", 2600)
    asked = question(crossing, 0)
    assert len(asked.prompt) <= 2600
    assert asked.prompt.count("0>1") > 1
    assert "to `21>20`" in asked.prompt, "the other vehicles' trips"
    shown = set(asked.facts["edges"])
    assert len(shown) < crossing.graph.n_edges, "what does not fit is left out"
    assert set(crossing.route(0, int(crossing.origin[0]))) <= shown
    assert "1>2, 100, 10.0: 2>7 2>3" in asked.prompt, "the edges that may follow, left to right"
    assert question(crossing, 0) == asked


def test_without_a_model_the_answer_is_the_fastest_route_shown(crossing: RoutingTask) -> None:
    asked = [question(crossing, i) for i in range(crossing.n_agents)]
    for i, (_, answer) in enumerate(Fastest(crossing).answer(asked)):
        route, fault = route_of(answer, crossing, i)
        assert not fault
        free = crossing.graph.free_flow_s
        assert free[list(route)].sum() == pytest.approx(free[crossing.route(i, int(crossing.origin[i]))].sum())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('First ["x"], then:\n```json\n["a", "b"]\n```\nDone [1].', ["a", "b"]),
        ('<think>["x"]</think>\n["a"]', ["a"]),
        ('```json\n["a",\n "b"]\n```', ["a", "b"]),
        ("[1, 2]", []),
        ("I cannot do that.", []),
    ],
)
def test_the_sequence_in_an_answer(answer: str, found: list[str]) -> None:
    assert sequence_in(answer) == found


def test_a_sequence_with_a_fault_is_followed_to_it_and_then_led_on(crossing: RoutingTask) -> None:
    task, origin = crossing, int(crossing.origin[0])
    other = names(task, task.route(0, origin))
    started = ["0>1", "1>6", "6>7"]
    for rest, said in ((["3>4"], "does not follow"), (["nowhere"], "is not in the network"), ([], "ends on '6>7'")):
        route, fault = route_of(json.dumps(started + rest), task, 0)
        assert names(task, list(route))[:3] == started
        assert route[-1] == task.destination[0]
        assert all(after in task.graph.slots[edge] for edge, after in pairwise(route))
        assert len(set(route)) == len(route)
        assert said in fault
    for nothing in ('["3>4"]', "no list"):
        route, fault = route_of(nothing, task, 0)
        assert names(task, list(route)) == other
        assert fault
