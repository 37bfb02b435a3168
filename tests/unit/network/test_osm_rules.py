from __future__ import annotations

from pathlib import Path

import pytest

from relid_sumo.network import osm, osm_rules
from relid_sumo.network.osm_speeds import speed

from .test_osm import NODES, STREET, file_with, relation

Tags = dict[str, str]
GONE = ""  # the tag is left out


@pytest.mark.parametrize(
    ("highway", "given", "written"),
    [
        ("residential", "30", "30"),
        ("residential", "30 mph", "30 mph"),
        ("residential", "30mph", "30mph"),
        ("residential", "50 km/h", "50"),
        ("residential", "27 knots", "50"),
        ("residential", "50;30", "30"),
        ("residential", "50 mph;30", "30"),
        ("residential", "walk", "5"),
        ("residential", "DE:walk", "5"),
        ("residential", "DE:urban", "50"),
        ("residential", "RU:urban", "60"),
        ("residential", "DE:zone30", "30"),
        ("residential", "DE:zone:20", "20"),
        ("residential", "FR:30", "30"),
        ("living_street", "DE:living_street", "20"),
        ("residential", "none", GONE),
        ("motorway", "none", GONE),
        ("motorway", "130", "130"),
        ("motorway", "signals", GONE),
        ("residential", "variable", GONE),
        ("residential", "abc", GONE),
        ("residential", "", GONE),
        ("residential", "0", GONE),
        ("residential", "1", GONE),
        ("residential", "-5", GONE),
        ("residential", "300", GONE),
        ("motorway", "300", GONE),
        ("residential", "1e2", GONE),
        ("primary", "GB:nsl_single", GONE),
    ],
)
def test_speed_limits_have_units_and_bounds(highway: str, given: str, written: str) -> None:
    assert speed(given, highway) == written
    ruling = osm_rules.rule_way({"highway": highway, "maxspeed:forward": given})
    assert ruling.tags.get("maxspeed:forward", GONE) == written
    assert len(ruling.notes) == (written != given)


CASES: list[tuple[str, Tags, Tags | None]] = [
    # What it is about, the tags of a way beside its class, and what is written of the keys named (None: closed).
    ("lanes", {"lanes": "3"}, {"lanes": "3"}),
    ("lanes", {"lanes": "2;3"}, {"lanes": "2"}),
    ("lanes", {"lanes": "1.5"}, {"lanes": "1"}),
    ("lanes", {"lanes": "03"}, {"lanes": "3"}),
    *(
        ("lanes", {"lanes": value}, {"lanes": GONE})
        for value in ("0", "0.5", "-1", "99", "12", "two", "", "1e2", "3|2", "2,3", "4 (reversible)", "9" * 40)
    ),
    ("lanes", {"lanes": "3", "lanes:forward": "99", "lanes:backward": "1"}, {"lanes": "3", "lanes:forward": GONE}),
    ("oneway", {"oneway": "yes"}, {"oneway": "yes"}),
    ("oneway", {"oneway": "-1"}, {"oneway": "-1"}),
    ("oneway", {"oneway": "Yes"}, {"oneway": "yes"}),
    *(("oneway", {"oneway": value}, {"oneway": GONE}) for value in ("yes;no", "opposite", "recommended", "", "both")),
    *(("oneway", {"oneway": value}, None) for value in ("reversible", "alternating", "Reversible")),
    ("oneway", {"oneway": "yes", "oneway:motor_vehicle": "no"}, {"oneway": "no"}),
    ("oneway", {"oneway:motorcar": "yes"}, {"oneway": "yes"}),
    ("oneway", {"oneway:motorcar": "-1", "oneway:vehicle": "yes"}, {"oneway": "-1"}),
    ("oneway", {"oneway:motor_vehicle": "reversible"}, None),
    ("oneway", {"oneway:bicycle": "yes"}, {"oneway": GONE}),
    ("oneway", {"oneway": "no", "oneway:conditional": "yes @ (07:00-09:00)"}, {"oneway": "no"}),
    ("direction", {"motor_vehicle:forward": "no"}, {"oneway": "-1"}),
    ("direction", {"vehicle:backward": "no"}, {"oneway": "yes"}),
    ("direction", {"access:backward": "private", "motorcar:backward": "yes"}, {"oneway": GONE}),
    ("direction", {"access": "no", "motor_vehicle:forward": "yes"}, {"oneway": "yes"}),
    ("direction", {"vehicle:forward": "no", "vehicle:backward": "no"}, None),
    ("direction", {"oneway": "yes", "motor_vehicle:forward": "no"}, None),
    ("direction", {"oneway": "yes", "motor_vehicle:backward": "no"}, {"oneway": "yes"}),
    ("direction", {"junction": "roundabout", "vehicle:forward": "no"}, None),
    (
        "direction",
        {"lanes": "3", "lanes:forward": "2", "vehicle:backward": "no", "turn:lanes:forward": "left|through"},
        {
            "lanes": "2",
            "lanes:forward": GONE,
            "turn:lanes": "left|through",
            "turn:lanes:forward": GONE,
            "oneway": "yes",
        },
    ),
    ("access", {"access": "yes;destination"}, {"access": "yes;destination"}),
    ("access", {"access": "no", "motorcar": ""}, None),
    ("access", {"motor_vehicle": "no", "motor_vehicle:conditional": "yes @ (22:00-05:00)"}, None),
    ("access", {"motor_vehicle:conditional": "no @ (07:00-09:00)"}, {"highway": "residential"}),
    ("lane", {"oneway": "yes", "lanes": "3", "vehicle:lanes": "yes|yes|no"}, {"lanes": "2"}),
    (
        "lane",
        {"oneway": "yes", "lanes": "3", "motor_vehicle:lanes": "no|yes|yes", "turn:lanes": "left|through|right"},
        {"lanes": "2", "turn:lanes": "through|right"},
    ),
    ("lane", {"oneway": "yes", "lanes": "3", "bus:lanes": "|yes|designated"}, {"lanes": "2"}),
    ("lane", {"oneway": "yes", "lanes": "3", "psv:lanes": "yes|yes|yes"}, {"lanes": "3"}),
    (
        "lane",
        {"oneway": "yes", "lanes": "2", "bus:lanes": "yes|designated", "motor_vehicle:lanes": "yes|yes"},
        {"lanes": "2"},
    ),
    ("lane", {"oneway": "yes", "lanes": "3", "lanes:bus": "1"}, {"lanes": "2"}),
    (
        "lane",
        {"oneway": "yes", "lanes": "3", "lanes:psv": "1", "turn:lanes": "||right"},
        {"lanes": "2", "turn:lanes": GONE},
    ),
    ("lane", {"oneway": "yes", "lanes": "3", "busway:right": "lane"}, {"lanes": "2"}),
    ("lane", {"oneway": "yes", "lanes": "1", "lanes:bus": "1"}, {"lanes": "1"}),
    ("lane", {"oneway": "yes", "lanes": "2", "vehicle:lanes": "yes|yes|no"}, {"lanes": "2"}),
    ("lane", {"oneway": "yes", "vehicle:lanes": "yes|yes|no"}, {"lanes": "2"}),
    ("lane", {"oneway": "yes", "lanes": "2", "vehicle:lanes": "no|no"}, None),
    ("lane", {"lanes": "3", "vehicle:lanes": "yes|yes|no"}, {"lanes": "3"}),
    (
        "lane",
        {"lanes": "4", "vehicle:lanes:forward": "yes|no"},
        {"lanes": "3", "lanes:forward": "1", "lanes:backward": "2"},
    ),
    (
        "lane",
        {"lanes": "3", "lanes:forward": "2", "bus:lanes:forward": "|designated"},
        {"lanes": "2", "lanes:forward": "1"},
    ),
    ("lane", {"lanes": "2", "vehicle:lanes:backward": "no"}, {"lanes": "1", "oneway": "yes"}),
    ("lane", {"lanes": "4", "busway:right": "lane"}, {"lanes": "4"}),
    ("lane", {"oneway": "yes", "lanes": "2", "busway": "opposite_lane"}, {"lanes": "2"}),
    ("lane", {"lanes": "4", "busway": "lane"}, {"lanes": "2", "lanes:forward": "1", "lanes:backward": "1"}),
]


@pytest.mark.parametrize(("about", "given", "written"), CASES)
def test_tags_mean_something_for_cars(about: str, given: Tags, written: Tags | None) -> None:
    tags = {"highway": "residential", **given}
    ruling = osm_rules.rule_way(tags)
    if written is None:
        assert ruling.reason in (osm_rules.NO_ACCESS, osm_rules.REVERSIBLE), about
        return
    assert ruling.reason == "", about
    assert {key: ruling.tags.get(key, GONE) for key in written} == written
    same = all(ruling.tags.get(key, GONE).lower() == value.lower() for key, value in tags.items())
    assert ruling.notes or same  # whatever is replaced or left out is counted
    assert ruling.notes or not given.keys() & {
        "lanes:bus",
        "busway",
        "busway:right",
        "vehicle:lanes",
    }  # ignored as well


@pytest.mark.parametrize(
    ("tags", "closed"),
    [
        ({"barrier": "gate"}, False),
        ({"barrier": "gate", "access": "no"}, True),
        ({"barrier": "gate", "access": "private", "motor_vehicle": "yes"}, False),
        ({"barrier": "gate", "motor_vehicle": "no"}, True),
        ({"barrier": "lift_gate", "access": "private"}, True),
        ({"barrier": "toll_booth"}, False),
        ({"barrier": "kerb"}, False),
        ({"barrier": "bollard"}, True),
        ({"barrier": "bollard", "motorcar": "yes"}, False),
        ({"barrier": "bollard", "bicycle": "yes"}, True),
        ({"barrier": "block"}, True),
        ({"barrier": "sump_buster", "motor_vehicle": "destination"}, False),
        ({"barrier": "no", "access": "no"}, False),
        ({"access": "no"}, False),
    ],
)
def test_barriers_close_roads(tmp_path: Path, tags: Tags, closed: bool) -> None:
    node = "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())
    extra = f'<node id="2" version="2" lon="10.01" lat="50">{node}</node>'
    extract = osm.read(file_with(tmp_path, [(7, [1, 2, 3], STREET), (8, [3, 4], STREET)], extra))
    assert extract.account.barriers == {"closed": int(closed), "open": int(not closed and "barrier" in tags)}
    ends = [(piece.nodes[0], piece.nodes[-1]) for piece in extract.pieces if piece.way == 7]
    if not closed:
        assert ends == [(1, 3)]
        return
    (first, before), (after, last) = ends
    assert (first, last) == (1, 3)
    gap_m = (extract.node_position[after][0] - extract.node_position[before][0]) * 111_195 * 0.6428  # at 50 N
    assert gap_m == pytest.approx(6.0, abs=0.01)
    assert extract.account.left_out[osm_rules.BARRIER] == {"ways": 0, "km": pytest.approx(0.006, abs=1e-4)}
    total = sum(entry["km"] for tally in (extract.account.usable, extract.account.left_out) for entry in tally.values())
    assert total == pytest.approx(extract.account.came_in["residential"]["km"])


def test_a_barrier_where_ways_meet_parts_them_all_and_one_at_a_dead_end_nothing(tmp_path: Path) -> None:
    gate = '<tag k="barrier" v="gate"/><tag k="access" v="no"/>'
    extra = "".join(f'<node id="{n}" version="2" lon="{NODES[n][0]}" lat="{NODES[n][1]}">{gate}</node>' for n in (1, 2))
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET), (8, [2, 3], STREET), (9, [5, 2], STREET)], extra))
    assert [piece.nodes[0] for piece in extract.pieces if piece.way == 7] == [1]
    ends = [node for piece in extract.pieces for node in (piece.nodes[0], piece.nodes[-1])]
    assert len(set(ends)) == len(ends) == 6
    assert extract.account.barriers == {"closed": 2, "open": 0}


def test_a_road_shorter_than_the_gap_at_barriers_is_gone(tmp_path: Path) -> None:
    extra = (
        '<node id="20" lon="10.01005" lat="50"><tag k="barrier" v="bollard"/></node>'
        '<node id="2" version="2" lon="10.01" lat="50"><tag k="barrier" v="bollard"/></node>'
    )
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET), (8, [2, 20], STREET), (9, [20, 3], STREET)], extra))
    assert {piece.way for piece in extract.pieces} == {7, 9}
    assert extract.account.left_out[osm_rules.BARRIER]["ways"] == 1
    assert extract.account.usable["residential"]["ways"] == 2


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, ""),
        ({"except": "psv;bicycle"}, ""),
        ({"except": "motorcar"}, "excepted"),
        ({"except": "psv;motor_vehicle"}, "excepted"),
        ({"except": "bus, vehicle"}, "excepted"),
        ({"except": "motorcycle"}, ""),
        ({"hour_on": "07:00", "hour_off": "09:00"}, "hours"),
        ({"day_on": "Monday", "day_off": "Friday"}, "hours"),
        ({"restriction": "", "restriction:conditional": "no_left_turn @ (07:00-09:00)"}, "hours"),
        ({"restriction:conditional": "no_u_turn @ (07:00-09:00)"}, ""),
        ({"restriction": "no_left_turn @ (Mo-Fr)"}, "hours"),
        ({"restriction": "", "restriction:hgv": "no_left_turn"}, "other vehicles"),
        ({"restriction": "", "restriction:motorcar": "no_left_turn"}, ""),
        ({"restriction": "", "restriction:motor_vehicle": "no_left_turn"}, ""),
        ({"type": "restriction:hgv"}, "other vehicles"),
        ({"type": "restriction:motorcar"}, ""),
        ({"restriction": "no_right_turn_on_red"}, "unknown kind"),
        ({"restriction": ""}, "without a kind"),
    ],
)
def test_turn_restrictions_bind_cars_or_are_counted(tmp_path: Path, tags: Tags, reason: str) -> None:
    last = "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())
    file = file_with(
        tmp_path, [(7, [1, 2], STREET), (8, [2, 3], STREET)], relation(7, 2, 8, "no_left_turn", extra=last)
    )
    extract = osm.read(file)
    assert extract.restrictions == (() if reason else ((7, 2, 8, "no_left_turn"),))
    assert [reason in found for found in extract.account.restrictions_left_out] == [True] * bool(reason)


def test_ignored_tags_are_counted(tmp_path: Path) -> None:
    ways = [(7, [1, 2], {**STREET, "surface": "asphalt", "name": "A"}), (8, [2, 3], {**STREET, "surface": "gravel"})]
    ways += [(9, [3, 4], {**STREET, "motor_vehicle:conditional": "no @ wet", "bus:conditional": "yes @ wet"})]
    hump = '<node id="2" version="2" lon="10.01" lat="50"><tag k="traffic_calming" v="hump"/></node>'
    shop = '<node id="80" lon="10" lat="50"><tag k="shop" v="bakery"/></node>'
    extract = osm.read(file_with(tmp_path, ways, hump + shop))
    assert extract.account.ignored_tags == {"surface": 2, "bus:conditional": 1}
    assert extract.account.ignored_node_tags == {"traffic_calming": 1}
    assert extract.account.rules == {"motor_vehicle:conditional ignored: holds at times only": 1}


def test_rules_1_read_tags_as_before(tmp_path: Path) -> None:
    gate = '<node id="2" version="2" lon="10.01" lat="50"><tag k="barrier" v="bollard"/></node>'
    tags = {**STREET, "oneway": "yes", "lanes": "2", "bus:lanes": "|designated", "maxspeed": "none"}
    ways = [(7, [1, 2, 3], tags), (8, [3, 4], {**STREET, "vehicle:forward": "no"}), (9, [3, 5], STREET)]
    restriction = relation(9, 3, 8, "no_left_turn", extra='<tag k="hour_on" v="07:00"/>')
    extract = osm.read(file_with(tmp_path, ways, gate + restriction), rules=1)
    assert [(piece.id, piece.tags) for piece in extract.pieces] == [(way, tags) for way, _, tags in ways]
    assert extract.restrictions == ((9, 3, 8, "no_left_turn"),)
    assert extract.account.differences == {"ways": 2, "barriers": 1, "restrictions": 1, "records": 1}
