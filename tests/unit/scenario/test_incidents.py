"""Incidents as they are written, drawn and refused, without SUMO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import load_toml, validate
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.lanes import Lane
from relid_sumo.scenario.files import override, to_toml
from relid_sumo.scenario.incidents import Incidents, Placed, added, parse
from relid_sumo.scenario.settings import Incident, Place, RandomIncidents, Scenario, Trip
from relid_sumo.sim.toy import grid

HERE = Place(lon=4.9, lat=52.4, bearing=12.5)


def scenario(**changes: Any) -> Scenario:  # noqa: ANN401 - as Scenario
    trips = [Trip(id="a", origin=HERE, destination=HERE, depart_s=10.0)]
    return Scenario.model_validate({"name": "here", "network": "here", "horizon_s": 1800.0, "trips": trips, **changes})


def draws(graph: RoadGraph, table: dict[str, Any], **more: Any) -> Incidents:  # noqa: ANN401 - as Incidents
    every = RandomIncidents(**table)
    weight: dict[str, Floats] = {every.where: graph.length * np.linspace(1.0, 3.0, graph.n_edges)}
    return Incidents(graph=graph, random=((0, every),), weight=weight, horizon_s=1800.0, **more)


# --- one word on the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("31#1@600-1200", {}),
        ("31#1@600-1200=closed", {}),
        ("31#1:0,2@600-1200", {"lanes": (0, 2)}),
        ("31#1@600-1200=3m/s", {"speed_mps": 3.0}),
        ("31#1@600-1200=2.5 m/s", {"speed_mps": 2.5}),
        ("31#1:1@600-1200=20%", {"lanes": (1,), "factor": 0.2}),
    ],
)
def test_an_incident_is_one_word(text: str, content: dict[str, Any]) -> None:
    assert parse(text) == Incident(edge="31#1", begin_s=600.0, end_s=1200.0, **content)


def test_names_of_edges_may_contain_the_signs_of_the_form() -> None:
    assert parse("a:b@c@0-5").edge == "a:b@c"
    assert parse("-12#3@0-5").edge == "-12#3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("31#1", "not an incident; EDGE@BEGIN-END closes"),
        ("31#1@600", "not an incident"),
        ("31#1@600-1200=slow", "not an incident"),
        ("31#1@1.2.3-5", "'1.2.3' is no number"),
        ("31#1@1200-600", "ends at 600 s, not after its begin at 1200 s"),
        ("31#1@0-600=120%", "factor = 1.2: input should be less than 1"),
        ("31#1@0-600=0%", "factor = 0.0: input should be greater"),
        ("31#1:1,1@0-600", "a lane is given twice"),
    ],
)
def test_another_word_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse(text)
    assert str(raised.value).startswith(f"--incident {text}: ")


def test_incidents_of_the_command_line_are_added() -> None:
    first = scenario(incidents=[{"edge": "a", "begin_s": 0, "end_s": 5}])
    both = added(first, ["b@5-9"])
    assert [one.edge for one in both.incidents] == ["a", "b"]
    assert added(first, []) is first
    with pytest.raises(InputError, match=r"incidents\[1\]: it begins at 1800 s, but the episode ends at horizon_s"):
        added(first, ["b@1800-1900"])


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"begin_s": 0, "end_s": 5}, "has one of edge, place and random, but there is none"),
        ({"edge": "a", "place": HERE.model_dump(), "begin_s": 0, "end_s": 5}, "edge and place are given"),
        ({"edge": "a", "begin_s": 0}, "needs begin_s and end_s"),
        ({"edge": "a", "begin_s": 5, "end_s": 5}, "not after its begin"),
        ({"edge": "a", "begin_s": 0, "end_s": 5, "factor": 0.5, "speed_mps": 1.0}, "both speed_mps and factor"),
        (
            {"edge": "a", "begin_s": 0, "end_s": 5, "lane": 0},
            r"unknown key 'incidents\[0\].lane'.*did you mean 'lanes'",
        ),
        (
            {"random": {"count": 2}, "factor": 0.5},
            r"factor is not for random incidents; remove it, or set it in random",
        ),
        ({"random": {"count": 2}, "lanes": [0]}, "lanes is not for random incidents"),
        ({"random": {"count": 0}}, "count = 0: input should be greater"),
        ({"random": {"count": 2, "where": "bussy"}}, "where = 'bussy': input should be 'busy' or 'anywhere'"),
        ({"random": {"count": 2, "begin_s": [9, 3]}}, "the earliest begin is after the latest"),
        ({"random": {"count": 2, "begin_s": [0, 1800]}}, "begins at 1800 s, but the episode ends"),
        ({"random": {"count": 2, "factor": [0.5, 0.2]}}, "the lowest factor is above the highest"),
        ({"random": {"count": 2, "closed": 0.8, "lane": 0.3}}, "add up to more than 1"),
    ],
)
def test_what_is_not_an_incident_is_refused(content: dict[str, Any], message: str) -> None:
    plain = scenario().model_dump(mode="json", exclude_none=True)
    with pytest.raises(InputError, match=message):
        validate({**plain, "incidents": [content]}, Scenario, "scenario.toml")


def test_incidents_are_written_and_read(tmp_path: Path) -> None:
    several = scenario(
        incidents=[
            {"edge": "a", "lanes": [0, 1], "begin_s": 600, "end_s": 1200},
            {"place": HERE, "begin_s": 0.5, "end_s": 60, "factor": 0.25},
            {"random": {"count": 3, "duration_s": 600, "where": "anywhere", "lane": 0.25}},
        ]
    )
    file = tmp_path / "scenario.toml"
    file.write_text(to_toml(several), encoding="utf-8")
    assert load_toml(file, Scenario) == several
    assert "incidents" in to_toml(several)
    assert "incidents" not in scenario().model_dump()  # identities of scenarios without incidents stay as they were


def test_a_scenario_without_incidents_gets_some_by_set() -> None:
    changed = override(scenario(), ["incidents=[{random={count=3, duration_s=900}}]"])
    assert changed.incidents == (Incident(random=RandomIncidents(count=3)),)


# --- draws ------------------------------------------------------------------------------------------------------------


def test_draws_depend_on_the_traffic_seed_only() -> None:
    graph, table = grid(5), {"count": 3, "duration_s": 300.0, "where": "anywhere"}
    one, other = draws(graph, table), draws(graph, table)
    assert [one.of(seed) for seed in (3, 1, 2)] == [other.of(3), other.of(1), other.of(2)]
    assert len({one.of(seed) for seed in range(20)}) == 20


def test_draws_fit_their_settings() -> None:
    graph = grid(5)
    table = {"count": 4, "duration_s": 300.5, "where": "anywhere", "closed": 0.5, "factor": (0.2, 0.3)}
    found = draws(graph, table)
    every = [one for seed in range(100) for one in found.of(seed)]
    assert len(every) == 400
    for one in every:
        assert 0 <= one.begin_s == round(one.begin_s) <= 1500
        assert one.end_s - one.begin_s in {300, 301}
        if not one.shut:
            assert one.speed_mps is not None
            assert 0.2 <= one.speed_mps / graph.speed[one.edge] <= 0.3
    assert 0.4 < sum(bool(one.shut) for one in every) / 400 < 0.6
    assert all(len({one.edge for one in found.of(seed)}) == 4 for seed in range(100))


def test_heavier_edges_are_drawn_more_often() -> None:
    graph = grid(5)
    found = draws(graph, {"count": 1, "where": "busy", "closed": 0.0})
    drawn = [one.edge for seed in range(300) for one in found.of(seed)]
    assert np.mean(np.array(drawn) >= graph.n_edges // 2) == pytest.approx(0.625, abs=0.08)


def test_closings_cut_no_edge_off_and_spare_the_ends_of_trips() -> None:
    graph = grid(3)
    spared = frozenset({graph.index["0>1"], graph.index["5>8"]})
    found = draws(graph, {"count": 3, "where": "anywhere", "closed": 1.0}, spared=spared)
    for seed in range(40):
        shut = {edge for one in found.of(seed) for edge in one.shut}
        assert not shut & spared
        cost = graph.free_flow_s.copy()
        cost[sorted(shut)] = np.inf
        reach = graph.to_destination(graph.index["5>8"], cost)[0]
        assert np.isfinite(reach[[e for e in range(graph.n_edges) if e not in shut]]).all()


def test_a_lane_is_closed_where_others_lead_on() -> None:
    graph = grid(3)
    names = [frozenset(str(graph.edge_ids[e]) for e in row if e >= 0) for row in graph.slots.tolist()]
    lanes = {e: [Lane(0, 10.0, leads), Lane(1, 10.0, frozenset(sorted(leads)[:1]))] for e, leads in enumerate(names)}
    found = draws(graph, {"count": 2, "where": "anywhere", "closed": 0.0, "lane": 1.0}, lanes=lanes)
    for seed in range(20):
        for one in found.of(seed):
            assert (one.lanes, one.speed_mps, one.shut) == ((1,) if len(names[one.edge]) > 1 else (0,), None, ())


def test_too_many_draws_are_refused() -> None:
    with pytest.raises(InputError, match=r"incidents\[0\].random: in traffic seed 7 no further edge can be closed"):
        draws(grid(3), {"count": 20, "where": "anywhere", "closed": 1.0}).of(7)


def test_an_incident_describes_itself() -> None:
    assert Placed(0, "a", (), 0.0, 60.0, shut=(0,)).describe() == "'a' closed from 0 to 60 s"
    assert Placed(0, "a", (0, 1), 5.0, 60.0).describe() == "'a', lanes 0, 1, closed from 5 to 60 s"
    assert Placed(0, "a", (), 0.0, 60.0, 2.7778).describe() == "'a' slowed to 2.78 m/s from 0 to 60 s"
