from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from relid_sumo.network.graph import RoadGraph, follow, order_slots


def graph_of(successors: list[list[int]], seed: int = 0) -> RoadGraph:
    """Return a road graph with these movements and random lengths."""
    n = len(successors)
    rng = np.random.default_rng(seed)
    width = max((len(s) for s in successors), default=0)
    slots = np.full((n, width), -1, dtype=np.int32)
    for edge, ways in enumerate(successors):
        slots[edge, : len(ways)] = ways
    return RoadGraph(
        edge_ids=np.array([f"e{i}" for i in range(n)]),
        length=rng.uniform(10, 500, n),
        speed=rng.uniform(5, 30, n),
        lanes=np.ones(n, dtype=np.int32),
        slots=slots,
        shape_xy=rng.uniform(0, 1000, (2 * n, 2)),
        shape_start=np.arange(0, 2 * n + 1, 2, dtype=np.int32),
        from_junction=np.zeros(n, dtype=np.int32),
        to_junction=np.zeros(n, dtype=np.int32),
        junction_xy=np.zeros((1, 2)),
        junction_signal=np.zeros(1, dtype=np.bool_),
        projection=np.array(["+proj=utm +zone=50"]),
        offset=np.zeros(2),
        left_hand=np.array([False]),
    )


@st.composite
def movements(draw: st.DrawFn) -> list[list[int]]:
    n = draw(st.integers(1, 12))
    return draw(st.lists(st.lists(st.integers(0, n - 1), max_size=4, unique=True), min_size=n, max_size=n))


def networkx_of(graph: RoadGraph, cost: NDArray[np.float64]) -> nx.DiGraph:
    other: nx.DiGraph = nx.DiGraph()
    other.add_nodes_from(range(graph.n_edges))
    for edge in range(graph.n_edges):
        for after in graph.slots[edge, : graph.n_successors[edge]].tolist():
            other.add_edge(edge, after, weight=float(cost[after]))
    return other


@given(movements())
def test_strong_component_is_networkx_s_longest(successors: list[list[int]]) -> None:
    graph = graph_of(successors)
    parts = [p for p in nx.strongly_connected_components(networkx_of(graph, graph.length)) if len(p) > 1]
    longest = max((graph.length[list(p)].sum() for p in parts), default=0.0)
    mask = graph.strong_component()
    assert graph.length[mask].sum() == pytest.approx(longest)
    assert not parts or set(np.flatnonzero(mask).tolist()) in parts


@given(movements(), st.integers(0, 2**16), st.booleans())
def test_to_destination_is_networkx_s_dijkstra(successors: list[list[int]], seed: int, own_cost: bool) -> None:
    graph = graph_of(successors, seed)
    cost = np.random.default_rng(seed).uniform(0.1, 9, graph.n_edges) if own_cost else None
    weight = graph.free_flow_s if cost is None else cost
    destination = seed % graph.n_edges
    to_go, next_edge = graph.to_destination(destination, cost)
    reference = nx.single_source_dijkstra_path_length(networkx_of(graph, weight).reverse(), destination)
    for edge in range(graph.n_edges):
        if edge not in reference:
            assert np.isinf(to_go[edge])
            assert next_edge[edge] == -1
            assert follow(next_edge, edge, destination) == []
            continue
        assert to_go[edge] == pytest.approx(reference[edge])
        path = graph.path(edge, destination, cost)
        assert (path[0], path[-1]) == (edge, destination)
        assert all(b in successors[a] for a, b in pairwise(path))
        assert weight[path[1:]].sum() == pytest.approx(to_go[edge])
    assert next_edge[destination] == -1


NORTH, WEST, SOUTH, EAST = np.deg2rad([90.0, 180.0, 270.0, 0.0])


@pytest.mark.parametrize(
    ("left_hand", "order"),
    [(False, ["back", "left", "ahead", "right"]), (True, ["left", "ahead", "right", "back"])],
)
@pytest.mark.parametrize("heading", [0.0, 45.0, 90.0, 179.0, 270.0])
@pytest.mark.parametrize("skew", [-5.0, 5.0])
def test_slots_run_left_to_right_as_driven(left_hand: bool, order: list[str], heading: float, skew: float) -> None:
    # Edge 0 drives along `heading`; a U-turn counts as one from 170 degrees on, whichever way it is skewed.
    ways = {"right": 1, "ahead": 2, "back": 3, "left": 4}
    turn = {"left": 90.0, "ahead": 0.0, "right": -90.0, "back": 180.0 + skew}
    leaving = np.zeros(5)
    for name, edge in ways.items():
        leaving[edge] = np.deg2rad(heading + turn[name])
    arriving = np.full(5, np.deg2rad(heading))
    slots = order_slots([[1, 2, 3, 4], [], [], [], []], arriving, leaving, left_hand=left_hand)
    assert slots[0].tolist() == [ways[name] for name in order]
    assert (slots[1:] == -1).all()


def test_a_graph_without_movements_has_no_slots() -> None:
    assert order_slots([[], []], np.zeros(2), np.zeros(2), left_hand=False).shape == (2, 0)


def test_saved_graphs_read_back(tmp_path: Path) -> None:
    graph = graph_of([[1, 2], [0], [0]])
    graph.save(tmp_path / "graph.npz")
    again = RoadGraph.load(tmp_path / "graph.npz")
    for name in (f.name for f in fields(RoadGraph)):
        np.testing.assert_array_equal(getattr(again, name), getattr(graph, name))
        assert getattr(again, name).dtype == getattr(graph, name).dtype


def test_points_along_an_edge_and_their_bearing() -> None:
    graph = graph_of([[0]])
    graph.shape_xy[:] = [(0.0, 0.0), (0.0, 10.0)]
    assert graph.point_along(0, 0.25) == pytest.approx((0.0, 2.5, 0.0))
    graph.shape_xy[:] = [(0.0, 0.0), (10.0, 0.0)]
    assert graph.point_along(0, 1.0) == pytest.approx((10.0, 0.0, 90.0))
    graph.shape_xy[:] = [(0.0, 0.0), (-10.0, -10.0)]
    assert graph.point_along(0, 0.0) == pytest.approx((0.0, 0.0, 225.0))
