"""The bridge's values, checked against SUMO's own outputs."""

from __future__ import annotations

import math
import os
import signal
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import seeding
from relid_sumo.base.errors import SimulationError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Observation
from relid_sumo.scenario.traffic import demand, own_demand
from relid_sumo.sim.bridge import SumoBridge

pytestmark = pytest.mark.sumo

Descendants = Callable[[], dict[int, str]]
PROGRAMS = pytest.mark.parametrize("program", ["libsumo", "sumo"])


@pytest.fixture
def start(town_ready: PreparedScenario, nothing_is_left: None) -> Iterator[Callable[..., SumoBridge]]:
    """Return a function that starts SUMO on the town; `change` replaces options by name."""
    del nothing_is_left  # its check runs after the bridges are closed
    started: list[SumoBridge] = []

    def start(program: str = "libsumo", change: dict[str, Path] | None = None, **settings: object) -> SumoBridge:
        options = list(town_ready.options(0))
        for name, value in (change or {}).items():
            options[options.index(name) + 1] = str(value)
        started.append(SumoBridge(options, program=program, **settings))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for bridge in started:
        bridge.close()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descendants: Descendants) -> Iterator[None]:
    """Check that no process and no temporary file of a test stays."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert descendants() == {}
    assert list((tmp_path / "temporary").iterdir()) == []


# --- SUMO's own line --------------------------------------------------------------------------------------------------


@PROGRAMS
def test_the_error_contains_sumos_reason_for_not_starting(
    start: Callable[..., SumoBridge],
    tmp_path: Path,
    program: str,
    capfd: pytest.CaptureFixture[str],
    descendants: Descendants,
) -> None:
    not_a_net = tmp_path / "not-a-net.xml"
    not_a_net.write_text("this is no XML")
    for net, message in (
        (tmp_path / "nowhere.net.xml", r"^SUMO failed: Error: File '.*nowhere.net.xml' is not accessible"),
        (not_a_net, r"^SUMO failed: Error: invalid document structure"),
    ):
        with pytest.raises(SimulationError, match=message):
            start(program, {"-n": net})
        assert descendants() == {}
    assert capfd.readouterr() == ("", "")
    assert start(program).step() == 0.0  # a failed start does not affect the next one


@PROGRAMS
@pytest.mark.parametrize("depart", [0, 450], ids=["at the start", "in mid-episode"])
def test_the_error_contains_sumos_line_about_a_wrong_route(
    start: Callable[..., SumoBridge], town_ready: PreparedScenario, tmp_path: Path, program: str, depart: int
) -> None:
    routes = tmp_path / "own.rou.xml"
    edge = town_ready.network.graph.edge_ids[0]
    good = [f'<vehicle id="v{i}" depart="{i}"><route edges="{edge}"/></vehicle>' for i in range(depart)]
    bad = f'<vehicle id="x" depart="{depart}"><route edges="nowhere"/></vehicle>'
    routes.write_text("\n".join(["<routes>", *good, bad, "</routes>"]))
    with pytest.raises(SimulationError, match=r"SUMO failed: .*[Tt]he edge 'nowhere' within the route for vehicle 'x'"):
        bridge = start(program, {"-r": routes})
        for _ in range(500):
            bridge.step()
    assert start(program).step() == 0.0


def test_a_killed_sumo_raises_an_error(start: Callable[..., SumoBridge], descendants: Descendants) -> None:
    bridge = start("sumo")
    for _ in range(5):
        bridge.step()
    (process,) = descendants()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(SimulationError, match=r"SUMO failed: .*(closed|reset|pipe)"):
        for _ in range(5):
            bridge.step()
    bridge.close()


def test_traci_prints_nothing(start: Callable[..., SumoBridge], capfd: pytest.CaptureFixture[str]) -> None:
    start("sumo").step()
    assert capfd.readouterr() == ("", "")


def test_a_bridge_may_be_closed_twice_and_opened_again(start: Callable[..., SumoBridge]) -> None:
    for _ in range(2):
        bridge = start()
        assert [bridge.step() for _ in range(3)] == [0.0, 1.0, 2.0]
        bridge.close()
        bridge.close()


# --- libsumo and traci ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "reactive", "rerouting"])
def test_libsumo_and_traci_drive_the_same_episode(town_ready: PreparedScenario, name: str) -> None:
    job = Job(1, town_ready.options(1), Policy(name, seed=4), background=True)
    inside, beside = (drive(town_ready.task, job, program=program) for program in ("libsumo", "sumo"))
    assert inside.digest == beside.digest
    assert inside.reward.tobytes() == beside.reward.tobytes()
    assert inside.background_vehicle_s == beside.background_vehicle_s > 0


def test_observations_are_the_same_through_traci(town_ready: PreparedScenario) -> None:
    m_out = town_ready.task.graph.m_out
    shapes = {"slot.0": (4, 3), "slot.1": (3, 1), "whole.0": (2 * m_out + 2, 3), "whole.1": (3, m_out)}
    rng = seeding.stream(0, "weights")
    weights = {}
    for layer, shape in shapes.items():
        weights[f"{layer}.weight"] = rng.normal(size=(6, *shape)).astype(np.float32)
        weights[f"{layer}.bias"] = np.zeros((6, shape[1]), dtype=np.float32)
    job = Job(0, town_ready.options(0), Policy("learned", weights=weights))
    inside, beside = (drive(town_ready.task, job, program=program) for program in ("libsumo", "sumo"))
    assert len(inside.agent) > 20
    assert inside.observation.tobytes() == beside.observation.tobytes()
    assert inside.digest == beside.digest


# --- travel times -----------------------------------------------------------------------------------------------------


def test_travel_times_are_those_of_sumo_s_tripinfo(town_ready: PreparedScenario, tmp_path: Path) -> None:
    for policy in (Policy("shortest"), Policy("rerouting")):
        file = tmp_path / f"{policy.name}.xml"
        options = (*town_ready.options(2), "--tripinfo-output", str(file))
        record = drive(town_ready.task, Job(2, options, policy, background=True))
        trips = {trip.get("id"): trip for trip in ET.parse(file).getroot()}
        assert "arrived" in record.status
        for i, name in enumerate(town_ready.task.names):
            if record.status[i] == "arrived":
                trip = trips[name]
                took = float(trip.get("duration", "")) + float(trip.get("departDelay", ""))
                assert record.travel_time[i] == pytest.approx(took)
                assert (
                    trip.get("arrivalLane", "").rsplit("_", 1)[0]
                    == town_ready.task.graph.edge_ids[record.routes[i][-1]]
                )


def test_background_time_is_that_of_sumo_s_summary(town_ready: PreparedScenario, tmp_path: Path) -> None:
    file = tmp_path / "summary.xml"
    options = (*town_ready.options(2), "--summary-output", str(file))
    record = drive(town_ready.task, Job(2, options, Policy("shortest"), background=True))
    steps = [s for s in ET.parse(file).getroot() if 60 <= float(s.get("time", "")) < 660]
    everybody = sum(float(s.get("running", "")) + float(s.get("waiting", "")) for s in steps)
    # neither source counts an agent in its arrival step; each agent drives or waits during its travel time
    assert record.background_vehicle_s == pytest.approx(everybody - record.travel_time.sum(), abs=len(record.status))


@pytest.mark.parametrize("window_s", [30.0, 180.0])
def test_smoothed_travel_times_are_an_exponential_mean(
    start: Callable[..., SumoBridge], town_ready: PreparedScenario, window_s: float
) -> None:
    graph, keep = town_ready.network.graph, math.exp(-10 / window_s)
    bridge = start(window_s=window_s)
    names = [str(e) for e in graph.edge_ids]
    speed = graph.speed.copy()
    instant = []
    bridge.add("probe", [names[0]], 300.0)
    for _ in range(301):
        if bridge.step() % 10 == 0:
            seen = np.array([bridge.api.edge.getLastStepMeanSpeed(e) for e in names])
            speed = keep * speed + (1 - keep) * seen
            instant.append([bridge.travel_time(e, "probe", smoothed=False) for e in names])
    smoothed = np.array([bridge.travel_time(e, "probe", smoothed=True) for e in names])
    own_free = graph.free_flow_s / bridge.speed_factor("probe")
    np.testing.assert_allclose(smoothed, np.maximum(own_free, graph.length / speed), atol=0.006)  # SUMO prints 0.01 s
    assert (smoothed > own_free + 0.05).any()
    at_red = np.array(instant).max(axis=0) > 20 * graph.free_flow_s
    assert at_red.any()  # an unsmoothed time depends on the phase of the signal
    assert (smoothed < 10 * graph.free_flow_s).all()


# --- routes -----------------------------------------------------------------------------------------------------------


@PROGRAMS
def test_closed_edges_are_avoided(start: Callable[..., SumoBridge], town_ready: PreparedScenario, program: str) -> None:
    task, graph = town_ready.task, town_ready.task.graph
    free = [str(graph.edge_ids[e]) for e in task.route(0, int(task.origin[0]))]
    closed = free[len(free) // 2]
    assert list(start(program).fastest_route(free[0], free[-1])) == free
    bridge = start(program, closed=[closed])
    for _ in range(30):
        bridge.step()
    round_it = list(bridge.fastest_route(free[0], free[-1]))
    assert (round_it[0], round_it[-1]) == (free[0], free[-1])
    assert closed not in round_it
    assert all(graph.index[b] in graph.slots[graph.index[a]] for a, b in pairwise(round_it))


@pytest.mark.parametrize("name", ["shortest", "reactive", "rerouting", "random"])
def test_no_vehicle_uses_closed_edges(town_ready: PreparedScenario, tmp_path: Path, name: str) -> None:
    task, graph = town_ready.task, town_ready.task.graph
    route = task.route(0, int(task.origin[0]))
    closed = str(graph.edge_ids[route[len(route) // 2]])
    ready = prepare(town_ready.scenario, closed=[closed])
    assert ready.task.closed == {graph.index[closed]}
    options = [*ready.options(0), "--vehroute-output", str(tmp_path / "driven.xml")]
    record = drive(ready.task, Job(0, tuple(options), Policy(name)))
    if name != "random":
        assert set(record.status) == {"arrived"}
    driven = [r.get("edges", "").split() for r in ET.parse(tmp_path / "driven.xml").getroot().iter("route")]
    assert len(driven) > 6
    assert not any(closed in edges for edges in driven)


def test_a_what_if_does_not_change_the_travel_times_agents_observe(town_ready: PreparedScenario) -> None:
    timed = town_ready.scenario.model_copy(update={"observation": Observation(distance="time")})
    busier = timed.model_copy(update={"demand": timed.demand.model_copy(update={"rate_vph": 1500.0})})
    learnt, known, own = prepare(timed).task, prepare(busier, known=timed).task, prepare(busier).task
    assert np.array_equal(known.to_go, learnt.to_go)
    assert not np.array_equal(own.to_go, learnt.to_go)


def test_unknown_names_raise_an_error(start: Callable[..., SumoBridge]) -> None:
    bridge = start()
    bridge.step()
    assert bridge.road("nobody") is None
    with pytest.raises(SimulationError, match="'nowhere'"):
        bridge.travel_time("nowhere", "nobody", smoothed=False)
    with pytest.raises(SimulationError, match="'nobody'"):
        bridge.set_route("nobody", [])


def test_a_scenarios_own_route_file_is_driven(town_ready: PreparedScenario, tmp_path: Path) -> None:
    graph = town_ready.network.graph
    route = " ".join(str(graph.edge_ids[e]) for e in town_ready.task.route(1, int(town_ready.task.origin[1])))
    vehicles = [f'<vehicle id="own{i}" depart="{5 * i}"><route edges="{route}"/></vehicle>' for i in range(9)]
    (tmp_path / "own.rou.xml").write_text("\n".join(["<routes>", *vehicles, "</routes>"]))
    own = town_ready.scenario.demand.model_copy(update={"route_file": "own.rou.xml", "rate_vph": None})
    ready = prepare(town_ready.scenario.model_copy(update={"demand": own, "folder": tmp_path}))
    assert demand.routes(ready.scenario, ready.network, 0) == own_demand.cleaned(tmp_path / "own.rou.xml")
    record = drive(ready.task, Job(0, ready.options(0), Policy("shortest"), background=True))
    on_free_roads = 9 * float(graph.free_flow_s[town_ready.task.route(1, int(town_ready.task.origin[1]))].sum())
    assert on_free_roads / 2 < record.background_vehicle_s < 2 * on_free_roads  # some vehicles drove during the warm-up
