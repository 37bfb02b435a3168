"""Incidents in SUMO: closed edges are not entered, slowed ones are slow, and episodes do not depend on how they run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive, play, warmed
from relid_sumo.env.play import job as job_of
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn.closing import closed_road
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Scenario, Simulator
from relid_sumo.viewer.export import export_routes

pytestmark = pytest.mark.sumo

SEED = 3
SIMULATORS = pytest.mark.parametrize("simulator", ["micro", "meso"])
ANYWHERE = {"random": {"count": 3, "where": "anywhere", "closed": 1.0}}
RANDOM = {"random": {"count": 4, "duration_s": 300.0, "begin_s": [0.0, 120.0], "closed": 0.5, "lane": 0.25}}


def with_incidents(ready: PreparedScenario, *incidents: Mapping[str, object]) -> Scenario:
    return Scenario.model_validate({**ready.scenario.model_dump(), "incidents": incidents})


def busy_edges(ready: PreparedScenario) -> list[str]:
    """Return the edges within the agents' free-flow routes, the most used first."""
    task = ready.task
    routes = [task.route(i, int(task.origin[i])) for i in range(task.n_agents)]
    ends = {*task.origin.tolist(), *task.destination.tolist()}
    used = Counter(edge for route in routes for edge in route if edge not in ends)
    return [str(task.graph.edge_ids[edge]) for edge, _ in used.most_common()]


@pytest.fixture(scope="module")
def closing(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the town where the busiest edge and another one close while agents drive."""
    first, *others = busy_edges(town_ready)
    for other in others:
        try:
            return prepare(added(town_ready.scenario, [f"{first}@0-400", f"{other}@90-300"]), simulators=("meso",))
        except InputError:
            continue
    pytest.fail("no two edges of the town can be closed together")


@pytest.fixture(scope="module")
def drawn(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the town with incidents that are drawn in each traffic seed."""
    return prepare(with_incidents(town_ready, RANDOM), simulators=("meso",))


def watched(
    ready: PreparedScenario, policy: Policy, simulator: Simulator
) -> tuple[EpisodeRecord, dict[str, list[tuple[float, str]]]]:
    """Run an episode; return it and, for every vehicle, the edges and junctions it was on, each with the first step."""
    bridge = warmed(ready.task, ready.options(SEED, simulator))
    step, roads = bridge.step, dict[str, list[tuple[float, str]]]()

    def stepped() -> float:
        now = step()
        for name in bridge.api.vehicle.getIDList():
            road, before = bridge.road(name) or "", roads.setdefault(name, [])
            if not before or before[-1][1] != road:
                before.append((now, road))
        return now

    bridge.step = stepped  # type: ignore[method-assign]
    try:
        return play(ready.task, Job(SEED, (), policy, background=True), bridge), roads
    finally:
        bridge.close()


@SIMULATORS
@pytest.mark.parametrize("name", ["shortest", "rerouting", "random"])
def test_no_vehicle_enters_a_closed_edge(closing: PreparedScenario, simulator: Simulator, name: str) -> None:
    record, roads = watched(closing, Policy(name, seed=1), simulator)
    ids, start_s, entered = closing.task.graph.edge_ids, closing.scenario.start_s, 0
    for one in closing.task.incidents.of(SEED):
        shut = {str(ids[edge]) for edge in one.shut}
        for vehicle, visits in roads.items():
            for (_, before), (now, road) in zip([(0.0, ""), *visits], visits, strict=False):
                if road in shut:
                    open_now = not one.begin_s <= now - start_s < one.end_s
                    entered += open_now
                    in_junction = now - start_s < one.begin_s + 20 and (before.startswith(":") or simulator == "meso")
                    assert open_now or in_junction, (vehicle, before, road, now)
    assert entered > 0  # background vehicles use these edges at other times
    if name != "random":
        assert set(record.status) == {ARRIVED}
        assert record.teleports.sum() == 0


@SIMULATORS
def test_agents_take_other_routes_only_when_they_see_the_closing(
    closing: PreparedScenario, town_ready: PreparedScenario, simulator: Simulator
) -> None:
    def driven(ready: PreparedScenario, name: str) -> EpisodeRecord:
        return drive(ready.task, Job(SEED, ready.options(SEED, simulator), Policy(name)))

    free, around = driven(town_ready, "shortest"), driven(closing, "shortest")
    assert around.diverted.sum() >= 3
    assert around.travel_time.mean() > free.travel_time.mean() + 20
    shut = {edge for one in closing.task.incidents.of(SEED) for edge in one.shut}
    for before, now, met in zip(free.routes, around.routes, around.diverted.tolist(), strict=True):
        same = next((k for k, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]), len(before))
        assert (same < len(before)) == (met > 0)
        if met:  # the next edge of the free-flow route is the first one that is closed
            assert before[same] in shut


@SIMULATORS
def test_a_slowed_edge_is_slow_and_open_again(town_ready: PreparedScenario, simulator: Simulator) -> None:
    name = busy_edges(town_ready)[0]
    edge = town_ready.task.graph.index[name]
    slow = prepare(added(town_ready.scenario, [f"{name}@0-240=10%"]))
    _, roads = watched(slow, Policy("shortest"), simulator)
    during, after = list[float](), list[float]()
    for visits in roads.values():
        for (now, road), (left, _) in pairwise(visits):
            if road == name:
                at_s = now - slow.scenario.start_s
                (during if 0 <= at_s < 100 else after if at_s > 250 else []).append(left - now)
    free_s = float(town_ready.task.graph.free_flow_s[edge])
    assert np.mean(during) > 5 * free_s
    assert np.mean(after) < 3 * free_s


def test_closed_lanes_are_empty(town_ready: PreparedScenario) -> None:
    lanes = town_ready.network.lanes
    graph = town_ready.task.graph
    edge = max((e for e in lanes if len(lanes[e]) > 1), key=lambda e: graph.length[e])
    name = str(graph.edge_ids[edge])
    ready = None
    for lane in lanes[edge]:
        try:
            ready = prepare(added(town_ready.scenario, [f"{name}:{lane.number}@30-500"]))
        except InputError:
            continue
        break
    assert ready is not None
    bridge = warmed(ready.task, ready.options(SEED))
    closed, others = f"{name}_{lane.number}", [f"{name}_{o.number}" for o in lanes[edge] if o is not lane]
    try:
        seen = Counter[str]()
        for k in range(500):
            bridge.step()
            if k > 60:
                seen.update({one: len(bridge.api.lane.getLastStepVehicleIDs(one)) for one in (closed, *others)})
        assert seen[closed] == 0
        assert sum(seen[one] for one in others) > 0
    finally:
        bridge.close()


def digests(
    ready: PreparedScenario, simulator: Simulator, drive_all: Callable[[Sequence[Job]], list[str]]
) -> list[str]:
    policies = [Policy("random", seed=2), Policy("shortest"), Policy("rerouting")]
    jobs = [Job(seed, ready.options(seed, simulator), policy) for seed, policy in enumerate(policies)]
    return drive_all(jobs)


@SIMULATORS
def test_episodes_do_not_depend_on_workers_and_forks(drawn: PreparedScenario, simulator: Simulator) -> None:
    def run(workers: int, fork: bool) -> Callable[[Sequence[Job]], list[str]]:
        def drive_all(jobs: Sequence[Job]) -> list[str]:
            with Rollouts(drawn.task, workers, fork=fork) as rollouts:
                return [record.digest for record in rollouts.run(jobs)]

        return drive_all

    several = [digests(drawn, simulator, run(*how)) for how in ((1, True), (2, False))]
    assert several[0] == several[1]
    assert len(set(several[0])) == len(several[0])


@SIMULATORS
def test_libsumo_and_traci_drive_the_same_episode(closing: PreparedScenario, simulator: Simulator) -> None:
    job = Job(SEED, closing.options(SEED, simulator), Policy("shortest"), background=True)
    inside, beside = (drive(closing.task, job, program=program) for program in ("libsumo", "sumo"))
    assert inside.digest == beside.digest
    assert inside.background_vehicle_s == beside.background_vehicle_s


def test_a_branch_continues_with_the_incidents(closing: PreparedScenario) -> None:
    job = Job(SEED, closing.options(SEED), Policy("shortest"), branches=0.05)
    record = drive(closing.task, job)
    assert record.branches
    for branch in record.branches:
        chosen = branch.slots.tolist().index(record.action[branch.decision])
        assert branch.travel_time[chosen].tolist() == record.travel_time.tolist()


def test_plain_sumo_reproduces_the_episode(closing: PreparedScenario, tmp_path: Path) -> None:
    configuration = export_routes(closing, Policy("shortest"), SEED, tmp_path / "a.rou.xml")
    sumo.run("sumo", ["-c", configuration, "--tripinfo-output", tmp_path / "trips.xml"])
    infos = ET.parse(tmp_path / "trips.xml").getroot().iter("tripinfo")
    times = {i.get("id"): float(i.get("duration", "")) + float(i.get("departDelay", "")) for i in infos}
    record = drive(closing.task, Job(SEED, closing.options(SEED), Policy("shortest")))
    assert record.diverted.sum() > 0
    assert [times[agent] for agent in closing.task.names] == record.travel_time.tolist()


def test_draws_differ_between_seeds_and_not_between_preparations(
    drawn: PreparedScenario, town_ready: PreparedScenario
) -> None:
    again = prepare(with_incidents(town_ready, RANDOM))
    seeds = drawn.scenario.seeds
    every = (*seeds.training, *seeds.validation, *seeds.evaluation)
    assert [again.task.incidents.of(seed) for seed in every] == [drawn.task.incidents.of(seed) for seed in every]
    assert len({drawn.task.incidents.of(seed) for seed in every}) == len(every)


def test_own_demand_is_diverted_too(town_ready: PreparedScenario, tmp_path: Path) -> None:
    name, task = busy_edges(town_ready)[0], town_ready.task
    agent = next(i for i in range(task.n_agents) if task.graph.index[name] in task.route(i, int(task.origin[i])))
    route = " ".join(str(task.graph.edge_ids[edge]) for edge in task.route(agent, int(task.origin[agent])))
    (tmp_path / "own.rou.xml").write_text(
        '<routes><vType id="lorry" vClass="truck"/><vTypeDistribution id="mix"><vType id="a" probability="1"/>'
        f'</vTypeDistribution><route id="r" edges="{route}"/>'
        '<flow id="lorries" type="lorry" begin="60" end="300" number="5" route="r"/>'
        '<flow id="cars" type="mix" begin="60" end="300" number="5" route="r"/>'
        '<flow id="plain" begin="60" end="300" number="5" route="r"/></routes>'
    )
    demand = Demand(route_file="own.rou.xml", warmup_s=60)
    own = town_ready.scenario.model_copy(update={"demand": demand, "folder": tmp_path})
    ready = prepare(added(own, [f"{name}@0-500"]))
    record, roads = watched(ready, Policy("shortest"), "micro")
    arrived = [v for v in roads if v.split(".")[0] in {"lorries", "cars", "plain"}]
    assert len(arrived) == 15
    shut = {str(task.graph.edge_ids[edge]) for edge in ready.task.incidents.of(SEED)[0].shut}
    assert not [v for v in arrived if shut & {road for _, road in roads[v]}]
    assert set(record.status) == {ARRIVED}


def test_where_own_trips_end_cannot_be_closed(town_ready: PreparedScenario, tmp_path: Path) -> None:
    task, (name, via) = town_ready.task, busy_edges(town_ready)[:2]
    start = str(task.graph.edge_ids[task.origin[0]])
    trip = f'<trip id="a" depart="60" from="{start}" via="{via}" to="{name}"/>'
    (tmp_path / "own.rou.xml").write_text(f"<routes>{trip}</routes>")
    demand = Demand(route_file="own.rou.xml", warmup_s=60)
    own = town_ready.scenario.model_copy(update={"demand": demand, "folder": tmp_path})
    for edge in (name, via):
        with pytest.raises(InputError, match=f"edge '{edge}' cannot be closed: trips or flows of the scenario's own"):
            prepare(added(own, [f"{edge}@0-300"]))
    assert prepare(added(own, [f"{name}@0-300=20%"])).task.incidents.fixed
    random = Scenario.model_validate({**own.model_dump(), "incidents": [ANYWHERE]})
    drawn = prepare(random.model_copy(update={"folder": tmp_path}))
    closed = {edge for seed in own.seeds.training for one in drawn.task.incidents.of(seed) for edge in one.shut}
    assert closed
    assert not {task.graph.index[name], task.graph.index[via]} & closed


# --- bad input --------------------------------------------------------------------------------------------------------


def only_way(graph: RoadGraph, ready: PreparedScenario) -> str:
    """Return an edge without which a trip has no route, though it neither starts nor ends there."""
    task = ready.task
    for name in busy_edges(ready):
        cost = graph.free_flow_s.copy()
        cost[graph.index[name]] = np.inf
        for i in range(task.n_agents):
            if not np.isfinite(graph.to_destination(int(task.destination[i]), cost)[0][int(task.origin[i])]):
                return name
    return ""


def test_what_cannot_be_is_refused_in_one_message(town_ready: PreparedScenario) -> None:
    task, ids = town_ready.task, town_ready.task.graph.edge_ids
    busy, origin = busy_edges(town_ready)[0], str(ids[task.origin[0]])
    several = next(e for e, lanes in sorted(town_ready.network.lanes.items()) if len(lanes) > 1)
    wide = str(ids[several])
    cases = [
        ([f"{busy}x@0-100"], rf"has no edge '{busy}x' \(did you mean '.*'\?\)"),
        ([f"{busy}:7@0-100"], rf"edge '{busy}' has no lane 7 for cars; its lanes are 0"),
        (
            [f"{busy}@0-100", f"{busy}@50-200=20%"],
            r"incidents\[0\] and incidents\[1\]: both are on edge .* 50 to 100 s",
        ),
        ([f"{busy}@0-100=90m/s"], "90 m/s does not slow edge"),
        ([f"{origin}@0-300"], f"trip '{task.names[0]}' starts there"),
        ([f"{wide}@0-300", f"{wide}:0@200-400"], "move one of them in time"),
    ]
    for texts, message in cases:
        with pytest.raises(InputError, match=message) as raised:
            prepare(added(town_ready.scenario, texts))
        assert "\n" not in str(raised.value)


def test_an_incident_that_cuts_the_only_route_of_a_trip_is_refused(town_ready: PreparedScenario) -> None:
    scenario, task = town_ready.scenario, town_ready.task
    after = {int(task.graph.slots[e][0]) for e in task.origin.tolist() if (task.graph.slots[e] >= 0).sum() == 1}
    names = [str(task.graph.edge_ids[edge]) for edge in sorted(after)] or [only_way(task.graph, town_ready)]
    with pytest.raises(
        InputError, match=r"has no other route while incidents close its only one: edge '.*' closed from"
    ):
        prepare(added(scenario, [f"{names[0]}@0-500"]))
    late = f"{names[0]}@{scenario.horizon_s - 1:g}-{scenario.horizon_s:g}"
    with pytest.raises(InputError, match="slow it instead"):
        prepare(added(scenario, [late]))  # the trip goes on until it ends, at the horizon at the latest


def test_too_narrow_a_lane_closing_is_refused(town_ready: PreparedScenario) -> None:
    for edge, lanes in sorted(town_ready.network.lanes.items()):
        for lane in lanes:
            others = {after for other in lanes if other is not lane for after in other.leads_to}
            if len(lanes) > 1 and lane.leads_to - others:
                name = town_ready.task.graph.edge_ids[edge]
                with pytest.raises(InputError, match=r"no longer leads to .* or the whole edge"):
                    prepare(added(town_ready.scenario, [f"{name}:{lane.number}@0-100"]))
                return
    pytest.fail("the town has no lane that alone leads somewhere")


def test_a_fleet_meets_incidents(town_ready: PreparedScenario) -> None:
    content = {**town_ready.scenario.model_dump(), "fleet": {"share": 0.3}, "incidents": [RANDOM]}
    content.pop("trips")
    ready = prepare(Scenario.model_validate(content))
    job = job_of(ready, SEED, Policy("random", seed=1))
    inside, beside = (drive(ready.task, job, program=program) for program in ("libsumo", "sumo"))
    assert inside.digest == beside.digest
    closed = {edge: one for one in ready.task.incidents.of(SEED) for edge in one.shut}
    slots, start_s = ready.task.graph.slots, ready.scenario.start_s
    masked = 0
    for edge, at_s, mask in zip(inside.edge.tolist(), inside.time.tolist(), inside.mask, strict=True):
        for after, is_open in zip(slots[edge].tolist(), mask.tolist(), strict=True):
            if after in closed and closed[after].begin_s <= at_s - start_s < closed[after].end_s:
                masked += 1
                assert not is_open
    assert masked > 0


@SIMULATORS
def test_an_edge_can_be_closed_in_one_episode_alone(town_ready: PreparedScenario, simulator: Simulator) -> None:
    task, policy = town_ready.task, Policy("shortest")
    ends = frozenset([*task.origin.tolist(), *task.destination.tolist()])
    candidates = (closed_road(task, task.graph.index[name], ends) for name in busy_edges(town_ready))
    closing = next(one for one in candidates if one is not None)
    jobs = [job_of(town_ready, SEED, policy, simulator, closing=one) for one in (None, closing, None)]
    with Rollouts(task, workers=1) as rollouts:
        before, shut, after = rollouts.run(jobs)
    assert (before.closed, shut.closed, after.closed) == (-1, closing.edge, -1)
    assert before.digest == after.digest
    assert shut.digest == drive(task, jobs[1]).digest, "forked or not"
    assert any(closing.edge in route for route in before.routes)
    assert not any({*closing.shut} & {*route.tolist()} for route in shut.routes)
    assert set(shut.status) == {ARRIVED}


def test_vehicles_on_a_closed_stretch_drive_out_of_it(town_ready: PreparedScenario) -> None:
    """Two edges close at once; in the mesoscopic simulation a vehicle between them has no other route."""
    task = town_ready.task
    closing = closed_road(
        task, task.graph.index["49#6"], frozenset([*task.origin.tolist(), *task.destination.tolist()])
    )
    assert closing is not None
    assert len(closing.shut) == 2
    record = drive(task, job_of(town_ready, 0, Policy("shortest"), "meso", closing=closing))
    assert set(record.status) == {ARRIVED}
