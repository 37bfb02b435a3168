"""The same data in PBF and in Overpass's JSON give the same roads as in XML; what is broken has one message."""

from __future__ import annotations

import gzip
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import osmium
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.network import catalogue, osm, osm_file

TOWN = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
SMALL = """<osm version="0.6" generator="by hand">
<node id="1" version="2" lat="48.1" lon="11.5"><tag k="highway" v="traffic_signals"/></node>
<node id="2" version="1" lat="48.1012345" lon="11.5012345"/>
<node id="3" version="1" lat="48.102" lon="11.502"/>
<node id="4" version="3" visible="false" lat="48.2" lon="11.6"/>
<way id="10" version="1"><nd ref="1"/><nd ref="2"/><tag k="highway" v="primary"/><tag k="name" v="Straße"/></way>
<way id="11" version="1"><nd ref="2"/><nd ref="3"/><nd ref="4"/><tag k="highway" v="residential"/></way>
<relation id="20" version="1"><member type="way" ref="10" role="from"/><member type="node" ref="2" role="via"/>
<member type="way" ref="11" role="to"/><tag k="type" v="restriction"/><tag k="restriction" v="no_left_turn"/></relation>
</osm>"""


def pbf(source: Path, file: Path) -> Path:
    with osmium.SimpleWriter(osmium.io.File(str(file), "osh.pbf")) as writer:
        for element in osmium.FileProcessor(osmium.io.File(str(source), "osm")):
            writer.add(element)
    return file


def overpass(source: Path) -> dict[str, Any]:
    """Return the elements of an XML file as Overpass writes them with [out:json]."""
    elements = []
    for one in ET.parse(source).getroot():
        if one.tag == "bounds":
            continue
        made: dict[str, Any] = {"type": one.tag, "id": int(one.attrib["id"])}
        made |= {name: float(one.attrib[name]) for name in ("lat", "lon") if name in one.attrib}
        made |= {name: int(one.attrib[name]) for name in ("version",) if name in one.attrib}
        made |= {"visible": False} if one.attrib.get("visible") == "false" else {}
        if one.tag == "way":
            made["nodes"] = [int(nd.attrib["ref"]) for nd in one.findall("nd")]
        if one.tag == "relation":
            made["members"] = [{**m.attrib, "ref": int(m.attrib["ref"])} for m in one.findall("member")]
        if tags := {tag.attrib["k"]: tag.attrib["v"] for tag in one.findall("tag")}:
            made["tags"] = tags
        elements.append(made)
    return {"version": 0.6, "generator": "Overpass API", "osm3s": {"copyright": "ODbL"}, "elements": elements}


@pytest.fixture(params=["small", "town"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "town":
        return TOWN
    (tmp_path / "small.osm").write_text(SMALL, encoding="utf-8")
    return tmp_path / "small.osm"


@pytest.mark.parametrize("form", ["pbf", "json", "json.gz"])
def test_the_same_data_give_the_same_roads(source: Path, form: str, tmp_path: Path) -> None:
    other = tmp_path / f"area.osm.{form}"
    if form == "pbf":
        pbf(source, other)
    else:
        text = json.dumps(overpass(source), ensure_ascii=False).encode()
        other.write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    assert osm.is_osm(other)
    assert osm.is_osm(other.rename(tmp_path / "other name")), "by its content"
    other = tmp_path / "other name"
    files: list[bytes] = []
    for file in (source, other):
        extract = osm.read(file)
        written = tmp_path / f"{len(files)}.osm"
        osm.write(extract, written)
        files.append(written.read_bytes())
        assert extract.account == osm.read(source).account
    assert files[0] == files[1], "netconvert reads the same bytes"
    assert osm_file.parse(other).elements == osm_file.parse(source).elements


def test_names_lose_the_endings_of_the_formats() -> None:
    names = ("kowloon.osm.pbf", "kowloon.pbf", "kowloon.osm.json", "kowloon.osm.json.gz", "kowloon.osm.gz")
    assert {catalogue.plain_name(Path(name)) for name in names} == {"kowloon"}


def test_positions_in_ways_and_remarks_are_read(tmp_path: Path) -> None:
    shape = [{"lat": 48.1, "lon": 11.5}, {"lat": 48.11, "lon": 11.51}]
    way = {"type": "way", "id": 1, "nodes": [1, 2], "geometry": shape, "tags": {"highway": "primary"}}
    (tmp_path / "a.json").write_text(json.dumps({"elements": [way], "remark": "timed\nout"}))
    contents = osm_file.parse(tmp_path / "a.json")
    assert contents.remarks == ("timed out",)
    assert contents.lat.tolist() == [48.1, 48.11]
    (tmp_path / "a.json").write_text(json.dumps({"elements": [{**way, "geometry": [shape[0], None]}]}))
    assert osm_file.parse(tmp_path / "a.json").node_id.tolist() == [1], "null: outside the box"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.osm.pbf", b"not a map at all, but as long as one", r"name ends in .pbf.*not in PBF format"),
        ("a.osm.pbf", b"", r"name ends in .pbf.*not in PBF format"),
        ("a.osm.pbf", b"<html><body>Not found</body></html>", "not OpenStreetMap data.*web page"),
        ("a.osm", b"\x00\x00\x00\x0d\x0a\x09OSMHeader\x18\x7c", "PBF file is broken or cut off"),
        ("a.osm", b'{"version": 0.6}', "JSON without elements of OpenStreetMap"),
        ("a.json", b'{"elements": [', "the JSON is broken or cut off"),
        ("a.json", b'{"elements": [1]}', "element 1: "),
        (
            "a.json",
            b'{"elements": [{"type": "node"}]}',
            "element 1: .*'id' is missing",
        ),
        ("a.json", b'{"elements": [{"type": "node", "id": 1, "lat": "x", "lon": 2}]}', "element 1: could not convert"),
        ("a.json", b'{"elements": [{"type": "node", "id": 1, "lat": 91, "lon": 2}]}', "element 1: node 1 lies at"),
        ("a.json", b'{"elements": [{"type": "way", "id": 1, "nodes": 3}]}', "element 1: "),
        (
            "a.json",
            b'{"elements": [{"type": "way", "id": 1, "geometry": [{"lat": 1, "lon": 2}], "tags": {"highway": "a"}}]}',
            "element 1: a node of a way has a position and no number",
        ),
        ("a.json", b'{"elements": []}', "no roads in this file"),
        ("a.json", b"[" * 10**5, "the JSON is broken or cut off"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "GeoJSON, which has no junctions"),
    ],
)
def test_what_is_broken_has_one_message(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        osm.read(tmp_path / name)
    assert str(error.value).count("\n") == 0


def test_a_pbf_that_is_cut_off_has_one_message(tmp_path: Path) -> None:
    whole = pbf(TOWN, tmp_path / "town.osm.pbf").read_bytes()
    for size in (40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.osm.pbf").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"broken or cut off.*fetch it again"):
            osm.read(tmp_path / "cut.osm.pbf")


def test_without_the_reader_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pbf(TOWN, tmp_path / "town.osm.pbf")
    monkeypatch.setitem(sys.modules, "osmium", None)
    with pytest.raises(InputError, match=r'osmium is not installed; install it with: pip install "relid_sumo\[pbf\]"'):
        osm.read(file)
