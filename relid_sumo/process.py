"""What processes that hold a simulation have in common: they are quiet, and end with whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

PR_SET_PDEATHSIG = 1


def spawn(target: Callable[[Connection], None], *first: object) -> tuple[BaseProcess, Connection]:
    """Start a fresh Python process with a pipe to it, and send the first message (a tuple) over that.

    What is large goes over the pipe and not as an argument: multiprocessing's own hand-over waits forever for a child
    that dies before it has read it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there,), daemon=True)
    process.start()
    there.close()
    with contextlib.suppress(OSError):  # it has died: whoever waits for its answer will see that
        here.send(first)
    return process, here


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
