"""Progress of a long step as log records, which a program can show as a bar; and the time of each phase.

Each record of the logger ``relid_sumo.progress`` (level DEBUG) has an attribute `progress`: a `Progress`. The record at
the end of a phase has an attribute `phase`: a `PhaseTime`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger("relid_sumo.progress")
NOTED_S = 1.0  # shorter phases are logged at level DEBUG only


@dataclass(frozen=True)
class Progress:
    """Progress of a step: its name, finished parts, total parts (0: unknown). `ended` marks the last record."""

    what: str
    done: int
    total: int
    ended: bool = False


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[object], None]]:
    """Log the progress of a step with `total` parts.

    Yields
    ------
    callable
        To call after each part. It ignores its argument, so that it can be a callback.
    """
    done = 0

    def tell(*, ended: bool = False) -> None:
        log.debug("%s %d/%d", what, done, total, extra={"progress": Progress(what, done, total, ended)})

    def tick(_: object = None) -> None:
        nonlocal done
        done += 1
        tell()

    tell()
    try:
        yield tick
    finally:
        tell(ended=True)


@dataclass(frozen=True)
class PhaseTime:
    """Time of a phase: wall time, and CPU time of this process and of its ended children, s."""

    what: str
    wall_s: float
    cpu_s: float


@contextmanager
def phase(what: str) -> Iterator[None]:
    """Log the beginning of a phase whose length is unknown, and its time at its end, unless it fails."""
    start, start_cpu = time.perf_counter(), sum(os.times()[:4])
    log.debug("%s: begins", what, extra={"progress": Progress(what, 0, 0)})
    try:
        yield
    finally:
        log.debug("%s: ends", what, extra={"progress": Progress(what, 0, 0, ended=True)})
    spent = PhaseTime(what, time.perf_counter() - start, sum(os.times()[:4]) - start_cpu)
    level = logging.INFO if spent.wall_s >= NOTED_S else logging.DEBUG
    log.log(level, "%s: %.0f s (CPU %.0f s)", what, spent.wall_s, spent.cpu_s, extra={"phase": spent})
