"""What processes that hold a simulation have in common: they are quiet, and end with whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError

Answer = TypeVar("Answer")

PR_SET_PDEATHSIG = 1
NO_ROOM = "failed to map segment"  # what the dynamic loader says where a library does not fit into memory
PATIENCE_S = 3.0  # how long a process may take to end when asked
MEMORY_VARIABLE = "RELID_SUMO_MEMORY_MIB"


class Child:
    """A fresh Python process with a pipe to it, which runs one function of the package.

    Not multiprocessing's: that imports the caller's main script again in the child, so that a script without a main
    guard would start itself over and over.

    Parameters
    ----------
    target
        A function of a module; it is called with the child's end of the pipe.
    first
        The first message, sent as a tuple.

    Attributes
    ----------
    pipe : Connection
        Our end.
    """

    def __init__(self, target: Callable[[Connection], None], *first: object) -> None:
        self.pipe, there = multiprocessing.Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - its standard error, SUMO's too; gone with us
        self._heard = 0
        where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        words = [str(there.fileno()), target.__module__, target.__name__]
        command = [sys.executable, "-c", "from relid_sumo.base.process import main; main()", *words]
        self._process = subprocess.Popen(
            command, pass_fds=[there.fileno()], env=where, stdin=subprocess.DEVNULL, stderr=self._said
        )
        there.close()
        with contextlib.suppress(OSError):  # it has died: whoever waits for its answer will see that
            self.pipe.send(first)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def said(self) -> str:
        """Return what it, and the processes that it started, have complained of since this was last asked."""
        new = os.pread(self._said.fileno(), 1 << 20, self._heard)
        self._heard += len(new)
        return new.decode(errors="replace")

    def stop(self, *, at_once: bool = False) -> str:
        """End the process, and return how it ended.

        Parameters
        ----------
        at_once
            It is at work: do not wait for it to see that its pipe is closed.
        """
        self.pipe.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        self._process.terminate()  # this, and kill, do nothing where it has ended
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        code = self._process.wait()
        self._said.close()
        return how_it_ended(code)


def main() -> None:
    """Run the function that a `Child` was made for; the command line names the pipe, its module and the function."""
    number, module, function = sys.argv[1:]
    redact.guard()
    getattr(importlib.import_module(module), function)(Connection(int(number)))


def how_it_ended(code: int) -> str:
    """Return an exit code in words; a signal is a negative number."""
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
    """Throw away what SUMO prints in this process (its complaints are kept), and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its parent ends, however that ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def free_memory_mib() -> float:
    """Return the memory that is free for use, MiB; 4096 where the system does not tell.

    RELID_SUMO_MEMORY_MIB bounds it: for several runs side by side, or in a container that has less than the machine.
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
    """Return the memory that is one process's alone, MiB; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Private_Dirty:"):
                return float(line.split()[1]) / 1024
    return 0.0
