"""Types of days and surges as they are written, drawn and refused, without SUMO."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import load_toml, validate
from relid_sumo.scenario import events
from relid_sumo.scenario.files import override, read_scenario, to_toml, with_fleet
from relid_sumo.scenario.incidents import Incidents
from relid_sumo.scenario.settings import EventIncidents, Events, Place, Scenario, Surge, Trip
from relid_sumo.scenario.traffic.surge import merged
from relid_sumo.sim.toy import grid

CATALOGUE = Path(__file__).parents[3] / "scenarios"
HERE = Place(lon=4.9, lat=52.4, bearing=12.5)
SURGE = Surge(vehicles=200, radius_m=250, min_distance_m=600, destinations=5)


def scenario(**changes: Any) -> Scenario:  # noqa: ANN401 - as Scenario
    trips = [Trip(id="a", origin=HERE, destination=HERE, depart_s=10.0).model_dump()]
    content = {"name": "here", "network": "here", "horizon_s": 1800.0, "trips": trips, **changes}
    return validate(content, Scenario, "here")


# --- types of days ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 100, 200, 10**15])
def test_consecutive_traffic_seeds_have_the_weights_of_the_day_types(first: int) -> None:
    weighted = Events(ordinary=2.0, with_incidents=1.0, with_surge=1.0, with_both=0.0)
    found = events.counts(weighted, range(first, first + 40))
    assert found.keys() == {"ordinary", "incidents", "surge"}
    assert found["ordinary"] == pytest.approx(20, abs=2)
    assert found["incidents"] == pytest.approx(10, abs=2)
    assert found["surge"] == pytest.approx(10, abs=2)


@pytest.mark.parametrize("only", range(4))
def test_a_day_type_without_weight_does_not_occur(only: int) -> None:
    names = ("ordinary", "with_incidents", "with_surge", "with_both")
    single = Events.model_validate({name: float(i == only) for i, name in enumerate(names)})
    assert events.counts(single, range(30)) == {events.DAY_TYPES[only]: 30}
    assert single.has_incidents is (only in {1, 3})
    assert single.has_surges is (only in {2, 3})


def test_incidents_are_drawn_on_their_days_alone() -> None:
    graph, settings = grid(5), Events(incidents=EventIncidents(count=2))
    drawn = Incidents(graph=graph, events=settings, weight={"busy": np.ones(graph.n_edges)}, horizon_s=1800.0)
    for seed in range(12):
        counted = 2 if events.day_type(settings, seed) in {"incidents", "surge with incidents"} else 0
        assert len(drawn.of(seed)) == counted
        for one in drawn.of(seed):
            assert one.speed_mps is not None
            assert 0.03 <= one.speed_mps / graph.speed[one.edge] <= 0.05
    days = [drawn.of(seed) for seed in range(12) if drawn.of(seed)]
    assert len({tuple(one.edge for one in day) for day in days}) > 1
    again = Incidents(graph=graph, events=settings, weight={"busy": np.ones(graph.n_edges)}, horizon_s=1800.0)
    assert [again.of(seed) for seed in reversed(range(12))] == [drawn.of(seed) for seed in reversed(range(12))]


# --- surges -----------------------------------------------------------------------------------------------------------


def test_a_surge_leaves_one_place_within_minutes() -> None:
    graph = grid(9)
    places = set()
    for seed in range(5):
        surge = events.drawn(SURGE, graph, seed)
        again = events.drawn(SURGE, graph, seed)
        assert surge.depart_s.tolist() == again.depart_s.tolist()
        assert surge.origin.tolist() == again.origin.tolist()
        assert len(surge.depart_s) == len(surge.origin) == len(surge.destination) == 200
        assert (np.diff(surge.depart_s) >= 0).all()
        assert 0 <= surge.begin_s <= surge.depart_s[0]
        assert surge.depart_s[-1] <= surge.end_s == pytest.approx(surge.begin_s + 300.0)
        away_m = np.hypot(*(graph.middle_xy - graph.middle_xy[surge.edge]).T)
        assert away_m[surge.origin].max() <= 250.0
        apart_m = min(600.0, away_m.max() / 2)
        assert away_m[surge.destination].min() >= apart_m
        assert len(set(surge.destination.tolist())) <= 5
        places.add(surge.edge)
    assert len(places) > 1


def test_a_surge_may_have_a_place_of_its_own_and_needs_roads_elsewhere() -> None:
    graph = grid(9)
    assert {events.drawn(SURGE, graph, seed, middle=7).edge for seed in range(3)} == {7}
    assert events.drawn(SURGE, graph, 0, middle=7).name == graph.edge_ids[7]
    wide = SURGE.model_copy(update={"radius_m": 1e5})
    with pytest.raises(InputError, match=r"events.surge: .* no edges apart from the place"):
        events.drawn(wide, graph, 0)


def test_vehicles_of_a_surge_are_merged_by_departure() -> None:
    own = "<routes><vType id='t'/><vehicle id='a' depart='1'/><flow id='f' begin='0:00:05'/><trip id='b' depart='9'/>"
    root = ET.fromstring(f"{own}<vehicle id='c' depart='triggered'/></routes>")
    surge = ET.fromstring("<routes><vehicle id='surge0' depart='3'/><vehicle id='surge1' depart='20'/></routes>")
    assert [one.get("id") for one in merged(root, surge, scenario())] == ["t", "a", "surge0", "f", "b", "c", "surge1"]
    clash = ET.fromstring("<routes><trip id='surge1' depart='1'/></routes>")
    with pytest.raises(InputError, match="a vehicle of its demand is named 'surge1'"):
        merged(clash, surge, scenario())


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"ordinary": 0, "with_incidents": 0, "with_surge": 0, "with_both": 0}, "all weights are 0; give one of"),
        ({"with_surge": -1}, r"with_surge = -1.*greater than or equal to 0"),
        ({"surge": {"vehicles": 0}}, "surge.vehicles = 0"),
        ({"surge": {"begin_s": [300, 0]}}, "the earliest begin is after the latest"),
        (
            {"surge": {"begin_s": [0, 1600]}},
            r"events.surge: begin_s and duration_s reach to 1900 s.*horizon_s = 1800 s",
        ),
        ({"incidents": {"begin_s": [0, 1800]}}, "events.incidents: begin_s reach to 1800 s"),
        ({"incidents": {"closed": 0.8, "lane": 0.5}}, "add up to more than 1"),
        ({"surges": {}}, "unknown key 'events.surges'.*did you mean 'surge'"),
    ],
)
def test_events_that_cannot_be_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        scenario(events=table)


def test_a_day_type_that_does_not_occur_is_not_checked() -> None:
    no_surges = {"with_surge": 0, "with_both": 0, "surge": {"begin_s": [0, 1600]}}
    assert scenario(events=no_surges).events is not None


def test_events_are_written_and_read_and_replaced(tmp_path: Path) -> None:
    first = scenario(events={"with_both": 0, "surge": {"place": {"edge": "12#1"}}})
    (tmp_path / "scenario.toml").write_text(to_toml(first))
    read = load_toml(tmp_path / "scenario.toml", Scenario)
    assert read.events == first.events
    changed = override(read, ["events.surge.vehicles=7"])
    assert changed.events is not None
    assert changed.events.surge.vehicles == 7
    assert changed.events.surge.place == Place(edge="12#1")
    assert "events" not in scenario().model_dump()
    added = override(scenario(), ["events.incidents.count=5"])
    assert added.events is not None
    assert added.events.incidents == EventIncidents(count=5)


@pytest.mark.parametrize("name", ["orlando-event", "hong_kong-event", "town-event"])
def test_the_event_scenarios_have_their_days_and_take_another_fleet(name: str) -> None:
    found = read_scenario(CATALOGUE / name / "scenario.toml")
    assert found.fleet is not None
    assert found.fleet.share == 0.2
    assert found.events is not None
    for of_set, size in (("training", 48), ("validation", 10), ("evaluation", 40)):
        seeds = getattr(found.seeds, of_set)
        counted = events.counts(found.events, seeds)
        assert len(seeds) == size == sum(counted.values())
        assert counted.keys() == set(events.DAY_TYPES)
        assert max(counted.values()) - min(counted.values()) <= 3
    begin_s, end_s = found.window_s
    surge = found.events.surge
    assert begin_s <= surge.begin_s[0]
    assert surge.begin_s[1] + surge.duration_s <= end_s  # so that a fleet may draw all vehicles of a surge
    for share in (0.1, 0.4, 1.0):
        other = with_fleet(found, share)
        assert other.fleet is not None
        assert other.fleet.share == share
        assert other.events == found.events
        assert other.fleet.end_s == end_s
