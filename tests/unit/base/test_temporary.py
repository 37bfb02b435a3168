"""The temporary folder of a process: removed at its end, and after a kill by the next process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relid_sumo.base.temporary import folder, process_folder

CODE = """
import sys
from relid_sumo.base.temporary import process_folder
folder = process_folder("relid-sumo-test-")
(folder / "file").write_text("")
print(folder, flush=True)
sys.stdin.read()
"""


def start(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_ends_with_its_process_and_after_a_kill_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, left = start(tmp_path)
    running, used = start(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    foreign = tmp_path / "relid-sumo-test-link.lock"
    foreign.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "relid-sumo-test-link").mkdir()
    assert left.is_dir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = process_folder("relid-sumo-test-")
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_dir()) == sorted(
        [mine.name, used.name, "relid-sumo-test-link"]
    )
    assert mine.stat().st_mode & 0o777 == 0o700
    running.communicate("")
    assert not used.exists()
    assert not used.with_name(f"{used.name}.lock").exists()
    assert mine.is_dir()


def test_a_folder_of_a_block_ends_with_the_block(tmp_path: Path) -> None:
    with folder(".x-", tmp_path) as one, folder(".x-", tmp_path) as other:
        (one / "file").write_text("")
        assert one != other
        assert one.is_dir()
    with pytest.raises(ValueError, match="no"), folder(".x-", tmp_path):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
