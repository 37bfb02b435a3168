"""Simulation processes: they print nothing, and end with the process that started them.

Linux ends a child with its parent's *thread*: the signal of `die_with_parent` is sent when the thread that started the
child ends. A child is therefore always started by a thread that lives as long as the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from relid_sumo.base import interpreter, redact
from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError

Answer = TypeVar("Answer")

PR_SET_PDEATHSIG = 1
NO_ROOM = "failed to map segment"  # message of the dynamic loader if a library does not fit into memory
PATIENCE_S = 3.0  # time limit for a process to end when asked to
MEMORY_VARIABLE = "RELID_SUMO_MEMORY_MIB"


class Child:
    """A new Python process with a pipe to it, which runs one function of the package.

    Unlike multiprocessing, it does not import the caller's main script in the child, so that a script without a main
    guard does not start itself repeatedly.

    Parameters
    ----------
    target
        A function of a module. It is called with the child's end of the pipe.
    first
        The first message, sent as a tuple.

    Attributes
    ----------
    pipe : Connection
        This process's end of the pipe.
    """

    def __init__(self, target: Callable[[Connection], None], *first: object) -> None:
        self.pipe, there = multiprocessing.Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - its standard error; deleted with this process
        self._heard = 0
        words = [str(there.fileno()), target.__module__, target.__name__]
        command = interpreter.command("from relid_sumo.base.process import main; main()", *words)
        environment = interpreter.environment()
        self._owner = os.getpid()
        self._process = _from_lasting_thread(
            lambda: subprocess.Popen(
                command, pass_fds=[there.fileno()], env=environment, stdin=subprocess.DEVNULL, stderr=self._said
            )
        )
        there.close()
        with contextlib.suppress(OSError):  # it has died; reading its answer raises the error
            self.pipe.send(first)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def inherited(self) -> bool:
        """Whether this object is the copy in a fork of the process that started the child."""
        return self._owner != os.getpid()

    def said(self) -> str:
        """Return the error output of the process and its children since the last call."""
        new = os.pread(self._said.fileno(), 1 << 20, self._heard)
        self._heard += len(new)
        return new.decode(errors="replace")

    def kill(self) -> None:
        """Kill the process, without waiting for its end."""
        self._process.kill()

    def stop(self, *, at_once: bool = False) -> str:
        """End the process and return how it ended. In a fork of its parent, leave it to the parent.

        Parameters
        ----------
        at_once
            Do not wait for the process to notice that its pipe is closed.
        """
        self.pipe.close()
        if self.inherited:
            self._said.close()
            self._process.returncode = 0  # it is not a child of this process, which cannot wait for it
            return "belongs to another process"
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        self._process.terminate()  # no effect if it has ended; likewise kill
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        code = self._process.wait()
        self._said.close()
        return how_it_ended(code)


Start = Callable[[], "subprocess.Popen[bytes]"]
Starts = queue.SimpleQueue[tuple[Start, "Future[subprocess.Popen[bytes]]"]]
_starting: Starts | None = None


def _from_lasting_thread(start: Start) -> subprocess.Popen[bytes]:
    """Start a process in the main thread, or in a thread that lives as long as it; see the module's docstring."""
    global _starting  # noqa: PLW0603 - one thread per process
    if threading.get_native_id() == os.getpid():  # the main thread
        return start()
    if _starting is None:
        _starting = queue.SimpleQueue()
        threading.Thread(target=_start_processes, args=(_starting,), name="relid_sumo starter", daemon=True).start()
    started: Future[subprocess.Popen[bytes]] = Future()
    _starting.put((start, started))
    return started.result()


def _start_processes(orders: Starts) -> None:
    while True:
        start, started = orders.get()
        try:
            started.set_result(start())
        except BaseException as error:  # for the thread that waits
            started.set_exception(error)
        del start, started


def _forget_starter() -> None:
    global _starting  # noqa: PLW0603 - a fork has no threads but the one that forked
    _starting = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_starter)


def main() -> None:
    """Run the function of a `Child`. The command line names the pipe, the module and the function."""
    number, module, function = sys.argv[1:]
    redact.guard()
    getattr(importlib.import_module(module), function)(Connection(int(number)))


def how_it_ended(code: int) -> str:
    """Return an exit code in words. Negative codes are signals."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def result_or_error(work: Callable[[], Answer]) -> Answer | RelidSumoError:
    """Return the result of `work`, or the error it raises, so that either can be sent to another process.

    An unexpected exception becomes a `SimulationError` with the traceback as a note.
    """
    try:
        return work()
    except RelidSumoError as error:
        return error
    except Exception as error:
        if isinstance(error, MemoryError) or NO_ROOM in str(error):
            return SimulationError(f"out of memory ({str(error) or type(error).__name__}); try fewer --workers")
        fault = SimulationError(f"a fault in a simulation process: {type(error).__name__}: {error}")
        fault.add_note(traceback.format_exc())
        return fault


def silence() -> None:
    """Discard SUMO's standard output in this process (not its errors), and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its parent ends in any manner."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def free_memory_mib() -> float:
    """Return the free memory, MiB; 4096 if the system does not report it.

    RELID_SUMO_MEMORY_MIB limits it, for several runs at the same time or in a container with less memory.
    """
    free = 4096.0
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = float(line.split()[1]) / 1024
    allowed = os.environ.get(MEMORY_VARIABLE) or "inf"
    try:
        return min(free, float(allowed))
    except ValueError:
        raise InputError(f"{MEMORY_VARIABLE}={allowed}: give a number of MiB") from None


def private_memory_mib(pid: int) -> float:
    """Return the private memory of a process, MiB; 0 if the system does not report it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Private_Dirty:"):
                return float(line.split()[1]) / 1024
    return 0.0
