"""The command line: the main commands with their output, and every error of the user."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.cli.main import main
from relid_sumo.scenario.traffic import meso

pytestmark = pytest.mark.sumo

LIGHT = ["--set", "demand.rate_vph=300", "--set", "demand.warmup_s=60", "--set", "horizon_s=700"]
ALONE = ["--algo", "ippo", "--curriculum", "micro", "--evaluate", "0"]
SMALL = [*LIGHT, "--set", "train.episodes_per_update=2", *ALONE]
SHORT_TRAINING = ["train", "town", *SMALL, "--episodes", "6"]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from relid_sumo.cli.main import main; main()", *map(str, arguments)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "town"
    assert run(*SHORT_TRAINING, "--out", folder) == 0
    return folder


def test_a_run_folder_contains_all_that_resuming_and_reproducing_need(trained: Path) -> None:
    settings = json.loads((trained / "settings.json").read_text())
    assert settings["train"]["episodes"] == 6
    assert settings["versions"]["eclipse-sumo"]
    rows = (trained / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    assert rows[0].startswith("update,episodes,micro,decisions")
    assert {"checkpoint.pt", "timing.csv", "tensorboard", "scenario.toml"} <= {p.name for p in trained.iterdir()}
    assert list((trained / "tensorboard").iterdir())


def test_only_the_same_seed_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    assert run(*SHORT_TRAINING, "--out", tmp_path / "again", "--workers", "1", "--no-fork") == 0
    assert run(*SHORT_TRAINING, "--out", tmp_path / "other", "--seed", "1") == 0
    metrics = (trained / "metrics.csv").read_bytes()
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == metrics
    assert (tmp_path / "again" / "checkpoint.pt").read_bytes() == (trained / "checkpoint.pt").read_bytes()
    assert (tmp_path / "other" / "metrics.csv").read_bytes() != metrics


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    trained: Path,
    tmp_path: Path,
    how: signal.Signals,
    wait_until: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        command(*SHORT_TRAINING, "--out", folder), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until((folder / "checkpoint.pt").exists, 120)
    assert run("train", "--resume", folder) == 2, "two processes must not train one run"
    assert f"it is being trained by process {process.pid} on" in " ".join(capsys.readouterr().err.split())
    process.send_signal(how)
    _, printed = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in printed
    capsys.readouterr()
    assert run("train", "--resume", folder, "--evaluate", "1") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("trained", "shortest", "reactive", "rerouting")), (
        "it ends with a comparison"
    )
    assert (folder / "evaluation.json").is_file()
    assert (folder / "metrics.csv").read_bytes() == (trained / "metrics.csv").read_bytes()
    assert run("train", "--resume", folder) == 2, "a finished run cannot be resumed"


def test_evaluation_prints_one_json_object_on_standard_output(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained, "--seeds", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["policies"]) == ["trained", "shortest", "reactive", "rerouting"]
    for row in result["policies"].values():
        assert row["mean_travel_time_s"] > 0
        assert 0 <= row["arrival_rate"] <= 1
        low, high = row["interval_95"]["mean_return"]
        assert low <= row["mean_return"] <= high
    assert result["policies"]["shortest"]["arrival_rate"] == 1.0
    assert result["policies"]["shortest"]["travel_time_over_shortest"] == 0.0
    assert not set(result["seeds"]) & set(range(16)), "no training traffic"


def can_be_avoided(trained: Path, road: str) -> bool:
    from relid_sumo.evaluation.trained import load_trained  # noqa: PLC0415 - torch only here

    try:
        load_trained(trained, closed=[road])
    except InputError:
        return False
    return True


def test_evaluation_with_a_closed_edge_and_with_other_demand(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = ("evaluate", trained, "--seeds", "1", "--json", "--baselines", "shortest")
    assert run(*once) == 0
    before = json.loads(capsys.readouterr().out)["policies"]["shortest"]
    from relid_sumo.evaluation.trained import load_trained  # noqa: PLC0415 - torch only here

    task = load_trained(trained)[0].task
    ends = {*task.origin.tolist(), *task.destination.tolist()}
    on_the_way = [e for i in range(task.n_agents) for e in task.route(i, int(task.origin[i]))[1:-1] if e not in ends]
    used = next(e for e in on_the_way if can_be_avoided(trained, str(task.graph.edge_ids[e])))
    road = str(task.graph.edge_ids[used])
    assert run(*once, "--close", road) == 0
    closed = json.loads(capsys.readouterr().out)["policies"]["shortest"]
    assert closed["arrival_rate"] == 1.0
    assert closed != before
    detour = load_trained(trained, closed=[road])[0].task
    assert all(used not in detour.route(i, int(detour.origin[i])) for i in range(detour.n_agents))
    assert run(*once, "--set", "demand.rate_vph=2000") == 0
    busy = json.loads(capsys.readouterr().out)["policies"]["shortest"]
    assert busy["mean_travel_time_s"] > before["mean_travel_time_s"]
    assert busy["interval_95"]["mean_return"] is None, "one seed gives no interval"


def test_the_table_names_every_policy_and_the_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", trained, "--seeds", "1", "--baselines", "random,shortest", "--sampled") == 0
    printed = capsys.readouterr().out
    for word in ("trained", "random", "shortest", "sampled", "town"):
        assert word in printed


def test_load_policy_acts_in_the_environment(trained: Path) -> None:
    import relid_sumo  # noqa: PLC0415

    policy = relid_sumo.load_policy(trained)
    env = relid_sumo.parallel_env(relid_sumo.load_scenario(trained))
    observations, infos = env.reset(seed=0)
    for _ in range(5):
        actions = {a: policy(a, observations[a]) for a in env.agents if infos[a]["decides"]}
        observations, _, _, _, infos = env.step(actions)
    env.close()
    with pytest.raises(relid_sumo.InputError, match="has no agent 'nobody'"):
        policy("nobody", observations[next(iter(observations))])


def test_scenario_check_describes_the_traffic(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scenario", "check", "town", *SMALL[:6]) == 0
    printed = capsys.readouterr().out
    assert "10 agents" in printed
    assert "300 vehicles/h" in printed
    assert "trips with at least two clearly different routes: 100%" in printed
    assert "wrong: the level is" in printed  # 300 vehicles/h are far too few for the town's level
    assert "generated by relid_sumo" in printed


def test_training_needs_only_an_osm_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
    monkeypatch.setattr(meso, "AIMED", 2)
    monkeypatch.setattr(meso, "REFINED", 2)
    assert run("train", source, *SMALL, "--episodes", "1", "--agents", "3") == 0
    assert (tmp_path / "runs" / "town-ippo-0" / "checkpoint.pt").is_file()
    assert run("scenario", "new", "mine", "--osm", source, "--agents", "4", *LIGHT) == 0
    assert run("scenario", "new", "mine", "--osm", source) == 2, "an existing scenario is not overwritten"
    assert run("scenario", "check", "mine") == 0


BAD_TOML = [
    ("horizon = 3", "unknown key 'horizon'"),
    ("[demand]\nlevle = 0.3", "did you mean 'level'"),
    ('horizon_s = "long"', "horizon_s"),
    ("horizon_s = 20", "horizon_s"),
    ("trips = []", "trips"),
    ("[[trips", "not TOML"),
]


@pytest.mark.parametrize(("text", "said"), BAD_TOML)
def test_a_bad_scenario_file_gives_one_message_with_file_and_key(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (Path(__file__).parents[3] / "scenarios" / "town" / "scenario.toml").read_text()
    osm = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
    whole = whole.replace('"town.osm"', json.dumps(str(osm)))
    if text.startswith("["):
        bad = whole.replace("[demand]", text) if text.startswith("[demand]") else whole + text
    elif text.startswith("trips"):
        bad = text + "\n" + whole.split("[[trips]]")[0]
    elif text.startswith("horizon_s"):
        lines = [line for line in whole.splitlines() if not line.startswith("horizon_s")]
        bad = text + "\n" + "\n".join(lines)
    else:
        bad = text + "\n" + whole
    (tmp_path / "scenario.toml").write_text(bad)
    assert run("train", tmp_path, "--out", tmp_path / "run") == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "scenario" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "twon"], "did you mean 'town'"),
        (["train", "town", "--algo", "ipo"], "did you mean 'ippo'"),
        (["train", "town", "--episodes", "0"], "episodes"),
        (["train", "town", "--preset", "quik"], "did you mean 'quick'"),
        (["train", "town", "--algo", "ippo", "--evaluate", "21"], "the scenario has 20 evaluation seeds"),
        (["train", "town", "--simulator", "mezo"], "simulator"),
        (["train", "town", "--curriculum", "mezo:0.8,micro:0.2"], "did you mean 'meso'"),
        (["train", "town", "--curriculum", "meso:0.8,micro:0.3"], "add up to 1"),
        (["train", "town", "--curriculum", "meso:x"], "'x' is neither a share nor 'converged'"),
        (["train", "town", "--set", "meso.tauff=0"], "meso.tauff"),
        (["train", "town", "--seed", "-1"], "seed"),
        (["train", "town", "--set", "demand"], "key=value"),
        (["train", "town", "--set", "demand.rate=3"], "unknown key 'demand.rate'"),
        (["train", "town", "--set", "train.ippo.clipp=3"], "did you mean 'clip'"),
        (["train", "town", "--agents", "5"], "--agents"),
        (["train"], "name a scenario"),
        (["train", "missing.osm"], "missing.osm"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "not a run folder"),
        (["view", "nowhere"], "not a run folder"),
        (["export", "nowhere", "--out", "x.rou.xml"], "not a run folder"),
        (["network", "show", "orlndo"], "did you mean 'orlando'"),
        (["scenario", "check", "nowhere"], "no scenario 'nowhere'"),
    ],
)
def test_bad_arguments_give_one_message_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir()), "no file is left"


@pytest.mark.parametrize("agents", ["0", "500"])
def test_zero_or_too_many_agents(
    agents: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
    assert run("train", source, "--agents", agents) == 2
    assert "agents" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_exists_or_cannot_be_written(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(trained.iterdir())
    assert run(*SHORT_TRAINING, "--out", trained) == 2
    assert "--resume" in capsys.readouterr().err
    assert sorted(trained.iterdir()) == before
    (tmp_path / "file").write_text("")
    assert run(*SHORT_TRAINING, "--out", tmp_path / "file" / "run") == 2
    assert "cannot make" in capsys.readouterr().err


def test_evaluation_refuses_arguments_that_do_not_fit(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--seeds", "21"], "1 to 20"),
        (["--traffic", "evaluaton"], "did you mean 'evaluation'"),
        (["--baselines", "shortes"], "did you mean 'shortest'"),
        (["--close", "nowhere"], "no edge 'nowhere'"),
        (["--set", "trips=[]"], "trips"),
    ):
        assert run("evaluate", trained, *words) == 2
        assert said in capsys.readouterr().err


def test_debug_shows_the_traceback_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "twon", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_quiet_prints_results_and_errors_only(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "town", "--quiet", *SMALL, "--episodes", "2", "--out", tmp_path / "run") == 0
    assert capsys.readouterr() == ("", "")
    assert run("evaluate", trained, "--seeds", "1", "--json") == 0
    loud = capsys.readouterr()
    assert run("--quiet", "evaluate", trained, "--seeds", "1", "--json") == 0
    assert capsys.readouterr() == (loud.out, "")
    assert run("train", "twon", "--quiet") == 2
    assert "did you mean" in capsys.readouterr().err
    assert run("train", "town", *SMALL, "--episodes", "2", "--out", tmp_path / "loud") == 0
    assert "next: relid-sumo evaluate" in capsys.readouterr().err, "--quiet affects one command only"


def test_a_sumo_that_dies_during_an_episode_gives_one_message(
    tmp_path: Path, children: Callable[[int], dict[int, str]], wait_until: Callable[..., None]
) -> None:
    def ended() -> bool:
        for child, words in children(process.pid).items():  # all of them, because a single lost episode runs again
            if "relid_sumo.base.process" in words:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        return process.poll() is not None

    folder = tmp_path / "run"
    process = subprocess.Popen(
        command("train", "town", *SMALL, "--episodes", "200", "--out", folder), stderr=subprocess.PIPE, text=True
    )
    wait_until((folder / "checkpoint.pt").exists, 120)
    wait_until(ended, 120, every=0.2)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "died" in printed
    assert "Traceback" not in printed
    assert (folder / "checkpoint.pt").exists()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["train", "--help"], ["network", "build", "--help"]):
        assert run(*words) == 0
        assert "relid-sumo" in capsys.readouterr().out


@pytest.mark.gui
def test_view_records_a_run_next_to_another_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    picture = tmp_path / "pair.png"
    assert run("view", trained, "--against", trained, "--record", picture, "--at", "60", "--agent", "agent1") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "trained: " in said
    assert "need the same time on average" in said, "both are the same run"
    assert picture.is_file()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["--against", "demonstration", "--record", "a.png"],
            "has no demonstrations.npz; give a baseline or another run",
        ),
        (["--against", "rerouteing", "--record", "a.png"], "did you mean 'rerouting'?"),
        (["--against", "reactive"], "view needs a screen, but DISPLAY is not set"),
        (["--record", "a.avi"], "give the name such an ending"),
    ],
)
def test_view_names_what_is_wrong_with_its_options(
    trained: Path,
    words: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert run("view", trained, *words) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


@pytest.mark.gui
def test_a_killed_viewer_leaves_no_process_and_the_next_one_no_file(
    trained: Path,
    tmp_path: Path,
    wait_until: Callable[..., None],
    children: Callable[[int], dict[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    picture = tmp_path / "a.png"
    process = subprocess.Popen(command("view", trained, "--record", picture), stderr=subprocess.DEVNULL)
    wait_until(lambda: any("sumo-gui" in line for line in children(process.pid).values()), 120)
    started = children(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 30)
    assert run("view", trained, "--record", picture, "--at", "60") == 0
    assert list(tmp_path.iterdir()) == [picture]
