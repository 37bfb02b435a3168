from __future__ import annotations

import bz2
import gzip
import os
import stat
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from timezonefinder import TimezoneFinder

from relid_sumo.base.errors import InputError
from relid_sumo.network import osm
from relid_sumo.network.driving_side import LEFT_HAND_ZONES, drives_left

NODES = {1: (10.00, 50.00), 2: (10.01, 50.00), 3: (10.02, 50.00), 4: (10.02, 50.01), 5: (10.03, 50.00)}


def osm_text(ways: list[tuple[int, list[int], dict[str, str]]], extra: str = "", generator: str = "test") -> str:
    """Return an OSM file with NODES and the given ways."""
    lines = [f'<osm version="0.6" generator="{generator}">']
    lines += [f'<node id="{n}" lon="{lon}" lat="{lat}"/>' for n, (lon, lat) in NODES.items()]
    for way, nodes, tags in ways:
        refs = "".join(f'<nd ref="{n}"/>' for n in nodes)
        tag_lines = "".join(f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in tags.items())
        lines.append(f'<way id="{way}">{refs}{tag_lines}</way>')
    return "\n".join([*lines, extra, "</osm>\n"])


def file_with(folder: Path, ways: list[tuple[int, list[int], dict[str, str]]], extra: str = "") -> Path:
    file = folder / "area.osm"
    file.write_text(osm_text(ways, extra))
    return file


STREET = {"highway": "residential"}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"highway": "residential"}, ""),
        ({"highway": "motorway_link"}, ""),
        ({"highway": "footway"}, "footpath"),
        ({"highway": "construction", "construction": "primary"}, "construction"),
        ({"highway": "busway"}, "not a road"),
        ({"highway": "service"}, "service_roads"),
        ({"highway": "residential", "access": "private"}, "no access"),
        ({"highway": "residential", "access": "no", "motor_vehicle": "yes"}, ""),
        ({"highway": "residential", "access": "yes", "motorcar": "no"}, "no access"),
        ({"highway": "residential", "access": "destination"}, ""),
        ({"highway": "residential", "area": "yes"}, "area"),
    ],
)
def test_each_way_is_used_or_left_out_with_a_reason(tmp_path: Path, tags: dict[str, str], reason: str) -> None:
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET), (8, [2, 3], tags)]))
    assert (8 in {piece.way for piece in extract.pieces}) == (not reason)
    assert all(reason in key for key in extract.left_out)
    assert len(extract.left_out) == bool(reason)


def test_service_roads_can_be_asked_for(tmp_path: Path) -> None:
    file = file_with(tmp_path, [(7, [1, 2], {"highway": "service"})])
    assert len(osm.read(file, service_roads=True).pieces) == 1


def test_lengths_are_great_circle_kilometres(tmp_path: Path) -> None:
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET)]))
    assert extract.pieces[0].km == pytest.approx(0.7148, abs=1e-4)  # 0.01 degrees at latitude 50
    assert extract.bounds == (10.0, 50.0, 10.01, 50.0)
    assert extract.centre == pytest.approx((10.005, 50.0))


def test_a_box_cuts_ways_and_the_totals_add_up(tmp_path: Path) -> None:
    # Way 7 leaves the box and comes back: two pieces. Way 9 is outside.
    ways = [(7, [1, 2, 3, 4, 5, 1], STREET), (8, [1, 2], {"highway": "footway"}), (9, [3, 4], STREET)]
    extract = osm.read(file_with(tmp_path, ways), box=(9.99, 49.99, 10.005, 50.005))
    assert [piece.nodes for piece in extract.pieces] == [(1, 2), (5, 1)]
    assert {piece.way for piece in extract.pieces} == {7}
    assert len({piece.id for piece in extract.pieces}) == 2
    assert extract.left_out[osm.OUTSIDE]["ways"] == 1
    for key in ("ways", "km"):
        came_in = sum(entry[key] for entry in extract.came_in.values())
        accounted = sum(e[key] for tally in (extract.usable, extract.left_out) for e in tally.values())
        assert accounted == pytest.approx(came_in)
    assert sum(piece.km for piece in extract.pieces) == pytest.approx(extract.usable["residential"]["km"])


def test_ways_may_stand_before_their_nodes_and_miss_some(tmp_path: Path) -> None:
    text = osm_text([(7, [1, 2, 99, 3, 4], STREET), (8, [98, 97], STREET)])
    head, *rest = text.splitlines()
    nodes = [line for line in rest if line.startswith("<node")]
    others = [line for line in rest if not line.startswith("<node") and line != "</osm>"]
    file = tmp_path / "area.osm"
    file.write_text("\n".join([head, *others, *nodes, "</osm>"]))
    extract = osm.read(file)
    assert [piece.nodes for piece in extract.pieces] == [(1, 2), (3, 4)]
    assert extract.left_out == {osm.INCOMPLETE: {"ways": 1, "km": 0.0}}


def relation(start: int, via: int, end: int, kind: str, via_type: str = "node", extra: str = "") -> str:
    return (
        f'<relation id="1"><member type="way" ref="{start}" role="from"/><member type="{via_type}" ref="{via}" '
        f'role="via"/><member type="way" ref="{end}" role="to"/><tag k="type" v="restriction"/>'
        f'<tag k="restriction" v="{kind}"/>{extra}</relation>'
    )


def test_turn_restrictions_are_kept_where_they_bind_cars(tmp_path: Path) -> None:
    extra = "".join(
        [
            relation(7, 2, 8, "no_left_turn"),
            relation(7, 2, 9, "no_left_turn"),
            relation(7, 2, 8, "no_left_turn", via_type="way"),
            relation(7, 2, 8, "no_u_turn", extra='<tag k="except" v="motorcar"/>'),
        ]
    )
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET), (8, [2, 3], STREET)], extra))
    assert extract.restrictions == ((7, 2, 8, "no_left_turn"),)
    assert sum(extract.restrictions_left_out.values()) == 3
    clean = tmp_path / "clean.osm"
    osm.write(extract, clean)
    assert osm.read(clean).restrictions == extract.restrictions


def test_what_is_written_reads_back_and_is_always_the_same(tmp_path: Path) -> None:
    tags = {"highway": "residential", "name": "A & <B>", "access": "destination", "change:lanes": "no|no"}
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], tags), (8, [2, 3], {"highway": "footway"})]))
    first, second = tmp_path / "1.osm", tmp_path / "2.osm"
    osm.write(extract, first)
    osm.write(osm.read(tmp_path / "area.osm"), second)
    assert first.read_bytes() == second.read_bytes()
    again = osm.read(first)
    assert [(p.id, p.nodes) for p in again.pieces] == [(7, (1, 2))]
    assert again.pieces[0].tags == {"highway": "residential", "name": "A & <B>"}


def test_compressed_files_hold_the_same(tmp_path: Path) -> None:
    plain = file_with(tmp_path, [(7, [1, 2], STREET)])
    (tmp_path / "area.osm.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "area.osm.bz2").write_bytes(bz2.compress(plain.read_bytes()))
    pieces = [osm.read(file).pieces for file in sorted(tmp_path.iterdir())]
    assert pieces[0] == pieces[1] == pieces[2]


WHOLE = osm_text([(7, [1, 2], STREET)]).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.osm", b"hello", "line 1: not XML"),
        ("a.osm", b"", "line 1: not XML"),
        ("a.osm", WHOLE[: len(WHOLE) // 2], r"line \d+: broken or cut off"),
        ("a.osm", b"<gpx></gpx>", "first tag is <gpx>"),
        ("a.osm", b"<osm></osm>", "no roads"),
        ("a.osm", osm_text([(7, [1, 2], {"highway": "footway"})]).encode(), "no road for cars; .* 1 footpath"),
        ("a.osm", osm_text([(7, [98, 99], STREET)]).encode(), "nodes are missing"),
        ("a.osm", WHOLE.replace(b'lon="10.0"', b'lon="x"'), "line 2: .*'x'"),
        ("a.osm", WHOLE.replace(b'lon="10.0"', b'lon="999"'), "line 2: node 1 lies at longitude 999"),
        ("a.osm", WHOLE.replace(b'ref="1"', b""), r"line \d+: attribute 'ref' is missing"),
        ("a.osm.gz", WHOLE, "compressed file is broken"),
        ("a.osm.gz", gzip.compress(WHOLE)[:-40], "compressed file is broken"),
        ("a.osm.bz2", WHOLE, "compressed file is broken"),
        ("a.osm.bz2", bz2.compress(WHOLE)[:-10], "compressed file is broken"),
        ("a.osm.pbf", WHOLE, "osmium cat"),
        ("a.txt", WHOLE, r"\.osm, \.osm\.gz and \.osm\.bz2"),
    ],
)
def test_bad_files_give_one_message_that_names_them(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        osm.read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        osm.read(tmp_path / "a.osm")
    with pytest.raises(InputError, match="a folder"):
        osm.read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = file_with(tmp_path, [(7, [1, 2], STREET)])
    file.chmod(stat.S_IWUSR)
    with pytest.raises(InputError, match="Permission denied"):
        osm.read(file)


def test_a_box_beside_the_file_says_what_the_file_covers(tmp_path: Path) -> None:
    file = file_with(tmp_path, [(7, [1, 3], STREET)])
    with pytest.raises(InputError, match=r"covers 10\.0000,50\.0000,10\.0200,50\.0000"):
        osm.read(file, box=(0, 0, 1, 1))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "3,2,1,4", "1,4,3,2", "1,2,300,4", "nan,2,3,4"])
def test_malformed_boxes(text: str) -> None:
    with pytest.raises(InputError, match="W,S,E,N"):
        osm.parse_box(text)


def test_a_box_is_west_south_east_north() -> None:
    assert osm.parse_box("114.16,22.30, 114.18,22.32") == (114.16, 22.30, 114.18, 22.32)


@pytest.mark.parametrize(
    ("place", "lon", "lat", "left"),
    [
        ("Mong Kok", 114.169, 22.314, True),
        ("Lok Ma Chau, Hong Kong's side", 114.066, 22.513, True),
        ("Futian, Shenzhen's side", 114.050, 22.525, False),
        ("Orlando", -81.2, 28.6, False),
        ("London", -0.1, 51.5, True),
        ("Calais", 1.85, 50.95, False),
        ("Macau", 113.550, 22.195, True),
        ("Zhuhai", 113.550, 22.225, False),
        ("St Thomas", -64.9, 18.34, True),
        ("San Juan", -66.1, 18.4, False),
    ],
)
def test_driving_side_at_the_borders(place: str, lon: float, lat: float, left: bool) -> None:
    assert drives_left(lon, lat)[0] is left, place


def test_every_zone_of_the_table_exists() -> None:
    assert set(TimezoneFinder().timezone_names) >= LEFT_HAND_ZONES
