from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import osmium
import pytest
from rich.console import Console

from relid_sumo.base import cache as base_cache
from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.cli.main import main
from relid_sumo.cli.tables import summary_text
from relid_sumo.network import account, maps, netconvert, network, osm, osm_rules, trial
from relid_sumo.network import catalogue as network_catalogue
from relid_sumo.network.catalogue import NetworkSettings
from relid_sumo.network.network import Network, build, find, match_edge

pytestmark = pytest.mark.sumo

STEP = 0.002  # degrees, about 200 m


def grid(n: int = 4, lon: float = 13.4, lat: float = 52.5, *, extra: str = "", generator: str = "test") -> str:
    """Return the OSM of an n x n grid of streets, with a signal in its middle and a one-way spur that leads out."""
    lines = [f'<osm version="0.6" generator="{generator}">']
    for row in range(n):
        for column in range(n):
            tag = '<tag k="highway" v="traffic_signals"/>' if row == column == 1 else ""
            where = f'lon="{lon + STEP * column:.6f}" lat="{lat + STEP * row:.6f}"'
            lines.append(f'<node id="{1 + row * n + column}" {where}>{tag}</node>')
    lines.append(f'<node id="900" lon="{lon - STEP:.6f}" lat="{lat:.6f}"/>')
    lines.append(f'<node id="901" lon="{lon - 2 * STEP:.6f}" lat="{lat:.6f}"/>')
    for k in range(n):
        for way, nodes in ((100 + k, range(1 + k * n, 1 + k * n + n)), (200 + k, range(1 + k, 1 + n * n, n))):
            refs = "".join(f'<nd ref="{node}"/>' for node in nodes)
            lines.append(f'<way id="{way}">{refs}<tag k="highway" v="secondary"/><tag k="lanes" v="4"/></way>')
    lines.append('<way id="300"><nd ref="1"/><nd ref="900"/><nd ref="901"/>')
    lines.append('<tag k="highway" v="residential"/><tag k="oneway" v="yes"/></way>')
    lines.append('<way id="301"><nd ref="1"/><nd ref="6"/><tag k="highway" v="footway"/></way>')
    return "\n".join([*lines, extra, "</osm>"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a test a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(base_cache.CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Network:
    file = tmp_path_factory.mktemp("town") / "town.osm"
    file.write_text(grid())
    return build(file, name="test-grid")


def test_a_grid_becomes_a_strongly_connected_network(town: Network) -> None:
    graph = town.graph
    assert graph.n_edges == 4 * 3 * 2 * 2 - 3 * 2  # three corners are bends, the spur leads nowhere
    assert graph.strong_component().all()
    assert graph.n_successors.min() >= 1
    assert (graph.lanes == 2).all()
    assert graph.junction_signal.sum() == town.summary["signals"] == 1
    assert graph.speed == pytest.approx(50 / 3.6, abs=0.01)
    assert town.net_file.read_text(encoding="utf-8").count('type="actuated"') == 1
    assert town.summary["lanes_opened"] == town.summary["closed"] == []


def test_totals_add_up(town: Network) -> None:
    facts = town.summary
    for key in ("ways", "km"):
        came_in = sum(entry[key] for entry in facts["roads_in_file"].values())
        left_out = sum(entry[key] for entry in facts["left_out"].values())
        outcome = sum(entry[key] for entry in facts["outcome"].values())
        assert left_out + facts["into_netconvert"][key] == pytest.approx(came_in)
        assert outcome == pytest.approx(facts["into_netconvert"][key])
    assert facts["outcome"][netconvert.KEPT]["ways"] == 8
    assert facts["outcome"][netconvert.CUT_OFF]["ways"] == 1
    assert facts["outcome"][netconvert.CUT_OFF]["km"] == pytest.approx(2 * 0.1354, abs=0.001)  # 0.004 deg at 52.5 N
    assert facts["left_out"]["footpath, cycleway or the like"]["ways"] == 1


def test_a_closed_barrier_parts_the_roads_that_meet_there(tmp_path: Path, cache: Path) -> None:
    gate = '<node id="6" version="2" lon="13.402" lat="52.502"><tag k="barrier" v="bollard"/></node>'
    (tmp_path / "a.osm").write_text(grid(extra=gate))
    built = build(tmp_path / "a.osm", name="a")
    middle = built.xy(np.array([[13.402, 52.502]]))
    ends = built.graph.junction_xy[np.hypot(*(built.graph.junction_xy - middle).T) < 20]
    assert len(ends) == 4  # a dead end of each street, 3 m before the bollard
    assert np.hypot(*(ends - middle).T) == pytest.approx(3.0, abs=0.05)
    assert built.summary["barriers"] == {"closed": 1, "open": 0}
    assert built.summary["outcome"][netconvert.KEPT]["ways"] == 8


def test_an_area_across_the_180th_meridian_is_built(tmp_path: Path, cache: Path) -> None:
    text = grid(4, 179.997, -16.8).replace('lon="180.001000"', 'lon="-179.999000"')
    (tmp_path / "a.osm").write_text(text.replace('lon="180.003000"', 'lon="-179.997000"'))
    built = build(tmp_path / "a.osm", name="a")
    west, south, east, north = built.summary["area"]
    assert (west, south, east, north) == pytest.approx((179.997, -16.8, -179.997, -16.794), abs=1e-4)
    assert np.ptp(built.graph.junction_xy[:, 0]) == pytest.approx(
        3 * STEP * 111_250 * np.cos(np.radians(16.8)), rel=0.02
    )
    assert built.summary["left_hand"]  # Fiji
    x, y, bearing = built.graph.point_along(0, 0.5)
    lon, lat = built.lonlat(np.array([[x, y]]))[0]
    assert match_edge(built, lon, lat, bearing) == 0


def test_rules_1_keep_the_key_of_what_was_built_before(tmp_path: Path, cache: Path) -> None:
    def earlier_key(file: Path) -> str:
        settings = NetworkSettings().model_dump(mode="json", exclude={"rules"})
        return hashlib.sha256(json.dumps([2, base_cache.sha256(file), settings, sumo.version()]).encode()).hexdigest()

    file = tmp_path / "a.osm"
    file.write_text(grid(3))  # where the rules change nothing, both have the earlier key
    keys = {build(file, NetworkSettings(rules=number), name="a").key for number in (1, 2)}
    assert keys == {earlier_key(file)}
    file.write_text(grid(3).replace('v="secondary"/>', 'v="secondary"/><tag k="vehicle:backward" v="no"/>', 1))
    old, new = (build(file, NetworkSettings(rules=number), name="a") for number in (1, 2))
    assert old.key == earlier_key(file) != new.key
    assert old.graph.n_edges > new.graph.n_edges
    assert old.summary["differences"] == {"ways": 1}


def test_what_is_lost_is_said_in_the_summary_and_where_it_is_used(tmp_path: Path, cache: Path) -> None:
    text = grid(extra="<remark> runtime error: Query timed out </remark>")
    (tmp_path / "a.osm").write_text(text.replace('<way id="203">', '<way id="203"><tag k="oneway" v="reversible"/>'))
    built = build(tmp_path / "a.osm", name="a")
    lost, reasons = account.lost(built.summary)
    assert lost == pytest.approx((0.667 + 0.271) / (4 * 0.406 + 4 * 0.667 + 0.271), abs=0.01)
    assert list(reasons) == [osm_rules.REVERSIBLE, netconvert.CUT_OFF]
    out = io.StringIO()
    Console(width=400, file=out).print(summary_text(built))
    for warning in account.warnings(built.summary):
        assert warning in out.getvalue()
    assert len(account.warnings(built.summary)) == 2
    assert "a.osm: the map may be incomplete; the server remarks: runtime error: Query timed out" in out.getvalue()


def test_slots_turn_from_left_to_right(town: Network) -> None:
    graph = town.graph
    for edge in range(graph.n_edges):
        at_end = graph.point_along(edge, 0.999)[2]
        ways_on = graph.slots[edge, : graph.n_successors[edge]].tolist()
        turns = [(graph.point_along(after, 0.001)[2] - at_end + 180) % 360 - 180 for after in ways_on]
        assert turns == sorted(turns)  # bearings grow clockwise
        assert max(np.abs(turns)) < 135  # no U-turn but at dead ends, and there are none


def test_positions_go_to_metres_and_back(town: Network) -> None:
    xy = town.graph.junction_xy
    lonlat = town.lonlat(xy)
    assert lonlat.min(axis=0) == pytest.approx((13.4, 52.5), abs=1e-4)
    np.testing.assert_allclose(town.xy(lonlat), xy, atol=1e-3)
    assert np.ptp(xy[:, 1]) == pytest.approx(3 * STEP * 111_250, rel=0.01)


def test_an_edge_is_found_by_place_and_direction(town: Network) -> None:
    graph = town.graph
    for edge in range(graph.n_edges):
        x, y, bearing = graph.point_along(edge, 0.5)
        lon, lat = town.lonlat(np.array([[x, y]]))[0]
        assert match_edge(town, lon, lat, bearing) == edge
        back = match_edge(town, lon, lat, (bearing + 180) % 360)
        assert graph.to_junction[back] == graph.from_junction[edge]
    with pytest.raises(InputError, match=r"within 200 m of longitude 13\.30000"):
        match_edge(town, 13.3, 52.5, 0.0)


def test_the_facts_can_be_printed(town: Network) -> None:
    out = io.StringIO()
    Console(width=200, file=out).print(summary_text(town))
    text = out.getvalue()
    for fact in ("right-hand, by position (time zone Europe/Berlin)", "OpenStreetMap", "footpath", "42 edges"):
        assert fact in text


def test_a_map_is_drawn_with_its_attribution(town: Network, tmp_path: Path) -> None:
    maps.draw_map(town, tmp_path / "deep" / "map.svg")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["map.svg"]
    fig, ax = maps.new_map(town)
    maps.draw_roads(ax, town)
    maps.draw_furniture(ax, town)
    assert town.attribution in [text.get_text() for text in ax.texts]
    maps.save_map(fig, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_shows_streets_and_the_roads_that_are_left_out(tmp_path: Path, cache: Path) -> None:
    named = grid().replace(
        '<tag k="lanes" v="4"/></way>', '<tag k="lanes" v="4"/><tag k="name" v="$Main$ [b]"/></way>', 1
    )
    (tmp_path / "a.osm").write_text(named)
    built = build(tmp_path / "a.osm", name="a")
    assert set(built.streets.values()) == {"$Main$ [b]"}
    assert set(built.streets) <= set(built.graph.index)
    (spur,) = built.left_out
    assert len(spur) == 3
    assert spur[-1] == pytest.approx(built.xy(np.array([[13.4 - 2 * STEP, 52.5]]))[0], abs=0.5)
    _, ax = maps.new_map(built)
    assert [entry.get_label() for entry in maps.draw_left_out(ax, built)] == ["not in the network"]
    maps.draw_streets(ax, built)
    assert [text.get_text() for text in ax.texts] == ["$Main$ [b]"]
    maps.draw_map(built, tmp_path / "map.svg")
    (built.folder / network.LEFT_OUT).unlink()
    assert replace(built).left_out == [], "networks of earlier versions have none"


def test_an_area_that_is_too_small_for_the_agents_is_named(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.osm").write_text(grid())
    for agents, said in (("40", True), ("1", False), ("0", False)):
        with pytest.raises(SystemExit) as stop:
            main(["network", "build", str(tmp_path / "a.osm"), "--agents", agents])
        assert stop.value.code == 0
        assert ("the area is too small for 40 agents: it has" in " ".join(capsys.readouterr().err.split())) == said


def test_the_cache_serves_what_is_built(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid(3))
    first = build(file, name="a")
    assert {f.name for f in first.folder.iterdir()} == {network.NET, network.GRAPH, network.SUMMARY, network.LEFT_OUT}
    assert [f.name for f in (cache / "networks").iterdir()] == [first.folder.name]

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("a SUMO program was run")

    with monkeypatch.context() as patch:
        patch.setattr(sumo, "run", refuse)
        again = build(file, name="a")
        assert (again.key, again.summary) == (first.key, first.summary)
        np.testing.assert_array_equal(again.graph.slots, first.graph.slots)
        with pytest.raises(AssertionError, match="was run"):
            build(file, NetworkSettings(service_roads=True), name="a")
    file.write_text(grid(3, extra='<node id="999" lon="0" lat="0"/>'))
    assert build(file, name="a").key != first.key


def test_building_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid(3))
    contents = []
    for turn in "12":
        monkeypatch.setenv(base_cache.CACHE_VARIABLE, str(tmp_path / turn))
        built = build(file, name="a")
        roads = built.net_file.read_text(encoding="utf-8")
        contents.append((built.summary, roads[roads.index("<net ") :], (built.folder / network.GRAPH).read_bytes()))
    assert contents[0] == contents[1]


def _build(file: Path) -> str:
    return build(file, name="a").key


def test_two_processes_may_build_at_once(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid(3))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        keys = pool.map(_build, [file, file], chunksize=1)
    assert keys[0] == keys[1]
    assert len(list((cache / "networks").iterdir())) == 1


@pytest.mark.parametrize(
    ("lon", "lat", "asked", "left"),
    [(114.17, 22.31, None, True), (13.4, 52.5, None, False), (13.4, 52.5, True, True), (114.17, 22.31, False, False)],
)
def test_driving_side(tmp_path: Path, cache: Path, lon: float, lat: float, asked: bool | None, left: bool) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid(2, lon, lat))
    built = build(file, NetworkSettings(left_hand=asked), name="a")
    assert built.graph.left_hand[0] == built.summary["left_hand"] == left
    # The two directions of a street lie to the left of its middle as driven, or to the right.
    graph = built.graph
    x, y, _ = graph.point_along(0, 0.5)
    start, end = graph.junction_xy[graph.from_junction[0]], graph.junction_xy[graph.to_junction[0]]
    along, aside = end - start, np.array([x, y]) - start
    assert (along[0] * aside[1] - along[1] * aside[0] > 0) == left


def test_the_generated_town_needs_no_attribution(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid(2, generator="relid_sumo"))
    assert build(file, name="a").attribution == "generated by relid_sumo"


def test_signals_are_guessed_only_where_the_data_has_none(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "a.osm"
    file.write_text(grid().replace('<tag k="highway" v="traffic_signals"/>', ""))
    facts = build(file, name="a").summary
    assert facts["signals_guessed"]
    assert facts["signals"] > 1
    assert build(file, NetworkSettings(guess_signals=False), name="a").summary["signals"] == 0


ONE_WAY = """<osm><node id="1" lon="1" lat="50"/><node id="2" lon="1.01" lat="50"/><node id="3" lon="1.02" lat="50"/>
<way id="1"><nd ref="1"/><nd ref="2"/><nd ref="3"/><tag k="highway" v="primary"/><tag k="oneway" v="yes"/></way></osm>
"""


@pytest.mark.parametrize(
    ("name", "text", "settings", "message"),
    [
        ("a.osm", "no xml", {}, "line 1: not XML"),
        ("a.osm", grid(2)[:400], {}, "broken or cut off"),
        ("a.osm", "<osm></osm>", {}, "no roads"),
        ("a.osm", grid(2).replace("secondary", "footway").replace("residential", "steps"), {}, "no road for cars"),
        ("a.osm", ONE_WAY, {}, "strongly connected"),
        ("a.osm", grid(2), {"bbox": (0, 0, 1, 1)}, "the file covers 13.3960,52.5000"),
        ("a.osm", grid(2), {"bbox": (1, 0, 0, 1)}, "W < E"),
        ("a.txt", "hello", {}, "line 1: not XML"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_nothing(
    tmp_path: Path, cache: Path, name: str, text: str, settings: dict[str, tuple[float, ...]], message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        build(tmp_path / name, NetworkSettings.model_validate(settings), name="a")
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.name not in ("networks", "locks") and path.suffix != ".lock"]


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.osm").write_text(grid(2))
    monkeypatch.setenv(base_cache.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="set RELID_SUMO_CACHE"):
        build(tmp_path / "a.osm", name="a")


def test_wrong_lanes_are_mended_then_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges that a trial names are opened to every lane, and closed if it names them again."""
    file = tmp_path / "clean.osm"
    file.write_text(grid())
    builder = netconvert.Builder(file, tmp_path, nodes=100)
    builder.convert(file, left_hand=False, guess_signals=False)
    builder.reduce()
    graph = builder.net.graph
    edge = int(np.flatnonzero(graph.n_successors == 3)[0])
    name = str(graph.edge_ids[edge])
    links = [pairs for (start, _), pairs in builder.net.links.items() if start == edge]
    assert any(len(pairs) < 2 for pairs in links)
    real = trial.run

    def fails_on(times: int) -> list[trial.Trial]:
        runs: list[trial.Trial] = []

        def run(graph: object, net_file: Path, work: Path, seed: int) -> trial.Trial:
            seen = real(graph, net_file, work, seed)  # type: ignore[arg-type]
            runs.append(replace(seen, wrong_lane=seen.wrong_lane + type(seen.wrong_lane)([name] * (len(runs) < times))))
            return runs[-1]

        with monkeypatch.context() as patch:
            patch.setattr(trial, "run", run)
            return builder.repair()

    assert len(fails_on(1)) == 3
    assert builder.opened == {name}
    edge = builder.net.graph.index[name]
    for (start, _), pairs in builder.net.links.items():
        assert start != edge or {lane for lane, _ in pairs} == {0, 1}
    fails_on(1)
    assert builder.closed == {name}
    assert builder.opened == set()
    assert name not in builder.net.graph.index
    assert builder.net.graph.strong_component().all()
    assert sum(builder.fate[netconvert.CLOSED].values()) == pytest.approx(graph.length[graph.index[name]])


def catalogue(folder: Path, text: str) -> None:
    file = folder / "networks" / "atown" / "network.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)


ENTRY = """
title = "A town"
description = "Four streets."
[extract]
file = "atown.osm"
sha256 = "{sha}"
date = "2025-01-01"
area = [13.39, 52.49, 13.41, 52.51]
"""


def test_names_are_looked_up_and_extracts_checked(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "osm" / "atown.osm"
    source.parent.mkdir()
    source.write_text(grid(2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(network_catalogue.PATH_VARIABLE, f"{tmp_path}/nothing:{source.parent}")
    catalogue(tmp_path, ENTRY.format(sha=base_cache.sha256(source)))
    town = find("atown")
    assert (town.name, town.title, town.description) == ("atown", "A town", "Four streets.")
    by_path = find("osm/atown.osm")
    assert by_path.key == town.key
    with pytest.raises(InputError, match=r"no network 'atwon' \(did you mean 'atown'\?\); known are atown, hong_kong"):
        find("atwon")
    with pytest.raises(InputError, match="no such file"):
        find("osm/other.osm")
    source.write_text(grid(3))
    with pytest.raises(InputError, match="wrong checksum"):
        find("atown")
    source.unlink()
    # The suite has no way out to the internet.
    with pytest.raises(InputError, match=r"set RELID_SUMO_OSM_PATH .* could not be fetched"):
        find("atown")
    assert not list(cache.glob("osm/*"))


def test_a_fetched_copy_is_used_and_said_to_be_one(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(network_catalogue.PATH_VARIABLE, "")
    catalogue(tmp_path, ENTRY.format(sha="0" * 64))
    (cache / "osm").mkdir(parents=True)
    (cache / "osm" / "atown_fetched.osm").write_text(grid(2))
    assert "not those of 2025-01-01" in find("atown").description


def test_a_faulty_network_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalogue(tmp_path, ENTRY.format(sha="0" * 64) + "[options]\nlefthand = true\n")
    with pytest.raises(InputError, match=r"network.toml: unknown key 'options.lefthand'.*did you mean 'left_hand'"):
        find("atown")


@pytest.mark.osm
def test_a_real_extract_in_pbf_gives_the_same_roads(osm_dir: Path, tmp_path: Path) -> None:
    source, packed = osm_dir / "orlando_ucf_alafaya_20250228.osm", tmp_path / "a.osm.pbf"
    with osmium.SimpleWriter(osmium.io.File(str(packed), "osh.pbf")) as writer:
        for element in osmium.FileProcessor(str(source)):
            writer.add(element)
    found = [osm.read(file) for file in (source, packed)]
    for extract, name in zip(found, "ab", strict=True):
        osm.write(extract, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert found[0].account == found[1].account


@pytest.mark.osm
@pytest.mark.slow
@pytest.mark.parametrize("name", ["orlando", "hong_kong"])
def test_the_cities(name: str, osm_dir: Path, tmp_path: Path) -> None:
    city = find(name)
    assert 500 <= city.graph.n_edges <= 1500
    assert city.graph.strong_component().all()
    assert city.summary["left_hand"] == (name == "hong_kong")
    assert city.summary["trial"]["wrong_lane_left"] == {}
    fresh = trial.run(city.graph, city.net_file, tmp_path, seed=1000)  # traffic that mending has not seen
    assert fresh.wrong_lane.total() <= 0.002 * fresh.vehicles


@pytest.mark.osm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "bbox"),
    [
        ("hong_kong_yau_tsim_mong_20260305.osm", (114.163, 22.306, 114.176, 22.322)),
        ("orlando_ucf_waterford_20241202.osm", (-81.215, 28.56, -81.19, 28.60)),
        ("orange_county_east_20241202.osm.gz", (-81.22, 28.56, -81.19, 28.60)),
        ("hong_kong_central_waterfront_20251028.osm.bz2", None),
    ],
)
def test_every_extract_builds(file: str, bbox: tuple[float, ...] | None, osm_dir: Path) -> None:
    built = build(osm_dir / file, NetworkSettings.model_validate({"bbox": bbox}), name="extract")
    assert built.graph.n_edges >= 20
    assert built.graph.strong_component().all()
    facts = built.summary
    for key in ("ways", "km"):
        outcome = sum(entry[key] for entry in facts["outcome"].values())
        assert outcome == pytest.approx(facts["into_netconvert"][key])


def test_compressed_input_builds_the_same_roads(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.osm").write_text(grid(2))
    (tmp_path / "a.osm.gz").write_bytes(gzip.compress(grid(2).encode()))
    plain, packed = build(tmp_path / "a.osm", name="a"), build(tmp_path / "a.osm.gz", name="a")
    np.testing.assert_array_equal(plain.graph.edge_ids, packed.graph.edge_ids)
