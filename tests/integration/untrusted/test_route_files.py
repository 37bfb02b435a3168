"""Route files of strangers with the real SUMO: the attacks work on SUMO itself, and on nothing that we run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.traffic import own_demand
from relid_sumo.scenario.traffic.calibration import trip_times

pytestmark = pytest.mark.sumo

# What SUMO writes to FILE where it is in a route file of vehicles on EDGE and NEXT; the second writes into the folder
# that SUMO was started in.
WRITES = {
    "ssm": '<vType id="t"><param key="has.ssm.device" value="true"/><param key="device.ssm.file" value="FILE"/>'
    "</vType>CARS",
    "ssm-here": '<vType id="t"><param key="has.ssm.device" value="true"/></vType>CARS',
    "ssm-of-a-vehicle": '<vType id="t"/><vehicle id="v" type="t" depart="0"><route edges="EDGE NEXT"/>'
    '<param key="has.ssm.device" value="true"/><param key="device.ssm.file" value="FILE"/></vehicle>',
    "toc": '<vType id="m"/><vType id="t"><param key="has.toc.device" value="true"/>'
    '<param key="device.toc.file" value="FILE"/><param key="device.toc.manualType" value="m"/>'
    '<param key="device.toc.automatedType" value="t"/></vType>CARS',
    "include": '<include href="BESIDE"/>CARS',
}  # fmt: skip
BESIDE = WRITES["ssm"].replace("CARS", "").join(("<routes>", "</routes>"))
CARS = '<vehicle id="v" type="t" depart="0"><route edges="EDGE NEXT"/></vehicle>'


@pytest.fixture
def ends(town_ready: PreparedScenario) -> tuple[str, str]:
    graph = town_ready.network.graph
    edge = int(town_ready.task.origin[0])
    return str(graph.edge_ids[edge]), str(graph.edge_ids[int(graph.slots[edge, 0])])


@pytest.mark.parametrize("name", WRITES)
def test_what_makes_sumo_write_is_refused_before_sumo_starts(
    name: str, town_ready: PreparedScenario, ends: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, work, scenario = (tmp_path / part for part in ("outside", "work", "scenario"))
    for folder in (outside, work, scenario):
        folder.mkdir()
    words = {"FILE": str(outside / "new.xml"), "BESIDE": str(tmp_path / "beside.xml"), "EDGE": ends[0], "NEXT": ends[1]}

    def filled(text: str) -> str:
        text = text.replace("CARS", CARS)
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    (tmp_path / "beside.xml").write_text(filled(BESIDE))
    own = scenario / "own.rou.xml"
    own.write_text(f"<routes>{filled(WRITES[name])}</routes>")
    net = str(town_ready.network.net_file)
    command = [
        sumo.binary("sumo"),
        "-n",
        net,
        "-r",
        str(own),
        "--end",
        "30",
        "--no-step-log",
        "--xml-validation",
        "never",
    ]
    subprocess.run(command, cwd=work, check=True, capture_output=True, timeout=60)
    assert [*outside.iterdir(), *work.iterdir()], "this is no attack: SUMO wrote nothing"
    for file in [*outside.iterdir(), *work.iterdir()]:
        file.unlink()

    monkeypatch.chdir(work)
    demand = town_ready.scenario.demand.model_copy(update={"route_file": str(own), "rate_vph": None})
    with pytest.raises(InputError, match=rf"{re.escape(str(own))}, line 1: (the parameter|<include>)"):
        prepare(town_ready.scenario.model_copy(update={"demand": demand, "folder": scenario}))
    assert not [*outside.iterdir(), *work.iterdir()]


ALLOWED = """<routes>
    <vType id="car" vClass="passenger" carFollowModel="IDM" emissionClass="HBEFA4/PC_petrol_Euro-4">
        <param key="has.rerouting.device" value="true"/><param key="device.rerouting.period" value="20"/>
    </vType>
    <vTypeDistribution id="mix">
        <vType id="slow" maxSpeed="8" probability="0.4"/><vType id="quick" speedFactor="1.2" probability="0.6"/>
    </vTypeDistribution>
    <route id="way" edges="EDGE NEXT"/>
    <trip id="t" type="mix" depart="1" from="EDGE" to="NEXT" departLane="best" departSpeed="max"/>
    <vehicle id="v" type="car" route="way" depart="2"><stop edge="EDGE" endPos="20" duration="5"/></vehicle>
    <flow id="f" type="mix" begin="3" end="60" number="12" from="EDGE" to="NEXT"/>
    <vehicle id="w" type="mix" depart="70">
        <routeDistribution><route edges="EDGE NEXT" probability="1"/></routeDistribution>
    </vehicle>
    <person id="p" depart="80"><ride from="EDGE" to="NEXT" lines="x"/></person>
    <vehicle id="x" depart="81" line="x" departPos="0"><route edges="EDGE NEXT"/></vehicle>
</routes>
"""  # fmt: skip


def test_traffic_drives_the_same_before_and_after_it_is_rewritten(
    town_ready: PreparedScenario, ends: tuple[str, str], tmp_path: Path
) -> None:
    raw = tmp_path / "own.rou.xml"
    raw.write_text(ALLOWED.replace("EDGE", ends[0]).replace("NEXT", ends[1]))
    told = []
    for file in (raw, own_demand.cleaned(raw)):
        out = tmp_path / "trips.xml"
        options = ["-n", town_ready.network.net_file, "-r", file, "--seed", "3", "--end", "200", "--no-step-log"]
        sumo.run("sumo", [*map(str, options), "--tripinfo-output", str(out), "--xml-validation", "never"])
        told.append(re.sub(r"<!--.*?-->", "", out.read_text(), flags=re.DOTALL))
    assert told[0] == told[1]
    assert told[0].count("<tripinfo ") >= 12


def test_a_trip_that_waits_for_somebody_is_no_fault(
    town_ready: PreparedScenario, ends: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "own.rou.xml").write_text(
        f'<routes><vehicle id="v" depart="triggered"><route edges="{ends[0]} {ends[1]}"/></vehicle></routes>'
    )
    demand = town_ready.scenario.demand.model_copy(update={"route_file": "own.rou.xml", "rate_vph": None})
    scenario = town_ready.scenario.model_copy(update={"demand": demand, "folder": tmp_path})
    assert trip_times(scenario, town_ready.network, 0).light == {}
