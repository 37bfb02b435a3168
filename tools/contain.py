"""Run hostile programs in the sandbox and say what each of them harmed.

    python tools/contain.py tests/unit/sed/programs/hostile/*.txt

A corpus file is named after the promise of docs/security.md that its programs attack. A program begins with
``=== name | told`` or ``=== name | layers | told``: ``told`` is a regular expression for the reason reported, or
``plan: ...`` for a plan that comes back harmless; ``layers`` are those that stop it alone, where they are not those of
`CLAIMS`. A program sets ``escaped`` where it got further than it should.

In programs these words stand for what they may try to harm: CANARY a file, UNIX a socket's path, PORT, UDP and PORT6
open ports, PARENT a process that must live, RUNNER this process, SECRET a file open here, OTHERS a folder of
site-packages. ``call(name, ...)`` is a raw system call (x86_64).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relid_sumo.sed.programs import sandbox
from relid_sumo.sed.programs.layers import LAYERS, Layer, module_path
from relid_sumo.sed.programs.sandbox import EMPTY, Outcome, SandboxSettings

PLAN = "def plan(network, trips, traffic):\n"
TIGHT = SandboxSettings(cpu_s=1, wall_s=10.0, memory_mib=512)
SHORT = TIGHT.model_copy(update={"wall_s": 1.5})
"""For programs that do nothing until they are ended."""
REFUSED = r"PermissionError|FileNotFoundError|Read-only|Operation not permitted|not implemented"
KEYS = {str(0xE711), str(0xE712)}
"""By which programs ask for shared memory, messages and counters."""
KEY = "a-key-that-nobody-may-learn"
BY_CALLS = frozenset({"writes", "attributes", "network", "starts", "processes", "kernel", "environment"})
CLAIMS: dict[Layer, frozenset[str]] = {
    "calls": BY_CALLS,
    "landlock": frozenset({"reads", "writes"}),
    "bubblewrap": BY_CALLS - {"starts"} | {"reads"},
}
"""The promises that a layer keeps without the others; resource limits and the reader of the answer keep the rest."""


CORPUS = Path(__file__).parents[1] / "tests" / "unit" / "sed" / "programs" / "hostile"
NUMBERS = {  # of system calls on x86_64
    name: int(number) for number, name in map(str.split, (CORPUS / "numbers.x86_64").read_text().splitlines())
}
PRELUDE = """import ctypes, os
def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS.get(name, name)
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    passed += [ctypes.c_long(0)] * (6 - len(passed))
    result = libc.syscall(ctypes.c_long(number), *passed)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


@dataclass(frozen=True)
class Hostile:
    """A hostile program: its name, the promise it attacks, the layers that stop it alone, what is told, its text."""

    name: str
    promise: str
    stopped_by: frozenset[str]
    told: str
    source: str


@dataclass(frozen=True)
class Victims:
    """What a hostile program may try to harm: files, sockets, a process, an open file."""

    canary: Path
    tcp: socket.socket
    tcp6: socket.socket | None
    udp: socket.socket
    unix: socket.socket
    abstract: socket.socket
    process: subprocess.Popen[bytes]
    secret: int


def corpus(files: list[Path]) -> list[Hostile]:
    """Return the programs in some files, those that this processor cannot run left out."""
    found = []
    for file in files:
        for part in file.read_text(encoding="utf-8").split("\n=== ")[1:]:
            head, _, source = part.partition("\n")
            name, *by, told = head.split(" | ")
            stopped_by = by[0].split(",") if by else [layer for layer in LAYERS if file.stem in CLAIMS[layer]]
            if platform.machine() == "x86_64" or not re.search(r"\bcall\(", source):
                found.append(Hostile(name, file.stem, frozenset(stopped_by), told, source))
    return found


@contextmanager
def victims(folder: Path) -> Iterator[Victims]:
    """Make the victims in an empty folder; end them when the context ends."""
    canary = folder / "canary"
    canary.write_text("alive", encoding="utf-8")
    canary.chmod(0o640)
    os.utime(canary, (1e9, 1e9))
    with suppress(OSError):  # a file system without attributes
        os.setxattr(canary, "user.mark", b"1")
    path = str(folder / "socket")
    os.environ["OPENAI_API_KEY"] = KEY
    inet, stream = socket.AF_INET, socket.SOCK_STREAM
    with ExitStack() as stack:

        def listening(family: int, kind: int, address: Any) -> socket.socket:  # noqa: ANN401 - as socket.bind
            one = stack.enter_context(socket.socket(family, kind))
            one.bind(address)
            one.setblocking(False)
            if kind == stream:
                one.listen()
            return one

        tcp = listening(inet, stream, ("127.0.0.1", 0))
        udp = listening(inet, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        unix, abstract = (listening(socket.AF_UNIX, stream, name) for name in (path, f"\0{path}"))
        tcp6 = None
        with suppress(OSError):  # a machine without IPv6
            tcp6 = listening(socket.AF_INET6, stream, ("::1", 0))
        asleep = [sys.executable, "-c", "import time; time.sleep(3600)"]
        process = stack.enter_context(subprocess.Popen(asleep, stdin=subprocess.DEVNULL))
        stack.callback(process.kill)
        secret = os.open(canary, os.O_RDONLY)
        stack.callback(os.close, secret)
        os.set_inheritable(secret, True)
        yield Victims(canary, tcp, tcp6, udp, unix, abstract, process, secret)


def filled(hostile: Hostile, there: Victims) -> str:
    """Return a program's text with the victims' names in it."""
    words = {
        "CANARY": repr(str(there.canary)),
        "UNIX": repr(str(there.canary.with_name("socket"))),
        "PORT": str(there.tcp.getsockname()[1]),
        "PORT6": str(there.tcp6.getsockname()[1] if there.tcp6 else 1),
        "UDP": str(there.udp.getsockname()[1]),
        "PARENT": str(there.process.pid),
        "RUNNER": str(os.getpid()),
        "SECRET": str(there.secret),
        "OTHERS": repr(str(Path(sysconfig.get_path("stdlib")) / "site-packages")),
        "ZERO": "\0",
        "NEST": "(" * 5000 + ")" * 5000,
    }
    source = re.sub(r"\b(" + "|".join(words) + r")\b", lambda m: words[m[0]], hostile.source)
    if re.search(r"\bcall\(", source):
        source = PRELUDE.replace("NUMBERS", repr(NUMBERS)) + source
    if "def plan" not in source and hostile.name not in {"be no program", "nest brackets"}:
        source += f"\n{PLAN}    return {{'escaped': str(escaped)}}\n"
    return source


def state(there: Victims) -> dict[str, Any]:
    """Return all that a program must leave as it is; equal before and after."""
    stat = there.canary.stat()
    limits = [resource.prlimit(pid, kind) for pid in (0, there.process.pid) for kind in range(16)]
    return {
        "file": (there.canary.read_text(encoding="utf-8"), stat.st_mode, stat.st_uid, stat.st_mtime),
        "attributes": os.listxattr(there.canary),
        "flags": _inode_flags(there.canary),
        "folder": sorted(file.name for file in there.canary.parent.iterdir()),
        "left": sorted(
            str(file) for folder in ("/tmp", "/dev/shm", "/var/tmp") for file in Path(folder).glob("evil-*")
        ),
        "open files": sorted(file.name for file in Path("/proc/self/fd").iterdir()),
        "limits": limits,
        "nice": [os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, there.process.pid)],
        "process": (there.process.poll(), _run_state(there.process.pid)),
        "here": (os.getpgid(0), os.getsid(0), str(Path.cwd()), socket.gethostname()),
        "shared memory": _shared_by_key(),
    }


def _shared_by_key() -> list[str]:
    """Return which keys of the corpus are in use in the whole machine."""
    tables = [Path(f"/proc/sysvipc/{kind}").read_text().splitlines() for kind in ("shm", "msg", "sem")]
    return [line for table in tables for line in table if line.split()[0] in KEYS]


def _inode_flags(file: Path) -> int | None:
    import fcntl  # noqa: PLC0415 - Linux

    flags = ctypes.c_long()
    with file.open("rb") as opened:
        try:
            fcntl.ioctl(opened, 0x80086601, flags)  # FS_IOC_GETFLAGS
        except OSError:
            return None
    return flags.value


def _run_state(pid: int) -> str:
    found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "stopped" if found in "tT" else "alive" if found in "RSD" else found


def reached(there: Victims) -> list[str]:
    """Return the sockets that something has connected or sent to."""
    found = []
    for name in ("tcp", "tcp6", "unix", "abstract"):
        if (quiet := getattr(there, name)) is not None:
            with suppress(BlockingIOError):
                quiet.accept()[0].close()
                found.append(name)
    with suppress(BlockingIOError):
        there.udp.recv(10)
        found.append("udp")
    return found


def settings_for(hostile: Hostile) -> SandboxSettings:
    """Return the limits a program is run with."""
    return SHORT if "did not end" in hostile.told else TIGHT


def contain(hostile: Hostile, there: Victims, within: tuple[Layer, ...]) -> tuple[Outcome, list[str]]:
    """Run a program within some layers; return what came of it, and what it harmed."""
    module_path()  # its lock stays open until this process ends
    before, settings = state(there), settings_for(hostile)
    outcome = sandbox.run_within(filled(hostile, there), EMPTY, settings, within)
    after = state(there)
    harmed = [f"{key}: {value!r} became {after[key]!r}" for key, value in before.items() if after[key] != value]
    harmed += [f"reached {name}" for name in reached(there)]
    if "escaped" in str(outcome.plan):
        harmed.append(str(outcome.plan)[:300])
    if KEY in str(outcome):
        harmed.append("it told the key")
    if outcome.seconds > settings.wall_s + 3:
        harmed.append(f"it took {outcome.seconds:.1f} s")
    problem = outcome.problem or ""
    if len(problem) > sandbox.MOST_TOLD or not problem.replace("\n", "").replace("\t", "").isprintable():
        harmed.append("the problem is not plain text")
    return outcome, harmed


def surprise(hostile: Hostile, outcome: Outcome) -> str | None:
    """Return what is told instead of what should be; None where it is as it should be.

    ``refused`` stands for every form in which the kernel refuses something.
    """
    hostile_told = hostile.told.replace("refused", REFUSED)
    kinds = {"plan": str(outcome.plan) if outcome.problem is None else None, "problem": outcome.problem}
    told_right = any(
        (text := kinds["plan" if part.startswith("plan: ") else "problem"]) is not None
        and re.search(part.removeprefix("plan: "), text)
        for part in re.split(r"\|(?=plan: )", hostile_told)
    )
    return None if told_right else f"{hostile.told!r} was to be told, not {outcome!r:.1000}"


def main() -> int:
    """Run the programs of some files, and print those that harmed something or that are not told as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--alone", choices=LAYERS, help="this layer alone, and the programs that it claims to stop")
    parser.add_argument("--name", default="", help="only programs with this in their names")
    arguments = parser.parse_args()
    within = (arguments.alone,) if arguments.alone else sandbox.active()
    chosen = [one for one in corpus(arguments.files) if arguments.name in one.name]
    if arguments.alone:
        chosen = [one for one in chosen if arguments.alone in one.stopped_by]
    stopped = 0
    with tempfile.TemporaryDirectory() as folder, victims(Path(folder)) as there:
        for hostile in chosen:
            outcome, harmed = contain(hostile, there, within)
            stopped += not harmed
            told = None if arguments.alone else surprise(hostile, outcome)
            for line in (*harmed, *([f"note: {told}"] if told else [])):
                print(f"{hostile.promise}: {hostile.name}: {line}", flush=True)
    print(f"{stopped} of {len(chosen)} contained within {', '.join(within)}")
    return 0 if stopped == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
