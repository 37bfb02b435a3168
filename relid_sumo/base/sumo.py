"""SUMO's command-line programs: their paths, and one function that runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TypeVar

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.base.progress import counting

Measured = TypeVar("Measured")


@cache
def home() -> Path:
    """Return the folder of the eclipse-sumo wheel, and point SUMO_HOME of this process at it.

    Raises
    ------
    InputError
        The wheel is not installed.
    """
    try:
        import sumo  # noqa: PLC0415 - here, so that a missing wheel gives a message and not a traceback
    except ImportError:
        raise InputError("SUMO is not installed; install it with: pip install eclipse-sumo") from None
    folder = Path(sumo.__file__).parent
    os.environ["SUMO_HOME"] = str(folder)
    return folder


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

    Raises
    ------
    SimulationError
        It ended with an error, died or ran too long; the message contains SUMO's own line.
    """
    command = [binary(program), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise SimulationError(f"{program} was stopped after {timeout_s:.0f} s") from None
    log = done.stderr + done.stdout
    if done.returncode != 0:
        raise SimulationError(f"{program} failed (exit code {done.returncode}): {error_line(log)}")
    return log


def each(measure: Callable[[int], Measured], traffic_seeds: Sequence[int]) -> list[Measured]:
    """Return the measurement of each traffic seed; one SUMO process per core runs at a time."""
    measured = []
    with (
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
        counting("samples of traffic", len(traffic_seeds)) as tick,
    ):
        for one in pool.map(measure, traffic_seeds):
            measured.append(one)
            tick(one)
    return measured
