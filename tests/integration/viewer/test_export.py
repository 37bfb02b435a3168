"""Exported routes, run by the plain sumo program."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.viewer.export import export_routes

pytestmark = pytest.mark.sumo
SEED = 3


def plain(configuration: Path, out: Path) -> dict[str, float]:
    """Run plain sumo on a configuration and return each vehicle's travel time from its scheduled departure, s."""
    sumo.run("sumo", ["-c", configuration, "--tripinfo-output", out])
    infos = ET.parse(out).getroot().iter("tripinfo")
    return {i.get("id", ""): float(i.get("duration", "")) + float(i.get("departDelay", "")) for i in infos}


@pytest.mark.parametrize("name", ["shortest", "reactive"])
def test_plain_sumo_reproduces_the_episode(town_ready: PreparedScenario, tmp_path: Path, name: str) -> None:
    policy = Policy(name)
    configuration = export_routes(town_ready, policy, SEED, tmp_path / "learnt.rou.xml")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["learnt.rou.xml", "learnt.sumocfg"]
    options = town_ready.options(SEED)
    episode = drive(town_ready.task, Job(SEED, options, policy))
    assert set(episode.status) == {ARRIVED}
    times = plain(configuration, tmp_path / "trips.xml")
    assert [times[agent] for agent in town_ready.task.names] == episode.travel_time.tolist()


def test_the_files_can_be_moved_together(town_ready: PreparedScenario, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    configuration = export_routes(town_ready, Policy("shortest"), SEED, here / "a.rou.xml")
    before = plain(configuration, tmp_path / "before.xml")
    shutil.move(here, there)
    assert plain(there / configuration.name, tmp_path / "after.xml") == before


def test_the_files_name_their_scenario_policy_and_seed(town_ready: PreparedScenario, tmp_path: Path) -> None:
    configuration = export_routes(town_ready, Policy("shortest"), SEED, tmp_path / "a.rou.xml")
    for file in (configuration, tmp_path / "a.rou.xml"):
        head = file.read_text(encoding="utf-8").partition("-->")[0]
        assert town_ready.network.attribution in head
        assert f"traffic seed {SEED}" in head
        assert "relid_sumo" in head


def test_an_unarrived_agent_gets_a_route_to_its_destination(town_ready: PreparedScenario, tmp_path: Path) -> None:
    short = town_ready.scenario.model_copy(update={"horizon_s": float(town_ready.task.depart_s.max()) + 20.0})
    ready = replace(town_ready, scenario=short, task=replace(town_ready.task, scenario=short))
    export_routes(ready, Policy("shortest"), SEED, tmp_path / "a.rou.xml")
    root = ET.parse(tmp_path / "a.rou.xml").getroot()
    routes = {v.get("id"): str(v[0].get("edges")).split() for v in root.iter("vehicle")}
    task = ready.task
    for i, agent in enumerate(task.names):
        assert routes[agent] == task.graph.edge_ids[task.route(i, int(task.origin[i]))].tolist()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("a.xml", r"ends in \.rou\.xml"), ("no/a.rou.xml", "does not exist"), ("d.rou.xml", "another place")],
)
def test_a_file_that_cannot_be_written_is_refused(
    town_ready: PreparedScenario, tmp_path: Path, name: str, complaint: str
) -> None:
    (tmp_path / "d.rou.xml").mkdir()
    with pytest.raises(InputError, match=complaint):
        export_routes(town_ready, Policy("shortest"), SEED, tmp_path / name)


def test_a_scenario_route_file_with_closed_edges_is_refused(town_ready: PreparedScenario, tmp_path: Path) -> None:
    demand = town_ready.scenario.demand.model_copy(update={"route_file": "own.rou.xml"})
    ready = replace(
        town_ready,
        scenario=town_ready.scenario.model_copy(update={"demand": demand}),
        task=replace(town_ready.task, closed=frozenset({0})),
    )
    with pytest.raises(InputError, match="ignores closed edges"):
        export_routes(ready, Policy("shortest"), SEED, tmp_path / "a.rou.xml")
