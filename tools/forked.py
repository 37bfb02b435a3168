"""Run the command line in forks of a warm process, one per case, and judge how each ends. Used by the fuzz tools.

A case is right if its command ends with exit code 0, or with one message of one error and exit code 1 or 2: without a
traceback, within the time and the memory, without a control character on the terminal, without an unfinished file and
without a process that stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LIMIT_S = 60.0
MOST_MIB = 3072  # resident memory of a case
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
UNFINISHED = re.compile(r"\.part$|^\.(tmp-|\w[\w.-]*-\w{8}$)")
ENDS_S = 5.0  # until the processes of a case have ended after it


@dataclass
class Case:
    """One command on damaged files.

    Attributes
    ----------
    number
        Its number; with the seed it says everything about the case.
    kind
        What it is counted as.
    what
        The damage, for people.
    words
        The command.
    place
        Its folder, in which it runs and writes; removed afterwards.
    names
        The message of an error contains one of these.
    watched
        Files that an error must not change.
    environment
        Variables of the case.
    """

    number: int
    kind: str
    what: str
    words: list[str]
    place: Path
    names: list[str] = field(default_factory=list)
    watched: list[Path] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a case ended: exit code, seconds, what it printed, and faults (none if it is right)."""

    case: Case
    code: int
    seconds: float
    said: str
    faults: tuple[str, ...]


Running = dict[int, tuple[Case, float, dict[Path, bytes | None]]]


def start(case: Case) -> int:
    """Start a case in a fork, which leads a group of its own; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(case.place)
        os.environ.update(case.environment)
        written = os.open(f"{case.place}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(written, 1)
        os.dup2(written, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from relid_sumo.cli.main import main  # noqa: PLC0415 - imported by `warm` in the parent

        try:
            main(case.words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def warm() -> None:
    """Import what commands import, so that forks need not."""
    import matplotlib.pyplot  # noqa: F401, PLC0415 - seconds, which a tool's --help does without
    import torch  # noqa: PLC0415

    import relid_sumo.api.functions  # noqa: PLC0415
    import relid_sumo.batch.run  # noqa: PLC0415
    import relid_sumo.cli.main  # noqa: PLC0415
    import relid_sumo.cli.tables  # noqa: PLC0415
    import relid_sumo.reports.write  # noqa: PLC0415
    import relid_sumo.sed.run  # noqa: F401, PLC0415

    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports a second's worth of torch


def judge(case: Case, status: int, seconds: float, most_mib: float, before: dict[Path, bytes | None]) -> Ended:
    """Return how a case ended, with its faults."""
    printed = Path(f"{case.place}.said")
    said = printed.read_bytes().decode(errors="replace") if printed.is_file() else ""
    code = os.waitstatus_to_exitcode(status)
    left = [path.name for path in case.place.rglob("*") if UNFINISHED.search(path.name) and "runs" not in path.parts]
    control = CONTROL.search(said)
    found = {
        f"runs for {seconds:.0f} s": seconds >= LIMIT_S,
        f"exit code {code}": code not in (0, 1, 2),
        "traceback": "Traceback" in said,
        "no message": code in (1, 2) and "Error:" not in said and "failed " not in said,
        "more than one message": code == 2 and len(re.findall(r"^Error:", said, re.MULTILINE)) > 1,
        "the message does not name the file": code == 2 and not any(name in said for name in case.names or [""]),
        f"prints {control.group()!r}" if control else "": bool(control),
        f"{most_mib:.0f} MiB of memory": most_mib > MOST_MIB,
        f"unfinished file {left[0]}" if left else "": bool(left),
        "leaves processes": not _ended(case),
    }
    faults = [fault for fault, there in found.items() if there]
    for file, content in before.items():
        now = file.read_bytes() if file.is_file() else None
        if now != content and code == 2:
            faults.append(f"changed {file.name}")
        elif now is not None and now != content and file.suffix == ".json" and not _is_json(now):
            faults.append(f"half-written {file.name}")
    return Ended(case, code, seconds, said, tuple(faults))


def _is_json(content: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(content)
        return True
    return False


def _group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


_leaders: dict[int, int] = {}


def _ended(case: Case) -> bool:
    """Return whether all processes of a case end within a short time; end them otherwise."""
    pid, until = _leaders.pop(case.number), time.monotonic() + ENDS_S
    while _group(pid):
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


def run(cases: Iterable[Case], jobs: int, on_end: Callable[[Ended], None]) -> None:
    """Run cases, some at a time, and call a function with each that ended."""
    running: Running = {}
    waiting = iter(cases)
    try:
        _run(waiting, jobs, running, on_end)
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)


def _run(waiting: Iterator[Case], jobs: int, running: Running, on_end: Callable[[Ended], None]) -> None:
    more = True
    while more or running:
        while more and len(running) < jobs:
            case = next(waiting, None)
            if case is None:
                more = False
                break
            before = {file: file.read_bytes() if file.is_file() else None for file in case.watched}
            pid = start(case)
            _leaders[case.number] = pid
            running[pid] = case, time.monotonic(), before
        time.sleep(0.005)
        for pid, (case, begun, before) in list(running.items()):
            seconds = time.monotonic() - begun
            if seconds > LIMIT_S:
                os.killpg(pid, signal.SIGKILL)
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                del running[pid]
                done = judge(case, status, seconds, used.ru_maxrss / 1024, before)
                shutil.rmtree(case.place, ignore_errors=True)
                Path(f"{case.place}.said").unlink(missing_ok=True)
                on_end(done)


def parser(about: str) -> argparse.ArgumentParser:
    """Return the options of a fuzz tool."""
    made = argparse.ArgumentParser(description=about.split("\n", maxsplit=1)[0])
    made.add_argument("--cases", type=int, default=200, help="number of cases (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    made.add_argument("--case", type=int, metavar="N", help="run only the case with this number, and print its output")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time (default: one per core)")
    made.add_argument("--kind", help="run only cases of this kind")
    return made


def fuzz(tool: str, options: argparse.Namespace, make: Callable[[int, Path], Case]) -> int:
    """Make and run the cases that the options ask for, print a summary, and return the exit code: 1 if one is wrong.

    Parameters
    ----------
    tool
        Name of the tool, for the lines that repeat a case.
    make
        Makes the case with a number in a new folder.
    """
    console = Console(stderr=True)
    ends: list[Ended] = []
    numbers: Sequence[int] = range(options.cases) if options.case is None else [options.case]
    begun = time.monotonic()
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory(prefix="relid-sumo-fuzz-") as name, Progress(*columns, console=console) as bar:
        task = bar.add_task("cases", total=len(numbers))

        def on_end(ended: Ended) -> None:
            bar.advance(task)
            if options.kind is not None and ended.case.kind != options.kind:
                return
            ends.append(ended)
            if ended.faults or options.case is not None:
                _print(tool, options, ended)

        made = (make(number, Path(name) / str(number)) for number in numbers)
        try:
            run((one for one in made if options.kind in (None, one.kind)), options.jobs, on_end)
        except KeyboardInterrupt:
            print(f"interrupted after {len(ends)} cases")
    _summary(ends, time.monotonic() - begun)
    return int(any(one.faults for one in ends))


def _print(tool: str, options: argparse.Namespace, ended: Ended) -> None:
    case = ended.case
    print(f"{tool} --seed {options.seed} --case {case.number}: {case.kind}: {case.what}; {' '.join(case.words)}")
    print(f"    exit code {ended.code}, {ended.seconds:.1f} s; {', '.join(ended.faults) or 'right'}")
    text = ended.said if options.case is not None else "\n".join(ended.said.strip().splitlines()[-4:])
    for line in text.splitlines():
        print(f"    | {line if options.case is not None else line[:300]}".encode("unicode_escape").decode())
    sys.stdout.flush()


def _summary(ends: Sequence[Ended], seconds: float) -> None:
    """Print the ends of all cases by kind."""
    print(f"{'kind':<34} {'cases':>6} {'code 0':>7} {'code 1':>7} {'code 2':>7} {'wrong':>6} {'longest, s':>11}")
    for kind in sorted({one.case.kind for one in ends}):
        rows = [one for one in ends if one.case.kind == kind]
        codes = Counter(one.code for one in rows)
        wrong, longest = sum(bool(one.faults) for one in rows), max(one.seconds for one in rows)
        print(f"{kind:<34} {len(rows):>6} {codes[0]:>7} {codes[1]:>7} {codes[2]:>7} {wrong:>6} {longest:>11.1f}")
    wrong = sum(bool(one.faults) for one in ends)
    print(f"{len(ends)} cases in {seconds:.0f} s; {wrong} wrong")
