"""Training on a fleet: one policy for all agents, whatever their number, from training to report."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import relid_sumo
from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.cli.main import main
from relid_sumo.env.play import drive, job
from relid_sumo.env.policies import Policy
from relid_sumo.evaluation import evaluate, stored
from relid_sumo.evaluation.trained import load_policy, load_trained
from relid_sumo.evaluation.trips import write_trips
from relid_sumo.learn import train as training
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.learn.train import TrainingWatch
from relid_sumo.runs.summary import read_evaluation
from relid_sumo.scenario.files import write_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Fleet, Scenario
from relid_sumo.viewer.export import export_routes

pytestmark = pytest.mark.sumo

SETTINGS = TrainSettings(algo="ippo", episodes=4, episodes_per_update=2)


class Interrupt:
    """Ends training after its first update."""

    def __call__(self, row: dict[str, float]) -> None:
        if row["update"] == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def fleet(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the small town in which a fifth of the demand's vehicles are agents."""
    seeds = town_ready.scenario.seeds.model_copy(update={"training": (0, 1, 2, 3)})
    return prepare(town_ready.scenario.model_copy(update={"trips": (), "fleet": Fleet(share=0.2), "seeds": seeds}))


@pytest.fixture(scope="module")
def run(fleet: PreparedScenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder: two updates in one sitting."""
    folder = tmp_path_factory.mktemp("fleet") / "run"
    training.train(fleet, folder, SETTINGS, workers=2)
    return folder


def test_a_killed_training_on_a_fleet_resumes_to_the_same_bytes(
    fleet: PreparedScenario, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.train(fleet, folder, SETTINGS, workers=1, watch=TrainingWatch(update=Interrupt()))
    training.resume(folder, workers=1, fork=False)
    for name in ("metrics.csv", "checkpoint.pt", "scenario.toml"):
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name


def test_a_fleet_is_evaluated_stored_and_reported(run: Path, tmp_path: Path) -> None:
    ready, trained = load_trained(run)
    policies = {"trained": trained, **relid_sumo.baselines("shortest,hist")}
    result = evaluate.evaluate(ready, policies, n_seeds=2)
    counts = [ready.on(seed).task.n_agents for seed in result.seeds]
    assert [len(record.status) for record in result.records["trained"]] == counts
    assert stored.store(run, ready, result.records) == "new"
    assert stored.store(run, ready, result.records) == "added"
    kept = read_evaluation(run)
    assert kept is not None
    assert kept.fleet
    assert [len(times) for times in kept.policies["hist"].travel_time_s] == counts
    routes = json.loads((run / "routes.json").read_text(encoding="utf-8"))
    assert len(routes["agents"]) == len(routes["origin"]) == counts[0]
    relid_sumo.report(run, tmp_path / "report.html")
    assert "The agents are a fleet" in (tmp_path / "report.html").read_text(encoding="utf-8")
    write_trips(tmp_path / "trips.csv", ready, result.records)
    with (tmp_path / "trips.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 3 * sum(counts)


def test_plain_sumo_runs_the_exported_routes_of_a_fleet(run: Path, tmp_path: Path) -> None:
    ready, trained = load_trained(run)
    config = export_routes(ready, trained, 200, tmp_path / "fleet.rou.xml")
    driven = tmp_path / "driven.xml"
    options = ["--vehroute-output", str(driven), "--vehroute-output.write-unfinished", "--no-step-log"]
    sumo.run("sumo", ["-c", str(config), *options])
    agents = {str(one.get("id")) for one in ET.parse(tmp_path / "fleet.rou.xml").getroot().iter("vehicle")}
    every = {str(one.get("id")) for one in ET.parse(driven).getroot().iter("vehicle")}
    trips = ready.day(200).trips
    assert trips is not None
    assert agents == set(trips.names)
    assert agents <= every
    assert not every & set(trips.vehicles)


def test_a_policy_of_a_fleet_acts_for_any_agent_and_any_size_of_fleet(run: Path) -> None:
    act = load_policy(run)
    ready, _ = load_trained(run, changes=["fleet.count=3"])
    assert len(ready.day(0).trips.names) == 3  # type: ignore[union-attr]
    size, slots = ready.task.observation_size, ready.task.graph.m_out
    seen = {"observation": [0.1] * size, "action_mask": [1] + [0] * (slots - 1)}
    assert act("agent999", {name: np.array(value, dtype=np.float32) for name, value in seen.items()}) == 0


@pytest.fixture(scope="module")
def crossroads(town_ready: PreparedScenario, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Return another network, with fewer slots than the town, and ten agents drawn from its demand."""
    file = tmp_path_factory.mktemp("crossroads") / "crossroads.net.xml"
    shape = ["--grid.number", "4", "--grid.length", "150", "--no-turnarounds", "-o", str(file)]
    sumo.run("netgenerate", ["--grid", *shape])
    seeds = town_ready.scenario.seeds.model_copy(update={"training": (0, 1)})
    own = {"name": "crossroads", "network": str(file), "trips": (), "fleet": Fleet(count=10), "seeds": seeds}
    own["meso"] = None
    return town_ready.scenario.model_copy(update=own)


def test_a_shared_policy_acts_in_another_city(run: Path, crossroads: Scenario) -> None:
    other = prepare(crossroads)
    ready, trained = load_trained(run, scenario=crossroads)
    m_out = load_trained(run)[0].task.graph.m_out
    assert other.task.graph.m_out < m_out
    assert ready.task.graph.m_out == m_out
    result = relid_sumo.evaluate(run, relid_sumo.baselines("shortest"), seeds=1, scenario=crossroads)
    assert result.scenario == "crossroads"
    assert len(result.records["trained"][0].status) == 10
    (record,) = result.records["trained"]
    assert record.observation.shape[1] == other.task.layout.size(m_out)
    assert record.mask[:, other.task.graph.m_out :].sum() == 0
    plain = drive(other.task, job(other, record.traffic_seed, Policy("shortest")))
    assert plain.travel_time.tolist() == result.records["shortest"][0].travel_time.tolist()
    act = load_policy(run)
    seen = record.observation[0].reshape(-1)
    per_slot = other.task.layout.per_slot
    narrow = np.delete(seen, np.arange(other.task.graph.m_out * per_slot, m_out * per_slot))
    mask = record.mask[0][: other.task.graph.m_out]
    assert act("any", {"observation": narrow, "action_mask": mask}) == record.action[0]
    with pytest.raises(InputError, match=r"reads observations of width .* so the policy does not fit"):
        act("any", {"observation": np.append(narrow, 0.0), "action_mask": mask})
    assert trained.greedy


def test_another_scenario_is_not_stored_in_the_run(run: Path, fleet: PreparedScenario) -> None:
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    more = relid_sumo.evaluate(run, {}, seeds=1, fleet=0.4)
    assert more.what_if == ("fleet: 0.4",)
    assert len(more.records["trained"][0].status) > fleet.on(200).task.n_agents
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_a_policy_that_does_not_fit_another_scenario_is_refused(
    run: Path, town_ready: PreparedScenario, crossroads: Scenario, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="trained on a fleet, but scenario 'small-town' has trips; give a fleet"):
        load_trained(run, scenario=town_ready.scenario)
    small = prepare(crossroads)
    short = SETTINGS.model_copy(update={"episodes": 2})
    training.train(small, tmp_path / "small", short, workers=2)
    with pytest.raises(InputError, match=r"trained on a network with up to 3 successors of an edge; .* has up to"):
        load_trained(tmp_path / "small", scenario=town_ready.scenario, fleet=0.2)
    training.train(town_ready, tmp_path / "own", short, workers=2)
    with pytest.raises(InputError, match=r"each of its agents has a policy of its own.*train it with --fleet 0.2"):
        load_trained(tmp_path / "own", scenario=crossroads)


def test_the_command_route_needs_no_training_and_takes_a_run(
    run: Path, crossroads: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenario(crossroads, tmp_path / "crossroads")
    words = ["route", str(tmp_path / "crossroads"), "--seeds", "1", "--json"]

    def printed(*more: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            main([*words, *more])
        assert not stop.value.code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    planned = printed("--fleet", "0.5", "--against", "shortest", "--out", str(tmp_path / "routes.rou.xml"))
    assert list(planned["policies"]) == ["blend", "shortest"]
    assert planned["what_if"] == ["fleet: 0.5"]
    agents = ET.parse(tmp_path / "routes.rou.xml").getroot().findall("vehicle")
    assert len(agents) > 10
    assert (tmp_path / "routes.sumocfg").is_file()
    learned = printed("--policy", str(run), "--against", "shortest")
    assert list(learned["policies"]) == ["trained", "shortest"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--policy", "runs/none"])
    assert stop.value.code == 2
    assert "--policy runs/none: no run folder" in capsys.readouterr().err


@pytest.mark.parametrize("algo", ["mappo", "reled", "bc"])
def test_algorithms_with_one_network_or_demonstration_per_agent_refuse_a_fleet(
    fleet: PreparedScenario, tmp_path: Path, algo: str
) -> None:
    with pytest.raises(InputError, match=f"{algo} cannot train a fleet: .*use --algo ippo"):
        training.train(fleet, tmp_path / "run", TrainSettings(algo=algo))


def test_agents_with_trips_can_share_a_policy(town_ready: PreparedScenario, tmp_path: Path) -> None:
    shared = SETTINGS.model_copy(update={"shared": True})
    row = training.train(town_ready, tmp_path / "run", shared, workers=2)
    assert row["episodes"] == 4
    ready, trained = load_trained(tmp_path / "run")
    assert {len(values) for values in trained.weights.values()} == {1}
    assert len(evaluate.evaluate(ready, {"trained": trained}, n_seeds=1).records["trained"][0].status) == 6
    act = load_policy(tmp_path / "run")
    seen = {
        "observation": np.zeros(ready.task.observation_size, dtype=np.float32),
        "action_mask": np.array([1, 0, 0, 0]),
    }
    assert act("agent0", seen) == 0
    assert "shared" not in SETTINGS.model_dump()
    with pytest.raises(ValueError, match="the agents of mappo cannot share a policy; use ippo"):
        TrainSettings(algo="mappo", shared=True)


@pytest.mark.parametrize("name", ["bestroute", "due"])
def test_baselines_that_drive_the_same_trips_every_day_refuse_a_fleet(fleet: PreparedScenario, name: str) -> None:
    with pytest.raises(InputError, match=f"baseline '{name}' drives the same trips.*use hist or turns"):
        evaluate.evaluate(fleet, relid_sumo.baselines(name), n_seeds=1)
