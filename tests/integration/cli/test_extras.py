"""What an optional package is needed for says so in one line where it is missing; nothing else needs one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = "import sys; sys.modules[{missing!r}] = None\nfrom relid_sumo.cli.main import main; main({arguments!r})"


def relid_sumo(missing: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(missing=missing, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.sumo
def test_openai_is_named_where_it_is_asked(tmp_path: Path) -> None:
    service = ("--set", "llm.model=m", "--set", "llm.base_url=http://127.0.0.1:1/v1")
    done = relid_sumo("openai", "sed", "run", "town", "--llm", "openai", *service, "--out", str(tmp_path / "s"))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last == 'Error: openai is not installed; install it with: pip install "relid_sumo[llm]"'


def test_ray_is_named_where_cells_run_on_it(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text('scenarios = ["town"]\nepisodes = 4\n[algorithms.ippo]\n')
    done = relid_sumo("ray", "batch", "run", str(file), "--out", str(tmp_path / "b"), "--backend", "ray")
    assert done.returncode == 2
    assert 'ray is not installed; install it with: pip install "relid_sumo[ray]"' in done.stderr


def test_osmnx_is_named_where_an_extract_would_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELID_SUMO_OSM_PATH", str(tmp_path))
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "cache"))
    done = relid_sumo("osmnx", "network", "show", "orlando")
    assert done.returncode == 2
    assert "in none of the folders of RELID_SUMO_OSM_PATH" in done.stderr
    assert 'pip install "relid_sumo[osm]"' in done.stderr


@pytest.mark.sumo
def test_training_does_without_tensorboard_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = ("--set", "demand.rate_vph=300", "--set", "demand.warmup_s=30", "--set", "horizon_s=600", "--evaluate", "0")
    done = relid_sumo("tensorboard", "train", "town", "--algo", "ippo", "--episodes", "1", *quick, "--out", str(run))
    assert done.returncode == 0, done.stderr
    assert 'pip install "relid_sumo[tensorboard]"' in " ".join(done.stderr.split())
    assert (run / "metrics.csv").is_file()
    assert not (run / "tensorboard").exists()
