from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import os
import stat
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.network import osm

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
    assert all(reason in key for key in extract.account.left_out)
    assert len(extract.account.left_out) == bool(reason)


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
    assert extract.account.left_out[osm.OUTSIDE]["ways"] == 1
    for key in ("ways", "km"):
        came_in = sum(entry[key] for entry in extract.account.came_in.values())
        accounted = sum(e[key] for tally in (extract.account.usable, extract.account.left_out) for e in tally.values())
        assert accounted == pytest.approx(came_in)
    assert sum(piece.km for piece in extract.pieces) == pytest.approx(extract.account.usable["residential"]["km"])


def test_ways_may_stand_before_their_nodes_and_miss_some(tmp_path: Path) -> None:
    text = osm_text([(7, [1, 2, 99, 3, 4], STREET), (8, [98, 97], STREET)])
    head, *rest = text.splitlines()
    nodes = [line for line in rest if line.startswith("<node")]
    others = [line for line in rest if not line.startswith("<node") and line != "</osm>"]
    file = tmp_path / "area.osm"
    file.write_text("\n".join([head, *others, *nodes, "</osm>"]))
    extract = osm.read(file)
    assert [piece.nodes for piece in extract.pieces] == [(1, 2), (3, 4)]
    gap = extract.account.left_out[osm.INCOMPLETE]
    assert gap["ways"] == 1  # way 8, of which nothing is known
    assert gap["km"] == pytest.approx(0.7148, abs=1e-4)  # the straight line from node 2 to node 3
    assert extract.account.missing_nodes == 3
    total = sum(entry["km"] for tally in (extract.account.usable, extract.account.left_out) for entry in tally.values())
    assert total == pytest.approx(extract.account.came_in["residential"]["km"])


NUMBERS = itertools.count(1)


def relation(start: int, via: int, end: int, kind: str, via_type: str = "node", extra: str = "") -> str:
    return (
        f'<relation id="{next(NUMBERS)}"><member type="way" ref="{start}" role="from"/>'
        f'<member type="{via_type}" ref="{via}" role="via"/>'
        f'<member type="way" ref="{end}" role="to"/><tag k="type" v="restriction"/>'
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
    assert sum(extract.account.restrictions_left_out.values()) == 3
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


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["a.osm", "a.osm.gz", "a.osm.bz2", "a.osm.xml", "a.osm.xml.gz", "map.xml", "map"])
def test_files_are_read_by_content_whatever_their_name(tmp_path: Path, name: str, packer: str) -> None:
    plain = file_with(tmp_path, [(7, [1, 2], STREET)])
    file = tmp_path / "other" / name
    file.parent.mkdir()
    file.write_bytes(PACKERS[packer](plain.read_bytes()))
    assert osm.read(file).pieces == osm.read(plain).pieces
    assert osm.is_osm(file)


@pytest.mark.parametrize(
    ("name", "content", "osm_file"),
    [
        ("gone.osm.xml.gz", None, True),
        ("gone", None, False),
        ("notes.txt", b"hello", False),
        ("scenario.toml", b"# <osm>", False),
        ("half.gz", gzip.compress(b"<osm>" * 99, mtime=0)[:12], False),
    ],
)
def test_names_and_contents_tell_osm_files(tmp_path: Path, name: str, content: bytes | None, osm_file: bool) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert osm.is_osm(tmp_path / name) is osm_file


def record(way: int, nodes: list[int], attributes: str = "", name: str = "", kind: str = "way") -> str:
    refs = "".join(f'<nd ref="{n}"/>' for n in nodes)
    return (
        f'<{kind} id="{way}" {attributes}>{refs}<tag k="highway" v="residential"/><tag k="name" v="{name}"/></{kind}>'
    )


@pytest.mark.parametrize(
    ("records", "names", "counts"),
    [
        # A way may stand in the file several times: what counts, and what is said of the others.
        ([("", "a"), ("", "a")], ["a"], {"elements": 1, "repeated": 1}),
        ([('version="3"', "new"), ('version="1"', "old")], ["new"], {"elements": 1, "older versions": 1}),
        ([('version="1"', "old"), ('version="3"', "new")], ["new"], {"elements": 1, "older versions": 1}),
        (
            [('version="2"', "a"), ('version="2"', "b")],
            ["b"],
            {"elements": 1, "with the same version and other content": 1},
        ),
        ([('version="2" action="modify"', "b"), ('version="2"', "a")], ["b"], {"elements": 1}),
        ([('version="2"', "a"), ('version="2" action="delete"', "a")], [], {"elements": 0, "deleted": 1}),
        ([('version="2"', "a"), ('version="3" visible="false"', "")], [], {"elements": 0, "deleted": 1}),
        (
            [('version="3"', "back"), ('version="2" visible="false"', "")],
            ["back"],
            {"elements": 1, "older versions": 1},
        ),
        ([('action="delete" visible="true"', "a")], [], {"elements": 0, "deleted": 1}),
    ],
)
def test_one_record_of_each_way_counts(
    tmp_path: Path, records: list[tuple[str, str]], names: list[str], counts: dict[str, int]
) -> None:
    lines = "".join(record(8, [2, 3], attributes, name) for attributes, name in records)
    extract = osm.read(file_with(tmp_path, [(7, [1, 2], STREET)], lines))
    assert [piece.tags["name"] for piece in extract.pieces if piece.way == 8] == names
    found = extract.contents.elements["way"]
    assert found["elements"] == 1 + counts["elements"]
    assert {key: found[key] for key in counts if key != "elements"} == {
        k: v for k, v in counts.items() if k != "elements"
    }
    assert extract.account.came_in["residential"]["ways"] == found["elements"]


def test_one_record_of_each_node_counts(tmp_path: Path) -> None:
    signal = '<tag k="highway" v="traffic_signals"/>'
    extra = (
        '<node id="2" version="4" lon="10.015" lat="50"/>'  # newer than the one before
        f'<node id="3" version="1" lon="10.02" lat="50">{signal}</node><node id="3" version="2" lon="10.02" lat="50"/>'
        f'<node id="4" version="5" lon="10.02" lat="50.01">{signal}</node><node id="4" version="1" lon="1" lat="1"/>'
        '<node id="5" version="2" visible="false"/>'
    )
    extract = osm.read(file_with(tmp_path, [(7, [1, 2, 3, 4, 5], STREET)], extra))
    assert extract.node_position[2] == (10.015, 50)
    assert extract.node_tags == {4: {"highway": "traffic_signals"}}
    assert extract.pieces[0].nodes == (1, 2, 3, 4)
    found = extract.contents.elements["node"]
    assert (found["elements"], found["older versions"], found["deleted"]) == (4, 6, 1)


def test_positions_in_ways_are_read(tmp_path: Path) -> None:
    places = "".join(f'<nd ref="{n}" lat="{lat}" lon="{lon}"/>' for n, (lon, lat) in NODES.items())
    member = '<member type="way" ref="7" role="from"><nd lat="50" lon="10"/></member>'
    file = tmp_path / "area.osm"
    file.write_text(
        f'<osm><way id="7"><bounds minlat="50" minlon="10" maxlat="51" maxlon="11"/>{places}'
        f'<tag k="highway" v="primary"/></way><relation id="1">{member}<tag k="type" v="route"/></relation></osm>'
    )
    extract = osm.read(file)
    assert extract.node_position == NODES
    assert extract.contents.relation_types == {"route": 1}


def test_areas_may_lie_across_the_180th_meridian(tmp_path: Path) -> None:
    text = osm_text([(7, [1, 2], STREET), (8, [2, 3], STREET)])
    for old, new in (("10.0", "179.99"), ("10.01", "-179.99"), ("10.02", "-179.97")):
        text = text.replace(f'lon="{old}"', f'lon="{new}"')
    file = tmp_path / "area.osm"
    file.write_text(text)
    extract = osm.read(file)
    assert extract.bounds == (179.99, 50.0, -179.97, 50.0)
    assert extract.centre == pytest.approx((-179.99, 50.0))
    assert extract.account.usable["residential"]["km"] == pytest.approx(2 * 1.4296, abs=1e-3)
    cropped = osm.read(file, box=(179.9, 49, -179.98, 51))
    assert cropped.account.usable == extract.account.usable
    east = osm.read(file, box=(-179.98, 49, -179, 51))
    assert [piece.way for piece in east.pieces] == [8]


def test_new_elements_of_an_editor_have_negative_numbers(tmp_path: Path) -> None:
    extract = osm.read(file_with(tmp_path, [(-7, [1, 2, 3, 4, 5, 1], STREET)]), box=(9.99, 49.99, 10.005, 50.005))
    assert [(piece.id, piece.way) for piece in extract.pieces] == [(-7, -7), (-7 - osm.CUT_ID, -7)]


TAGS_GEOM = '<osm><way id="7"><nd lat="50" lon="10"/><nd lat="50" lon="10.01"/><tag k="highway" v="road"/></way></osm>'
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
        ("a.osm", osm_text([(7, [98, 99], STREET)]).encode(), "nodes are missing.*ask Overpass for the nodes"),
        ("a.osm", WHOLE.replace(b'lon="10.0"', b'lon="x"'), "line 2: .*'x'"),
        ("a.osm", WHOLE.replace(b'lon="10.0"', b'lon="999"'), "line 2: node 1 lies at longitude 999"),
        ("a.osm", WHOLE.replace(b'ref="1"', b""), r"line \d+: attribute 'ref' is missing"),
        ("a.osm.gz", gzip.compress(WHOLE)[:-40], "compressed file is broken"),
        ("a.osm.bz2", bz2.compress(WHOLE)[:-10], "compressed file is broken"),
        ("a.osm.xz", lzma.compress(WHOLE)[:-10], "compressed file is broken"),
        ("a.osm", b"PK\x03\x04....", "zip archive.*unpack"),
        ("a.osm", b"<html><body>rate limited</body></html>", "first tag is <html>.*web page"),
        ("a.osm", b'<osmChange version="0.6"></osmChange>', "change file.*osmium apply-changes"),
        ("a.osm", b'<osm><action type="modify"><old/></action></osm>', "difference between two states"),
        ("a.osm", osm_text([(7, [98, 99], STREET)], "<remark>runtime error: timed out</remark>").encode(), "timed out"),
        ("a.osm", b"<osm><remark> runtime error:\n timed out</remark></osm>", "no roads.*runtime error: timed out"),
        ("a.osm", b'<?xml version="1.0" encoding="U-8TF"?>' + WHOLE, "line 1: unknown encoding"),
        ("a.osm", TAGS_GEOM.encode(), "out tags geom.*out body geom"),
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


def _grid(places: dict[int, tuple[float, float]], refs: list[int]) -> str:
    nodes = "".join(f'<node id="{n}" lon="{lon}" lat="{lat}"/>' for n, (lon, lat) in places.items())
    line = "".join(f'<nd ref="{n}"/>' for n in refs)
    return f'<osm version="0.6">{nodes}<way id="7">{line}<tag k="highway" v="residential"/></way></osm>'


@pytest.mark.parametrize("count", [osm.MOST_COINCIDENT, osm.MOST_COINCIDENT + 1])
def test_nodes_at_one_position_are_counted(count: int, tmp_path: Path) -> None:
    """A real extract has two at most; from a dozen on, netconvert does not end."""
    places = {n: (10.0 if n <= count else 10.0 + n / 100, 50.0) for n in range(1, 21)}
    (tmp_path / "a.osm").write_text(_grid(places, list(places)))
    if count == osm.MOST_COINCIDENT:
        assert osm.read(tmp_path / "a.osm").pieces
        return
    with pytest.raises(InputError, match=r"a\.osm: longitude 10, latitude 50: 9 nodes .*position.*export the area"):
        osm.read(tmp_path / "a.osm")


@pytest.mark.parametrize("times", [osm.MOST_PASSES, osm.MOST_PASSES + 1])
def test_roads_through_one_position_are_counted(times: int, tmp_path: Path) -> None:
    places = {n: (10.0 + n / 100, 50.0) for n in range(times + 2)}
    (tmp_path / "a.osm").write_text(_grid(places, [n for k in range(1, times + 1) for n in (0, k)]))
    if times == osm.MOST_PASSES:
        assert osm.read(tmp_path / "a.osm").pieces
        return
    with pytest.raises(InputError, match=rf"longitude 10, latitude 50: {times} times roads pass"):
        osm.read(tmp_path / "a.osm")
