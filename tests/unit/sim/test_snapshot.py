"""Snapshots of a toy simulation: each job gives a complete answer or an error, and no process stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from relid_sumo.base.errors import SimulationError
from relid_sumo.sim.bridge import Bridge
from relid_sumo.sim.snapshot import Pool, Snapshot, SnapshotDiedError, in_fork
from relid_sumo.sim.toy import ToyBridge, grid

Descendants = Callable[[], dict[int, str]]
Children = Callable[[int], dict[int, str]]
LARGE = 32 << 20  # far more than a pipe's buffer


@pytest.fixture(autouse=True)
def no_process_or_file_stays(descendants: Descendants) -> Iterator[None]:
    pipes = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert descendants() == {}
    assert len(list(Path("/proc/self/fd").iterdir())) == pipes


def toy() -> Bridge:
    return ToyBridge(grid(3))


def play(bridge: Bridge, job: str, pipe: Connection) -> None:
    """Answer with the time after a step, or do what the job asks for."""
    if job == "large":
        pipe.send(b"x" * LARGE)
    elif job == "hang":
        time.sleep(600)
    elif job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif job == "exit":
        os._exit(7)
    elif job == "fault":
        raise ValueError(job)
    elif job == "fail":
        pipe.send(SimulationError("SUMO failed: as asked"))
    else:
        pipe.send(bridge.step())


def ask(snapshot: Snapshot[str], job: str) -> object:
    snapshot.send(job)
    return snapshot.answer()


def test_every_job_starts_from_the_same_instant() -> None:
    snapshot = Snapshot(toy, play)
    assert [ask(snapshot, "step") for _ in range(3)] == [0.0, 0.0, 0.0]
    snapshot.close()
    snapshot.close()


def test_an_answer_larger_than_the_pipe_arrives_complete() -> None:
    snapshot = Snapshot(toy, play)
    assert ask(snapshot, "large") == b"x" * LARGE
    assert ask(snapshot, "step") == 0.0
    snapshot.close()


def test_a_child_killed_while_the_pipe_is_full(children: Children, wait_until: Callable[..., dict[int, str]]) -> None:
    snapshot = Snapshot(toy, play)
    snapshot.send("large")
    (child,) = wait_until(lambda: children(snapshot.pid), 60)
    time.sleep(0.3)  # time for the child to fill the pipe and wait for a reader
    os.kill(child, signal.SIGKILL)
    with pytest.raises(SnapshotDiedError, match="ended by SIGKILL"):
        snapshot.answer()


@pytest.mark.parametrize(("job", "how"), [("die", "ended by SIGKILL"), ("exit", "ended with exit code 7")])
def test_the_error_says_how_a_child_ended(job: str, how: str) -> None:
    snapshot = Snapshot(toy, play)
    with pytest.raises(SnapshotDiedError, match=how):
        ask(snapshot, job)
    with pytest.raises(SnapshotDiedError):
        snapshot.send("step")


def test_a_child_that_ends_without_an_answer_raises_at_once() -> None:
    snapshot = Snapshot(toy, play, limit_s=20.0)
    assert ask(snapshot, "step") == 0.0
    with pytest.raises(SnapshotDiedError, match="ended with exit code 1"):
        ask(snapshot, "fault")


def test_a_child_that_hangs_is_ended() -> None:
    snapshot = Snapshot(toy, play, limit_s=0.5)
    with pytest.raises(SnapshotDiedError, match=r"no answer in 0\.5 s"):
        ask(snapshot, "hang")


def test_an_error_of_the_simulation_does_not_end_the_snapshot() -> None:
    snapshot = Snapshot(toy, play)
    with pytest.raises(SimulationError, match="as asked"):
        ask(snapshot, "fail")
    assert ask(snapshot, "step") == 0.0
    snapshot.close()


def test_a_simulation_that_does_not_start(tmp_path: Path) -> None:
    def broken() -> Bridge:
        raise SimulationError(f"SUMO failed: {tmp_path} is no network")

    with pytest.raises(SimulationError, match="is no network"):
        Snapshot(broken, play)


def test_the_least_recently_used_is_dropped_when_memory_is_short(descendants: Descendants, children: Children) -> None:
    with_room, without = Pool(play, 1e6), Pool(play, 0.0)
    for pool, kept in ((with_room, 3), (without, 1)):
        for key in "abc":
            assert pool.drive(key, toy, "step") == 0.0
        assert len(children(os.getpid())) == kept
        pool.close()
        assert descendants() == {}


def test_a_pool_replaces_a_dead_snapshot() -> None:
    pool = Pool(play, 1e6)
    with pytest.raises(SnapshotDiedError):
        pool.drive("a", toy, "die")
    assert pool.drive("a", toy, "step") == 0.0
    pool.close()


def test_a_failed_fork_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(SnapshotDiedError, match=r"cannot fork.*Cannot allocate memory"):
        Snapshot(toy, play)
    with pytest.raises(SimulationError, match="Cannot allocate memory"):
        in_fork(lambda: 1)


def test_a_function_in_a_fork_does_not_change_this_process() -> None:
    bridge = toy()
    assert [in_fork(lambda: (bridge.step(), bridge.step())[1]) for _ in range(2)] == [1.0, 1.0]
    assert bridge.step() == 0.0
