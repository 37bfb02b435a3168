"""A fleet: agents drawn from the demand in each traffic seed, in real SUMO."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.pettingzoo import RoutingEnv
from relid_sumo.env.play import drive, job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Fleet, Scenario
from relid_sumo.scenario.traffic import demand, flows
from relid_sumo.scenario.traffic.sumo_options import simulation_options

pytestmark = pytest.mark.sumo


def with_fleet(ready: PreparedScenario, **changes: Any) -> Scenario:  # noqa: ANN401 - settings of a fleet
    """Return the scenario of a task with a fleet instead of its trips."""
    fleet = Fleet.model_validate(changes)
    return ready.scenario.model_copy(update={"trips": (), "fleet": fleet})


@pytest.fixture(scope="module")
def fleet(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the small town in which a fifth of the demand's vehicles are agents."""
    return prepare(with_fleet(town_ready, share=0.2))


def vehicles(file: Path) -> Counter[str]:
    return Counter(str(one.get("id")) for one in ET.parse(file).getroot() if one.tag in {"vehicle", "trip"})


@pytest.mark.parametrize("seed", [0, 1, 200])
def test_a_fleet_is_a_share_of_the_demand(fleet: PreparedScenario, seed: int) -> None:
    trips = fleet.day(seed).trips
    assert trips is not None
    options = fleet.options(seed)
    every, rest = demand.routes(fleet.scenario, fleet.network, seed), Path(options[options.index("-r") + 1])
    assert vehicles(every) == vehicles(rest) + Counter(trips.vehicles)
    begin_s, start_s = 0.0, fleet.scenario.start_s
    departs = {str(one.get("id")): one for one in ET.parse(every).getroot().iter("vehicle")}
    window = [one for one in departs.values() if begin_s <= float(one.get("depart", "")) - start_s < 300.0]
    assert len(trips.names) == round(0.2 * len(window))
    assert trips.names[:2] == ("agent0", "agent1")
    assert (np.diff(trips.depart_s) >= 0).all()
    ids = fleet.network.graph.edge_ids
    for vehicle, origin, destination, depart_s in zip(
        trips.vehicles, trips.origin, trips.destination, trips.depart_s, strict=True
    ):
        route = departs[vehicle].find("route")
        assert route is not None
        edges = route.get("edges", "").split()
        assert [edges[0], edges[-1]] == [ids[origin], ids[destination]]
        assert depart_s == pytest.approx(float(departs[vehicle].get("depart", "")) - start_s)


def test_traffic_seeds_have_other_trips_and_a_larger_fleet_contains_the_smaller(
    fleet: PreparedScenario, town_ready: PreparedScenario
) -> None:
    larger = prepare(with_fleet(town_ready, share=0.5))
    one, other, more = (ready.day(seed).trips for ready, seed in ((fleet, 0), (fleet, 1), (larger, 0)))
    assert one is not None
    assert other is not None
    assert more is not None
    assert one.origin.tolist() != other.origin.tolist()
    assert set(one.vehicles) < set(more.vehicles)


def test_episodes_of_a_fleet_do_not_depend_on_the_workers(fleet: PreparedScenario) -> None:
    weights = Actor(1, fleet.task.graph.m_out, hidden=8, scorer=8, octaves=3, seed=0).weights()
    policies = [Policy("learned", seed=5, weights=weights), Policy("reactive")]
    jobs = [job(fleet, seed, policy) for seed in (0, 1) for policy in policies]
    with Rollouts(fleet.task, 2) as two:
        driven = two.run(jobs)
    with Rollouts(fleet.task, 1, fork=False) as loaded:
        assert [one.digest for one in loaded.run(jobs[:1])] == [one.digest for one in driven[:1]]
    here = drive(fleet.task, jobs[-1])
    assert here.digest == driven[-1].digest
    assert len(here.status) == fleet.on(1).task.n_agents
    assert here.arrival_rate > 0.9


def test_agents_observe_the_same_scale_in_all_traffic_seeds(fleet: PreparedScenario) -> None:
    scales = {fleet.on(seed).task.distance_scale_m for seed in (0, 1)}
    assert scales == {fleet.task.distance_scale_m}
    record = drive(fleet.task, job(fleet, 0, Policy("learned", weights=Actor(
        1, fleet.task.graph.m_out, hidden=8, scorer=8, octaves=0, seed=0).weights())))  # fmt: skip
    assert record.observation.min() >= -1.0
    assert record.observation.max() <= 1.0


def test_closed_edges_leave_out_vehicles_that_need_them(town_ready: PreparedScenario, fleet: PreparedScenario) -> None:
    trips = fleet.day(0).trips
    assert trips is not None
    shut = str(fleet.network.graph.edge_ids[trips.destination[0]])
    closed = prepare(fleet.scenario, closed=[shut])
    remaining = closed.day(0).trips
    assert remaining is not None
    assert trips.vehicles[0] not in remaining.vehicles
    kept = set(trips.vehicles) & set(remaining.vehicles)
    assert len(kept) >= len(trips.vehicles) - 3
    drive(closed.task, job(closed, 0, Policy("shortest")))


def test_the_parallel_environment_has_the_agents_of_the_traffic_seed(fleet: PreparedScenario) -> None:
    names = tuple(f"agent{i}" for i in range(60))
    seeds = (0, 1)
    env = RoutingEnv(fleet.task, fleet.options, seeds, day_of=fleet.day, possible_agents=names)
    try:
        for seed in seeds:
            env.reset(options={"traffic_seed": seed})
            assert len(env.agents) == fleet.on(seed).task.n_agents
        while env.agents:
            seen, _, _, _, infos = env.step(
                {a: int(np.argmax(env._asked[i][1])) for i, a in enumerate(env.task.names) if i in env._asked}
            )
        assert set(seen) <= set(names)
        assert infos
        record = drive(fleet.task, job(fleet, 1, Policy("shortest")))
        assert len(record.status) == fleet.on(1).task.n_agents
    finally:
        env.close()


FLOWS = """<routes>
<vType id="car" maxSpeed="20"/><vType id="lorry" vClass="truck"/><vType id="small" maxSpeed="15"/>
<vTypeDistribution id="mix" vTypes="car small" probabilities="0.5 0.5"/>
<route id="r" edges="EDGES"/>
<flow id="n" type="car" begin="60" end="160" number="10" route="r"/>
<flow id="rate" type="mix" begin="60" end="400" vehsPerHour="100" from="FIRST" to="LAST"/>
<flow id="p" begin="30" end="9999" period="45" from="FIRST" to="LAST" departLane="best"/>
<flow id="trucks" type="lorry" begin="60" end="160" number="4" route="r"/>
<flow id="seven" type="car" begin="60" end="100" period="7" from="FIRST" to="LAST" via="FIRST"/>
<vehicle id="delivery" type="car" depart="70"><route edges="EDGES"/><stop edge="LAST" duration="9"/></vehicle>
<trip id="single" type="car" depart="0:01:30" from="FIRST" to="LAST"/>
</routes>"""


def own(ready: PreparedScenario, folder: Path, text: str, **fleet: Any) -> Scenario:  # noqa: ANN401 - as above
    route = [str(edge) for edge in ready.task.graph.edge_ids[ready.task.route(1, int(ready.task.origin[1]))]]
    for word, edges in (("EDGES", " ".join(route)), ("FIRST", route[0]), ("LAST", route[-1])):
        text = text.replace(word, edges)
    (folder / "own.rou.xml").write_text(text, encoding="utf-8")
    own_demand = Demand(route_file="own.rou.xml", warmup_s=60.0)
    return with_fleet(ready, **fleet).model_copy(update={"demand": own_demand, "folder": folder, "meso": None})


def test_flows_are_written_as_the_vehicles_that_sumo_makes_of_them(
    town_ready: PreparedScenario, tmp_path: Path
) -> None:
    scenario = own(town_ready, tmp_path, FLOWS, share=1.0, end_s=600.0)
    file = demand.routes(scenario, town_ready.network, 0)
    options = simulation_options(scenario, town_ready.network, file, 0)
    driven = tmp_path / "driven.xml"
    sumo.run("sumo", [*options, "--end", str(scenario.end_s), "--vehroute-output", str(driven), *(
        f"--vehroute-output.{what}" for what in ("write-unfinished", "intended-depart"))])  # fmt: skip
    theirs = {str(one.get("id")): one.get("depart", "") for one in ET.parse(driven).getroot().iter("vehicle")}
    root = flows.unrolled(ET.parse(file).getroot(), 0, scenario.end_s)
    ours = {str(one.get("id")): one.get("depart", "") for one in root if one.tag in {"vehicle", "trip"}}
    assert ours.keys() == theirs.keys()
    for name, depart in theirs.items():
        if name != "single":
            assert float(ours[name]) == pytest.approx(float(depart), abs=0.01), name


def test_own_demand_gives_cars_with_their_types(town_ready: PreparedScenario, tmp_path: Path) -> None:
    ready = prepare(own(town_ready, tmp_path, FLOWS, share=1.0, end_s=500.0))
    trips = ready.day(0).trips
    assert trips is not None
    assert not {name for name in trips.vehicles if re.match(r"trucks|delivery", name)}
    assert {name.split(".")[0] for name in trips.vehicles} == {"n", "rate", "p", "seven", "single"}
    kinds = dict(zip(trips.vehicles, trips.types, strict=True))
    assert kinds["n.0"] == "car"
    assert kinds["p.1"] == "DEFAULT_VEHTYPE"
    assert {kinds[name] for name in kinds if name.startswith("rate")} == {"car", "small"}
    for policy in ("shortest", "rerouting"):
        record = drive(ready.task, job(ready, 0, Policy(policy)))
        assert record.arrival_rate > 0.7


def test_random_flows_have_their_rate(town_ready: PreparedScenario) -> None:
    about = {"id": "f", "begin": "100", "end": "20100"}
    for more in ({"probability": "0.05"}, {"period": "exp(0.05)"}):
        times = list(flows.departures({**about, **more}, 3, 1e6))
        assert times == list(flows.departures({**about, **more}, 3, 1e6))
        assert times != list(flows.departures({**about, **more}, 4, 1e6))
        assert 800 < len(times) < 1200
        assert 100 <= times[0] < times[-1] < 20100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.001}, "fleet.share = 0.001 gives too few agents: .* cars of the demand can be drawn"),
        ({"count": 5000}, "fleet.count = 5000 gives too few agents: "),
        ({"share": 0.2, "min_distance_m": 1e5}, "too few agents: 0 cars .* fleet.min_distance_m lower"),
        ({"share": 0.2, "types": ["pkw"]}, "fleet.types: the generated demand has no vehicle type 'pkw'"),
    ],
)
def test_a_fleet_that_cannot_be_drawn_is_refused_when_it_is_prepared(
    town_ready: PreparedScenario, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(with_fleet(town_ready, **changes))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lorry", "vehicle type 'lorry' is not a car .vClass truck.; agents drive cars only"),
        ("cra", "has no vehicle type 'cra'.*car"),
    ],
)
def test_types_that_no_agent_drives_are_refused(
    town_ready: PreparedScenario, tmp_path: Path, kind: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(own(town_ready, tmp_path, FLOWS, share=0.5, types=[kind]))
