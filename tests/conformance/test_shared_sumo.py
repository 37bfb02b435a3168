"""Real SUMO scenarios next to the checkout: their vehicles are those of plain SUMO, and agents drive in their traffic.

Only a short time of each is driven. Without the folder ../shared/sumo the tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.network import network
from relid_sumo.scenario import trips
from relid_sumo.scenario.given import source
from relid_sumo.scenario.given.source import Inputs
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import own_traffic

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "sumo"
SHORT_S = 240.0  # after the warm-up
WARMUP_S = 60.0
pytestmark = [pytest.mark.sumo, pytest.mark.skipif(not SHARED.is_dir(), reason="no folder ../shared/sumo")]


def urb(folder: Path) -> Path:
    """Return the trips of the Urban Routing Benchmark in Ingolstadt."""
    here, out = SHARED / "urb_ingolstadt", folder / "urb.trips.xml"
    files = [here / "agents.csv", here / "od_ingolstadt_custom.txt", out]
    subprocess.run([sys.executable, str(ROOT / "tools" / "urb_trips.py"), *map(str, files)], check=True)
    return out


def plain(options: list[str], scenario: Scenario, folder: Path) -> dict[str, int]:
    """Return the vehicles and persons of plain SUMO in the time of a scenario."""
    file = folder / "statistics.xml"
    times = ["--begin", f"{scenario.demand.begin_s:g}", "--end", f"{scenario.end_s:g}", "--no-step-log"]
    sumo.run("sumo", [*options, *times, "--statistic-output", str(file), "--xml-validation", "never", "--no-warnings"])
    root = ET.parse(file).getroot()
    vehicles, persons = root.find("vehicles"), root.find("persons")
    assert vehicles is not None
    assert persons is not None
    return {"departed": int(vehicles.get("inserted", "0")), "persons": int(persons.get("loaded", "0"))}


@pytest.mark.parametrize("name", ["wildau", "tavf_hamburg", "urb_ingolstadt"])
def test_a_real_scenario_keeps_its_traffic_and_is_driven(name: str, tmp_path: Path) -> None:
    folder = SHARED / name
    window = {"warmup_s": WARMUP_S}
    if name == "urb_ingolstadt":
        routes = urb(tmp_path)
        given = source.read(folder / "ingolstadt_custom.net.xml", Inputs(routes=(routes,)), window)
        options = ["-n", str(given.net), "-r", str(routes), "--ignore-route-errors"]
    elif name == "wildau":  # its GUI settings are missing, which plain SUMO refuses
        given = source.read(folder / "flow1_Spaet.sumocfg", Inputs(), window)
        options = ["-n", str(given.net), "-r", str(folder / "flows_SUMOV2.2.rou.xml")]
    else:
        given = source.read(folder / "run_simulation.sumocfg", Inputs(), window)
        options = ["-c", str(folder / "run_simulation.sumocfg")]
    roads = network.build(given.net, name=name)
    chosen = trips.choose(roads, 2, prefix=given.prefix)
    scenario = Scenario(name=name, network=str(given.net.resolve()), trips=chosen, horizon_s=900.0, **given.settings)
    short = scenario.model_copy(update={"horizon_s": SHORT_S})
    found = own_traffic.measured(short, roads, "shared")
    expected = plain(options, short, tmp_path)
    # Insertion on full roads depends on random numbers: plain SUMO itself differs by a few vehicles between seeds.
    assert found.departed == pytest.approx(expected["departed"], rel=0.01, abs=1)
    assert found.persons == expected["persons"]

    ready = prepare(scenario.model_copy(update={"horizon_s": 900.0}))
    episode = drive(ready.task, Job(0, ready.options(0), Policy("shortest")))
    assert episode.status.count("never inserted") < len(episode.status)
