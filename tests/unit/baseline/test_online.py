"""Online planners on a network of two routes, where the right choice can be derived by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from relid_sumo.base.arrays import Floats
from relid_sumo.baseline.online import least_popular, next_road_costs
from relid_sumo.baseline.table import BASELINES
from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Policy
from relid_sumo.env.roads_now import RoadsNow, waits
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.history import History, by_bin
from relid_sumo.sim.toy import ToyBridge, two_routes

Make = Callable[..., RoutingTask]
TOP, BOTTOM, END = 3, 4, 5
Know = Callable[..., History]


class Changing(ToyBridge):
    """A toy in which the top road becomes slow, or full, at a time."""

    def __init__(self, graph: RoadGraph, slow: Mapping[float, float], full: int = 0) -> None:
        super().__init__(graph)
        self.by_time, self.full = slow, full

    def step(self) -> float:
        now = super().step()
        self._slow = {TOP: max((f for t, f in self.by_time.items() if t <= now), default=1.0)}
        return now

    def vehicles(self, edge: str) -> int:
        return self.full if edge == "top" and self.full else super().vehicles(edge)


def roads_taken(make: Make, name: str, bridge: ToyBridge, known: History, *, agents: int = 1) -> list[list[int]]:
    """Return the route of each agent with an online planner; all depart at once."""
    task = make(known.graph, [("start", "end")] * agents, horizon_s=7200.0)
    choose = Policy("online", path=BASELINES[name].online, history=known).start()
    episode = Episode(task, bridge)
    while decisions := episode.advance():
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    return [route.tolist() for route in episode.record().routes]


@pytest.mark.parametrize(("factor", "road"), [(1.5, TOP), (1.7, BOTTOM)])
def test_blend_adds_the_present_deviation(toy_task: Make, free_history: Know, factor: float, road: int) -> None:
    """The top road takes 45 s or 51 s; the bottom one 48 s."""
    graph = two_routes()
    assert road in roads_taken(toy_task, "blend", Changing(graph, {0.0: factor}), free_history(graph))[0]


def test_blend_ignores_a_reading_that_is_expected(toy_task: Make, free_history: Know) -> None:
    """The top road reads 90 s. Where 90 s is expected there and its history is 45 s, nothing deviates."""
    graph = two_routes()
    usual = free_history(graph, {TOP: 90.0})
    known = History(free_history(graph, {TOP: 45.0}).times, usual.flow, usual.reading)
    assert TOP in roads_taken(toy_task, "blend", Changing(graph, {0.0: 3.0}), known)[0]
    assert BOTTOM in roads_taken(toy_task, "blend", Changing(graph, {0.0: 3.0}), free_history(graph))[0]


@pytest.mark.parametrize(("start_m", "road"), [(800.0, BOTTOM), (400.0, TOP)])
def test_plans_are_made_again_after_a_minute(toy_task: Make, free_history: Know, start_m: float, road: int) -> None:
    """The top road is slow from 25 s on. The second junction is reached 80 s or 40 s after the departure."""
    graph = two_routes(start_m)
    assert road in roads_taken(toy_task, "blend", Changing(graph, {25.0: 5.0}), free_history(graph))[0]


def test_antic_shares_a_road_by_its_capacity(toy_task: Make, free_history: Know) -> None:
    """Twelve vehicles a minute leave the top road; each one more waits 5 s longer, and the detour takes 18 s."""
    graph = two_routes(10.0)
    taken = roads_taken(toy_task, "antic", ToyBridge(graph), free_history(graph), agents=24)
    assert [TOP in route for route in taken] == [True] * 16 + [False] * 8
    alone = roads_taken(toy_task, "blend", ToyBridge(graph), free_history(graph), agents=24)
    assert all(TOP in route for route in alone)


def test_waits_are_those_of_a_fluid_queue() -> None:
    """0.2 vehicles a second are 12 in a minute: 20 leave a queue of 8, or 40 s; a quiet minute then serves it."""
    arrivals = np.array([[20.0, 12.0, 0.0, 0.0]])
    assert waits(arrivals, np.zeros((1, 4)), np.array([0.2])) == pytest.approx(np.array([[40.0, 40.0, 0.0, 0.0]]))
    ordinary = np.array([[16.0, 12.0, 0.0, 0.0]])  # of which 4 wait in ordinary traffic, 20 s
    assert waits(arrivals, ordinary, np.array([0.2])) == pytest.approx(np.array([[20.0, 20.0, 0.0, 0.0]]))
    assert not waits(ordinary, arrivals, np.array([0.2])).any(), "no road is faster than usual"


def test_ebksp_sends_the_second_vehicle_over_the_other_road(toy_task: Make, free_history: Know) -> None:
    graph = two_routes()
    taken = roads_taken(toy_task, "ebksp", ToyBridge(graph), free_history(graph), agents=2)
    assert [TOP in route for route in taken] == [True, False]


def test_the_least_popular_path_has_the_lowest_entropy() -> None:
    """Shares of 0.2 each have 3 x 0.2 ln 5 = 0.97; 0.2, 0.1 and 0.1 have 0.2 ln 5 + 2 x 0.1 ln 10 = 0.78."""
    footprint = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    assert least_popular([[0, 1, 2], [3, 4, 5]], footprint) == [3, 4, 5]
    assert least_popular([[0, 1, 2], [3, 4, 5]], np.zeros(6)) == [0, 1, 2], "the fastest, where nobody has planned"
    assert least_popular([], footprint) == []


@pytest.mark.parametrize(("full", "road"), [(30, BOTTOM), (27, TOP)])
def test_nrr_leaves_its_route_before_a_congested_road(toy_task: Make, free_history: Know, full: int, road: int) -> None:
    """The top road of 300 m has room for 40 vehicles; 28 are a density of 0.7."""
    graph = two_routes()
    assert road in roads_taken(toy_task, "nrr", Changing(graph, {0.0: 9.0}, full), free_history(graph))[0]


def test_the_cost_of_a_next_road_is_the_mean_of_four_factors(toy_task: Make, free_history: Know) -> None:
    """Density 1 and 0, time 30/48 and 1; both roads end at the same place."""
    graph = two_routes()
    roads = RoadsNow(toy_task(graph, [("start", "end")]), Changing(graph, {}, 30), free_history(graph))
    roads.update(0.0)
    costs = next_road_costs(graph, roads, [TOP, BOTTOM], END, TOP)
    assert costs == pytest.approx([(1 + 0.625 + 1 + 1) / 4, (0 + 1 + 1 + 1) / 4])


def test_expected_readings_are_means_of_readings_at_least_free_flow() -> None:
    """Readings come every 10 s: the first 30 are of the first bin."""
    rows: Floats = np.concatenate([np.full((30, 2), 20.0), np.full((15, 2), 1.0), np.full((15, 2), 1e9)])
    assert by_bin([rows], np.array([10.0, 30.0]), 2) == pytest.approx(
        np.array([[20.0, 30.0], [(10 + 3600) / 2, (30 + 3600) / 2]])
    )
