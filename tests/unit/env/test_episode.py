"""The Dec-POMDP in a toy simulation, in which every number can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.episode import Episode
from relid_sumo.env.observation import scaled
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import Decision, EpisodeRecord
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.readings import LEVELS, Readings, octaves
from relid_sumo.sim.toy import ToyBridge, grid

Make = Callable[..., RoutingTask]
Drive = Callable[..., EpisodeRecord]

# The grid of 3 x 3 junctions, 100 m and 10 s apart, without U-turns:
#   6 7 8
#   3 4 5
#   0 1 2


class Meddled(ToyBridge):
    """A toy simulation with an event for the vehicle a0."""

    def __init__(
        self,
        graph: RoadGraph,
        *,
        late_s: float = 0.0,
        refused: bool = False,
        vanishes_s: float = np.inf,
        halts_s: float = np.inf,
        lifted_s: float = np.inf,
    ) -> None:
        super().__init__(graph)
        self.late_s, self.refused, self.vanishes_s = late_s, refused, vanishes_s
        self.halts_s, self.lifted_s, self.now = halts_s, lifted_s, -1.0

    def step(self) -> float:
        self.now = super().step()
        if self.now >= self.vanishes_s:
            self._cars.pop("a0", None)
        if self.now >= self.halts_s and "a0" in self._cars:
            self._cars["a0"].leaves_s = np.inf
        return self.now

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        if vehicle == "a0":
            if self.refused:
                return
            depart_s += self.late_s
        super().add(vehicle, route, depart_s, rerouting=rerouting, kind=kind)

    def teleported(self) -> Sequence[str]:
        return ["a0"] if self.now == self.lifted_s else []

    def road(self, vehicle: str) -> str | None:
        lifted = vehicle == "a0" and self.lifted_s <= self.now < self.lifted_s + 5
        return "" if lifted and super().road(vehicle) else super().road(vehicle)


class Told(ToyBridge):
    """A toy simulation with given travel times: 40 s smoothed, 20 s in the last second, on every edge."""

    def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
        return 40.0 if smoothed else 20.0


def run(episode: Episode, choose: Callable[[Decision], int]) -> EpisodeRecord:
    while decisions := episode.advance():
        for decision in decisions:
            episode.act(decision, choose(decision))
    return episode.record()


def slot_to(task: RoutingTask, decision: Decision, edge: str) -> int:
    return int(np.flatnonzero(task.graph.slots[decision.edge] == task.graph.index[edge])[0])


def shortest(task: RoutingTask, bridge: ToyBridge) -> EpisodeRecord:
    episode = Episode(task, bridge)
    choose = Policy("shortest").start()
    return run(episode, lambda decision: choose(episode, decision))


def names(task: RoutingTask, record: EpisodeRecord, agent: int = 0) -> list[str]:
    return [str(task.graph.edge_ids[e]) for e in record.routes[agent]]


# --- rewards ----------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, list[tuple[str, str]], list[float], dict[int, float], dict[str, object]]:
    side = draw(st.integers(3, 5))
    edges = [str(e) for e in grid(side).edge_ids]
    pair = st.tuples(st.sampled_from(edges), st.sampled_from(edges)).filter(lambda p: p[0] != p[1])
    ends = draw(st.lists(pair, min_size=1, max_size=5))
    departs = draw(st.lists(st.floats(0, 60), min_size=len(ends), max_size=len(ends)))
    slow = draw(st.dictionaries(st.integers(0, len(edges) - 1), st.floats(1, 5), max_size=10))
    more = {
        "horizon_s": draw(st.floats(350, 500)),
        "step_length_s": draw(st.sampled_from([0.5, 1.0])),
        "reward": {"w_d": draw(st.floats(0, 0.2))},
        "observation": {"distance": draw(st.sampled_from(["straight", "network"]))},
    }
    return side, ends, departs, slow, more


@settings(deadline=None, max_examples=60)
@given(problem=problems(), seed=st.integers(0, 99))
def test_rewards_telescope_and_episodes_end_with_any_policy(
    toy_task: Make,
    problem: tuple[int, list[tuple[str, str]], list[float], dict[int, float], dict[str, object]],
    seed: int,
) -> None:
    side, ends, departs, slow, more = problem
    task = toy_task(grid(side), ends, depart_s=departs, **more)
    graph, horizon_s, step_s = task.graph, task.scenario.horizon_s, task.scenario.step_length_s
    episode = Episode(task, ToyBridge(graph, slow, step_length_s=step_s))
    choose = Policy("random", seed=seed).start()
    record = run(episode, lambda decision: choose(episode, decision))
    w_d = task.scenario.reward.w_d
    assert record.simulated_s < horizon_s + step_s
    assert (np.diff(record.time) >= 0).all()
    assert (record.time < horizon_s).all()
    assert np.isfinite(record.observation).all()
    assert (record.observation >= -1).all()  # distances may exceed 1: a vehicle may drive away from its destination
    assert (record.observation[:, : 2 * graph.m_out : 2] <= 1).all()
    for i in range(task.n_agents):
        mine, route = record.agent == i, record.routes[i].tolist()
        to_go, wished = task.to_go[task.row[i]], departs[i]
        if record.status[i] == "arrived":
            assert record.returns[i] == pytest.approx(w_d * task.start_to_go[i] - record.travel_time[i])
            assert route[-1] == task.destination[i]
            decided_on = route[:-1]
            assert mine.sum() + record.one_way[i] + record.crossed[i] == len(decided_on)
        else:
            assert record.status[i] == "horizon"
            gained = task.start_to_go[i] - to_go[route[-1]]
            assert record.returns[i] == pytest.approx(w_d * gained - (horizon_s - wished))
            left = task.free_to_go[task.row[i], route[-1]]
            assert record.travel_time[i] == pytest.approx(horizon_s - wished + left)
        before_first = 0.0
        if mine.any():
            first, edge = record.time[mine][0], record.edge[mine][0]
            before_first = wished - first + w_d * (task.start_to_go[i] - to_go[edge])
            assert before_first + record.reward[mine].sum() == pytest.approx(record.returns[i], abs=1e-6)
            gaps = np.diff(record.time[mine])
            gained = -np.diff(to_go[record.edge[mine]].astype(float))
            np.testing.assert_allclose(record.reward[mine][:-1], -gaps + w_d * gained, atol=1e-6)
        assert route[0] == task.origin[i]
        assert all(b in graph.slots[a] for a, b in pairwise(route))
        at = -1
        for edge, action, mask in zip(record.edge[mine], record.action[mine], record.mask[mine], strict=True):
            assert edge != task.destination[i]
            assert mask.sum() >= 2
            assert mask[action]
            at = route.index(edge, at + 1)
            if at + 1 < len(route):
                assert route[at + 1] == graph.slots[edge, action]


ENDS = {"arrived": {}, "horizon": {"halts_s": 25.0}, "lost": {"vanishes_s": 25.0}, "never inserted": {"refused": True}}


@pytest.mark.parametrize("status", ENDS)
@settings(deadline=None, max_examples=15)
@given(problem=problems(), seed=st.integers(0, 99))
def test_rewards_telescope_for_every_end_of_a_trip(
    toy_task: Make,
    status: str,
    problem: tuple[int, list[tuple[str, str]], list[float], dict[int, float], dict[str, object]],
    seed: int,
) -> None:
    side, ends, departs, _, more = problem
    task = toy_task(grid(side), ends, depart_s=[0.0, *departs[1:]], **(more | {"step_length_s": 1.0}))
    choose, episode = Policy("random", seed=seed).start(), Episode(task, Meddled(task.graph, **ENDS[status]))  # type: ignore[arg-type]
    record = run(episode, lambda decision: choose(episode, decision))
    w_d, end_s, d_0 = task.scenario.reward.w_d, task.scenario.end_s, float(task.start_to_go[0])
    to_go = task.to_go[task.row[0]].astype(float)
    last = record.routes[0][-1] if len(record.routes[0]) else task.origin[0]
    d_t = {"arrived": 0.0, "horizon": to_go[last], "lost": max(d_0, to_go[last]), "never inserted": d_0}
    ended_s = record.travel_time[0] if record.status[0] == "arrived" else end_s
    assert record.returns[0] == pytest.approx(w_d * (d_0 - d_t[record.status[0]]) - ended_s)
    assert -end_s + w_d * (d_0 - to_go.max()) <= record.returns[0] + 1e-6
    assert record.returns[0] <= w_d * d_0 + 1e-6
    rewards = record.reward[record.agent == 0]
    if len(rewards):
        first_s, first = record.time[record.agent == 0][0], record.edge[record.agent == 0][0]
        assert rewards.sum() + w_d * (d_0 - to_go[first]) - first_s == pytest.approx(record.returns[0])


@settings(deadline=None, max_examples=40)
@given(problem=problems(), seed=st.integers(0, 99), at_s=st.integers(1, 300))
def test_no_agent_gains_by_being_lost(
    toy_task: Make,
    problem: tuple[int, list[tuple[str, str]], list[float], dict[int, float], dict[str, object]],
    seed: int,
    at_s: int,
) -> None:
    side, ends, _, _, more = problem
    task = toy_task(grid(side), ends[:1], **(more | {"step_length_s": 1.0}))

    def drive(**event: float) -> EpisodeRecord:
        choose, episode = Policy("random", seed=seed).start(), Episode(task, Meddled(task.graph, **event))  # type: ignore[arg-type]
        return run(episode, lambda decision: choose(episode, decision))

    lost, halted, driven = drive(vanishes_s=at_s), drive(halts_s=at_s - 1), drive()
    if lost.status == ("lost",):
        assert halted.status == ("horizon",)
        assert halted.routes[0].tolist() == lost.routes[0].tolist()
        assert lost.returns[0] <= halted.returns[0] + 1e-6
        assert lost.returns[0] <= -task.scenario.horizon_s + 1e-6
        assert driven.status != ("arrived",) or lost.returns[0] < driven.returns[0]


def test_a_return_at_the_horizon_by_hand(toy_task: Make) -> None:
    # 0>1 and 1>4 are driven: from (100, 0) to (100, 100), with the destination at (200, 200)
    task = toy_task(grid(3), [("0>1", "7>8")], reward={"w_d": 0.1}, horizon_s=200.0)
    record = shortest(task, Meddled(task.graph, halts_s=15.0))
    assert record.status == ("horizon",)
    assert record.returns[0] == pytest.approx(0.1 * (np.hypot(100, 200) - np.hypot(100, 100)) - 200)


def test_a_lost_agent_pays_for_a_detour(toy_task: Make) -> None:
    # it drives away from its destination, and is lost on 1>0; straight to (100, 200): 200 m, then 223.6 m
    task = toy_task(grid(3), [("4>1", "4>7")], reward={"w_d": 0.1}, horizon_s=200.0)
    episode = Episode(task, Meddled(task.graph, vanishes_s=15.0))
    record = run(episode, lambda decision: slot_to(task, decision, "1>0"))
    assert record.status == ("lost",)
    assert names(task, record) == ["4>1", "1>0"]
    assert record.returns[0] == pytest.approx(0.1 * (200 - np.hypot(100, 200)) - 200)


def test_a_return_by_hand(toy_task: Make) -> None:
    # 0>1, 1>4, 4>5, 5>8: 40 s at free flow; from (100, 0) to (200, 200) in a straight line
    task = toy_task(grid(3), [("0>1", "5>8")], reward={"w_d": 0.1})
    record = shortest(task, ToyBridge(task.graph))
    assert record.travel_time.tolist() == [40.0]
    assert record.returns[0] == pytest.approx(0.1 * np.hypot(100, 200) - 40)
    assert names(task, record)[0] == "0>1"
    assert names(task, record)[-1] == "5>8"


def test_departure_delay_is_travel_time(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8")], depart_s=[7.0])
    prompt, late = shortest(task, ToyBridge(task.graph)), shortest(task, Meddled(task.graph, late_s=25.0))
    assert late.travel_time[0] == prompt.travel_time[0] + 25
    assert late.returns[0] == pytest.approx(prompt.returns[0] - 25)
    np.testing.assert_allclose(late.observation[0, -1] - prompt.observation[0, -1], 2 * 25 / 1800, atol=1e-6)


# --- observations -----------------------------------------------------------------------------------------------------

# Agent a0 is at the end of 0>1, at (100, 0). Its destination 7>8 ends at (200, 200). Its successors, left to right:
# 1>4, ending at (100, 100), and 1>2, ending at (200, 0). Agent a1 has the longer trip and sets the scale.
STRAIGHT = [np.hypot(100, 100), 200.0, np.hypot(100, 200), np.hypot(200, 200)]
NETWORK = [200.0, 400.0, 300.0, 400.0]  # by 4>7>8, 2>5>4>7>8, 1>4>7>8; a1 from the end of 1>0 by 0>3>4>7>8
TIME = [290.0, 490.0, 390.0, 400.0]  # 4>7 takes 19 s instead of 10 s, at 10 m/s; a1 drives 0>3>6>7>8


@pytest.mark.parametrize(("congestion", "seconds"), [("ewma", 40.0), ("instant", 20.0)])
@pytest.mark.parametrize(("distance", "metres"), [("straight", STRAIGHT), ("network", NETWORK), ("time", TIME)])
def test_an_observation_by_hand(
    toy_task: Make, distance: str, metres: list[float], congestion: str, seconds: float
) -> None:
    graph = grid(3)
    times = graph.free_flow_s.copy()
    times[graph.index["4>7"]] = 19.0
    task = toy_task(
        graph,
        [("0>1", "7>8"), ("1>0", "7>8")],
        depart_s=[3.0, 500.0],
        observation={"distance": distance, "congestion": congestion},
        edge_times=times,
        horizon_s=1000.0,
    )
    first = Episode(task, Told(graph)).advance()[0]
    assert (first.agent, first.number, first.time, graph.edge_ids[first.edge]) == (0, 0, 3.0, "0>1")
    assert first.observation.dtype == np.float32
    busy = 2 * np.sqrt(np.log2(seconds / 10) / 6) - 1
    left, right, own, scale = (2 * d / metres[3] - 1 for d in metres)
    assert scale == 1.0
    np.testing.assert_allclose(first.observation, [busy, left, busy, right, 1, 1, own, -1], atol=1e-6)
    assert first.mask.tolist() == [True, True, False]


def test_congestion_does_not_saturate_and_is_bounded() -> None:
    factors = np.array([0.5, 1.0, 1.05, 1.5, 2.0, 8.0, 20.0, 64.0, 1e6])
    seen = scaled(octaves(10 * factors, np.array(10.0)))
    assert seen.tolist()[:2] == [-1, -1]
    assert seen.tolist()[-2:] == [1, 1]
    assert (np.diff(seen)[1:-1] > 0.19).all()


def test_congestion_does_not_depend_on_the_vehicle(toy_task: Make) -> None:
    class Slow(Told):
        def speed_factor(self, vehicle: str) -> float:
            return 0.8

    task = toy_task(grid(3), [("0>1", "7>8")])
    seen = [Episode(task, bridge(task.graph)).advance()[0].observation for bridge in (Told, Slow)]
    assert seen[0].tolist() == seen[1].tolist()


def test_mesoscopic_congestion_is_translated(toy_task: Make) -> None:
    class Mesoscopic(Told):
        mesoscopic = True

    task = toy_task(grid(3), [("0>1", "7>8")])
    edges = task.graph.n_edges
    quantiles = np.linspace(0.0, 4.0, len(LEVELS))
    readings = Readings(micro=np.tile(quantiles / 4, (edges, 1)), meso=np.tile(quantiles, (edges, 1)))
    translated = replace(task, readings=readings)
    seen = [Episode(translated, bridge(task.graph)).advance()[0].observation for bridge in (Told, Mesoscopic)]
    assert seen[0][0] == pytest.approx(2 * np.sqrt(2 / 6) - 1)  # 40 s in place of 10 s: two octaves
    assert seen[1][0] == pytest.approx(2 * np.sqrt(0.5 / 6) - 1)
    assert seen[0][1::2].tolist() == seen[1][1::2].tolist()
    with pytest.raises(InputError, match=r"scenario 'toy': its mesoscopic readings .* prepare it with simulators="):
        Episode(task, Mesoscopic(task.graph)).advance()
    instant = toy_task(grid(3), [("0>1", "7>8")], observation={"congestion": "instant"})
    Episode(instant, Mesoscopic(task.graph)).advance()


def test_time_counts_from_the_scheduled_departure_and_free_flow_is_minus_one(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8")], depart_s=[5.0], horizon_s=100.0)
    episode = Episode(task, ToyBridge(task.graph))
    (first,) = episode.advance()
    episode.act(first, slot_to(task, first, "1>4"))
    (second,) = episode.advance()
    assert second.time == 15.0
    assert second.observation[-1] == pytest.approx(2 * 10 / 100 - 1)
    assert second.observation[:6:2].tolist() == [-1, -1, -1]


def test_a_trip_between_neighbouring_edges_has_a_scale(toy_task: Make) -> None:
    # both edges end at junction 4: the straight-line distance is 0
    task = toy_task(grid(3), [("1>4", "3>4")])
    record = shortest(task, ToyBridge(task.graph))
    assert record.status == ("arrived",)
    assert np.isfinite(record.observation).all()


def test_an_episode_without_observations_does_not_read_the_traffic(crossing: RoutingTask) -> None:
    class Blind(ToyBridge):
        def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
            raise AssertionError("no decision is expected")

    episode = Episode(crossing, Blind(crossing.graph), observe=False)
    choose = Policy("shortest").start()
    record = run(episode, lambda decision: choose(episode, decision))
    assert record.observation.shape == (len(record.agent), crossing.observation_size)
    assert not record.observation.any()


# --- masks and decisions ----------------------------------------------------------------------------------------------


def with_dead_end(graph: RoadGraph, edge: str) -> RoadGraph:
    slots = graph.slots.copy()
    slots[graph.index[edge]] = -1
    return replace(graph, slots=slots)


def test_absent_unreachable_and_closed_successors_are_masked(toy_task: Make) -> None:
    graph = grid(3)
    at = graph.index["3>4"]  # its successors, left to right: 4>7, 4>5, 4>1
    assert graph.edge_ids[graph.slots[at]].tolist() == ["4>7", "4>5", "4>1"]
    ends = [("3>4", "5>8")]
    assert toy_task(graph, ends).mask(0, at).tolist() == [True, True, True]
    assert toy_task(with_dead_end(graph, "4>1"), ends).mask(0, at).tolist() == [True, True, False]
    assert toy_task(graph, ends, closed=["4>7"]).mask(0, at).tolist() == [False, True, True]
    assert toy_task(graph, ends).mask(0, graph.index["0>1"]).tolist() == [True, True, False]
    assert toy_task(graph, ends, closed=["1>2"]).mask(0, graph.index["0>1"]).tolist() == [True, False, False]


def test_a_masked_successor_is_observed_as_absent(toy_task: Make) -> None:
    task = toy_task(grid(3), [("3>4", "5>8")], closed=["4>7"])
    (decision,) = Episode(task, ToyBridge(task.graph)).advance()
    assert decision.observation[:2].tolist() == [1, 1]
    assert (decision.observation[2:6] != 1).all()


def test_no_agent_uses_a_closed_edge(toy_task: Make, toy_drive: Drive) -> None:
    task = toy_task(grid(4), [("0>1", "14>15")], closed=["1>5", "6>10"], horizon_s=600.0)
    shut = {task.graph.index[e] for e in ("1>5", "6>10")}
    for policy in (Policy("shortest"), *(Policy("random", seed=s) for s in range(5))):
        assert not shut & set(toy_drive(task, policy).routes[0].tolist())


def test_a_single_open_successor_is_counted_but_is_no_decision(toy_task: Make) -> None:
    # successors: 0>1 two, 1>2 (a corner) one, 2>5 two, 5>8 (the destination) two
    task = toy_task(grid(3), [("0>1", "5>8")])
    record = run(Episode(task, ToyBridge(task.graph)), lambda d: slot_to(task, d, {0: "1>2", 1: "5>8"}[d.number]))
    assert names(task, record) == ["0>1", "1>2", "2>5", "5>8"]
    assert [str(task.graph.edge_ids[e]) for e in record.edge] == ["0>1", "2>5"]
    assert record.one_way.tolist() == [1]
    assert record.crossed.tolist() == [0]


def test_edges_crossed_within_a_step_are_counted_but_are_no_decision(toy_task: Make) -> None:
    # half a second per edge, along the lower border: at 0 s on 0>1, at 1 s on 2>3 (1>2 was crossed), at 2 s past 3>4
    task = toy_task(grid(5, speed=200.0), [("0>1", "3>4")])
    record = shortest(task, ToyBridge(task.graph))
    assert names(task, record) == ["0>1", "1>2", "2>3", "3>4"]
    assert [str(task.graph.edge_ids[e]) for e in record.edge] == ["0>1", "2>3"]
    assert record.crossed.tolist() == [1]
    assert record.status == ("arrived",)
    assert record.travel_time.tolist() == [2.0]


def test_agents_decide_asynchronously(crossing: RoutingTask) -> None:
    episode = Episode(crossing, ToyBridge(crossing.graph))
    choose = Policy("random", seed=1).start()
    alone, numbers = 0, [0] * crossing.n_agents
    while decisions := episode.advance():
        assert len({d.time for d in decisions}) == 1
        assert len({d.agent for d in decisions}) == len(decisions)
        under_way = sum(v.inserted and v.status is None for v in episode.vehicles)
        alone += len(decisions) < under_way
        for decision in decisions:
            assert decision.number == numbers[decision.agent]
            numbers[decision.agent] += 1
            episode.act(decision, choose(episode, decision))
    assert alone > 10
    assert np.bincount(episode.record().agent, minlength=crossing.n_agents).tolist() == numbers


def test_the_route_always_continues_to_the_destination(toy_task: Make) -> None:
    task = toy_task(grid(4), [("0>1", "14>15")])
    sent: list[Sequence[str]] = []

    class Heard(ToyBridge):
        def set_route(self, vehicle: str, route: Sequence[str]) -> None:
            sent.append(route)
            super().set_route(vehicle, route)

    run(Episode(task, Heard(task.graph)), lambda d: int(np.flatnonzero(d.mask)[d.number % d.mask.sum()]))
    assert sent
    assert all(route[-1] == "14>15" and len(route) >= 2 for route in sent)


# --- ends -------------------------------------------------------------------------------------------------------------


def test_an_agent_still_driving_at_the_horizon(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8")], horizon_s=45.0)
    record = shortest(task, ToyBridge(task.graph, {task.graph.index["4>7"]: 9.0}))
    assert record.status == ("horizon",)
    assert names(task, record) == ["0>1", "1>4", "4>7"]
    assert record.returns[0] == pytest.approx(0.1 * (np.hypot(100, 200) - 100) - 45)
    assert record.travel_time[0] == pytest.approx(45 + 10)  # 7>8 remains
    assert record.simulated_s == 45.0
    assert record.arrival_rate == 0.0


def test_an_agent_that_leaves_before_its_destination_is_lost(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8"), ("0>3", "5>8")], horizon_s=200.0)
    record = shortest(task, Meddled(task.graph, vanishes_s=15.0))
    assert record.status == ("lost", "arrived")
    assert names(task, record) == ["0>1", "1>4"]
    assert record.returns[0] == pytest.approx(-200)
    assert record.travel_time[0] == pytest.approx(200 + 20)  # 4>7 and 7>8 remain
    assert record.reward[record.agent == 0].sum() <= -190
    assert record.arrival_rate == 0.5


def test_an_agent_that_is_never_inserted(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8"), ("0>3", "5>8")], depart_s=[20.0, 0.0], horizon_s=100.0)
    record = shortest(task, Meddled(task.graph, refused=True))
    assert record.status == ("never inserted", "arrived")
    assert record.returns[0] == pytest.approx(-80)
    assert record.travel_time[0] == pytest.approx(80 + 40)  # the whole trip remains
    assert not (record.agent == 0).any()
    assert names(task, record) == []


def test_a_teleport_is_counted_and_the_trip_continues(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8")])
    record = shortest(task, Meddled(task.graph, lifted_s=12.0))
    assert record.status == ("arrived",)
    assert record.teleports.tolist() == [1]
    assert record.travel_time.tolist() == [40.0]


def test_an_agent_can_be_lost_after_a_teleport(toy_task: Make) -> None:
    task = toy_task(grid(5), [("0>1", "23>24")])
    record = shortest(task, Meddled(task.graph, lifted_s=2.0, vanishes_s=25.0))
    assert record.status == ("lost",)
    assert record.teleports.tolist() == [1]


def test_an_agent_that_teleports_to_its_destination_has_arrived(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8")])
    record = shortest(task, Meddled(task.graph, lifted_s=28.0, vanishes_s=31.0))
    assert record.status == ("arrived",)
    assert record.travel_time.tolist() == [31.0]


def test_a_vehicle_off_its_route_raises_an_error(toy_task: Make) -> None:
    class Astray(ToyBridge):
        def road(self, vehicle: str) -> str | None:
            return "8>7" if super().road(vehicle) == "1>4" else super().road(vehicle)

    task = toy_task(grid(3), [("0>1", "7>8")])
    with pytest.raises(SimulationError, match=r"'a0' to edge '8>7'"):
        shortest(task, Astray(task.graph))


def test_agents_do_not_decide_under_the_rerouting_device(crossing: RoutingTask, toy_drive: Drive) -> None:
    record = toy_drive(crossing, Policy("rerouting"), rerouting=True)
    other = toy_drive(crossing, Policy("shortest"))
    assert len(record.agent) == 0
    assert set(record.status) == {"arrived"}
    assert record.travel_time.tolist() == other.travel_time.tolist()
    assert [r.tolist() for r in record.routes] == [r.tolist() for r in other.routes]


def test_agents_do_not_count_as_background_traffic(crossing: RoutingTask, toy_drive: Drive) -> None:
    record = toy_drive(crossing, Policy("shortest"), background=True)
    assert record.background_vehicle_s == 0.0
    assert record.simulated_s == 300.0  # the horizon, which is shorter than the time of the measurement
    assert toy_drive(crossing, Policy("shortest")).simulated_s < 300.0


# --- act, record, digest ----------------------------------------------------------------------------------------------


def test_act_refuses_impossible_actions(toy_task: Make) -> None:
    task = toy_task(grid(3), [("0>1", "7>8"), ("0>3", "5>8")])
    episode = Episode(task, ToyBridge(task.graph))
    first, second = episode.advance()
    with pytest.raises(RuntimeError, match="2 decisions are still open"):
        episode.advance()
    for slot in (2, 3, -1):
        with pytest.raises(InputError, match=rf"'a0': slot {slot} is masked; use one of \[0, 1\]"):
            episode.act(first, slot)
    episode.act(first, 0)
    with pytest.raises(RuntimeError, match="'a0' does not have this decision open"):
        episode.act(first, 0)
    with pytest.raises(RuntimeError, match="'a1' does not have this decision open"):
        episode.act(replace(second), 0)
    with pytest.raises(RuntimeError, match="not over"):
        episode.record()
    episode.act(second, 0)
    assert episode.advance()


def test_a_refused_action_changes_nothing(crossing: RoutingTask) -> None:
    def drive(clumsy: bool) -> str:
        episode = Episode(crossing, ToyBridge(crossing.graph))
        choose = Policy("random", seed=3).start()
        while decisions := episode.advance():
            for decision in decisions:
                if clumsy and not decision.mask.all():
                    with pytest.raises(InputError):
                        episode.act(decision, int(np.flatnonzero(~decision.mask)[0]))
                episode.act(decision, choose(episode, decision))
        return episode.record().digest

    assert drive(clumsy=True) == drive(clumsy=False)


def test_the_digest_distinguishes_episodes(crossing: RoutingTask, toy_drive: Drive) -> None:
    once, again = (toy_drive(crossing, Policy("random", seed=7)) for _ in range(2))
    assert once.digest == again.digest
    assert once.reward.tobytes() == again.reward.tobytes()
    others = [toy_drive(crossing, Policy("random", seed=8)), toy_drive(crossing, Policy("shortest"))]
    slow = toy_drive(
        crossing, Policy("shortest"), slow={crossing.graph.index["13>14"]: 1.5}
    )  # the decisions are the same
    assert len({once.digest, *(record.digest for record in others), slow.digest}) == 4


# --- impossible tasks -------------------------------------------------------------------------------------------------


def test_a_trip_that_ends_on_its_first_edge(toy_task: Make) -> None:
    with pytest.raises(InputError, match=r"'toy'.*trip 'a1' starts and ends on the same edge"):
        toy_task(grid(3), [("0>1", "7>8"), ("3>4", "3>4")])


def test_a_trip_without_a_route(toy_task: Make) -> None:
    with pytest.raises(InputError, match=r"trip 'a1' cannot reach its destination; move its origin"):
        toy_task(with_dead_end(grid(3), "0>1"), [("1>0", "7>8"), ("0>1", "7>8")])
    for closed in (["4>7", "6>7"], ["7>8"], ["0>1"]):
        with pytest.raises(InputError, match="trip 'a0' cannot reach its destination while edges are closed"):
            toy_task(grid(3), [("0>1", "7>8")], closed=closed)


def test_a_horizon_that_is_too_short(toy_task: Make) -> None:
    with pytest.raises(InputError, match=r"horizon_s = 60 is too short: trip 'a1' needs 40 s .* at 20 s"):
        toy_task(grid(3), [("0>1", "7>8"), ("0>1", "7>8")], depart_s=[0.0, 20.0], horizon_s=60.0)
    assert toy_task(grid(3), [("0>1", "7>8")], depart_s=[20.0], horizon_s=61.0).n_agents == 1


def test_distance_by_time_needs_travel_times(toy_task: Make) -> None:
    with pytest.raises(InputError, match="'time' needs the mean travel times"):
        toy_task(grid(3), [("0>1", "7>8")], observation={"distance": "time"})
