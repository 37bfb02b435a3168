"""SUMO's command-line programs: their paths, and one function that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.base.process import die_with_parent, how_it_ended
from relid_sumo.base.progress import counting

Measured = TypeVar("Measured")
_WORKERS: ContextVar[int | None] = ContextVar("workers", default=None)


@cache
def home() -> Path:
    """Return the folder of the eclipse-sumo wheel, and point SUMO_HOME of this process at it.

    Raises
    ------
    InputError
        The wheel is not installed.
    """
    try:  # not by an import, which may find a file sumo.py of the user
        folder = Path(str(distribution("eclipse-sumo").locate_file("sumo")))
    except PackageNotFoundError:
        folder = Path()
    if not (folder / "bin").is_dir():
        raise InputError("SUMO is not installed; install it with: pip install eclipse-sumo")
    os.environ["SUMO_HOME"] = str(folder)
    return folder


def check_not_hidden(*names: str) -> None:
    """Check that SUMO's modules are found where they are imported, and not a user's file of the same name.

    Raises
    ------
    InputError
        A file hides a module; the message names it.
    """
    for name in names:
        if name in sys.modules:
            continue
        spec = find_spec(name)
        if spec is None:
            raise InputError(f"SUMO's Python module {name} is not installed; install it with: pip install {name}")
        if spec.submodule_search_locations is None:  # SUMO's modules are folders
            raise InputError(
                f"{spec.origin} hides SUMO's Python module of the same name; rename the file, or remove its folder "
                "from PYTHONPATH"
            )


def binary(name: str) -> str:
    """Return the path of a SUMO program, for instance ``netconvert``."""
    return str(home() / "bin" / name)


@cache
def version() -> str:
    """Return the version of the installed SUMO."""
    home()
    return package_version("eclipse-sumo")


def error_line(log: str) -> str:
    """Return the line of a SUMO log that says what went wrong: its first error, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error:")]
    return errors[0] if errors else (lines[-1] if lines else "no message")


def run(program: str, arguments: Sequence[str | Path], *, timeout_s: float = 3600.0) -> str:
    """Run a SUMO program to its end and return what it printed, warnings included.

    It ends with this process, however this process ends.

    Raises
    ------
    SimulationError
        It ended with an error, died or ran too long; the message contains SUMO's own line.
    """
    command = [binary(program), *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a message may quote a part of a broken file
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired:
        raise SimulationError(f"{program} was stopped after {timeout_s:.0f} s") from None
    log = done.stderr + done.stdout
    if done.returncode != 0:
        how = f"exit code {done.returncode}" if done.returncode > 0 else how_it_ended(done.returncode)
        raise SimulationError(f"{program} failed ({how}): {error_line(log)}")
    return log


@contextmanager
def limited(workers: int | None) -> Iterator[None]:
    """Limit the SUMO processes that `each` runs at a time inside this context. Default: one per core."""
    token = _WORKERS.set(workers)
    try:
        yield
    finally:
        _WORKERS.reset(token)


def each(
    measure: Callable[[int], Measured], traffic_seeds: Sequence[int], what: str = "samples of traffic"
) -> list[Measured]:
    """Return the measurement of each traffic seed; one SUMO process per core runs at a time (see `limited`).

    After an error or Ctrl-C, measurements that have not begun are left out.

    Parameters
    ----------
    what
        Title of the progress bar.
    """
    measured = []
    with (
        ThreadPoolExecutor(max_workers=_WORKERS.get() or os.cpu_count()) as pool,
        counting(what, len(traffic_seeds)) as tick,
    ):
        try:
            for one in pool.map(measure, traffic_seeds):
                measured.append(one)
                tick(one)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return measured
