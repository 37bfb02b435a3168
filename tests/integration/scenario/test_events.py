"""Days with incidents and surges in SUMO: a fleet is drawn from them, and episodes do not depend on how they run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relid_sumo.baseline.named import baselines
from relid_sumo.cli import tables
from relid_sumo.env.play import drive, job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.evaluation import evaluate as evaluation
from relid_sumo.evaluation.outcome import outcome, routes
from relid_sumo.scenario import events
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, EventIncidents, Events, Fleet, Scenario, Seeds, Surge
from relid_sumo.viewer.export import export_routes

pytestmark = pytest.mark.sumo

SURGE = Surge(vehicles=40, begin_s=(0.0, 60.0), duration_s=120.0, radius_m=250.0, min_distance_m=600.0)
EVENTS = Events(incidents=EventIncidents(count=2, duration_s=300.0, begin_s=(0.0, 60.0), where="anywhere"), surge=SURGE)
SEEDS = Seeds(training=(0, 1), validation=(100,), evaluation=(200, 201, 202, 203))


def with_events(ready: PreparedScenario, share: float | None = 0.2) -> Scenario:
    fleet = {} if share is None else {"trips": (), "fleet": Fleet(share=share)}
    return ready.scenario.model_copy(update={"events": EVENTS, "seeds": SEEDS, **fleet})


@pytest.fixture(scope="module")
def days(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the small town with a fleet, incidents and surges."""
    return prepare(with_events(town_ready), simulators=("micro", "meso"))


def seed_of(ready: PreparedScenario, kind: str) -> int:
    return next(seed for seed in ready.scenario.seeds.evaluation if ready.day_type(seed) == kind)


def departures(file: Path) -> list[float]:
    return [float(one.get("depart", "")) for one in ET.parse(file).getroot() if one.tag in {"vehicle", "trip"}]


def test_a_surge_adds_vehicles_of_which_a_share_are_agents(days: PreparedScenario) -> None:
    seed, ordinary = seed_of(days, "surge"), seed_of(days, "ordinary")
    trips, options, surge = days.day(seed).trips, days.options(seed), days.surge(seed)
    assert trips is not None
    assert surge is not None
    assert days.surge(ordinary) is None
    file = Path(options[options.index("-r") + 1])
    rest = {str(one.get("id")): one for one in ET.parse(file).getroot() if one.tag == "vehicle"}
    agents = [name for name in trips.vehicles if name.startswith("surge")]
    others = [name for name in rest if name.startswith("surge")]
    assert len(agents) + len(others) == 40
    assert 2 <= len(agents) <= 16
    assert departures(file) == sorted(departures(file))
    index, start_s = days.network.graph.index, days.scenario.start_s
    for name in others:
        route = rest[name].find("route")
        assert route is not None
        edges = route.get("edges", "").split()
        assert index[edges[0]] in surge.origin
        assert index[edges[-1]] in surge.destination
        assert surge.begin_s <= float(rest[name].get("depart", "")) - start_s <= surge.end_s
    assert set(trips.origin[[name in agents for name in trips.vehicles]]) <= set(surge.origin.tolist())


def test_a_larger_fleet_drives_more_of_the_same_surge(town_ready: PreparedScenario, days: PreparedScenario) -> None:
    seed = seed_of(days, "surge")
    larger = prepare(with_events(town_ready, 1.0))
    few, every = days.day(seed).trips, larger.day(seed).trips
    assert few is not None
    assert every is not None
    assert set(few.vehicles) < set(every.vehicles)
    assert {f"surge{i}" for i in range(40)} == {name for name in every.vehicles if name.startswith("surge")}


def test_days_do_not_depend_on_workers_and_forks(days: PreparedScenario) -> None:
    seeds = [seed_of(days, kind) for kind in ("surge", "surge with incidents")]
    jobs = [job(days, seed, Policy("shortest")) for seed in seeds]
    meso = job(days, seeds[1], Policy("reactive"), "meso")
    with Rollouts(days.task, 2) as two:
        driven = two.run([*jobs, meso])
    with Rollouts(days.task, 1, fork=False) as loaded:
        assert [one.digest for one in loaded.run([jobs[1], meso])] == [one.digest for one in driven[1:]]
    again = prepare(days.scenario, simulators=("micro", "meso"))
    assert [job(again, seed, Policy("shortest")).options for seed in seeds] == [one.options for one in jobs]
    assert drive(again.task, job(again, seeds[0], Policy("shortest"))).digest == driven[0].digest


def test_trips_of_the_scenario_drive_on_the_same_days(town_ready: PreparedScenario, days: PreparedScenario) -> None:
    ready = prepare(with_events(town_ready, None))
    seed = seed_of(ready, "surge with incidents")
    assert [one.describe() for one in ready.task.incidents.of(seed)]
    assert ready.surge(seed).__dict__.keys() == days.surge(seed).__dict__.keys()
    options = ready.options(seed)
    names = {one.get("id") for one in ET.parse(options[options.index("-r") + 1]).getroot()}
    assert {f"surge{i}" for i in range(40)} <= names
    assert drive(ready.task, job(ready, seed, Policy("rerouting"))).arrival_rate > 0.5


def test_own_demand_has_surges_too(town_ready: PreparedScenario, tmp_path: Path) -> None:
    task, graph = town_ready.task, town_ready.task.graph
    route = [str(graph.edge_ids[edge]) for edge in task.route(1, int(task.origin[1]))]
    flow = f'<flow id="n" begin="60" end="300" number="30" from="{route[0]}" to="{route[-1]}"/>'
    (tmp_path / "own.rou.xml").write_text(f"<routes>{flow}</routes>", encoding="utf-8")
    own = {"demand": Demand(route_file="own.rou.xml", warmup_s=60.0), "folder": tmp_path, "meso": None}
    ready = prepare(with_events(town_ready, 0.5).model_copy(update=own))
    trips = ready.day(seed_of(ready, "surge")).trips
    assert trips is not None
    assert {name.rstrip("0123456789.") for name in trips.vehicles} == {"n", "surge"}
    record = drive(ready.task, job(ready, seed_of(ready, "surge"), Policy("shortest")))
    assert record.arrival_rate > 0.9


def test_an_evaluation_is_shown_by_type_of_day(days: PreparedScenario) -> None:
    result = evaluation.evaluate(days, baselines("shortest,hist"))
    assert list(result.by_day_type) == list(events.DAY_TYPES)
    content = result.as_json()["by_day_type"]
    for kind, of_days in result.by_day_type.items():
        at = [result.seeds.index(seed) for seed in of_days.seeds]
        assert {days.day_type(seed) for seed in of_days.seeds} == {kind}
        means = [result.records["hist"][i].travel_time.mean() for i in at]
        assert content[kind]["policies"]["hist"]["mean_travel_time_s"] == pytest.approx(sum(means) / len(means))
    shown = tables.day_types_table(result)
    assert shown is not None
    assert [column.header for column in shown.columns] == ["policy", *(f"{kind} (1)" for kind in events.DAY_TYPES)]
    stored = outcome(days, result.records)
    assert stored["day_types"] == [days.day_type(seed) for seed in result.seeds]
    drawn = routes(days, result.records)
    assert [said for _, said in drawn["incidents"]] == [said for _, said in days.events_of(200)]


def test_the_days_are_explained(days: PreparedScenario, tmp_path: Path) -> None:
    lines = list(tables.incidents_text(days))
    assert "4 evaluation days: 1 ordinary, 1 incidents, 1 surge, 1 surge with incidents" in lines
    seed = seed_of(days, "surge with incidents")
    surge = days.surge(seed)
    assert surge is not None
    happens = days.describe_day(seed)
    assert happens.startswith("surge with incidents: '")
    assert happens.endswith(f"40 vehicles leave the surroundings of edge '{surge.name}' from {surge.begin_s:g} to "
                            f"{surge.end_s:g} s")  # fmt: skip
    assert days.describe_day(seed_of(days, "ordinary")) == "ordinary"
    labels = [label for _, _, label in tables.marked_incidents(days)]
    assert "places of surges in 3 seeds per set" in labels
    export_routes(days, Policy("shortest"), seed, tmp_path / "day.rou.xml")
    text = (tmp_path / "day.sumocfg").read_text(encoding="utf-8")
    assert f"Event: 40 vehicles leave the surroundings of edge '{surge.name}'" in text.replace("- -", "--")
