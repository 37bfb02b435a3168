"""Fork snapshots: a simulation warms up once per traffic seed, and every episode runs in a fork of it.

A forked child continues exactly as its parent would. A reset therefore takes milliseconds and includes the warm-up.
Each snapshot is a process that contains libsumo and little else (no torch, no open SUMO output). For an episode it
forks a child, which uses the snapshot's pipe until the episode ends. An episode can fork itself in the same manner to
simulate other choices (`in_fork`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Generic, NoReturn, TypeVar

from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError
from relid_sumo.base.process import die_with_parent, how_it_ended, private_memory_mib, result_or_error
from relid_sumo.sim.bridge import Bridge

HIGHEST_FD = 4096
LIMIT_S = 1800.0  # time limit for an answer; a slower process is taken to hang
DIED = 128  # exit code 128 + n: killed by signal n, as in a shell

Answer = TypeVar("Answer")
Job = TypeVar("Job")


class SnapshotDiedError(SimulationError):
    """The process of a snapshot or of its episode ended without an answer. A new one may succeed."""


class Snapshot(Generic[Job]):
    """A simulation after its warm-up, in a process of its own.

    Parameters
    ----------
    warmed
        Starts a simulation and warms it up. Called in the new process.
    play
        Runs a job in the simulation and answers through the pipe. Called in a fork of that process.
    limit_s
        Time limit for an answer, s.

    Raises
    ------
    SimulationError
        SUMO does not start, or stops during the warm-up.
    """

    def __init__(
        self, warmed: Callable[[], Bridge], play: Callable[[Bridge, Job, Connection], None], limit_s: float = LIMIT_S
    ) -> None:
        self._limit_s = limit_s
        self._pipe, there = Pipe()
        try:
            self.pid = os.fork()
        except OSError as error:
            self._pipe.close()
            there.close()
            raise SnapshotDiedError(f"cannot fork ({error.strerror})") from None
        if self.pid == 0:
            _serve(there, warmed, play)
        there.close()
        try:
            self.answer()
        except RelidSumoError:
            self.close()
            raise

    def send(self, message: object) -> None:
        """Send a job to the simulation, or a message that its episode waits for.

        Raises
        ------
        SnapshotDiedError
            The process ended: it was killed, ran out of memory, or SUMO crashed.
        """
        try:
            self._pipe.send(message)
        except OSError:
            raise SnapshotDiedError(self._end()) from None

    def answer(self) -> object:
        """Wait for an answer.

        Raises
        ------
        SnapshotDiedError
            The process ended or hangs.
        SimulationError
            SUMO stopped with an error. The message contains SUMO's error line.
        """
        try:
            if not self._pipe.poll(self._limit_s):
                self._end()
                raise SnapshotDiedError(f"no answer in {self._limit_s:g} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise SnapshotDiedError(self._end()) from None
        if isinstance(answer, RelidSumoError):
            raise answer
        return answer

    def _end(self) -> str:
        """End the process and its episode, and return how it ended."""
        self._pipe.close()
        if self.pid == 0:
            return "ended"
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # no effect if it has ended; its episode ends with it
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return how_it_ended(DIED - code if code > DIED else code)

    def close(self) -> None:
        """End the process and its episode."""
        self._end()


def _serve(pipe: Connection, warmed: Callable[[], Bridge], play: Callable[[Bridge, Job, Connection], None]) -> NoReturn:
    """Warm up, then fork a child for every job received."""
    code = 1
    try:
        die_with_parent()
        os.closerange(3, pipe.fileno())  # includes other snapshots' pipes, which must close when their owner ends
        os.closerange(pipe.fileno() + 1, HIGHEST_FD)
        bridge = result_or_error(warmed)
        gc.freeze()  # children then neither scan nor copy existing objects
        pipe.send(bridge if isinstance(bridge, RelidSumoError) else None)
        while not isinstance(bridge, RelidSumoError):
            job = pipe.recv()
            try:
                child = os.fork()
            except OSError as error:
                pipe.send(SnapshotDiedError(f"cannot fork ({error.strerror})"))
                continue
            if child == 0:
                code = 1  # unless the episode ends: a child that stops early must report failure
                die_with_parent()
                play(bridge, job, pipe)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != 0:  # part of an answer may be in the pipe: close it, so that the reader does not wait
                os._exit(DIED - code if code < 0 else code)
    except (EOFError, BrokenPipeError):
        code = 0
    finally:
        os._exit(code)


class Pool(Generic[Job]):
    """Snapshots by key. The least recently used ones are dropped when memory is short.

    Parameters
    ----------
    play
        Runs a job in a simulation; see `Snapshot`.
    memory_mib
        Limit of the measured memory of all snapshots, MiB. At least one snapshot always stays.
    limit_s
        Time limit for an answer, s.
    """

    def __init__(
        self, play: Callable[[Bridge, Job, Connection], None], memory_mib: float, limit_s: float = LIMIT_S
    ) -> None:
        self._play, self._memory_mib, self._limit_s = play, memory_mib, limit_s
        self._held: OrderedDict[object, Snapshot[Job]] = OrderedDict()

    def snapshot(self, key: object, warmed: Callable[[], Bridge]) -> Snapshot[Job]:
        """Return the snapshot of a key; take it first if it does not exist.

        Raises
        ------
        SimulationError
            SUMO does not start, or stops during the warm-up.
        """
        if key not in self._held:
            sizes = [private_memory_mib(snapshot.pid) for snapshot in self._held.values()]
            while sizes and sum(sizes) + max(sizes) >= self._memory_mib:
                self.drop(next(iter(self._held)))
                sizes.pop(0)
            self._held[key] = Snapshot(warmed, self._play, self._limit_s)
        self._held.move_to_end(key)
        return self._held[key]

    def drive(self, key: object, warmed: Callable[[], Bridge], job: Job) -> object:
        """Run a job on the snapshot of a key and return its answer. A snapshot that dies is dropped.

        Raises
        ------
        SnapshotDiedError
            The process ended or hangs.
        SimulationError
            SUMO stopped with an error.
        """
        try:
            snapshot = self.snapshot(key, warmed)
            snapshot.send(job)
            return snapshot.answer()
        except SnapshotDiedError:
            self.drop(key)
            raise

    def drop(self, key: object) -> None:
        """End the snapshot of a key, if there is one."""
        snapshot = self._held.pop(key, None)
        if snapshot is not None:
            snapshot.close()

    def close(self) -> None:
        """End all snapshots."""
        for key in list(self._held):
            self.drop(key)


def in_fork(work: Callable[[], Answer]) -> Answer:
    """Return the result of a function that runs in a fork of this process. This process does not change.

    Raises
    ------
    InputError
        The system does not fork processes.
    SimulationError
        The function raised it, or its process died.
    """
    if not can_fork():
        raise InputError("this needs a system that can fork processes, which this one cannot; use Linux or macOS")
    here, there = Pipe(duplex=False)
    try:
        child = os.fork()
    except OSError as error:
        here.close()
        there.close()
        raise SimulationError(f"a branch could not be forked ({error.strerror})") from None
    if child == 0:
        try:
            die_with_parent()
            here.close()
            there.send(result_or_error(work))
        finally:
            os._exit(0)
    there.close()
    answer: Answer | RelidSumoError | None = None
    got = False
    try:
        with contextlib.suppress(EOFError, OSError):
            answer, got = here.recv(), True
    finally:
        here.close()
        if not got:  # this process was interrupted, or the child died
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not got:
        raise SimulationError(f"a branch of an episode died: {how_it_ended(code)}")
    if isinstance(answer, RelidSumoError):
        raise answer
    return answer  # type: ignore[return-value] # the result of `work`


def can_fork() -> bool:
    """Return whether this system can fork processes."""
    return hasattr(os, "fork")
