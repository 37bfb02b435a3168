"""A disk that is full while a run trains: one message, nothing half-written, and the run continues once there is room.

The limit of a file's size stands for a full disk: the system refuses what exceeds it. It needs no rights of root.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sumo

START = "from relid_sumo.cli.main import main; main()"
CHANGES = ("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=400", "train.episodes_per_update=1")
SEEDS = ("seeds.training=[0, 1]", "seeds.validation=[100]", "seeds.evaluation=[200]")
SMALLER_THAN_A_CHECKPOINT = 300_000


def command(*words: str | Path, most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.run(
        [sys.executable, "-c", START, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "400"},
        preexec_fn=limit,
    )


def train(folder: Path, **limits: int) -> subprocess.CompletedProcess[str]:
    sets = [word for change in (*CHANGES, *SEEDS) for word in ("--set", change)]
    return command(
        "train", "town", "--algo", "ippo", "--episodes", "2", "--evaluate", "1", *sets, "--out", folder, **limits
    )


def test_training_continues_when_there_is_room_again(tmp_path: Path) -> None:
    assert train(tmp_path / "whole").returncode == 0
    full = train(tmp_path / "full", most_bytes=SMALLER_THAN_A_CHECKPOINT)
    assert full.returncode == 2, full.stderr
    assert full.stderr.count("Error:") == 1
    assert "Traceback" not in full.stderr
    resume = f"relid-sumo train --resume {tmp_path / 'full'} --evaluate 1"
    again = f"free some space, or raise the quota, and resume with: {resume}"
    assert f"{tmp_path / 'full' / 'checkpoint.pt'}: File too large; {again}" in full.stderr
    assert not list((tmp_path / "full").rglob("*.part"))
    assert not (tmp_path / "full" / "checkpoint.pt").exists()
    resumed = command("train", "--resume", tmp_path / "full", "--evaluate", "1")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("metrics.csv", "checkpoint.pt", "evaluation.json"):
        assert (tmp_path / "full" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = train(tmp_path / "file" / "run")
    assert refused.returncode == 2, refused.stderr
    assert f"cannot make {tmp_path / 'file' / 'run'}: {tmp_path / 'file'} is not a folder" in refused.stderr


def test_a_map_is_not_built_where_the_cache_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Netconvert's own file is refused, or one of the product's; the cache has no entry then, and later it has."""
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "cache"))
    town = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
    full = command("network", "build", town, most_bytes=100_000)
    assert full.returncode == 2, full.stderr
    assert full.stderr.count("Error:") == 1
    assert not list((tmp_path / "cache" / "networks").glob("*/*"))
    assert command("network", "build", town).returncode == 0
