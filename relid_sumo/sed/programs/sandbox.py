"""Running a program that a language model wrote, in a process of its own that can do nothing but compute.

`sandlock` (Landlock and seccomp) keeps it from files, network, other processes and signals; resource limits lie beneath
it; what it writes is read here and cut. What is promised, and what not: docs/security.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import Field

from relid_sumo.base.errors import InputError
from relid_sumo.base.settings import Settings
from relid_sumo.sed.programs import program

LIBRARIES = ("numpy", "networkx")
MULTIARCH, LIBDIR = (sysconfig.get_config_var(name) or "" for name in ("MULTIARCH", "LIBDIR"))
SYSTEM_LIBRARIES = (f"/lib/{MULTIARCH}", f"/usr/lib/{MULTIARCH}", "/lib64", "/usr/lib64", "/etc/ld.so.cache")
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "HOME": "/",
    "USER": "nobody",
    "PATH": "",
    "LANG": "C",
}
OPEN_FILES = 64
CHUNK = 65536
MOST_TOLD = 4000  # characters of what went wrong
# Landlock does not govern the attributes of files; the rest is not needed, and less is safer.
DENIED = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("getxattr", "lgetxattr", "fgetxattr", "statfs", "chroot", "mknod", "mknodat"),
    *("socketpair", "memfd_create", "mq_open", "flock", "inotify_init", "inotify_init1", "fanotify_init"),
    *("setpriority", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set"),
)

Isolation = Literal["sandlock", "limits"]


class SandboxSettings(Settings):
    """What a program may use."""

    cpu_s: Annotated[int, Field(ge=1)] = 20
    """CPU time, s."""
    wall_s: Annotated[float, Field(gt=0)] = 40.0
    """Time on the clock, s."""
    memory_mib: Annotated[int, Field(ge=128)] = 1024
    """Address space, MiB."""
    output_bytes: Annotated[int, Field(ge=1024)] = 2**20
    """What it may write: its plan, and what it prints."""


@dataclass(frozen=True)
class Outcome:
    """What came of running a program: what `plan` returned (any JSON) or why there is nothing, and how long it took."""

    plan: object
    problem: str | None
    seconds: float


@cache
def missing_isolation() -> str | None:
    """Return why programs cannot be isolated on this machine; None where they can. Tried once, for real."""
    try:
        import sandlock  # noqa: PLC0415 - there are no wheels but for Linux
    except ImportError as error:
        return f"sandlock cannot be imported ({error})"
    found, wanted = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if found < wanted:
        return f"the kernel's Landlock is version {max(found, 0)}, and {wanted} is needed (Linux 6.12, lsm=landlock,..)"
    probe = "def plan(network, trips, traffic):\n    return {}\n"
    outcome = _run(probe, EMPTY, SandboxSettings(), "sandlock")
    return None if outcome.plan == {} else f"a trial failed: {outcome.problem}"


EMPTY: dict[str, Any] = {
    "network": {name: [] for name in ("edges", "length", "speed", "lanes", "signal", "start", "end", "successors")},
    "trips": [],
    "traffic": {"bin_s": 300.0, "travel_time": [], "others": []},
}


def isolation(*, trusted: bool, unsafe: bool) -> Isolation:
    """Return how to run programs: resource limits suffice for the project's own, and where the user insists.

    Parameters
    ----------
    trusted
        The programs are the project's own.
    unsafe
        The user said ``--unsafe-sandbox``.

    Raises
    ------
    InputError
        A model's programs cannot be isolated here.
    """
    reason = missing_isolation()
    if reason is None:
        return "sandlock"
    if trusted or unsafe:
        return "limits"
    raise InputError(
        f"programs written by a language model are not run on this machine: {reason}. Use --llm template, or another "
        "machine; --unsafe-sandbox runs them with resource limits alone: they could then read and send your files"
    )


def run(source: str, data: Mapping[str, Any], settings: SandboxSettings, how: Isolation) -> Outcome:
    """Run a program on the data of `program.objects`; whatever it does, return, and tell what it did.

    Parameters
    ----------
    source
        Python text that defines ``plan(network, trips, traffic)``.
    data
        JSON: ``network``, ``trips``, ``traffic``.
    settings
        Limits.
    how
        See `isolation`.
    """
    return _run(source, data, settings, how)


def _run(source: str, data: Mapping[str, Any], settings: SandboxSettings, how: Isolation) -> Outcome:
    start = time.monotonic()
    message = json.dumps({**data, "program": source}).encode()
    with tempfile.TemporaryDirectory(prefix="relid-sumo-sandbox-") as name:
        folder = Path(name)
        with _started(_command(folder, settings), folder, how) as process:
            written, printed, problem = _exchange(process, message, settings, start + settings.wall_s)
            if problem is None:
                ended_by = _ended(process, start + settings.wall_s)
                plan, problem = _understood(written, printed, ended_by, settings)
                return Outcome(plan, problem, time.monotonic() - start)
            return Outcome(None, problem, time.monotonic() - start)


def _command(folder: Path, settings: SandboxSettings) -> list[str]:
    """Fill the folder that Python looks into, and return the command."""
    for library in _libraries():
        (folder / library.name).symlink_to(library)
    start = folder / "run.py"
    start.write_text("import sys\nsys.path.insert(0, sys.path[0])\nimport program\nprogram.main()\n", encoding="utf-8")
    (folder / "program.py").symlink_to(program.__file__)
    limits = [str(value) for value in (settings.cpu_s, settings.memory_mib, OPEN_FILES)]
    return [os.path.realpath(sys.executable), "-S", "-s", "-B", str(start), *limits]


@cache
def _libraries() -> tuple[Path, ...]:
    """Return the folders of the libraries a program may import, those of their own shared libraries included."""
    folders = []
    for name in LIBRARIES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        package = Path(spec.origin).parent
        folders += [folder for folder in (package, package.with_name(f"{name}.libs")) if folder.is_dir()]
    return tuple(folders)


@contextlib.contextmanager
def _started(command: list[str], folder: Path, how: Isolation) -> Iterator[Any]:
    """Start the command with pipes to it; when the context ends, end it and close them.

    What is given out has ``stdin``, ``stdout``, ``stderr``, ``kill`` and ``wait``: a process of sandlock or subprocess.
    """
    if how == "limits":
        pipe = subprocess.PIPE
        started = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=ENVIRONMENT,
            cwd=folder,
            start_new_session=True,
            bufsize=0,
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # and what it may have started
            started.wait()
            for stream in (started.stdin, started.stdout, started.stderr):
                if stream is not None:
                    stream.close()
        return
    from sandlock import Sandbox, StdioMode  # noqa: PLC0415 - there are no wheels but for Linux

    python = [command[0], sysconfig.get_path("stdlib"), f"{LIBDIR}/{sysconfig.get_config_var('INSTSONAME')}"]
    readable = [*python, program.__file__, str(folder), *map(str, _libraries())]
    box = Sandbox(
        fs_readable=[path for path in (*readable, *SYSTEM_LIBRARIES) if Path(path).exists()],
        clean_env=True,
        env=ENVIRONMENT,
        cwd=str(folder),
        max_processes=1,
        max_open_files=OPEN_FILES,
        no_coredump=True,
        random_seed=0,
        extra_deny_syscalls=list(DENIED),
    )
    with box.popen(command, StdioMode.PIPED, StdioMode.PIPED, StdioMode.PIPED) as locked:
        yield locked


def _exchange(
    process: Any,  # noqa: ANN401 - see _started
    message: bytes,
    settings: SandboxSettings,
    deadline: float,
) -> tuple[bytes, bytes, str | None]:
    """Send the message and read what comes back; return both outputs, and why reading was given up."""
    outputs = {process.stdout: bytearray(), process.stderr: bytearray()}
    rest, problem = memoryview(message), None
    with selectors.DefaultSelector() as ready:
        for stream in (process.stdin, *outputs):
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, selectors.EVENT_WRITE if stream is process.stdin else selectors.EVENT_READ)
        while problem is None and any(stream in ready.get_map() for stream in outputs):
            events = ready.select(max(0.0, deadline - time.monotonic()))
            if not events:
                problem = f"it did not end within {settings.wall_s:g} s"
            for key, _ in events:
                stream = key.fileobj
                if stream is process.stdin:
                    rest = _sent(stream, rest)
                    ended = not rest
                else:
                    part = os.read(key.fd, CHUNK)
                    outputs[stream] += part
                    ended = not part
                if ended:
                    ready.unregister(stream)
                    if stream is process.stdin:
                        stream.close()
            if sum(map(len, outputs.values())) > settings.output_bytes:
                problem = f"it wrote more than {settings.output_bytes} bytes"
    if problem is not None:
        process.kill()
    return bytes(outputs[process.stdout]), bytes(outputs[process.stderr]), problem


def _sent(stream: IO[bytes], rest: memoryview) -> memoryview:
    """Write what a pipe takes of the rest; return what then remains: nothing where nobody reads any more."""
    try:
        return rest[os.write(stream.fileno(), rest[:CHUNK]) :]
    except BrokenPipeError:
        return rest[:0]


def _ended(process: Any, deadline: float) -> int | None:  # noqa: ANN401 - see _started
    """Wait for a process that has closed its outputs; return its exit code, or minus the signal that ended it.

    None where it goes on: it is ended then.
    """
    left = max(0.01, deadline - time.monotonic())
    if isinstance(process, subprocess.Popen):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return int(process.wait(left))
        return None
    result = process.wait(left)  # which kills it after that time
    if time.monotonic() >= deadline:
        return None
    if result.signal > 0:
        return -int(result.signal)
    return int(result.exit_code) if result.exit_code >= 0 else -int(signal.SIGKILL)


def _understood(
    written: bytes, printed: bytes, ended_by: int | None, settings: SandboxSettings
) -> tuple[object, str | None]:
    """Return the plan in what a program wrote, or None and what went wrong."""
    if not written:
        return None, _fate(ended_by, printed, settings)
    try:
        answer = json.loads(written)
    except (ValueError, RecursionError) as error:
        return None, f"what it wrote is not a plan: {type(error).__name__}: {error}"[:MOST_TOLD]
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        note = f"\n(the limit is {settings.memory_mib} MiB)" if "MemoryError" in answer["error"] else ""
        return None, answer["error"][-MOST_TOLD:] + note
    if isinstance(answer, dict) and "plan" in answer:
        return answer["plan"], None
    return None, "what it wrote is not a plan"


def _fate(ended_by: int | None, printed: bytes, settings: SandboxSettings) -> str:
    """Return how a program ended that gave no answer."""
    last = printed[-MOST_TOLD // 4 :].decode(errors="replace").strip()
    said = f"; its last words: {last}" if last else ""
    if ended_by is None:
        return f"it did not end within {settings.wall_s:g} s"
    if ended_by == -signal.SIGXCPU:
        return f"it used more than {settings.cpu_s} s of CPU time"
    if ended_by == -signal.SIGKILL:
        return f"it was killed: beyond {settings.cpu_s} s of CPU time, or the machine was out of memory{said}"
    if ended_by < 0:
        return f"it was ended by signal {-ended_by} ({signal.strsignal(-ended_by)}){said}"
    return f"it ended itself (exit code {ended_by}) without giving a plan{said}"
