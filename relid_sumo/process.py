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
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from relid_sumo.errors import RelidSumoError, SimulationError

Answer = TypeVar("Answer")

PR_SET_PDEATHSIG = 1


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
        where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        words = [str(there.fileno()), target.__module__, target.__name__]
        command = [sys.executable, "-c", "from relid_sumo.process import main; main()", *words]
        self._process = subprocess.Popen(command, pass_fds=[there.fileno()], env=where, stdin=subprocess.DEVNULL)
        there.close()
        with contextlib.suppress(OSError):  # it has died: whoever waits for its answer will see that
            self.pipe.send(first)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return how a process that has died ended (a signal as a negative number)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(5)
        return None

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.terminate()
        self._process.wait()


def main() -> None:
    """Run the function that a `Child` was made for; the command line names the pipe, its module and the function."""
    number, module, function = sys.argv[1:]
    getattr(importlib.import_module(module), function)(Connection(int(number)))


def told(work: Callable[[], Answer]) -> Answer | RelidSumoError:
    """Return what `work` returns, or the error that it raises: what leaves a process is one or the other.

    A fault of our own comes as a `SimulationError` that carries its traceback as a note.
    """
    try:
        return work()
    except RelidSumoError as error:
        return error
    except Exception as error:
        fault = SimulationError(f"a fault in a simulation process: {type(error).__name__}: {error}")
        fault.add_note(traceback.format_exc())
        return fault


def silence() -> None:
    """Throw away what SUMO prints in this process, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its parent ends, however that ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def free_memory_mib() -> float:
    """Return the memory that is free for use, MiB; 4096 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) / 1024
    return 4096.0


def private_memory_mib(pid: int) -> float:
    """Return the memory that is one process's alone, MiB; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Private_Dirty:"):
                return float(line.split()[1]) / 1024
    return 0.0
