"""The examples of docs/extend, each run as a user runs it: processes, files and SUMO are real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from relid_sumo.sed.ask.template import PROGRAM

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.sumo
ALONE = ("--curriculum", "micro", "--evaluate", "0")


def relid_sumo(*words: object, cwd: Path, code: int = 0, **more: str) -> str:
    """Run a command in a process of its own; return what it printed."""
    start = [sys.executable, "-c", "from relid_sumo.cli.main import main; main()"]
    where = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run([*start, *map(str, words)], cwd=cwd, env=where, capture_output=True, text=True, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode == code, said
    return done.stdout + said


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an own algorithm on an own observation and an own reward; copies of the examples are next to the run."""
    folder = tmp_path_factory.mktemp("doors")
    shutil.copytree(ROOT / "examples", folder / "examples")
    words = ["train", "town", "--algo", "examples/algorithm.py:Reinforce", "--episodes", 4, "--workers", 2, *ALONE]
    words += ["--set", "train.episodes_per_update=2", "--set", "train.options.learning_rate=0.02"]
    words += ["--set", "observation.kind=examples/observation.py:minutes", "--out", "own"]
    relid_sumo(*words, "--set", "reward.kind=examples/reward.py:toll", cwd=folder)
    return folder


def test_an_own_algorithm_observation_and_reward_are_trained(run: Path) -> None:
    settings = json.loads((run / "own" / "settings.json").read_text())
    assert settings["train"]["options"] == {"learning_rate": 0.02}
    assert settings["observation_size"] == 3 * settings["m_out"] + 2
    names = {Path(path).name for path in settings["sources"]}
    assert names == {"algorithm.py:Reinforce", "observation.py:minutes", "reward.py:toll"}
    rows = (run / "own" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "policy_loss" in rows[0]


def test_an_interrupted_run_of_an_own_algorithm_continues_exactly(run: Path) -> None:
    """A longer run, cut off after its first update, ends as one that was not."""
    words = ["train", "town", "--algo", "examples/algorithm.py:Reinforce", "--episodes", 4, "--workers", 2, *ALONE]
    words += ["--set", "train.episodes_per_update=2", "--set", "horizon_s=900"]
    relid_sumo(*words, "--out", "whole", cwd=run)
    code = (
        "import relid_sumo; from relid_sumo.learn import train as t\n"
        "class Stop(Exception): pass\n"
        "def stop(row): raise Stop\n"
        "from pathlib import Path; from relid_sumo.learn.settings import train_settings\n"
        "s = train_settings({'algo': 'examples/algorithm.py:Reinforce', 'episodes': 4, 'episodes_per_update': 2})\n"
        "ready = relid_sumo.prepare('town', changes=['horizon_s=900'])\n"
        "try: t.train(ready, Path('cut'), s, workers=2, watch=t.TrainingWatch(update=stop))\n"
        "except Stop: print(relid_sumo.resume('cut', workers=2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run, capture_output=True, text=True, check=False)
    assert done.stdout == "cut\n", done.stderr
    assert (run / "cut" / "metrics.csv").read_bytes() == (run / "whole" / "metrics.csv").read_bytes()


def test_own_baselines_are_evaluated_beside_it(run: Path) -> None:
    baselines = "shortest,examples/baseline.py:next_edge,examples/baseline.py:main_roads"
    told = relid_sumo("evaluate", "own", "--baselines", baselines, "--seeds", 1, "--json", "--workers", 2, cwd=run)
    content = json.loads(told[: told.rindex("}") + 1])
    assert list(content["policies"]) == ["trained", "shortest", "next_edge", "main_roads"]
    assert content["policies"]["next_edge"]["arrival_rate"] == 1.0
    assert content["policies"]["main_roads"]["mean_return"] != content["policies"]["shortest"]["mean_return"]


def test_the_trained_policy_is_exported_and_reported(run: Path) -> None:
    relid_sumo("export", "own", "--out", "own.rou.xml", cwd=run)
    assert "<vehicle" in (run / "own.rou.xml").read_text()
    relid_sumo("report", "own", "--out", "own.csv", cwd=run)
    assert "\ntown,Reinforce," in (run / "own.csv").read_text()


@pytest.mark.gui
def test_the_run_and_an_own_baseline_are_viewed(run: Path) -> None:
    for name, words in {"own.png": [], "base.png": ["--baseline", "examples/baseline.py:main_roads"]}.items():
        relid_sumo("view", "own", *words, "--record", name, cwd=run)
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert (run / "own.png").read_bytes() != (run / "base.png").read_bytes()
    assert "name one baseline" in relid_sumo("view", "own", "--baseline", "hist,turns", cwd=run, code=2)


def test_a_policy_that_does_not_fit_is_refused(run: Path) -> None:
    told = relid_sumo("evaluate", "own", "--set", "observation.kind=roads", cwd=run, code=2)
    assert "trained on observations of width" in told
    source = run / "examples" / "observation.py"
    before = source.read_text()
    source.write_text(before + "# changed\n")
    assert "has changed since" in relid_sumo("evaluate", "own", cwd=run, code=2)
    source.write_text(before)


def test_a_batch_names_own_code_relative_to_its_file(run: Path) -> None:
    file = run / "experiment.toml"
    file.write_text(
        'episodes = 2\n[scenarios.town]\nsettings.observation.kind = "examples/observation.py:minutes"\n'
        'settings.reward.kind = "examples/reward.py:toll"\n[evaluation]\nseeds = 1\n'
        'baselines = ["shortest", "examples/baseline.py:main_roads"]\n'
        '[algorithms.ippo]\n[algorithms.mine]\nalgo = "examples/algorithm.py:Reinforce"\n'
    )
    elsewhere = run / "elsewhere"
    elsewhere.mkdir()
    relid_sumo("batch", file, "--out", "b", "--workers", 2, cwd=elsewhere)
    relid_sumo("report", "b", "--out", "b.csv", cwd=elsewhere)
    text = (elsewhere / "b.csv").read_text()
    assert "main_roads" in text and "mine" in text


@pytest.mark.parametrize("name", ["algorithm", "observation", "reward", "baseline", "provider"])
def test_the_page_shows_the_example(name: str) -> None:
    source = (ROOT / "examples" / f"{name}.py").read_text()
    assert f"```python\n{source}```" in (ROOT / "docs" / "extend" / f"{name}.md").read_text()
    assert len(source.splitlines()) < 60


class _Server(BaseHTTPRequestHandler):
    """Answers as Ollama does, always with the same planning program."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["model"] == "some-model" and "plan(network, trips, traffic)" in asked["prompt"]
        program = PROGRAM.format(spread=3.0, avoid=0.0, explore=0.0, runs=1)
        body = json.dumps({"response": f"```python\n{program}```"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_own_provider_writes_programs(run: Path, server: str) -> None:
    words = ["sed", "run", "town", "--llm", "examples/provider.py:Ollama", "--rounds", 1, "--samples", 1]
    words += ["--set", "llm.model=some-model", "--set", "sed.seeds=1", "--set", "sed.held_out=1"]
    words += ["--set", "sed.simulator=micro", "--set", "seeds.training=[0]", "--set", "seeds.evaluation=[200]"]
    words += ["--unsafe-sandbox", "--workers", 2]
    relid_sumo(*words, "--out", "sed", cwd=run, OLLAMA_URL=server)
    assert json.loads((run / "sed" / "settings.json").read_text())["provider"].endswith("provider.py:Ollama")
    assert (run / "sed" / "demonstrations.npz").is_file()
    gone = relid_sumo(*words, "--out", "sed2", cwd=run, code=2, OLLAMA_URL="http://127.0.0.1:9")
    assert "gave no answer" in gone and "is the server running?" in gone
