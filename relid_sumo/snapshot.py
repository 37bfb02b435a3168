"""Fork snapshots: a simulation is warmed up once per traffic seed, and every episode runs in a fork of it.

A forked child goes on bit for bit as its parent would, so a reset costs milliseconds and is exact, warm-up included.
Each snapshot is a process of its own that holds libsumo and little else (no torch, no open SUMO output). For an episode
it forks a child, which writes the whole episode to the snapshot's pipe and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Generic, NoReturn, TypeVar

from relid_sumo.bridge import Bridge
from relid_sumo.errors import RelidSumoError, SimulationError
from relid_sumo.process import die_with_parent, private_memory_mib, told

HIGHEST_FD = 4096
LIMIT_S = 1800.0  # of an episode, or of warming up: beyond it the process hangs

Answer = TypeVar("Answer")
Job = TypeVar("Job")


class SnapshotDiedError(SimulationError):
    """The process of a snapshot, or of its episode, ended without an answer; another may well succeed."""


class Snapshot(Generic[Job, Answer]):
    """A warmed simulation in a process of its own.

    Parameters
    ----------
    warmed
        Starts a simulation and warms it up; called in the new process.
    play
        Runs a job over it; called in a fork of that process.

    Raises
    ------
    SimulationError
        SUMO does not start, or dies while warming up.
    """

    def __init__(self, warmed: Callable[[], Bridge], play: Callable[[Bridge, Job], Answer]) -> None:
        self._pipe, there = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _hold(there, warmed, play)
        there.close()
        try:
            self._answer()
        except RelidSumoError:
            self.close()
            raise

    def drive(self, job: Job) -> Answer:
        """Run a job in a fork of the simulation.

        Raises
        ------
        SnapshotDiedError
            The process died: killed, out of memory, or SUMO crashed.
        SimulationError
            SUMO ended with an error; the message holds its line.
        """
        try:
            self._pipe.send(job)
        except OSError:
            raise SnapshotDiedError("the simulation process died") from None
        return self._answer()

    def _answer(self) -> Answer:
        try:
            if not self._pipe.poll(LIMIT_S):
                raise SnapshotDiedError(f"the simulation process gave no answer in {LIMIT_S:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise SnapshotDiedError("the simulation process died") from None
        if isinstance(answer, RelidSumoError):
            raise answer
        return answer  # type: ignore[no-any-return] # what play returned

    def close(self) -> None:
        """End the process, and the episode that it may be running."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # the child that it may have goes with it
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _hold(pipe: Connection, warmed: Callable[[], Bridge], play: Callable[[Bridge, Job], Answer]) -> NoReturn:
    """Warm up, then fork a child for every job that comes in."""
    try:
        die_with_parent()
        os.closerange(3, pipe.fileno())  # other snapshots' pipes among them: each must see its own end when we end
        os.closerange(pipe.fileno() + 1, HIGHEST_FD)
        bridge = told(warmed)
        if isinstance(bridge, RelidSumoError):
            pipe.send(bridge)
            os._exit(1)
        pipe.send(None)
        while True:
            job = pipe.recv()
            child = os.fork()
            if child == 0:
                die_with_parent()
                pipe.send(told(lambda job=job: play(bridge, job)))  # type: ignore[misc]
                os._exit(0)
            if os.waitpid(child, 0)[1] != 0:
                break  # half an answer may be in the pipe: end it, so that the reader does not wait for the rest
    except EOFError:
        os._exit(0)
    finally:
        os._exit(1)


class Pool(Generic[Job, Answer]):
    """Snapshots by key, the least recently used dropped when they would take too much memory.

    Parameters
    ----------
    play
        Runs a job over a simulation.
    memory_mib
        What all snapshots may take together; always at least one is kept.
    """

    def __init__(self, play: Callable[[Bridge, Job], Answer], memory_mib: float) -> None:
        self._play, self._memory_mib = play, memory_mib
        self._held: OrderedDict[object, Snapshot[Job, Answer]] = OrderedDict()

    def drive(self, key: object, warmed: Callable[[], Bridge], job: Job) -> Answer:
        """Run a job over the snapshot of a key, taken first where it is not held; tried again once if that dies.

        Raises
        ------
        SimulationError
            SUMO ended with an error, or the process died twice.
        """
        try:
            return self._snapshot(key, warmed).drive(job)
        except SnapshotDiedError:
            self._drop(key)
        try:
            return self._snapshot(key, warmed).drive(job)
        except SnapshotDiedError:
            self._drop(key)
            raise

    def _snapshot(self, key: object, warmed: Callable[[], Bridge]) -> Snapshot[Job, Answer]:
        if key not in self._held:
            sizes = [private_memory_mib(snapshot.pid) for snapshot in self._held.values()]
            while sizes and sum(sizes) + max(sizes) > self._memory_mib:
                self._drop(next(iter(self._held)))
                sizes.pop(0)
            self._held[key] = Snapshot(warmed, self._play)
        self._held.move_to_end(key)
        return self._held[key]

    def _drop(self, key: object) -> None:
        snapshot = self._held.pop(key, None)
        if snapshot is not None:
            snapshot.close()

    def close(self) -> None:
        """End all snapshots."""
        for key in list(self._held):
            self._drop(key)


def can_fork() -> bool:
    """Return whether this system forks processes."""
    return hasattr(os, "fork")
