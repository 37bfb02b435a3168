"""Progress of a long step as log records, which a program can show as a bar.

Each record of the logger ``relid_sumo.progress`` (level DEBUG) has an attribute `progress`: a `Progress`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger("relid_sumo.progress")


@dataclass(frozen=True)
class Progress:
    """Progress of a step: its name, finished parts, total parts. `ended` marks the last record."""

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
