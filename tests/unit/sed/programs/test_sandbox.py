"""The sandbox: programs are run and their plans come back; hostile ones are contained, and told why."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.sed.programs import sandbox
from relid_sumo.sed.programs.sandbox import EMPTY, SandboxSettings

PLAN = "def plan(network, trips, traffic):\n"
TIGHT = SandboxSettings(cpu_s=1, wall_s=10.0, memory_mib=512)
KEY = "a-key-that-nobody-may-learn"
ISOLATED = pytest.mark.usefixtures("isolated")


@dataclass(frozen=True)
class Hostile:
    name: str
    told: str
    source: str


def corpus() -> Iterator[Hostile]:
    text = (Path(__file__).parent / "hostile_programs.txt").read_text(encoding="utf-8")
    for part in text.split("\n=== ")[1:]:
        head, _, source = part.partition("\n")
        name, _, told = head.partition(" | ")
        yield Hostile(name, told, source)


@pytest.fixture
def victims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Give what a hostile program may try to harm: files, sockets, a process, an open file, a key."""
    canary = tmp_path / "canary"
    canary.write_text("alive", encoding="utf-8")
    canary.chmod(0o640)
    os.utime(canary, (1e9, 1e9))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ExitStack() as stack:
        tcp, udp, unix, abstract = (
            stack.enter_context(socket.socket(*kind))
            for kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        path = str(tmp_path / "socket")
        for one, address in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (unix, path), (abstract, f"\0{path}")):
            one.bind(address)
            one.setblocking(False)
        for one in (tcp, unix, abstract):
            one.listen()
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]))
        secret = os.open(canary, os.O_RDONLY)
        os.set_inheritable(secret, True)
        yield SimpleNamespace(
            canary=canary, tcp=tcp, udp=udp, unix=unix, abstract=abstract, path=path, process=victim, secret=secret
        )
        os.close(secret)
        victim.kill()


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


def filled(hostile: Hostile, victims: SimpleNamespace) -> str:
    words = {
        "CANARY": repr(str(victims.canary)),
        "UNIX": repr(victims.path),
        "PORT": str(victims.tcp.getsockname()[1]),
        "UDP": str(victims.udp.getsockname()[1]),
        "PARENT": str(victims.process.pid),
        "SECRET": str(victims.secret),
        "ZERO": "\0",
        "NEST": "(" * 5000 + ")" * 5000,
    }
    source = re.sub(r"\b(CANARY|UNIX|PORT|UDP|PARENT|SECRET|ZERO|NEST)\b", lambda m: words[m[0]], hostile.source)
    if "def plan" not in source and hostile.name not in {"be no program", "nest brackets"}:
        source += f"\n{PLAN}    return {{'escaped': str(escaped)}}\n"
    return source


@ISOLATED
@pytest.mark.parametrize("hostile", list(corpus()), ids=lambda hostile: hostile.name)
def test_a_hostile_program_is_contained_and_told_why(
    hostile: Hostile, victims: SimpleNamespace, descendants: Callable[[], dict[int, str]]
) -> None:
    before = set(descendants()), open_files(), Path.cwd(), os.getpgid(0)
    outcome = sandbox.run(filled(hostile, victims), EMPTY, TIGHT, "sandlock")
    if hostile.told.startswith("plan: "):
        assert outcome.problem is None, outcome
        assert re.search(hostile.told.removeprefix("plan: "), str(outcome.plan)), outcome
    else:
        assert outcome.plan is None, outcome
        assert re.search(hostile.told, outcome.problem or ""), outcome
    assert "escaped" not in str(outcome.plan)
    assert KEY not in str(outcome)
    assert len(outcome.problem or "") <= sandbox.MOST_TOLD + 100
    assert outcome.seconds < TIGHT.wall_s + 2
    assert (set(descendants()), open_files(), Path.cwd(), os.getpgid(0)) == before
    assert victims.process.poll() is None
    canary = victims.canary
    assert (canary.read_text(), canary.stat().st_mode & 0o777, canary.stat().st_mtime) == ("alive", 0o640, 1e9)
    assert sorted(file.name for file in canary.parent.iterdir()) == ["canary", "socket"]
    assert not list(Path("/tmp").glob("evil-*"))
    for quiet in (victims.tcp, victims.unix, victims.abstract):
        with pytest.raises(BlockingIOError):
            quiet.accept()
    with pytest.raises(BlockingIOError):
        victims.udp.recv(10)


def test_the_corpus_is_large() -> None:
    names = [hostile.name for hostile in corpus()]
    assert len(names) == len(set(names)) >= 60


@pytest.fixture(params=["sandlock", "limits"])
def how(request: pytest.FixtureRequest) -> sandbox.Isolation:
    if request.param == "sandlock":
        request.getfixturevalue("isolated")
    chosen: sandbox.Isolation = request.param
    return chosen


def test_a_plan_comes_back_as_it_is(how: sandbox.Isolation) -> None:
    source = PLAN + "    print('hello'); import numpy, networkx\n    return {'a': ['x', 'y'], 'ö': [], 'n': None}"
    outcome = sandbox.run(source, EMPTY, SandboxSettings(), how)
    assert outcome.problem is None
    assert outcome.plan == {"a": ["x", "y"], "ö": [], "n": None}


def test_a_failure_is_told_with_the_programs_own_lines(how: sandbox.Isolation) -> None:
    outcome = sandbox.run(f"def half(x):\n    return 1 / x\n\n{PLAN}    return half(0)\n", EMPTY, TIGHT, how)
    problem = outcome.problem or ""
    assert problem.startswith('File "<program>", line 5, in plan')
    assert "return 1 / x" in problem
    assert problem.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("while True: pass", "it used more than 1 s of CPU time"),
        ("import time; time.sleep(60)", "it did not end within 2 s"),
        ("x = bytearray(10**10)", r"MemoryError\n\(the limit is 512 MiB\)"),
        ("while True: print('x' * 1000)", "it wrote more than 1048576 bytes"),
        ("import pathlib; pathlib.Path('here').write_text('x')", "PermissionError|File too large"),
        ("x = 1", r"defines no function plan\(network, trips, traffic\)"),
    ],
)
def test_limits_hold(how: sandbox.Isolation, source: str, told: str) -> None:
    settings = TIGHT.model_copy(update={"wall_s": 2.0}) if "did not end" in told else TIGHT
    assert re.search(told, sandbox.run(source, EMPTY, settings, how).problem or "")


def test_the_same_program_gives_the_same_plan(how: sandbox.Isolation) -> None:
    source = f"import random\n{PLAN}    return [list({{'a', 'b', 'c', 'd'}}), random.random(), hash('a')]\n"
    first, second = (sandbox.run(source, EMPTY, TIGHT, how) for _ in range(2))
    assert first.plan == second.plan
    assert first.problem is None


def test_with_limits_alone_what_a_program_started_ends_with_it(
    descendants: Callable[[], dict[int, str]], wait_until: Callable[..., None]
) -> None:
    source = f"import os, time\nif os.fork() == 0:\n    time.sleep(300)\n{PLAN}    return {{}}\n"
    before = set(descendants())
    outcome = sandbox.run(source, EMPTY, TIGHT.model_copy(update={"wall_s": 1.0}), "limits")
    assert outcome.problem == "it did not end within 1 s"
    wait_until(lambda: set(descendants()) == before, 5)


def test_without_isolation_a_models_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_isolation", lambda: "no Landlock here")
    with pytest.raises(InputError, match=r"no Landlock here.*--llm template.*--unsafe-sandbox"):
        sandbox.isolation(trusted=False, unsafe=False)
    assert sandbox.isolation(trusted=False, unsafe=True) == "limits"
    assert sandbox.isolation(trusted=True, unsafe=False) == "limits"


@ISOLATED
def test_with_isolation_everything_is_isolated() -> None:
    assert {sandbox.isolation(trusted=t, unsafe=u) for t in (True, False) for u in (True, False)} == {"sandlock"}


@pytest.mark.parametrize(
    ("abi", "told"), [(-1, "version 0, and 6 is needed"), (4, "version 4, and 6 is needed"), (6, None)]
)
def test_missing_isolation_is_told(abi: int, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    sandlock = pytest.importorskip("sandlock")
    monkeypatch.setattr(sandlock, "landlock_abi_version", lambda: abi)
    monkeypatch.setattr(sandlock, "min_landlock_abi", lambda: 6)
    monkeypatch.setattr(sandbox, "_run", lambda *_: sandbox.Outcome({}, None, 0.0))
    reason = sandbox.missing_isolation.__wrapped__()
    assert (reason is None) if told is None else (told in (reason or ""))


def test_a_failed_trial_is_missing_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sandlock")
    monkeypatch.setattr(sandbox, "_run", lambda *_: sandbox.Outcome(None, "it broke", 0.0))
    assert re.search("Landlock|a trial failed: it broke", sandbox.missing_isolation.__wrapped__() or "")


def test_sigterm_reaches_nobody_else() -> None:
    """Ending a program ends its group, which must not be ours."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        sandbox.run("import os, signal; os.killpg(0, signal.SIGTERM)", EMPTY, TIGHT, "limits")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert not received
