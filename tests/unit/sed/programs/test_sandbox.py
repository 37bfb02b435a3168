"""The sandbox: programs are run and their plans come back, and what isolation lacks is told."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.sed.programs import layers, sandbox
from relid_sumo.sed.programs.sandbox import EMPTY, SandboxSettings

PLAN = "def plan(network, trips, traffic):\n"
TIGHT = SandboxSettings(cpu_s=1, wall_s=10.0, memory_mib=512)
ISOLATED = pytest.mark.usefixtures("isolated")


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
    source = f"""
import os, random, secrets, uuid, numpy
{PLAN}    random.seed()
    drawn = [random.random(), random.Random().random(), random.SystemRandom().random(), secrets.randbits(60)]
    drawn += [numpy.random.default_rng().random(), numpy.random.random(), str(uuid.uuid4()), os.urandom(4).hex()]
    return [list({{'a', 'b', 'c', 'd'}}), hash('a'), *drawn]
"""
    first, second = (sandbox.run(source, EMPTY, TIGHT, how) for _ in range(2))
    assert first.plan == second.plan
    assert first.problem is None


@pytest.mark.skipif(
    os.getuid() != 0, reason="its limit of processes keeps an ordinary user's program from starting one"
)
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
    monkeypatch.setattr(sandbox, "run_within", lambda *_: sandbox.Outcome({}, None, 0.0))
    monkeypatch.setattr(sandbox, "missing", sandbox.missing.__wrapped__)
    reason = sandbox.missing_isolation.__wrapped__()
    assert (reason is None) if told is None else (told in (reason or ""))


def test_a_processor_without_a_list_of_calls_is_missing_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(sandbox, "missing", sandbox.missing.__wrapped__)
    assert sandbox.missing_isolation.__wrapped__() == "there is no list of system calls for this processor"


@pytest.mark.parametrize("broken", ["calls", "landlock"])
def test_a_failed_trial_of_a_needed_layer_is_missing_isolation(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sandlock")

    def run_within(_: str, __: object, ___: SandboxSettings, within: Sequence[str]) -> sandbox.Outcome:
        return sandbox.Outcome(None, "it broke", 0.0) if broken in within else sandbox.Outcome({}, None, 0.0)

    monkeypatch.setattr(sandbox, "run_within", run_within)
    monkeypatch.setattr(layers, "missing_part", lambda _: None)
    monkeypatch.setattr(sandbox, "missing", sandbox.missing.__wrapped__)
    assert sandbox.missing_isolation.__wrapped__() == f"a trial of {broken} failed: it broke"


def test_without_bubblewrap_the_needed_layers_isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sandbox, "run_within", lambda *_: sandbox.Outcome({}, None, 0.0))
    monkeypatch.setattr(sandbox, "missing", sandbox.missing.__wrapped__)
    assert sandbox.missing("bubblewrap") == "bubblewrap is not installed (no program bwrap)"
    if sandbox.missing_isolation.__wrapped__() is None:
        assert sandbox.active() == ("calls", "landlock")


def test_site_packages_are_left_out_wherever_they_lie(tmp_path: Path) -> None:
    inside, deeper = tmp_path / "site-packages", tmp_path / "python3.11" / "dist-packages"
    for folder in (tmp_path / "json", inside, deeper):
        folder.mkdir(parents=True)
    for file in (tmp_path / "os.py", inside / "openai.py", deeper / "torch.py", tmp_path / "python3.11" / "abc.py"):
        file.touch()
    kept = list(layers.without_other_packages(tmp_path))
    assert kept == [tmp_path / "json", tmp_path / "os.py", tmp_path / "python3.11" / "abc.py"]
    assert list(layers.without_other_packages(tmp_path / "json")) == [tmp_path / "json"]


@ISOLATED
def test_the_standard_library_numpy_and_networkx_work() -> None:
    source = f"""
import asyncio, bz2, concurrent.futures, csv, ctypes, datetime, decimal, fractions, hashlib, json, logging, lzma
import multiprocessing, networkx, numpy, random, sqlite3, statistics, tempfile, threading, uuid, zlib
{PLAN}    values = numpy.linalg.svd(numpy.ones((50, 50)))[1]
    path = networkx.shortest_path(networkx.grid_2d_graph(9, 9), (0, 0), (8, 8))
    digest = hashlib.sha256(zlib.compress(lzma.compress(b"x"))).hexdigest()
    return [round(float(values[0])), len(path), len(digest), sqlite3.connect(":memory:").execute("select 4").fetchone()]
"""
    outcome = sandbox.run(source, EMPTY, SandboxSettings(), "sandlock")
    assert outcome.problem is None
    assert outcome.plan == [50, 17, 64, [4]]


@ISOLATED
def test_a_traceback_names_no_folder_of_this_machine() -> None:
    source = f"import json, numpy\n{PLAN}    return numpy.linalg.inv(numpy.zeros((2, 2)))\n"
    problem = sandbox.run(source, EMPTY, TIGHT, "sandlock").problem or ""
    assert 'File "numpy/linalg/' in problem
    assert not any(str(folder) in problem for folder in (Path.home(), layers.module_path(), Path(sys.prefix)))


def test_the_folder_of_modules_goes_with_its_process() -> None:
    code = "from relid_sumo.sed.programs import layers; print(layers.module_path())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).name.startswith("relid-sumo-sandbox-")
    assert not Path(done.stdout.strip()).exists()


@ISOLATED
def test_a_program_ends_with_the_process_that_runs_it(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    code = (
        "from relid_sumo.sed.programs import sandbox as s\n"
        "s.run('import time; print(1); time.sleep(300)', s.EMPTY, s.SandboxSettings(), 'sandlock')"
    )
    before = runners()
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        wait_until(lambda: any("start.py" in one for one in runners() - before), 60)
        process.kill()
    wait_until(lambda: not (runners() - before), 30)


def runners() -> set[str]:
    found = set()
    for process in filter(lambda folder: folder.name.isdigit(), Path("/proc").iterdir()):
        with suppress(OSError):
            if b"relid-sumo-sandbox-" in (command := (process / "cmdline").read_bytes()):
                found.add(f"{process.name} {command.decode()}")
    return found


def test_sigterm_reaches_nobody_else() -> None:
    """Ending a program ends its group, which must not be ours."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        sandbox.run("import os, signal; os.killpg(0, signal.SIGTERM)", EMPTY, TIGHT, "limits")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert not received
