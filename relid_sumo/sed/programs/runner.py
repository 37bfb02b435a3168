"""Runs one planning program inside the sandbox. Stands alone: the standard library, and sandlock for Landlock.

`main` reads one JSON object from standard input: the program, the data of `program.objects` and the `walls` around it.
It puts up the walls, runs ``plan(network, trips, traffic)`` and writes one JSON object: ``{"plan": {...}}`` or
``{"error": "..."}``.
"""

from __future__ import annotations

import base64
import ctypes
import json
import linecache
import os
import platform
import random
import resource
import signal
import sys
import traceback
from typing import Any

NAME = "<program>"
MOST_FRAMES = 6
SET_PARENT_DEATH_SIGNAL, SET_DUMPABLE, SET_NO_NEW_PRIVILEGES = 1, 4, 38  # linux/prctl.h
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_FILTER, ALL_THREADS = 1, 1  # linux/seccomp.h


def run(source: str, data: dict[str, Any]) -> dict[str, Any]:
    """Run a program and return its plan, or what went wrong."""
    import program  # type: ignore[import-not-found] # noqa: PLC0415 - they lie side by side inside the sandbox only

    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    scope: dict[str, Any] = {"__name__": "program", "__builtins__": __builtins__}
    try:
        exec(compile(source, NAME, "exec"), scope)
        plan = scope.get("plan")
        if not callable(plan):
            arguments = "network, trips, traffic" if "traffic" in data else "network, trips"
            return {"error": f"the program defines no function plan({arguments})"}
        return {"plan": plan(*program.objects(data))}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: whatever ends a program is told
        return {"error": _told(error)}


def _told(error: BaseException) -> str:
    """Return the end of a traceback, from the program's own lines on."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if frame.filename == NAME), len(frames))
    lines = traceback.format_list(frames[first:][-MOST_FRAMES:])
    return "".join([*lines, *traceback.format_exception_only(error)]).strip()


def limit(cpu_s: int, memory_mib: int, files: int) -> None:
    """Set limits of this process that it cannot raise again."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # a signal first, which says why; then the end
    for kind, most in (
        (resource.RLIMIT_AS, memory_mib * 2**20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 0),
    ):
        resource.setrlimit(kind, (most, most))


def fix_chance() -> None:
    """Draw all of Python's random numbers from one seed: `random`, `secrets`, `os.urandom`, and so numpy's seeds."""
    stream, seed = random.Random(0), random.Random.seed

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:  # noqa: ANN401 - as Random.seed
        seed(self, stream.getrandbits(128) if a is None else a, version)

    os.urandom = stream.randbytes
    random._urandom = stream.randbytes  # type: ignore[attr-defined] # what SystemRandom calls
    random.Random.seed = seeded  # type: ignore[method-assign]
    random.seed = random._inst.seed
    random.seed(0)


def go_with_parent() -> None:
    """End when the parent ends, and leave no memory image behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((SET_PARENT_DEATH_SIGNAL, signal.SIGKILL), (SET_DUMPABLE, 0)):
        if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


def read_only(paths: list[str]) -> None:
    """Let this process read nothing but some paths, for good (Landlock)."""
    import sandlock  # noqa: PLC0415 - only where the layer is on

    there = [path for path in paths if os.path.exists(path)]  # noqa: PTH110 - a link may lead out of bubblewrap's tree
    sandlock.confine(sandlock.Sandbox(fs_readable=there))
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandlock"]:
        del sys.modules[name]


def allow_calls(compiled: bytes) -> None:
    """Let all threads of this process use no system calls but those that a filter permits, for good (seccomp)."""

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SET_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    filtered = Filter(len(compiled) // 8, compiled)
    if libc.syscall(SECCOMP[platform.machine()], SET_FILTER, ALL_THREADS, ctypes.byref(filtered)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def wall_in(walls: dict[str, Any]) -> None:
    """Put up the walls, of which each can only be added to: limits, Landlock, the filter of system calls."""
    sys.path[:] = walls["path"]
    go_with_parent()
    fix_chance()
    if walls["readable"] is not None:
        read_only(walls["readable"])
    limit(*walls["limits"])
    if walls["calls"] is not None:
        allow_calls(base64.b64decode(walls["calls"]))


def main() -> None:
    """Run the program that comes in."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what the program prints is no answer
    data = json.loads(sys.stdin.buffer.read())
    wall_in(data.pop("walls"))
    result = run(data.pop("program"), data)
    try:
        text = json.dumps(result)
    except BaseException as error:
        text = json.dumps({"error": f"what plan returned is not JSON: {type(error).__name__}: {error}"})
    rest = text.encode()
    while rest:
        rest = rest[os.write(answer, rest) :]
    os._exit(0)  # whatever the program left running ends here


if __name__ == "__main__":
    main()
