"""Files written whole and locks, from several processes and through failures."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import cache, files, redact
from relid_sumo.base.errors import InputError

HOLD = "import sys, time; from pathlib import Path; from relid_sumo.base import files\n"
HOLD += "with files.locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    files.write(file, b"before")
    with pytest.raises(RuntimeError), files.whole(file) as part:
        part.write_bytes(b"aft")
        raise RuntimeError
    assert file.read_bytes() == b"before"
    assert list(file.parent.iterdir()) == [file], "no temporary file is left"


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    sync = os.fsync

    def noted(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        flushed.append(path.name)
        assert (tmp_path / "a.npz").exists() == (path == tmp_path)
        sync(number)

    monkeypatch.setattr(os, "fsync", noted)
    files.write_npz(tmp_path / "a.npz", {"x": np.arange(3)})
    assert flushed[0].startswith("a.npz.")
    assert flushed[1:] == [tmp_path.name], "then the name itself, in its folder"
    assert np.load(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]


def test_a_lock_is_held_by_one_process_and_released_when_it_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    lock = tmp_path / "a.lock"
    assert files.is_locked(lock)
    with pytest.raises(files.LockedError, match=f"is locked by process {holder.pid} on ") as raised, files.locked(lock):
        pass
    assert raised.value.holder.startswith(f"process {holder.pid} on ")
    assert files.is_locked(lock), "who was refused did not release it"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not files.is_locked(lock)
    with files.locked(lock):
        assert files.is_locked(lock)
    assert not files.is_locked(lock)


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_is_a_link_is_refused_before_its_target_is_opened(there: bool, tmp_path: Path) -> None:
    lock, target = tmp_path / "a.lock", tmp_path / "target"
    lock.symlink_to(target)
    if there:
        target.write_text("mine")
    with pytest.raises(InputError, match=r"a\.lock: a link in place of a file that is written here; remove it"):
        files.is_locked(lock)
    with pytest.raises(InputError, match="a link in place of"), files.locked(lock):
        pass
    assert target.exists() == there
    assert not there or target.read_text() == "mine"


def test_a_text_is_filtered_and_arrays_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_patterns", {})
    redact.hide("sk-plain0123456789")
    content = b"a\0 sk-plain0123456789"
    files.write(tmp_path / "text", content)
    files.write(tmp_path / "arrays", content, binary=True)
    assert (tmp_path / "text").read_bytes() == b"a\0 ***"
    assert (tmp_path / "arrays").read_bytes() == content


def test_who_waits_for_a_lock_gets_it_when_it_is_released(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "relid_sumo")
    timer = threading.Timer(0.3, holder.kill)
    timer.start()
    with files.locked(tmp_path / "a.lock", wait=True):
        timer.join()
    assert f"waiting for process {holder.pid}" in caplog.text


MAKE = """
import sys, time
from pathlib import Path
from relid_sumo.base import cache

def make():
    with Path(sys.argv[1]).open("a") as out:
        out.write("made\\n")
    time.sleep(0.5)
    return {"x": list(range(100_000))}

found = cache.cached_json("kind", "name", ["content"], make, dict)
print(len(found["x"]))
"""


def test_processes_that_need_the_same_result_compute_it_once(tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text(textwrap.dedent(MAKE))
    where = {**os.environ, cache.CACHE_VARIABLE: str(tmp_path / "cache")}
    command = [sys.executable, str(tmp_path / "make.py"), str(tmp_path / "made.txt")]
    several = [subprocess.Popen(command, env=where, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=60)[0] for process in several] == ["100000\n"] * 4
    assert (tmp_path / "made.txt").read_text() == "made\n"
    assert len(list((tmp_path / "cache" / "kind").iterdir())) == 1


def test_a_result_that_cannot_be_made_is_made_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.cached_json("kind", "name", 1, fail, int)
    assert cache.cached_json("kind", "name", 1, lambda: 7, int) == 7
    assert cache.cached_json("kind", "name", 1, fail, int) == 7
    assert cache.cached_json("kind", "name", 2, lambda: 8, int) == 8


def test_a_failed_append_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The limit of a file's size stands for a full disk: the system writes a part and refuses the rest."""
    file = tmp_path / "metrics.csv"
    file.write_bytes(b"x" * 4000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        for change in (files.append, files.write):
            with pytest.raises(OSError, match="File too large") as raised:
                change(file, b"y" * 5000)
            assert files.explained(raised.value).startswith(f"{file}: File too large; free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"x" * 4000
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.csv"]
    files.append(file, b"y")
    assert file.stat().st_size == 4001
