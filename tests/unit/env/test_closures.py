"""Closed edges in a toy simulation: what agents see of them, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Decision, EpisodeRecord
from relid_sumo.scenario.incidents import Incidents, Placed, shut_with
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.toy import ToyBridge, grid

Make = Callable[..., RoutingTask]

# The grid of 3 x 3 junctions, 100 m and 10 s apart, without U-turns:
#   6 7 8
#   3 4 5
#   0 1 2
ALL_DAY = 10_000.0


def closing(task: RoutingTask, *closed: tuple[str, float, float], alone: bool = False) -> RoutingTask:
    """Return a task in which edges are closed; `alone` leaves edges open that lead only to them."""
    graph = task.graph
    placed = []
    for name, begin_s, end_s in closed:
        edge = graph.index[name]
        spared = {*range(graph.n_edges)} if alone else {*task.origin.tolist(), *task.destination.tolist()}
        placed.append(Placed(edge, name, (), begin_s, end_s, shut=shut_with(graph, edge, spared)))
    return replace(task, incidents=Incidents(fixed=tuple(placed)))


def drive(task: RoutingTask, name: str = "shortest") -> tuple[EpisodeRecord, list[Decision]]:
    episode, seen = Episode(task, ToyBridge(task.graph)), list[Decision]()
    choose = Policy(name).start()
    while decisions := episode.advance():
        seen += decisions
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    return episode.record(), seen


def route(task: RoutingTask, record: EpisodeRecord) -> list[str]:
    return [str(task.graph.edge_ids[edge]) for edge in record.routes[0]]


def open_edges(task: RoutingTask, decision: Decision) -> set[str]:
    return {str(task.graph.edge_ids[edge]) for edge in task.graph.slots[decision.edge][decision.mask]}


@pytest.fixture
def along(toy_task: Make) -> RoutingTask:
    """Return a task of one agent that drives along the lower side of a grid, 0 to 2."""
    return toy_task(grid(3), [("0>1", "1>2")], horizon_s=300.0)


@pytest.fixture
def across(toy_task: Make) -> RoutingTask:
    """Return a task of one agent from the lower left to the upper right corner."""
    return toy_task(grid(3), [("0>1", "5>8")], horizon_s=300.0)


def test_a_closed_edge_is_masked_and_driven_around(across: RoutingTask) -> None:
    free, _ = drive(across)
    assert route(across, free)[:3] == ["0>1", "1>4", "4>5"]
    assert free.diverted.tolist() == [0]
    task = closing(across, ("4>5", 0.0, ALL_DAY))
    record, decisions = drive(task)
    assert all("4>5" not in open_edges(task, decision) for decision in decisions)
    assert "4>5" not in route(task, record)
    assert record.status == ("arrived",)


def test_agents_learn_of_a_closed_edge_at_the_junction_before_it(across: RoutingTask) -> None:
    task = closing(across, ("4>5", 0.0, ALL_DAY))
    record, decisions = drive(task)
    assert open_edges(task, decisions[0]) == {"1>2", "1>4"}
    assert route(task, record)[:2] == ["0>1", "1>4"]  # as without the incident
    assert record.diverted.tolist() == [1]


@pytest.mark.parametrize("name", ["shortest", "reactive", "rerouting"])
def test_a_policy_remembers_what_it_has_seen_closed(across: RoutingTask, name: str) -> None:
    """Around the block the vehicle drives on 0>1 again, from where its free-flow route leads over 4>5."""
    task = closing(across, ("4>5", 0.0, ALL_DAY))
    record, _ = drive(task, name)
    assert route(task, record).count("1>4") == 1
    assert record.status == ("arrived",)


def test_an_edge_that_opens_again_is_open(across: RoutingTask) -> None:
    """The vehicle enters 1>4, from which it sees 4>5, at 10 s."""
    for end_s, avoided in ((10.0, False), (11.0, True)):
        task = closing(across, ("4>5", 0.0, end_s))
        record, _ = drive(task)
        assert ("4>5" not in route(task, record)) is avoided


def test_an_agent_before_an_edge_that_closes_decides_again(across: RoutingTask) -> None:
    task = closing(across, ("4>5", 15.0, ALL_DAY))
    record, decisions = drive(task)
    again = [d for d in decisions if str(task.graph.edge_ids[d.edge]) == "1>4"]
    assert [(d.time, d.number) for d in again] == [(10.0, 1), (15.0, 2)]
    assert "4>5" in open_edges(task, again[0])
    assert "4>5" not in open_edges(task, again[1])
    assert "4>5" not in route(task, record)
    assert record.diverted.tolist() == [1]


def test_an_agent_that_chose_another_edge_does_not_decide_again(across: RoutingTask) -> None:
    task = closing(across, ("4>3", 15.0, ALL_DAY))
    record, decisions = drive(task)
    assert [d.time for d in decisions] == [d.time for d in drive(across)[1]]
    assert record.diverted.tolist() == [0]


def test_the_only_open_edge_is_taken_without_a_decision(across: RoutingTask) -> None:
    task = closing(across, ("4>5", 0.0, ALL_DAY), ("4>3", 0.0, ALL_DAY))
    record, decisions = drive(task)
    assert "1>4" not in {str(task.graph.edge_ids[d.edge]) for d in decisions}
    assert route(task, record)[:3] == ["0>1", "1>4", "4>7"]


def test_without_an_open_edge_the_agent_keeps_its_route(across: RoutingTask) -> None:
    """The toy does not stop vehicles at closed edges, as SUMO does."""
    shut = [(name, 0.0, ALL_DAY) for name in ("4>5", "4>3", "4>7")]
    task = closing(across, *shut, alone=True)
    record, _ = drive(task)
    assert route(task, record) == route(across, drive(across)[0])
    assert record.diverted.tolist() == [1]


def test_a_plan_over_a_closed_edge_falls_back_to_the_fastest_route_around_it(across: RoutingTask) -> None:
    plan = [across.graph.index[name] for name in ("0>1", "1>4", "4>5", "5>8")]
    task = closing(across, ("4>5", 0.0, ALL_DAY))
    episode = Episode(task, ToyBridge(task.graph))
    choose = Policy("fixed", routes={0: plan}).start()
    while decisions := episode.advance():
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    record = episode.record()
    assert record.status == ("arrived",)
    assert record.diverted.tolist() == [1]
    assert record.routes[0].tolist() == drive(task)[0].routes[0].tolist()


def test_edges_that_lead_only_to_a_closed_edge_close_with_it() -> None:
    graph = grid(3)
    shut = shut_with(graph, graph.index["2>5"], frozenset())  # a corner: 1>2 leads only to 2>5
    assert {str(graph.edge_ids[edge]) for edge in shut} == {"2>5", "1>2"}
    assert shut_with(graph, graph.index["2>5"], {graph.index["1>2"]}) == (graph.index["2>5"],)


def test_without_incidents_nothing_is_hashed_or_looked_up(across: RoutingTask) -> None:
    far = closing(across, ("3>6", 0.0, ALL_DAY), alone=True)
    assert drive(far)[0].digest == drive(across)[0].digest


def test_every_choice_is_open_under_random_closings(toy_task: Make) -> None:
    graph, rng = grid(4), np.random.default_rng(0)
    for seed in range(20):
        task = toy_task(graph, [("0>1", "14>15"), ("12>13", "2>3")], horizon_s=400.0)
        names: Sequence[str] = rng.choice(graph.edge_ids, 6, replace=False).tolist()
        shut = [(str(name), float(rng.integers(0, 80)), float(rng.integers(80, 200))) for name in names]
        task = closing(task, *shut)
        episode = Episode(task, ToyBridge(graph), observe=False)
        choose = Policy("random", seed=seed).start()
        while decisions := episode.advance():
            for decision in decisions:
                closed = {n for n, begin_s, end_s in shut if begin_s <= decision.time < end_s}
                assert not closed & open_edges(task, decision)
                assert decision.mask.sum() >= 2
                episode.act(decision, choose(episode, decision))
