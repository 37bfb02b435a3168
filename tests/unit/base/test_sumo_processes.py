"""SUMO's programs end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import SimulationError

LASTING = '#!/bin/sh\necho $$ > "$1"\nexec sleep 600\n'
START = """
import sys
from relid_sumo.base import sumo
sumo.binary = lambda name: name
sumo.run(sys.argv[1], [sys.argv[2]])
"""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(file: Path) -> int:
    until = time.monotonic() + 60
    while not (file.is_file() and file.read_text().strip()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return int(file.read_text())


@pytest.fixture
def lasting(tmp_path: Path) -> Path:
    program = tmp_path / "lasting"
    program.write_text(LASTING)
    program.chmod(0o755)
    return program


def test_a_program_ends_when_its_parent_is_killed(lasting: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", START, str(lasting), str(tmp_path / "pid")]) as parent:
        child = _wait_for(tmp_path / "pid")
        assert _lives(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    until = time.monotonic() + 30
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(child)


def test_a_program_that_takes_too_long_is_ended(lasting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sumo, "binary", lambda name: name)
    with pytest.raises(SimulationError, match="was stopped after 2 s"):
        sumo.run(str(lasting), [tmp_path / "pid"], timeout_s=2.0)
    assert not _lives(_wait_for(tmp_path / "pid"))
