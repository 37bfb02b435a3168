"""Route files of strangers: what is not a description of traffic is refused by name, with file and line."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.scenario.traffic import own_demand

TYPE = '<vType id="t">{}</vType>'
VEHICLE = '<vehicle id="v" depart="0">{}<route edges="a b"/></vehicle>'
LAUGHS = (
    '<!DOCTYPE routes [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)

# What somebody could put between <routes> and </routes>, and what is said of it.
REFUSED: dict[str, tuple[str, str]] = {
    **{
        f"type-{key}": (TYPE.format(f'<param key="{key}" value="/tmp/x.xml"/>'), f"line 2: the parameter '{key}'")
        for key in (
            "device.ssm.file",
            "has.ssm.device",
            "device.toc.file",
            "has.toc.device",
            "device.fcd-replay.file",
            "has.fcd-replay.device",
            "device.taxi.dispatch-algorithm.output",
            "device.taxi.idle-algorithm.output",
            "has.taxi.device",
            "device.rerouting.output",
            "device.ssm.filter-edges.input-file",
            "has.example.device",
            "device.example.customValue1",
            "has.fcd.device",
            "device.vehroute.file",
            "mine",
            "",
        )
    },
    "vehicle-ssm": (
        VEHICLE.format('<param key="device.ssm.file" value="x"/>'),
        "line 2: the parameter 'device.ssm.file'",
    ),
    "stop-parameter": (
        VEHICLE.format('<stop edge="a"><param key="x" value="y"/></stop>'),
        "line 2: the parameter 'x'",
    ),
    "route-parameter": (
        '<route id="r" edges="a"><param key="device.ssm.file" value="x"/></route>',
        "line 2: the parameter 'device.ssm.file'",
    ),
    "walk-parameter": (
        '<person id="p" depart="0"><walk edges="a"><param key="x" value="y"/></walk></person>',
        "the parameter 'x'",
    ),
    "path-in-a-safe-parameter": (
        TYPE.format('<param key="device.rerouting.period" value="../x"/>'),
        r"device\.rerouting\.period = '\.\./x'",
    ),
    "picture": ('<vType id="t" imgFile="/etc/passwd"/>', "the attribute imgFile of <vType>"),
    "model": ('<vType id="t" osgFile="/etc/passwd"/>', "the attribute osgFile of <vType>"),
    "emissions": ('<vType id="t" emissionClass="PHEMlight/../../x"/>', r"emissionClass = 'PHEMlight/\.\./\.\./x'"),
    "emissions-5": ('<vType id="t" emissionClass="PHEMlight5/x"/>', "emissionClass = 'PHEMlight5/x'"),
    "unknown-attribute": ('<vType id="t" output="x"/>', "the attribute output of <vType>"),
    "href": ('<vehicle id="v" depart="0" href="x"/>', "the attribute href of <vehicle>"),
    "xlink": ('<vehicle id="v" depart="0" xlink:href="x"/>', "the attribute xlink:href of <vehicle>"),
    "schema-below-the-root": ('<vType id="t" xmlns:xsi="http://x"/>', "the attribute xmlns:xsi of <vType>"),
    "control-character": ('<vehicle id="v&#10;w" depart="0"/>', "the value of id of <vehicle> has control characters"),
    "delete-character": ('<vehicle id="v&#127;w" depart="0"/>', "control characters"),
    "text": ("/etc/passwd", "text .*stands between elements"),
    "text-in-a-type": (TYPE.format("text"), "text .*stands between elements"),
    "type-in-a-vehicle": (VEHICLE.format('<vType id="t"/>'), "<vType> is not part of a route file"),
    "vehicle-in-a-route": ('<route id="r" edges="a"><vehicle id="v"/></route>', "<vehicle> is not part"),
    "routes-in-routes": ("<routes/>", "<routes> is not part of a route file"),
    "entity": ("&x;", "not XML: undefined entity"),
    "not-closed": ("<vType>", "not XML: mismatched tag"),
    "null": ("\0", "not XML"),
    **{
        name: (f"<{name} {rest}/>", f"line 2: <{re.escape(name)}> is not part of a route file")
        for name, rest in {
            "include": 'href="/etc/passwd"',
            "xi:include": 'href="/etc/passwd" xmlns:xi="http://www.w3.org/2001/XInclude"',
            "edgeData": 'id="e" file="/tmp/x"',
            "laneData": 'id="e" file="/tmp/x"',
            "inductionLoop": 'id="e" lane="a_0" pos="1" period="1" file="/tmp/x"',
            "e1Detector": 'id="e" lane="a_0" pos="1" period="1" file="/tmp/x"',
            "instantInductionLoop": 'id="e" lane="a_0" pos="1" file="/tmp/x"',
            "laneAreaDetector": 'id="e" lane="a_0" file="/tmp/x"',
            "e2Detector": 'id="e" lane="a_0" file="/tmp/x"',
            "entryExitDetector": 'id="e" period="1" file="/tmp/x"',
            "calibrator": 'id="e" lane="a_0" pos="0" output="/tmp/x"',
            "routeProbe": 'id="e" edge="a" period="1" file="/tmp/x"',
            "vTypeProbe": 'id="e" type="t" period="1" file="/tmp/x"',
            "timedEvent": 'type="SaveTLSStates" source="0" dest="/tmp/x"',
            "variableSpeedSign": 'id="e" lanes="a_0" file="/etc/passwd"',
            "rerouter": 'id="e" edges="a" file="/etc/passwd"',
            "poly": 'id="e" shape="0,0 1,1" imgFile="/etc/passwd"',
            "poi": 'id="e" x="0" y="0" imgFile="/etc/passwd"',
            "tlLogic": 'id="e" programID="p" type="static"',
            "WAUT": 'id="e" startProg="p"',
            "taz": 'id="e" edges="a"',
            "busStop": 'id="e" lane="a_0"',
            "parkingArea": 'id="e" lane="a_0"',
            "chargingStation": 'id="e" lane="a_0"',
            "access": 'lane="a_0"',
            "function": 'id="e" nArgs="0"',
            "viewsettings": "",
            "configuration": "",
            "input": "",
            "output": "",
            "script": "",
            "Vehicle": "",
        }.items()
    },
}
WHOLE: dict[str, tuple[bytes, str]] = {
    "laughs": (LAUGHS.encode() + b"<routes>&c;</routes>", r"line 1: a document type .* is refused"),
    "external-entity": (
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><routes>&x;</routes>',
        "a document type",
    ),
    "external-dtd": (b'<!DOCTYPE routes SYSTEM "http://127.0.0.1:9/x.dtd"><routes/>', "a document type"),
    "another-root": (b"<configuration><input/></configuration>", "<configuration> is not the first element"),
    "network": (b"<net/>", "<net> is not the first element"),
    "root-attribute": (b'<routes href="x"/>', "the attribute href of <routes>"),
    "empty": (b"", "not XML: no element found"),
    "binary": (bytes(range(256)), "not XML"),
    "unknown-encoding": (b'<?xml version="1.0" encoding="ebcdic-x"?><routes/>', "not XML"),
    "broken-gzip": (b"\x1f\x8b\x08\x00broken", "cannot be read"),
    "laughs-in-gzip": (gzip.compress(LAUGHS.encode() + b"<routes>&c;</routes>"), "a document type"),
    "deep": (b"<routes>" + b"<vehicle>" * 10_000, "<vehicle> is not part of a route file"),
}
ALL = {
    **{name: (f"<routes>\n{body}\n</routes>".encode(), said) for name, (body, said) in REFUSED.items()},
    **WHOLE,
}


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_traffic_is_refused_by_name_and_line(name: str, tmp_path: Path) -> None:
    content, said = ALL[name]
    file = tmp_path / "own.rou.xml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        own_demand.cleaned(file)
    assert str(error.value).startswith(str(file))
    assert str(error.value).isprintable()


def test_a_route_file_is_bounded_in_size_also_when_it_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_demand, "MOST_MIB", 2)
    file = tmp_path / "own.rou.xml"
    for content in (b"<routes>" + b" " * (3 << 20), gzip.compress(b"<routes>" + b" " * (3 << 20))):
        file.write_bytes(content)
        with pytest.raises(InputError, match="more than 2 MiB"):
            own_demand.cleaned(file)


TRAFFIC = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment -->
<routes xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://x/routes_file.xsd">
    <vType id="car" vClass="passenger" sigma="0.5" carFollowModel="IDM" emissionClass="HBEFA4/PC_petrol_Euro-4">
        <param key="has.rerouting.device" value="true"/>
        <param key="device.rerouting.period" value="30"/>
    </vType>
    <vTypeDistribution id="mix"><vType id="slow" maxSpeed="8" probability="0.5"/></vTypeDistribution>
    <route id="r&amp;d" edges="a b"/>
    <vehicle id="v&quot;0&quot;" type="car" route="r&amp;d" depart="0.00" departLane="best"/>
    <flow id="f" begin="0" end="60" period="10" from="a" to="b"/>
    <person id="p" depart="1"><walk edges="a"/><ride from="a" to="b" lines="v"/></person>
</routes>
"""


def test_traffic_passes_unchanged(tmp_path: Path) -> None:
    file, again = tmp_path / "own.rou.xml", tmp_path / "again.rou.xml"
    file.write_text(TRAFFIC)
    clean = own_demand.cleaned(file).read_text()
    lines = [line.strip() for line in TRAFFIC.splitlines()[3:]]
    assert re.sub(r"\s+", "", clean) == re.sub(r"\s+", "", "<routes>" + "".join(lines)).replace(
        'id="v&quot;0&quot;"', "id='v\"0\"'"
    )
    again.write_bytes(gzip.compress(TRAFFIC.encode()))
    assert own_demand.cleaned(again).read_text() == clean
    again.write_text(clean)
    assert own_demand.cleaned(again).read_text() == clean


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "own.rou.xml"
    file.write_text(TRAFFIC)
    before = own_demand.digest(file), own_demand.cleaned(file)
    file.write_text(TRAFFIC.replace('depart="0.00"', 'depart="5.00"'))
    assert own_demand.digest(file) != before[0]
    assert 'depart="5.00"' in own_demand.cleaned(file).read_text()
    assert 'depart="0.00"' in before[1].read_text()
