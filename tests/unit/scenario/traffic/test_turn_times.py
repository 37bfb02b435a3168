"""Turn times: the means, how a vehicle's record is read, and the fastest path on them beside every path there is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import numpy as np
import pytest

from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.edge_times import BIN_S, passages
from relid_sumo.scenario.traffic.turn_times import DOUBT, UNSEEN_S, TurnTimes, _means


@pytest.fixture
def graph(crossing: RoutingTask) -> RoadGraph:
    return crossing.graph


def random_times(graph: RoadGraph, seed: int) -> TurnTimes:
    """Return turn times in two bins that differ by turn, and by less than the length of a bin."""
    rng = np.random.default_rng(seed)
    return TurnTimes(graph, rng.uniform(10.0, 60.0, (2, *graph.slots.shape)), graph.free_flow_s)


def paths(graph: RoadGraph, edge: int, destination: int, seen: tuple[int, ...] = ()) -> Iterator[list[int]]:
    """Yield every path without a cycle."""
    seen = (*seen, edge)
    if edge == destination:
        yield list(seen)
        return
    for way in graph.slots[edge].tolist():
        if way >= 0 and way not in seen and len(seen) < 10:
            yield from paths(graph, way, destination, seen)


@pytest.mark.parametrize("seed", range(3))
def test_the_fastest_path_is_that_of_all_paths(crossing: RoutingTask, seed: int) -> None:
    times, graph = random_times(crossing.graph, seed), crossing.graph
    origin, destination = int(crossing.origin[0]), int(crossing.destination[0])
    found = times.fastest(origin, destination, 0.0)
    quickest = min(times.duration(path, 0.0) for path in paths(graph, origin, destination))
    assert times.duration(found, 0.0) == pytest.approx(quickest)
    shut = frozenset(found[1:2])
    other = times.fastest(origin, destination, 0.0, closed=shut)
    assert not shut & set(other)
    heavy = np.ones(graph.n_edges)
    heavy[found[1:-1]] = 100.0
    assert times.fastest(origin, destination, 0.0, heavy) != found


def test_a_turn_costs_what_it_costs_when_the_road_is_entered(graph: RoadGraph, crossing: RoutingTask) -> None:
    route = crossing.route(0, int(crossing.origin[0]))
    seconds = np.repeat(np.array([[[40.0]], [[7.0]]]), graph.n_edges, axis=1).repeat(graph.m_out, axis=2)
    times = TurnTimes(graph, seconds, np.full(graph.n_edges, 3.0))
    turns = len(route) - 1
    assert times.duration(route, 0.0) == 40.0 * turns + 3.0
    assert times.duration(route, BIN_S - 1.0) == 40.0 + 7.0 * (turns - 1) + 3.0
    assert times.duration(route, 5 * BIN_S) == 7.0 * turns + 3.0, "the last bin goes on"


def test_no_path_is_told_as_an_empty_one(crossing: RoutingTask) -> None:
    times = random_times(crossing.graph, 0)
    everything = frozenset(range(crossing.graph.n_edges)) - {int(crossing.origin[0])}
    assert times.fastest(int(crossing.origin[0]), int(crossing.destination[0]), 0.0, closed=everything) == []


def test_means_lean_on_the_turn_on_the_road_and_on_free_flow(graph: RoadGraph) -> None:
    edge = int(np.argmax((graph.slots >= 0).sum(axis=1)))
    total, vehicles = np.zeros((2, *graph.slots.shape)), np.zeros((2, *graph.slots.shape))
    total[0, edge, 0], vehicles[0, edge, 0] = 600.0, 10.0
    seconds, last = _means(graph, total, vehicles)
    road = (600 + DOUBT * graph.free_flow_s[edge]) / (10 + DOUBT)
    turn = (600 + DOUBT * road) / (10 + DOUBT)
    assert last[edge] == pytest.approx(road)
    assert seconds[0, edge, 0] == pytest.approx((600 + DOUBT * turn) / (10 + DOUBT))
    assert seconds[1, edge, 0] == pytest.approx(turn), "nobody came in this bin"
    assert seconds[0, edge, 1] == pytest.approx(road + UNSEEN_S), "nobody took this turn"
    other = (edge + 1) % graph.n_edges
    assert last[other] == pytest.approx(graph.free_flow_s[other])


def test_a_record_gives_its_turns_but_for_its_first_road_and_what_it_did_not_finish(graph: RoadGraph) -> None:
    route = list(range(5))
    names = " ".join(str(graph.edge_ids[e]) for e in route)
    record = ET.fromstring(
        f'<vehicle id="v" depart="600"><routeDistribution><route edges="old" exitTimes="1"/>'
        f'<route edges="{names}" exitTimes="610 640 700 -1 -1"/></routeDistribution></vehicle>'
    )
    assert passages(record, graph, 600.0) == [(1, 2, 10.0, 40.0), (2, 3, 40.0, 100.0)]
