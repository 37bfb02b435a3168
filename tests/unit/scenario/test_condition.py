"""The condition of traffic from measured times: edges where vehicles stand, queues at signals, faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario import condition
from relid_sumo.scenario.condition import Standing
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.edge_times import Measured
from relid_sumo.scenario.traffic.level import TrafficLevel


@pytest.fixture
def roads(crossing: RoutingTask) -> RoadGraph:
    """Return a grid of roads whose second junction has a signal."""
    signal = np.zeros(len(crossing.graph.junction_xy), dtype=bool)
    signal[1] = True
    return replace(crossing.graph, junction_signal=signal)


def times(graph: RoadGraph, delay_s: dict[int, float], vehicles: float = 10.0, bins: int = 2) -> Measured:
    """Return times of vehicles on all edges at free flow, with an added delay per vehicle on some in the last bin."""
    count = np.full((bins, graph.n_edges), vehicles)
    seconds = count * graph.free_flow_s
    for edge, late_s in delay_s.items():
        seconds[-1, edge] += vehicles * late_s
    none = np.zeros((bins, *graph.slots.shape))
    return Measured(seconds, count, none, none)


def level(value: float = 0.3, teleport_share: float = 0.0) -> TrafficLevel:
    return TrafficLevel(1000.0, value, 100.0, 100.0 * (1 + value), teleport_share, 400)


def test_vehicles_stand_where_they_need_far_more_than_at_free_flow(roads: RoadGraph) -> None:
    free_s = float(roads.free_flow_s[7])
    found = condition.standing(roads, times(roads, {7: 9 * free_s + 60.0, 8: 3 * free_s, 9: 50.0}))
    assert [one.edge for one in found] == [7]
    assert found[0].seconds == pytest.approx(10 * free_s + 60.0)
    assert found[0].delay_share == pytest.approx((9 * free_s + 60.0) / (12 * free_s + 110.0), rel=0.05)
    assert condition.standing(roads, times(roads, {7: 900.0}, vehicles=1.0)) == ()  # one vehicle is chance


def test_a_queue_is_the_delay_over_the_time(roads: RoadGraph) -> None:
    into = int(np.flatnonzero(roads.to_junction == 1)[0])
    elsewhere = int(np.flatnonzero(roads.to_junction != 1)[0])
    found = condition.queues(roads, times(roads, {into: 90.0, elsewhere: 900.0}), duration_s=600.0)
    assert [junction for junction, _ in found] == [1]
    assert found[0][1] == pytest.approx(10 * 90.0 / 600.0)


def test_each_fault_says_what_to_do() -> None:
    assert condition.faults(level(), 0.3, [], (), 1.0) == ()
    assert condition.faults(level(0.9), None, [], (), None) == ()
    wrong = condition.faults(level(0.1, 0.02), 0.3, ["a1"], (Standing(4, 300.0, 10.0, 0.4),), 0.2)
    assert [line.partition(";")[0] for line in wrong] == [
        "gridlock: 2.0% of the vehicles are teleported",
        "the level is +10%, and demand.level is +30%",
        "40% of all delay is on edge a1",
        "only 20% of the trips have two clearly different routes",
    ]
    assert all("; " in line for line in wrong)
