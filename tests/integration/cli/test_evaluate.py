"""An evaluation is stored in the run folder, reported, and written trip by trip."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.cli.main import main
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.learn import run_folder
from relid_sumo.runs.summary import MEASURED, read_evaluation
from relid_sumo.scenario.files import override
from relid_sumo.scenario.prepare import prepare

pytestmark = pytest.mark.sumo

ALONE = ["--algo", "ippo", "--curriculum", "micro", "--evaluate", "0"]
SMALL = ["--set", "demand.rate_vph=300", "--set", "demand.warmup_s=60", "--set", "horizon_s=700"]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "town"
    assert (
        run("train", "town", *SMALL, "--set", "train.episodes_per_update=2", "--episodes", "2", *ALONE, "--out", folder)
        == 0
    )
    return folder


def test_the_command_in_a_report_reproduces_the_run_byte_for_byte(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", trained, "--out", tmp_path / "r.html") == 0
    found = re.search(r"reproduces the run</h4><pre>(.*?)</pre>", (tmp_path / "r.html").read_text())
    assert found is not None
    command = shlex.split(html.unescape(found[1]))
    assert command[:2] == ["relid-sumo", "train"]
    assert run(*command[1:], "--out", tmp_path / "again") == 0
    for name in ("metrics.csv", "digests.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def stored(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return content


def test_an_evaluation_is_stored_extended_and_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained, "--seeds", "2", "--baselines", "shortest", "--json") == 0
    printed = capsys.readouterr()
    assert "evaluation stored:" in printed.err
    told = json.loads(printed.out)["policies"]
    means = {name: row["mean_travel_time_s"] for name, row in told.items()}
    first, read = stored(trained), read_evaluation(trained)
    assert read is not None
    assert read.policies["shortest"].over_arrived("co2_g") == pytest.approx(told["shortest"]["mean_co2_g"], abs=0.01)
    delays = np.array(first["policies"]["shortest"]["travel_time_s"]) - np.array(first["free_flow_s"])
    assert delays.mean() == pytest.approx(told["shortest"]["mean_delay_s"], abs=0.01)
    assert list(first["policies"]) == ["trained", "shortest"]
    for name, policy in first["policies"].items():
        assert np.mean(policy["travel_time_s"]) == pytest.approx(means[name], abs=1e-3)

    earlier = {**first, "policies": {name: dict(one) for name, one in first["policies"].items()}}
    for name in (*MEASURED, "vehicle_s"):
        del earlier["policies"]["shortest"][name]
    (trained / "evaluation.json").write_text(json.dumps(earlier))
    assert run("report", trained, "--out", tmp_path / "r.md") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "evaluated by an earlier version, so shortest without delay, stops, distance, CO2 and fuel" in said
    (trained / "evaluation.json").write_text(json.dumps(first))

    assert run("evaluate", trained, "--seeds", "2", "--baselines", "random") == 0
    assert "added to the stored evaluation" in capsys.readouterr().err
    both = stored(trained)
    assert both == {**first, "policies": {**first["policies"], "random": both["policies"]["random"]}}
    assert set(json.loads((trained / "routes.json").read_text())["routes"]) == {"trained", "shortest", "random"}

    assert run("evaluate", trained, "--seeds", "1", "--baselines", "shortest") == 0
    assert "not replaced, because it has more traffic seeds" in capsys.readouterr().err
    for words in (
        ["--set", "demand.rate_vph=200"],
        ["--sampled"],
        ["--traffic", "validation"],
        ["--incident", "31#1@0-60"],
    ):
        assert run("evaluate", trained, "--seeds", "1", "--baselines", "shortest", *words) == 0
        assert "stored" not in capsys.readouterr().err, "what is not the run's own evaluation is not stored"
    assert stored(trained) == both

    assert run("report", trained, "--out", tmp_path / "r.md") == 0
    assert "baselines evaluated: shortest, random" in capsys.readouterr().err
    page = (tmp_path / "r.md").read_text()
    assert all(f"| {name} |" in page for name in ("ippo", "shortest", "random"))

    other = {**both, "policies": {**both["policies"], "trained": both["policies"]["random"]}}
    (trained / "evaluation.json").write_text(json.dumps(other))
    assert run("evaluate", trained, "--seeds", "1", "--baselines", "shortest") == 0
    assert "stored evaluation replaced, because its traffic seeds or its policy differ" in capsys.readouterr().err
    assert stored(trained)["traffic_seeds"] == first["traffic_seeds"][:1]


def test_numbers_equal_those_of_sumo_and_name_what_they_are_means_over(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trips = tmp_path / "trips.csv"
    words = ("evaluate", trained, "--seeds", "2", "--baselines", "shortest,reactive", "--trips", trips)
    short = "horizon_s=480"  # too short for some of the trips
    assert run(*words, "--set", short, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    with trips.open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["policy"] == "reactive"]
    ready = prepare(override(run_folder.load(trained)[1], [short]))
    told = content["policies"]["reactive"]
    by_seed = {seed: [row for row in rows if int(row["traffic_seed"]) == seed] for seed in content["seeds"]}
    for seed, ours in by_seed.items():
        # SUMO's own output of the same episode, without the devices of the evaluation
        out = tmp_path / f"{seed}.xml"
        output = ["--tripinfo-output", str(out), "--emission-output", "/dev/null"]
        drive(ready.task, Job(seed, (*ready.options(seed), *output), Policy("reactive"), background=True))
        infos = {one.get("id"): one for one in ET.parse(out).getroot().iter("tripinfo")}
        for row in (row for row in ours if row["status"] == "arrived"):
            info = infos[row["agent"]]
            gases = info.find("emissions")
            assert gases is not None
            names = ("duration", "timeLoss", "routeLength", "waitingTime", "waitingCount")
            theirs = [float(info.attrib[name]) for name in names]
            theirs += [float(gases.attrib[name]) / 1000 for name in ("CO2_abs", "fuel_abs")]
            assert [float(row[f"driven_{name}"]) for name in MEASURED] == pytest.approx(theirs, abs=1e-3)

    def mean(name: str, of: Callable[[Any], Any] = np.mean, *, arrived: bool = False) -> float:
        values = [
            [float(row[name]) for row in ours if not arrived or row["status"] == "arrived"] for ours in by_seed.values()
        ]
        return float(np.mean([of(one) for one in values]))

    over = content["means_over"]
    assert [told["trips"], told["arrived"]] == [len(rows), sum(row["status"] == "arrived" for row in rows)]
    assert told["arrived"] < told["trips"], "otherwise the two denominators are the same"
    assert over["mean_delay_s"] == "all trips"
    assert told["mean_delay_s"] == pytest.approx(mean("delay_s"), abs=0.01)
    assert over["worst_delay_s"] == over["delay_spread_s"] == "traffic seeds"
    assert told["worst_delay_s"] == pytest.approx(mean("delay_s", np.max), abs=0.01)
    assert told["delay_spread_s"] == pytest.approx(mean("delay_s", np.std), abs=0.01)
    for name in ("time_loss_s", "waiting_s", "stops", "distance_m", "co2_g", "fuel_g"):
        assert over[f"mean_{name}"] == "arrived trips"
        assert told[f"mean_{name}"] == pytest.approx(mean(f"driven_{name}", arrived=True), abs=0.01)
    assert 5 < told["mean_speed_kmh"] < 60
    low, high = told["interval_95"]["mean_co2_g"]
    assert low <= told["mean_co2_g"] <= high
    assert content["policies"]["shortest"]["vehicles_over_shortest"] == 0
    assert abs(told["vehicles_over_shortest"]) > 0


OWN = """
import numpy as np


def longest(junction):
    length = junction.task.graph.length[junction.task.graph.slots[junction.edge]]
    return int(np.argmax(np.where(junction.mask, length, -1.0)))


def broken(junction):
    raise ZeroDivisionError("no plan")
"""


def test_another_run_and_own_code_are_opponents_and_sumo_writes_its_outputs(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, own, out = tmp_path / "other run", tmp_path / "own.py", tmp_path / "new" / "out"
    shutil.copytree(trained, other)
    own.write_text(OWN)
    words = ("evaluate", trained, "--seeds", "1", "--traffic", "validation", "--json")
    opponents = ("--baselines", "shortest", "--policy", other, "--policy", f"{own}:longest")
    assert run(*words, *opponents) == 0
    plain = json.loads(capsys.readouterr().out)
    assert list(plain["policies"]) == ["trained", "shortest", "other_run", "longest"]
    assert plain["policies"]["other_run"] == plain["policies"]["trained"]
    assert plain["policies"]["longest"] != plain["policies"]["shortest"]

    edges = tmp_path / "edges.csv"
    assert run(*words, *opponents, "--sumo-output", out, "--edges", edges) == 0
    assert json.loads(capsys.readouterr().out) == plain, "outputs change nothing"
    (seed,) = plain["seeds"]
    ready = prepare(run_folder.load(trained)[1])
    assert sorted(one.name for one in out.iterdir()) == ["longest", "other_run", "shortest", "trained"]
    with edges.open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["policy"] == "shortest"]
    place = out / "shortest" / str(seed)
    trips = {one.get("id"): one for one in ET.parse(place / "tripinfo.xml").getroot().iter("tripinfo")}
    assert len(trips) > 2 * ready.task.n_agents, "the other vehicles too"
    co2 = [float(str(gas.get("CO2_abs"))) for a in ready.task.names for gas in trips[a].iter("emissions")]
    assert np.mean(co2) / 1000 == pytest.approx(plain["policies"]["shortest"]["mean_co2_g"], abs=0.01)
    steps = [float(str(one.get("time"))) for one in ET.parse(place / "summary.xml").getroot().iter("step")]
    assert steps == list(np.arange(len(steps)))
    interval = ET.parse(place / "edgedata.xml").getroot()[0]
    assert float(str(interval.get("begin"))) == ready.scenario.start_s
    theirs = {one.get("id"): one for one in interval.iter("edge")}
    for row in rows:
        assert row["speed_mps"] == theirs[row["edge"]].get("speed")
    route = [ready.task.graph.names[edge] for edge in ready.task.route(0, int(ready.task.origin[0]))]
    assert all(int(row["agents"]) >= 1 for row in rows if row["edge"] in route)
    gases = ET.parse(place / "emissions.xml").getroot()[0]
    total_g = sum(float(str(one.get("CO2_abs"))) for one in gases.iter("edge")) / 1000
    assert sum(float(row["co2_g"]) for row in rows) == pytest.approx(total_g, rel=1e-3)

    scenario = (other / "scenario.toml").read_text()
    changed = re.sub(r"(\[observation\][^\[]*)window_s = [\d.]+", r"\1window_s = 60.0", scenario)
    assert changed != scenario
    (other / "scenario.toml").write_text(changed)
    for policy, complaint in (
        (other, "trained on another observation than that of 'town'"),
        ("hist", "neither a run folder (it has no settings.json) nor your own code"),
        (f"{own}:broken", "raises ZeroDivisionError: no plan"),
        (f"{own}:missing", "defines no 'missing'"),
    ):
        assert run(*words, "--policy", policy) == 2
        assert complaint in " ".join(capsys.readouterr().err.split())
    assert run(*words, "--branches", "0.1", "--sumo-output", out) == 2
    assert "cannot be written while choices are tried" in " ".join(capsys.readouterr().err.split())


def test_an_incident_slows_vehicles_that_meet_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", trained, "--seeds", "1", "--traffic", "validation", "--baselines", "shortest,rerouting")
    assert run(*words, "--json") == 0
    free = json.loads(capsys.readouterr().out)
    assert {one["diverted"] for one in free["policies"].values()} == {0}
    assert run(*words, "--incident", "31#1@0-600", "--json") == 0
    closed = json.loads(capsys.readouterr().out)
    assert closed["what_if"] == ["incident: 31#1@0-600"]
    for name in ("shortest", "rerouting"):
        one, other = (content["policies"][name] for content in (closed, free))
        assert one["diverted"] >= 3
        assert one["mean_travel_time_s"] > other["mean_travel_time_s"] + 20
    assert run(*words, "--incident", "31#11@0-600") == 2
    assert "has no edge '31#11' (did you mean '31#1'?)" in " ".join(capsys.readouterr().err.split())


def test_trips_are_written_one_by_one(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "trips.csv"
    assert run("evaluate", trained, "--seeds", "2", "--baselines", "shortest", "--trips", file) == 0
    assert f"trips: {file}" in " ".join(capsys.readouterr().err.split())
    with file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    ready = prepare(run_folder.load(trained)[1])
    task, graph, known = ready.task, ready.task.graph, stored(trained)
    assert len(rows) == 2 * 2 * task.n_agents
    for row in rows:
        i, k = task.names.index(row["agent"]), known["traffic_seeds"].index(int(row["traffic_seed"]))
        policy, route = known["policies"][row["policy"]], [graph.index[edge] for edge in row["route"].split()]
        assert row["status"] == policy["status"][k][i]
        assert float(row["travel_time_s"]) == policy["travel_time_s"][k][i]
        assert float(row["departure_s"]) == task.depart_s[i]
        assert float(row["distance_m"]) == pytest.approx(graph.length[route].sum(), abs=1e-3)
        shortest = task.route(i, int(task.origin[i]))
        free_s = graph.free_flow_s[shortest].sum()
        assert float(row["free_flow_time_s"]) == pytest.approx(free_s, abs=0.01)
        assert float(row["delay_s"]) == pytest.approx(float(row["travel_time_s"]) - free_s, abs=0.01)
        assert row["route"].split()[0] == row["origin"] == str(graph.edge_ids[task.origin[i]])
        if row["status"] == "arrived":
            assert row["route"].split()[-1] == row["destination"] == str(graph.edge_ids[task.destination[i]])
    driven = [row["route"] for row in rows if row["policy"] == "shortest" and row["agent"] == task.names[0]]
    assert driven[0] == " ".join(graph.edge_ids[task.route(0, int(task.origin[0]))])


def test_a_place_where_trips_cannot_be_written_is_refused_at_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained, "--trips", tmp_path) == 2
    assert f"--trips {tmp_path}: it is a folder" in " ".join(capsys.readouterr().err.split())


def test_a_replay_shows_the_run_and_a_baseline(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "replay.html"
    assert run("replay", trained, "--against", "shortest", "--out", page) == 0
    said = capsys.readouterr().err
    assert "trained: mean travel time" in said
    assert "shortest: mean travel time" in said
    assert f"{page} (" in said.replace("\n", "")
    assert page.stat().st_size > 1e5
    assert run("replay", trained, "--against", "shortest,random", "--out", page) == 2
    assert "--against shortest,random: name one baseline" in capsys.readouterr().err
    assert run("replay", trained, "--out", tmp_path / "replay.mp4") == 2
    assert "give the name the ending .html" in capsys.readouterr().err
