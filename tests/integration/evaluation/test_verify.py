"""`relid-sumo verify`: a run that reproduces, and where one that does not first differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import relid_sumo
from relid_sumo.base import files
from relid_sumo.cli.main import main
from relid_sumo.evaluation import evaluate, stored
from relid_sumo.evaluation.trained import load_trained
from relid_sumo.learn import checkpoint
from relid_sumo.learn.settings import train_settings
from relid_sumo.learn.train import train
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo


@pytest.fixture(scope="module")
def trained(town_ready: PreparedScenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two updates of two episodes, evaluated in two traffic seeds."""
    folder = tmp_path_factory.mktemp("runs") / "town"
    train(town_ready, folder, train_settings({"algo": "ippo", "episodes": 4, "episodes_per_update": 2}))
    ready, policy = load_trained(folder)
    seeds = ready.scenario.seeds.evaluation[:2]
    stored.store(folder, ready, evaluate.episodes(ready, {"trained": policy}, seeds))
    return folder


@pytest.fixture
def mine(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that the test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def verify(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["verify", *map(str, words)])
    return int(stop.value.code or 0)


def replace(file: Path, line: int, column: str, new: Callable[[str], str]) -> None:
    rows = [row.split(",") for row in file.read_text().splitlines()]
    at = rows[0].index(column)
    rows[line][at] = new(rows[line][at])
    file.write_text("".join(",".join(row) + "\n" for row in rows))


def test_a_run_reproduces_whole_and_nothing_in_it_changes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()}
    assert verify(trained, "--updates", "9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    seed = relid_sumo.load_scenario(trained).seeds.evaluation[0]
    assert found == {
        "reproduces": True,
        "updates": 2,
        "traffic_seeds": [seed],
        "inputs": [],
        "differences": [],
        "days": [],
    }
    assert {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()} == before


def test_the_first_other_update_and_episode_are_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(mine / layout.METRICS, 2, "mean_return", lambda value: f"{float(value) - 1:.9g}")
    assert verify(mine, "--seeds", "0") == 1
    said = capsys.readouterr().out
    assert "first difference: update 2 (episodes 3 to 4): mean_return is" in said
    assert "its episodes are the same, so learning differs" in said
    replace(mine / layout.DIGESTS, 1, "digest", lambda both: f"{both.split()[0]} 0123")
    seed = (mine / layout.DIGESTS).read_text().splitlines()[1].split(",")[1].split()[1]
    assert verify(mine, "--seeds", "0", "--updates", "1") == 1
    said = capsys.readouterr().out
    assert "update 1 (episodes 1 to 2): the same metrics" in said
    assert f"episode 2 (traffic seed {seed}) is the first that differs" in said


def test_other_weights_are_found_in_the_checkpoint_and_the_evaluation(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def negative(state: Any) -> Any:  # noqa: ANN401 - nested content of a checkpoint
        if isinstance(state, dict):
            return {name: negative(value) for name, value in state.items()}
        return -state if isinstance(state, torch.Tensor) and state.is_floating_point() else state

    state = checkpoint.load(mine)
    checkpoint.save(mine, {**state, "learner": negative(state["learner"])})
    assert verify(mine, "--updates", "2") == 1
    said = capsys.readouterr().out
    assert "checkpoint.pt after update 2: other weights, though all metrics are the same" in said
    assert "first difference: evaluation, traffic seed" in said


def test_the_agent_and_the_road_of_an_evaluation_are_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation: dict[str, Any] = files.read_json(mine / layout.EVALUATION)
    routes = files.read_json(mine / layout.ROUTES)
    agents = evaluation["agents"]
    route = routes["routes"]["trained"][2]
    route[1] = (route[1] + 1) % len(routes["roads"])
    evaluation["policies"]["trained"]["travel_time_s"][0][2] += 1.0
    del evaluation["policies"]["trained"]["digest"]  # as in an evaluation of an earlier version
    files.write_json(mine / layout.EVALUATION, evaluation)
    files.write_json(mine / layout.ROUTES, routes)
    assert verify(mine, "--updates", "0", "--seeds", "2") == 1
    said = capsys.readouterr().out
    assert f"travel_time_s of agent '{agents[2]}' is" in said
    assert f"agent '{agents[2]}' takes edge '" in said
    assert "' as road 2, and took '" in said


def test_other_inputs_are_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = files.read_json(mine / layout.SETTINGS)
    settings["versions"]["torch"], settings["code"] = "1.0", "0" * 64
    files.write_json(mine / layout.SETTINGS, settings)
    assert verify(mine, "--updates", "0") == 0
    said = capsys.readouterr().out
    assert "here, and was 1.0" in said
    assert "other input: the code of relid_sumo is not that of the run" in said
    files.write_json(mine / layout.SETTINGS, {**settings, "network_key": "another"})
    assert verify(mine) == 1
    assert "has changed since" in capsys.readouterr().out


def test_what_cannot_be_verified_is_one_message(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path) == 2
    assert "is not a run folder" in " ".join(capsys.readouterr().err.split())
    (mine / layout.EVALUATION).unlink()
    assert verify(mine, "--updates", "0") == 2
    assert "nothing to verify" in " ".join(capsys.readouterr().err.split())
    (mine / layout.METRICS).unlink()
    assert verify(mine) == 2
    assert "nothing to verify" in " ".join(capsys.readouterr().err.split())
