"""A bundle, moved to another folder and run by plain SUMO in an empty environment."""

from __future__ import annotations

import csv
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.viewer.bundle import export_bundle

pytestmark = pytest.mark.sumo
SEED = 3


def moved_and_run(configuration: Path, there: Path) -> dict[str, float]:
    """Move a bundle, run it with an empty environment, and return each vehicle's travel time, s."""
    shutil.move(configuration.parent, there)
    program = sumo.binary("sumo")
    command = ["env", "-i", str(program), "-c", configuration.name]
    done = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    infos = ET.parse(there / "tripinfo.xml").getroot().iter("tripinfo")
    return {i.get("id", ""): float(i.get("duration", "")) + float(i.get("departDelay", "")) for i in infos}


def same(episode: EpisodeRecord, ready: PreparedScenario, times: dict[str, float]) -> bool:
    """Return whether all agents arrive at the times of an episode, and the others do not arrive."""
    task = ready.on(episode.traffic_seed).task
    ours = zip(task.names, episode.travel_time.tolist(), episode.status, strict=True)
    return {a: s for a, s, status in ours if status == ARRIVED} == {a: times[a] for a in task.names if a in times}


@pytest.mark.parametrize("name", ["reactive", "random", "rerouting"])
def test_plain_sumo_repeats_the_episode_elsewhere(town_ready: PreparedScenario, tmp_path: Path, name: str) -> None:
    policy = Policy(name, seed=4)
    made = export_bundle(town_ready, policy, SEED, tmp_path / "b", "demo")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b"]
    assert made.configuration == tmp_path / "b" / "demo.sumocfg"
    assert not made.other
    for file in (tmp_path / "b").iterdir():
        assert str(tmp_path) not in (text := file.read_text())
        assert "/networks/" not in text, "no path of the cache"
    episode = drive(town_ready.task, Job(SEED, town_ready.options(SEED), policy))
    times = moved_and_run(made.configuration, tmp_path / "elsewhere")
    assert same(episode, town_ready, times)
    with (tmp_path / "elsewhere" / "arrivals.csv").open(newline="") as source:
        rows = {row["agent"]: row for row in csv.DictReader(source)}
    assert [rows[a]["status"] for a in town_ready.task.names] == list(episode.status)
    readme = (tmp_path / "elsewhere" / "README.md").read_text()
    assert "sumo -c demo.sumocfg" in readme
    assert town_ready.network.attribution in readme
    assert sumo.version() in readme


def test_the_bundle_has_the_incidents(town_ready: PreparedScenario, tmp_path: Path) -> None:
    ready = prepare(added(town_ready.scenario, ["31#1@0-400", "9#1@0-500=30%"]))
    made = export_bundle(ready, Policy("reactive"), SEED, tmp_path / "b")
    assert not made.other
    episode = drive(ready.task, Job(SEED, ready.options(SEED), Policy("reactive")))
    assert episode.diverted.sum() > 0, "agents meet the closed edge"
    assert same(episode, ready, moved_and_run(made.configuration, tmp_path / "elsewhere"))


def test_agents_of_a_given_scenario_drive_with_their_types(town_ready: PreparedScenario, tmp_path: Path) -> None:
    names = town_ready.task.graph.names
    task = town_ready.task
    vehicles = "".join(
        f'<vehicle id="v{i}" type="van" depart="{5 * i}" departLane="best" departSpeed="max"><route edges="'
        f'{" ".join(names[e] for e in task.route(i % 6, int(task.origin[i % 6])))}"/></vehicle>'
        for i in range(40)
    )
    van = '<vType id="van" vClass="passenger" maxSpeed="9" length="7" sigma="0.7"/>'
    (tmp_path / "own.rou.xml").write_text(f"<routes>{van}{vehicles}</routes>")
    content = town_ready.scenario.model_dump(mode="json", exclude_none=True, exclude={"trips", "meso", "demand"})
    content |= {"name": "own", "fleet": {"count": 8}, "demand": {"route_file": "own.rou.xml", "warmup_s": 60.0}}
    scenario = type(town_ready.scenario).model_validate(content).model_copy(update={"folder": tmp_path})
    ready = prepare(scenario)
    policy = Policy("random", seed=1)
    made = export_bundle(ready, policy, SEED, tmp_path / "b")
    assert not made.other
    root = ET.parse(tmp_path / "b" / "agents.rou.xml").getroot()
    assert {(kind.get("maxSpeed"), kind.get("sigma")) for kind in root.iter("vType")} == {("9", "0.7")}
    job = Job(SEED, ready.options(SEED), policy, day=ready.day(SEED))
    assert same(drive(ready.task, job), ready, moved_and_run(made.configuration, tmp_path / "elsewhere"))


def test_a_folder_with_files_is_refused_and_closed_edges_of_own_demand_too(
    town_ready: PreparedScenario, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not an empty folder; choose another one"):
        export_bundle(town_ready, Policy("shortest"), SEED, tmp_path)
    demand = town_ready.scenario.demand.model_copy(update={"route_file": "own.rou.xml"})
    ready = replace(
        town_ready,
        scenario=town_ready.scenario.model_copy(update={"demand": demand}),
        task=replace(town_ready.task, closed=frozenset({0})),
    )
    with pytest.raises(InputError, match="ignores closed edges"):
        export_bundle(ready, Policy("shortest"), SEED, tmp_path / "b")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
