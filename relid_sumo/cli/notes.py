"""Show the package's log records: notes as dim lines, warnings in yellow, progress as a bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from relid_sumo.base.progress import PhaseTime, Progress
from relid_sumo.cli.console import clean, err, errors

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LOGGER = logging.getLogger("relid_sumo")


class Notes(logging.Handler):
    """Handler that prints log records. It draws at most one bar, and none while a command draws its own."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.own_bar = False
        self.shown_from = logging.INFO
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._what, self._is_phase = "", False
        self._phases: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Print a note, or update the bar."""
        progress = getattr(record, "progress", None)
        if isinstance(progress, Progress):
            self._draw(progress)
        elif record.levelno >= logging.WARNING:
            (errors if err.quiet else err).print(Text(clean(self.format(record)), style="yellow"))
        else:
            err.print(Text(clean(self.format(record)), style="dim"))

    def _draw(self, progress: Progress) -> None:
        if self.own_bar or not err.is_terminal or err.quiet:
            return
        if not progress.total and not progress.ended:
            self._phases.append(progress.what)
        elif not progress.total and progress.what in self._phases:
            self._phases.remove(progress.what)
        if self._bar is not None and self._is_phase and progress.total and not progress.ended:
            self.close_bar()  # a step inside the phase says more
        if self._bar is None and not progress.ended:
            self._open(progress)
        if self._bar is not None and self._task is not None and progress.what == self._what:
            self._bar.update(self._task, completed=progress.done)
            if progress.ended:
                self.close_bar()
        if self._bar is None and self._phases:
            self._open(Progress(self._phases[-1], 0, 0))

    def _open(self, progress: Progress) -> None:
        """Draw a bar: with the time left, or with the time so far where the length is unknown."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        head, bar = (SpinnerColumn(), TextColumn("{task.description}")), BarColumn(bar_width=24)
        if progress.total:
            self._bar = Bar(*head, MofNCompleteColumn(), bar, TimeRemainingColumn(), console=err, transient=True)
        else:
            self._bar = Bar(*head, bar, TimeElapsedColumn(), console=err, transient=True)
        self._what, self._is_phase = progress.what, not progress.total
        self._task = self._bar.add_task(progress.what, total=progress.total or None)
        self._bar.start()

    def close_bar(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


class JsonNotes(Notes):
    """Handler that writes each log record, and each step of progress, as a JSON object on a line of standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        fields: dict[str, object] = {"logger": record.name}
        progress, phase = getattr(record, "progress", None), getattr(record, "phase", None)
        if isinstance(progress, Progress):
            fields["progress"] = asdict(progress)
        if record.levelno < self.shown_from and not (progress and self.shown_from < logging.WARNING):
            return
        if isinstance(phase, PhaseTime):
            fields["phase"] = asdict(phase)
        err.event(self.format(record), **fields, level=record.levelname.lower())


@contextmanager
def shown(*, quiet: bool = False, debug: bool = False, as_json: bool = False) -> Iterator[None]:
    """Show the package's log records while a command runs.

    Parameters
    ----------
    quiet
        Show only warnings and errors: no notes, bars or next steps.
    debug
        Show debug records too.
    as_json
        Write JSON objects, one per line, instead of text and bars.
    """
    level = logging.DEBUG if debug else logging.INFO
    before, was_quiet = LOGGER.level, err.quiet
    handler = JsonNotes(logging.DEBUG) if as_json else Notes(logging.DEBUG)
    handler.shown_from = logging.WARNING if quiet else level
    if as_json:
        err.as_json, errors.as_json = "info", "error"
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    progress = logging.getLogger("relid_sumo.progress")
    progress.setLevel(logging.DEBUG)
    err.quiet = quiet
    try:
        yield
    finally:
        handler.close_bar()
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
        progress.setLevel(logging.NOTSET)
        err.quiet = was_quiet
        err.as_json = errors.as_json = None


@contextmanager
def own_bar() -> Iterator[None]:
    """Draw no bars for progress records inside this context, because the command draws its own."""
    handlers = [handler for handler in LOGGER.handlers if isinstance(handler, Notes)]
    for handler in handlers:
        handler.own_bar = True
    try:
        yield
    finally:
        for handler in handlers:
            handler.own_bar = False


@contextmanager
def following(receive: Callable[[str], None]) -> Iterator[None]:
    """Inside this context, print each note and call a function with it."""
    handler = _Follower(receive)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


class _Follower(logging.Handler):
    def __init__(self, receive: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        self._receive(self.format(record))
