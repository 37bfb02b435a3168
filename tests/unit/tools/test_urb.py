"""The Urban Routing Benchmark: humans choose by Gawron's probabilities, and a day is written for SUMO."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import urb

ROUTES = "origins,destinations,path,free_flow_time\n0,1,a b c,1.0\n0,1,a d c,1.2\n1,0,x y,3.0\n"
AGENTS = "id,start_time,origin,destination,kind\n7,12,1,0,Human\n3,5,0,1,Human\n4,5,0,1,Human\n"


@pytest.fixture
def every(tmp_path: Path) -> list[urb.Driver]:
    (tmp_path / "agents.csv").write_text(AGENTS)
    (tmp_path / "routes.csv").write_text(ROUTES)
    return urb.drivers(tmp_path / "agents.csv", tmp_path / "routes.csv")


def test_drivers_have_the_paths_of_their_ends_in_the_order_of_the_file(every: list[urb.Driver]) -> None:
    assert [(one.name, one.start_s) for one in every] == [("3", 5.0), ("4", 5.0), ("7", 12.0)]
    assert every[0].paths == (("a", "b", "c"), ("a", "d", "c"))
    assert every[0].free_min == (1.0, 1.2)
    assert every[2].paths == (("x", "y"),)


def test_settled_humans_choose_with_the_probabilities_of_their_model(every: list[urb.Driver]) -> None:
    tables = {name: {"cost": [-2.0, -3.0], "beta": 1.5} for name in ("3", "4")} | {"7": {"cost": [-9.0], "beta": 1.5}}
    days = [urb.settled_choices(every, tables, seed=0, day=day) for day in range(2000)]
    assert days[:5] == [urb.settled_choices(every, tables, seed=0, day=day) for day in range(5)]
    taken = Counter(day["3"] for day in days)
    assert taken[0] / 2000 == pytest.approx(1 / (1 + 2.718281828**-1.5), abs=0.03)  # of exp(-3.0) and exp(-4.5)
    assert any(day["3"] != day["4"] for day in days)
    assert {day["7"] for day in days} == {0}


def test_a_day_is_a_route_file_with_both_kinds_of_drivers(every: list[urb.Driver]) -> None:
    root = ET.fromstring(urb.route_file(every, {"3": 1, "4": 0, "7": 0}, {"4"}))
    written = {one.get("id"): (one.get("type"), one.get("depart"), one[0].get("edges")) for one in root.iter("vehicle")}
    assert written == {"3": ("Human", "5", "a d c"), "4": ("AV", "5", "a b c"), "7": ("Human", "12", "x y")}
    assert {one.get("id") for one in root.iter("vType")} == {"Human", "AV"}
