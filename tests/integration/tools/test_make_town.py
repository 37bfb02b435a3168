"""The town generator, and the embedded town made by it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.base.seeding import stream
from relid_sumo.network import network

ROOT = Path(__file__).parents[3]
TOWN = ROOT / "scenarios" / "town" / "town.osm"
CARS = {"primary", "secondary", "tertiary", "unclassified", "residential", "living_street"}
TURNS = {"left", "through", "right"}


@dataclass
class Way:
    """An OSM way; `line` contains longitudes and latitudes, shape (n, 2)."""

    tags: dict[str, str]
    nodes: list[str]
    line: Floats


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the generator."""
    command = [sys.executable, str(ROOT / "tools" / "make_town.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def made(out: Path, *arguments: str) -> Path:
    """Run the generator and return the file it wrote."""
    result = make(*arguments, "--out", out)
    assert result.returncode == 0, result.stderr
    return out


def read(file: Path) -> list[Way]:
    root = ET.parse(file).getroot()
    place = {n.get("id", ""): (float(n.get("lon", "")), float(n.get("lat", ""))) for n in root.iter("node")}
    ways = []
    for way in root.iter("way"):
        nodes = [nd.get("ref", "") for nd in way.iter("nd")]
        tags = {tag.get("k", ""): tag.get("v", "") for tag in way.iter("tag")}
        ways.append(Way(tags, nodes, np.array([place[node] for node in nodes])))
    return ways


def bridges_of(ways: list[Way]) -> list[Way]:
    return [way for way in ways if way.tags.get("bridge") == "yes"]


def crosses(a: Floats, b: Floats) -> bool:
    """Return whether two polylines intersect."""

    def side(p: Floats, q: Floats, r: Floats) -> float:
        return float(np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])))

    return any(
        side(p, q, r) != side(p, q, s) and side(r, s, p) != side(r, s, q)
        for p, q in pairwise(a)
        for r, s in pairwise(b)
    )


def test_same_seed_same_bytes_and_another_seed_another_town(tmp_path: Path) -> None:
    once, again, other = (made(tmp_path / f"{k}.osm", "--seed", seed).read_bytes() for k, seed in enumerate("556"))
    assert once == again
    assert once != other


def test_the_tool_writes_the_embedded_town(tmp_path: Path) -> None:
    assert made(tmp_path / "town.osm").read_bytes() == TOWN.read_bytes()


def test_the_town_has_the_features_of_real_extracts() -> None:
    root = ET.parse(TOWN).getroot()
    assert root.get("generator") == "relid_sumo"
    box = root.find("bounds")
    assert box is not None
    ways = read(TOWN)
    kinds = {way.tags["highway"] for way in ways if "highway" in way.tags}
    assert kinds == CARS | {"service", "footway"}
    points = np.concatenate([way.line for way in ways])
    assert points.min(axis=0) == pytest.approx([float(box.get(k, "")) for k in ("minlon", "minlat")], abs=1e-6)
    assert points.max(axis=0) == pytest.approx([float(box.get(k, "")) for k in ("maxlon", "maxlat")], abs=1e-6)
    marks = {tag.get("v") for node in root.iter("node") for tag in node.iter("tag")}
    assert marks == {"traffic_signals", "turning_circle"}
    assert any(way.tags.get("junction") == "roundabout" and way.nodes[0] == way.nodes[-1] for way in ways)
    assert any(way.tags.get("natural") == "water" for way in ways)
    assert sum(way.tags.get("oneway") == "yes" for way in ways) >= 2


def test_lane_tags_are_consistent() -> None:
    roads = [way.tags for way in read(TOWN) if way.tags.get("highway") in CARS]
    widened = 0
    for tags in roads:
        assert tags["maxspeed"].isdecimal()
        assert int(tags.get("lanes", "2")) in range(1, 6)
        for way in ("forward", "backward"):
            if turns := tags.get(f"turn:lanes:{way}"):
                widened += 1
                lanes = turns.split("|")
                assert len(lanes) == int(tags[f"lanes:{way}"])
                assert int(tags["lanes"]) == int(tags["lanes:forward"]) + int(tags["lanes:backward"])
                assert {turn for lane in lanes for turn in lane.split(";")} <= TURNS
    assert widened >= 4


def test_exactly_two_bridges_cross_the_river_and_nothing_else_does() -> None:
    ways = read(TOWN)
    (river,) = (way for way in ways if way.tags.get("waterway") == "river")
    across = [way for way in ways if "highway" in way.tags and crosses(way.line, river.line)]
    assert across == bridges_of(ways)
    assert sorted(way.tags["lanes"] for way in across) == ["2", "4"]
    assert {way.tags["layer"] for way in across} == {"1"}


def test_too_few_edges_and_a_missing_folder_are_clear_errors(tmp_path: Path) -> None:
    small = make("--edges", "20", "--out", tmp_path / "x.osm")
    nowhere = make("--out", tmp_path / "missing" / "x.osm")
    assert (small.returncode, nowhere.returncode) == (2, 2)
    assert "--edges 20: too few" in small.stderr
    assert "cannot be written (No such file or directory)" in nowhere.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.sumo
@pytest.mark.parametrize(("edges", "seed"), [(150, 0), (200, 0), (200, 3), (500, 0), (2000, 0)])
def test_the_edge_count_is_close_to_the_request(tmp_path: Path, edges: int, seed: int) -> None:
    file = made(tmp_path / "t.osm", "--edges", str(edges), "--seed", str(seed))
    graph = network.build(file, name="made").graph
    assert graph.n_edges == pytest.approx(edges, rel=0.15)
    assert graph.strong_component().all()
    assert not graph.left_hand[0]


@pytest.mark.sumo
def test_the_better_bridge_depends_on_the_traffic(tmp_path: Path) -> None:
    """In free flow the direct bridge is faster; if all vehicles take it, the far one is."""
    town = network.build(TOWN, name="town")
    graph = town.graph
    near, far = sorted(bridges_of(read(TOWN)), key=lambda way: way.tags["lanes"])
    north = [max(way.line, key=lambda p: p[1]) - min(way.line, key=lambda p: p[1]) for way in (near, far)]
    edges = [
        network.match_edge(
            town, float(way.line[:, 0].mean()), float(way.line[:, 1].mean()), float(np.degrees(np.arctan2(*step)))
        )
        for way, step in zip((near, far), north, strict=True)
    ]
    assert graph.lanes[edges].tolist() == [1, 2]

    def only(edge: int) -> Floats:
        cost = graph.free_flow_s.copy()
        cost[[e for e in edges if e != edge]] = 1e6
        return cost

    rng = stream(1, "pairs")
    routes: list[list[list[int]]] = []
    while len(routes) < 450:
        start, end = rng.integers(graph.n_edges, size=2)
        ways = [graph.path(start, end, only(edge)) for edge in edges]
        times = [float(graph.free_flow_s[way].sum()) for way in ways]
        distance = np.hypot(*(graph.end_xy[end] - graph.end_xy[start]))
        crosses_north = all(way.count(edge) == 1 for way, edge in zip(ways, edges, strict=True))
        if crosses_north and 1000 < distance < 2500 and times[0] < times[1] < 1.5 * times[0]:
            routes.append(ways)

    quiet = _drive(town, tmp_path, routes[:10], [])
    busy = _drive(town, tmp_path, routes[:10], [ways[0] for ways in routes[10:]])
    assert quiet[0] < quiet[1]
    assert busy[1] < 0.8 * busy[0]


def _drive(town: network.Network, folder: Path, probes: list[list[list[int]]], traffic: list[list[int]]) -> Floats:
    """Run probes over each bridge at 900 s in 20 minutes of traffic; return their mean times, s."""
    departures = [(1200 * k / len(traffic), f"t{k}", route) for k, route in enumerate(traffic)]
    departures += [(900.0, f"p{k}_{way}", route) for k, ways in enumerate(probes) for way, route in enumerate(ways)]
    lines = [
        f'<vehicle id="{name}" depart="{time:.1f}"><route edges="{" ".join(town.graph.edge_ids[route])}"/></vehicle>'
        for time, name, route in sorted(departures)
    ]
    (folder / "r.rou.xml").write_text(f"<routes>{''.join(lines)}</routes>")
    files: list[str | Path] = ["-n", town.net_file, "-r", folder / "r.rou.xml", "--tripinfo-output", folder / "t.xml"]
    sumo.run("sumo", [*files, "--statistic-output", folder / "s.xml", "--no-step-log", "--seed", "1"])
    teleports = ET.parse(folder / "s.xml").getroot().find("teleports")
    assert teleports is not None
    assert teleports.get("wrongLane") == "0"
    assert int(teleports.get("total", "")) <= 0.005 * len(departures)
    seconds = {
        trip.get("id", ""): float(trip.get("duration", "")) + float(trip.get("departDelay", ""))
        for trip in ET.parse(folder / "t.xml").getroot().iter("tripinfo")
    }
    assert len(seconds) == len(departures)
    by_way = np.array([[seconds[f"p{k}_{way}"] for way in range(2)] for k in range(len(probes))])
    return np.asarray(by_way.mean(axis=0))
