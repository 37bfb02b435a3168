"""Labels off the demonstrations and before closed roads, and the draw of closed roads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.closing import DRAWS, Closings, closed_road, of_routes
from relid_sumo.learn.reled.advice import Advice
from relid_sumo.scenario.incidents import Incidents
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.toy import two_routes

Drive = Callable[..., EpisodeRecord]


def plans(task: RoutingTask) -> list[tuple[int, ...]]:
    return [tuple(task.route(i, int(task.origin[i]))) for i in range(task.n_agents)]


def edges_chosen(task: RoutingTask, record: EpisodeRecord, labels: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    return [int(task.graph.slots[edge, slot]) for edge, slot in zip(record.edge.tolist(), labels.tolist(), strict=True)]


def test_labels_follow_the_plan_and_lead_on_by_the_times_off_it(crossing: RoutingTask, toy_drive: Drive) -> None:
    routes, graph = plans(crossing), crossing.graph
    rng = np.random.default_rng(0)
    times = graph.free_flow_s[None] * rng.uniform(1.0, 9.0, (2, graph.n_edges))
    record = toy_drive(crossing, Policy("random", seed=3))
    chosen = edges_chosen(crossing, record, Advice(crossing, times).labels(record, routes))
    off = 0
    for n, (agent, edge) in enumerate(zip(record.agent.tolist(), record.edge.tolist(), strict=True)):
        route, goal = routes[agent], int(crossing.destination[agent])
        if edge in route and route[route.index(edge) + 1] in graph.slots[edge][record.mask[n]]:
            assert chosen[n] == route[route.index(edge) + 1]
            continue
        off += 1
        cost = times[0]  # the horizon is 300 s, one bin
        best = min(float(cost[graph.path(int(e), goal, cost)].sum()) for e in graph.slots[edge][record.mask[n]])
        assert float(cost[graph.path(chosen[n], goal, cost)].sum()) == pytest.approx(best)
    assert off > 20
    plain = edges_chosen(crossing, record, Advice(crossing).labels(record, routes))
    assert plain != chosen, "free-flow times lead elsewhere"


@pytest.mark.parametrize("place", [1, 2])
def test_labels_lead_around_a_closed_road_and_not_back_to_it(
    crossing: RoutingTask, toy_drive: Drive, place: int
) -> None:
    """The edge before place 1 has two successors, so that closing one leaves no decision there."""
    routes, ends = plans(crossing), frozenset([*crossing.origin.tolist(), *crossing.destination.tolist()])
    closing = closed_road(crossing, routes[0][place], ends)
    assert closing is not None
    assert closing.edge in closing.shut
    closed = replace(crossing, incidents=Incidents(fixed=(closing,)))
    record = toy_drive(closed, Policy("fixed", routes=dict(enumerate(routes))))
    labels = Advice(crossing).labels(record, routes)
    assert all(mask[label] for mask, label in zip(record.mask, labels, strict=True))
    mine = record.agent == 0
    assert (record.edge[mine][0] == routes[0][0]) == (place == 2)
    assert closing.edge in record.known[int(np.flatnonzero(mine)[place - 1])]
    chosen = np.array(edges_chosen(crossing, record, labels))[mine]
    assert closing.edge not in chosen
    assert record.status[0] == "arrived"
    driven = np.array(edges_chosen(crossing, record, record.action.astype(np.int64)))[mine]
    assert chosen.tolist() == driven.tolist(), "the free-flow planner drives around what it knows, and so do labels"


def test_closed_roads_are_drawn_by_episode_and_few_for_a_traffic_seed(crossing: RoutingTask) -> None:
    ready: Any = SimpleNamespace(task=crossing)
    ends = {*crossing.origin.tolist(), *crossing.destination.tolist()}
    some, again = Closings(ready, 5, 0.4), Closings(ready, 5, 0.4)
    drawn = [some.of(number, 7) for number in range(300)]
    assert drawn == [again.of(number, 7) for number in range(300)]
    assert 0.3 < np.mean([one is not None for one in drawn]) < 0.5
    assert len(set(filter(None, drawn))) <= DRAWS
    for one in filter(None, {some.of(number, seed) for number in range(30) for seed in range(4)}):
        assert not ends & set(one.shut)
        cost = crossing.graph.free_flow_s.copy()
        cost[list(one.shut)] = np.inf
        for origin, goal in zip(crossing.origin.tolist(), crossing.destination.tolist(), strict=True):
            assert crossing.graph.path(origin, goal, cost)
    assert all(Closings(ready, 5, 0.0).of(number, 7) is None for number in range(20))


def test_each_road_of_some_routes_that_can_be_spared_is_closed_once(crossing: RoutingTask) -> None:
    routes, ends = plans(crossing), {*crossing.origin.tolist(), *crossing.destination.tolist()}
    found = [one.edge for one in of_routes(crossing, routes)]
    assert found == sorted(set(found))
    assert set(found) <= {edge for route in routes for edge in route} - ends
    assert routes[0][2] in found


def test_a_road_that_a_trip_needs_is_not_closed(toy_task: Callable[..., RoutingTask]) -> None:
    task = toy_task(two_routes(), [("first", "end")])
    ends = frozenset([task.graph.index["first"], task.graph.index["end"]])
    assert closed_road(task, task.graph.index["top"], ends) is not None
    assert closed_road(task, task.graph.index["first"], ends) is None
