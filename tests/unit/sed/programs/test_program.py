"""What programs get: paths agree with scipy's and networkx's, traffic is read as it says."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import Any

import networkx as nx  # type: ignore[import-untyped] # as scipy, it carries no types
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph
from relid_sumo.sed.programs import material, program, runner
from relid_sumo.sed.programs.program import Network, Traffic
from relid_sumo.sim.toy import grid

GRAPH = grid(4)


def data_of(graph: RoadGraph) -> dict[str, Any]:
    from types import SimpleNamespace  # noqa: PLC0415 - network_data reads two of a task's attributes

    return material.network_data(SimpleNamespace(graph=graph, closed=frozenset()))  # type: ignore[arg-type]


NETWORK = Network(data_of(GRAPH))
EDGES = NETWORK.edges
edges = st.sampled_from(EDGES)
costs = st.lists(st.floats(0.1, 100.0), min_size=len(EDGES), max_size=len(EDGES)).map(np.array)


def cost_of(path: list[str], cost: Floats) -> float:
    return float(sum(cost[GRAPH.index[edge]] for edge in path[1:]))


def connected(path: list[str]) -> bool:
    return all(b in NETWORK.successors[a] for a, b in pairwise(path))


@given(origin=edges, destination=edges, cost=costs)
def test_shortest_path_is_dijkstras(origin: str, destination: str, cost: Floats) -> None:
    weight = dict(zip(EDGES, cost.tolist(), strict=True))
    path = NETWORK.shortest_path(origin, destination, weight)
    to_go, _ = GRAPH.to_destination(GRAPH.index[destination], cost)
    assert (path[0], path[-1]) == (origin, destination)
    assert connected(path)
    assert cost_of(path, cost) == pytest.approx(to_go[GRAPH.index[origin]])
    assert NETWORK.shortest_path(origin, destination, weight.__getitem__) == path


@settings(max_examples=30)
@given(origin=edges, destination=edges, cost=costs, k=st.integers(1, 6))
def test_k_shortest_paths_are_yens(origin: str, destination: str, cost: Floats, k: int) -> None:
    if origin == destination:
        return
    weight = dict(zip(EDGES, cost.tolist(), strict=True))
    paths = NETWORK.k_shortest_paths(origin, destination, k, weight)
    graph = nx.DiGraph()
    for edge in EDGES:
        graph.add_weighted_edges_from((edge, way, weight[way]) for way in NETWORK.successors[edge])
    wanted = [p for p, _ in zip(nx.shortest_simple_paths(graph, origin, destination, "weight"), range(k), strict=False)]
    assert [cost_of(path, cost) for path in paths] == pytest.approx([cost_of(path, cost) for path in wanted])
    assert len({tuple(path) for path in paths}) == len(paths)
    assert all(connected(path) and len(set(path)) == len(path) for path in paths)


def test_alternative_paths_are_clearly_different() -> None:
    paths = NETWORK.alternative_paths("0>1", "14>15", 3)
    assert len(paths) == 3
    assert paths[0] == NETWORK.shortest_path("0>1", "14>15")
    for i, path in enumerate(paths):
        assert connected(path)
        for other in paths[:i]:
            shared = sum(NETWORK.length[edge] for edge in set(path) & set(other))
            assert shared < 0.7 * sum(NETWORK.length[edge] for edge in path)


def test_a_barred_edge_is_not_used_and_may_leave_no_path() -> None:
    path = NETWORK.shortest_path("0>1", "14>15")
    assert path[2] not in NETWORK.shortest_path("0>1", "14>15", {path[2]: math.inf})
    ways = dict.fromkeys(NETWORK.successors["0>1"], math.inf)
    assert NETWORK.shortest_path("0>1", "14>15", ways) == []
    assert NETWORK.k_shortest_paths("0>1", "14>15", 3, ways) == []
    assert NETWORK.alternative_paths("0>1", "14>15", 3, ways) == []


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_weight_that_is_no_cost_is_told(bad: float) -> None:
    with pytest.raises(ValueError, match=r"weight of edge .* a cost is at least 0"):
        NETWORK.shortest_path("0>1", "14>15", lambda _: bad)


def test_an_edge_that_is_not_there_is_told() -> None:
    for call in (NETWORK.shortest_path, NETWORK.k_shortest_paths, NETWORK.alternative_paths):
        with pytest.raises(KeyError, match="the network has no edge 'nowhere'"):
            call("0>1", "nowhere", *(() if call == NETWORK.shortest_path else (2,)))


def traffic(times: Floats) -> Traffic:
    """Return traffic with given times, shape (bins, E)."""
    return Traffic(NETWORK, {"bin_s": 300.0, "travel_time": times.T.tolist(), "others": []})


def test_times_are_linear_between_the_middles_of_bins() -> None:
    times = np.array([[10.0], [20.0], [40.0]]).repeat(len(EDGES), axis=1)
    here = traffic(times)
    asked = [-5.0, 0.0, 150.0, 300.0, 450.0, 600.0, 750.0, 5000.0]
    assert [here.time_on(EDGES[0], t) for t in asked] == pytest.approx([10, 10, 10, 15, 20, 30, 40, 40])


@given(origin=edges, destination=edges, cost=costs, depart=st.floats(0, 900))
def test_in_steady_traffic_the_fastest_path_is_the_shortest(
    origin: str, destination: str, cost: Floats, depart: float
) -> None:
    here = traffic(np.stack([cost, cost]))
    path = here.fastest_path(origin, destination, depart)
    wanted = NETWORK.shortest_path(origin, destination, dict(zip(EDGES, cost.tolist(), strict=True)))
    assert here.arrival_times(path, depart)[-1] == pytest.approx(here.arrival_times(wanted, depart)[-1])


@settings(max_examples=50)
@given(destination=edges, early=costs, late=costs, depart=st.floats(0, 900))
def test_no_path_is_expected_to_arrive_before_the_fastest(
    destination: str, early: Floats, late: Floats, depart: float
) -> None:
    """Where nobody overtakes by entering later: travel times fall by less than a second in a second."""
    here = traffic(np.stack([early, late]))
    best = here.arrival_times(here.fastest_path("0>1", destination, depart), depart)[-1]
    for path in NETWORK.k_shortest_paths("0>1", destination, 5):
        assert best <= here.arrival_times(path, depart)[-1] + 1e-6


def test_extra_seconds_divert_and_inf_bars() -> None:
    here = traffic(GRAPH.free_flow_s[None, :])
    path = here.fastest_path("0>1", "14>15", 0.0)
    assert path[2] not in here.fastest_path("0>1", "14>15", 0.0, {path[2]: 500.0})
    assert here.fastest_path("0>1", "14>15", 0.0, dict.fromkeys(NETWORK.successors["0>1"], math.inf)) == []


def test_a_program_gets_what_it_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "program", program)  # inside the sandbox the runner finds it beside itself
    tried = [{"route": ["0>1"], "travel_time": 3.0, "runs": 8}]
    trip = {"id": "a", "origin": "0>1", "destination": "1>2", "depart": 5.0, "tried": tried}
    others = [{"id": "b", "depart": 1.0, "route": ["0>1", "1>2"]}]
    source = (
        "def plan(network, trips, traffic):\n"
        "    trip, other = trips[0], traffic.others[0]\n"
        "    e = trip.origin\n"
        "    return [e, trip.destination, trip.depart, trip.tried[0].travel_time, trip.tried[0].runs, other.route,\n"
        "            other.depart, network.length[e], network.speed[e], network.lanes[e], network.signal[e],\n"
        "            network.start[e], network.end[e], network.free_flow[e], network.successors[e],\n"
        "            traffic.bin_s, traffic.travel_time[e], len(network.edges)]\n"
    )
    times = {"bin_s": 300.0, "travel_time": [[1.0, 2.0]] * len(EDGES), "others": others}
    result = runner.run(source, {"network": data_of(GRAPH), "trips": [trip], "traffic": times})
    e = GRAPH.index["0>1"]
    start, end = GRAPH.shape(e)[0], GRAPH.end_xy[e]
    assert result["plan"][:7] == ["0>1", "1>2", 5.0, 3.0, 8, ["0>1", "1>2"], 1.0]
    assert result["plan"][7:11] == [GRAPH.length[e], round(GRAPH.speed[e], 3), GRAPH.lanes[e], False]
    assert result["plan"][11:13] == [tuple(np.round(start, 1)), tuple(np.round(end, 1))]
    assert result["plan"][13] == pytest.approx(GRAPH.free_flow_s[e], rel=1e-3)
    assert result["plan"][14] == [EDGES[way] for way in GRAPH.slots[e] if way >= 0]
    assert result["plan"][15:] == [300.0, [1.0, 2.0], len(EDGES)]
