"""The engine benchmark runs, and its forked episodes are exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.sumo
def test_twenty_resets_give_the_same_episode(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "bench_engine.py"), "--json", str(tmp_path / "b.json")]
    done = subprocess.run(
        [*command, "--only", "resets"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "b.json").read_text())
    assert figures["hashes_equal"] is True
    assert figures["reset_ratio"] == pytest.approx(figures["reset_load_ms"] / figures["reset_fork_ms"])
    assert {"scenario", "machine", "versions"} <= figures.keys()
