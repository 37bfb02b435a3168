"""Subsets of agents: who shares road and time comes together, whatever the order, within the size allowed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.partition import PartitionSettings, _subsets, partition
from relid_sumo.sim.toy import grid

MakeTask = Callable[..., RoutingTask]
ONE_ROUTE = PartitionSettings(routes=1)


def test_the_same_trip_at_the_same_time_overlaps_fully_and_later_less(toy_task: MakeTask) -> None:
    task = toy_task(grid(4), [("0>1", "2>3")] * 3, depart_s=[0.0, 0.0, 120.0])
    overlap = partition(task, PartitionSettings(routes=1, tau_s=120.0)).overlap
    assert overlap[0, 1] == pytest.approx(1.0)
    assert overlap[0, 2] == pytest.approx(np.exp(-1.0))
    assert np.allclose(overlap, overlap.T)
    assert np.allclose(np.diag(overlap), 1.0)


def test_overlap_is_the_shared_length_in_proportion(toy_task: MakeTask) -> None:
    """Two of three edges of equal length are shared, and reached at the same time."""
    task = toy_task(grid(4), [("0>1", "2>3"), ("0>1", "2>6")])
    assert partition(task, ONE_ROUTE).overlap[0, 1] == pytest.approx(2 / 3)


def test_agents_that_share_nothing_stay_apart(toy_task: MakeTask) -> None:
    task = toy_task(grid(4), [("0>1", "2>3"), ("12>13", "14>15"), ("0>1", "2>3"), ("12>13", "14>15")])
    found = partition(task, ONE_ROUTE)
    assert found.subsets == ((0, 2), (1, 3))
    assert found.inside((0, 2)) == pytest.approx(1.0)
    assert found.outside((0, 2)) == pytest.approx(0.0)


def test_those_who_share_most_stay_together_where_a_subset_is_too_large(toy_task: MakeTask) -> None:
    task = toy_task(grid(4), [("0>1", "2>3")] * 4, depart_s=[0.0, 60.0, 1.0, 61.0])
    assert partition(task, PartitionSettings(max_size=2, routes=1)).subsets == ((0, 2), (1, 3))
    assert partition(task, PartitionSettings(max_size=4, routes=1)).subsets == ((0, 1, 2, 3),)
    assert partition(task, PartitionSettings(max_size=1, routes=1)).subsets == ((0,), (1,), (2,), (3,))


def test_it_is_the_same_every_time_and_for_renumbered_agents(crossing: RoutingTask, toy_task: MakeTask) -> None:
    first, second = (partition(crossing, PartitionSettings(max_size=3)) for _ in range(2))
    assert first.subsets == second.subsets
    order = [3, 1, 5, 0, 4, 2]
    ids = crossing.graph.edge_ids
    ends = [(str(ids[crossing.origin[i]]), str(ids[crossing.destination[i]])) for i in order]
    departs = [float(crossing.depart_s[i]) for i in order]
    moved = partition(toy_task(grid(5), ends, depart_s=departs, horizon_s=300.0), PartitionSettings(max_size=3))
    assert {frozenset(order[i] for i in s) for s in moved.subsets} == {frozenset(s) for s in first.subsets}


@given(st.integers(1, 12), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_every_agent_is_in_one_subset_of_the_size_allowed(n: int, size: int, least: float, seed: int) -> None:
    overlap = np.random.default_rng(seed).uniform(0, 1, (n, n))
    overlap = (overlap + overlap.T) / 2
    np.fill_diagonal(overlap, 1.0)
    subsets = _subsets(overlap, PartitionSettings(max_size=size, least_overlap=least))
    assert sorted(i for subset in subsets for i in subset) == list(range(n))
    assert max(map(len, subsets)) <= size
    assert subsets == tuple(sorted(subsets))
