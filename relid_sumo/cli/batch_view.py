"""The output of the batch commands: the grid, the states of cells, and the progress of a running batch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from relid_sumo.batch.cell import CellProgress
from relid_sumo.batch.events import Event
from relid_sumo.batch.run import Grid
from relid_sumo.batch.store import Standing
from relid_sumo.cli.console import SafeConsole, plain

COLOURS = {"done": "green", "failed": "red", "unfinished": "yellow", "waiting": "dim"}
LINE_EVERY_S = 30.0  # interval between progress lines of a cell, without a terminal
DRAWN_PER_S = 2.0
FAILURES = 5  # number of latest failures shown, on a terminal


def duration(seconds: float) -> str:
    """Return a time as ``45 s``, ``12 min`` or ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def grid_table(grid: Grid) -> Table:
    """Return the grid with one row per scenario and algorithm."""
    table = Table()
    for name, side in (("scenario", "left"), ("algorithm", "left"), ("seeds", "left"), ("episodes", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    table.add_column("cells")
    table.add_column("estimated time", justify="right")
    groups: dict[tuple[str, str, int], list[Standing]] = {}
    for standing in grid.standings:
        cell = standing.cell
        groups.setdefault((cell.scenario, cell.algorithm, cell.train.episodes), []).append(standing)
    for (scenario, algorithm, episodes), rows in groups.items():
        seconds = sum(grid.seconds.get(row.cell.name, 0.0) for row in rows)
        seeds = ", ".join(str(row.cell.seed) for row in rows)
        table.add_row(scenario, algorithm, seeds, str(episodes), counts(rows), duration(seconds) if seconds else "-")
    return table


def grid_text(grid: Grid) -> str:
    """Return the size of the grid and the estimated time, in words."""
    todo = len(grid.seconds)
    if not todo:
        return f"{len(grid.standings)} cells, nothing to run"
    each = f"{grid.workers} simulation process{'es' if grid.workers > 1 else ''} each"
    at_once = f"with {grid.slots} at once, {each}" if grid.slots else f"one after the other, {each}"
    return f"{len(grid.standings)} cells, {todo} to run: about {duration(grid.total_s)}, {at_once}"


def counts(standings: Sequence[Standing]) -> str:
    """Return the number of cells in each state, in words."""
    number = Counter[str](standing.state for standing in standings)
    return ", ".join(f"{number[state]} {state}" for state in COLOURS if number[state])


def status_table(standings: Sequence[Standing], running: bool) -> Table:
    """Return the state of each cell."""
    table = Table(title=counts(standings) + ("; the batch is running" if running else ""))
    for name in ("cell", "state", "episodes", "return, s", "error"):
        table.add_column(name, justify="right" if name in {"episodes", "return, s"} else "left", overflow="fold")
    for row in standings:
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        episodes = f"{row.episodes}/{row.cell.train.episodes}"
        table.add_row(row.cell.name, state, episodes, _seconds(row.mean_return), plain(row.error))
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


class BatchView:
    """The progress of a batch: a table on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._budget: dict[str, int] = {}
        self._left: dict[str, float] = {}
        self._slots = 1
        self._begun: dict[str, float] = {}
        self._first: dict[str, int] = {}
        self._now: dict[str, CellProgress] = {}
        self._printed: dict[str, float] = {}
        self._number: Counter[str] = Counter()
        self._failures: list[str] = []
        self._live: Live | None = None

    def close(self) -> None:
        """Stop updating the table."""
        if self._live is not None:
            self._live.stop()

    def grid(self, grid: Grid) -> None:
        """Show the grid before it runs."""
        self._budget = {standing.cell.name: standing.cell.train.episodes for standing in grid.standings}
        self._left, self._slots = dict(grid.seconds), grid.slots or 1
        if grid.total_s or not grid.seconds:
            self._console.print(grid_table(grid))
            self._console.print(grid_text(grid), highlight=False)
        if grid.seconds and self._console.is_terminal and not self._console.quiet:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=DRAWN_PER_S)
            self._live.start()

    def event(self, event: Event) -> None:
        """Show an event of a cell."""
        now = time.monotonic()
        if isinstance(self._console, SafeConsole) and self._console.as_json is not None:
            progress = None if event.progress is None else asdict(event.progress)
            error = None if event.error is None else str(event.error)
            self._console.event(f"{event.what} {event.cell}", cell=event.cell, progress=progress, error=error)
        if event.what == "progress" and event.progress is not None:
            self._begun.setdefault(event.cell, now)
            self._first.setdefault(event.cell, event.progress.episodes)
            self._now[event.cell] = event.progress
            if now - self._printed.get(event.cell, -LINE_EVERY_S) >= LINE_EVERY_S:
                self._printed[event.cell] = now
                self._line(f"{event.cell}: {self._progress(event.cell)}")
            return
        self._number[event.what] += 1
        last = self._now.pop(event.cell, None)
        took = now - self._begun.pop(event.cell, now)
        self._first.pop(event.cell, None)
        if event.what != "lost":
            self._left.pop(event.cell, None)
        if event.what == "done":
            mean_return = _seconds(last.mean_return if last else None)
            self._line(f"{self._done()} [green]done[/] {event.cell}: return {mean_return} s, took {duration(took)}")
        else:
            self._failures.append(f"[red]{event.what}[/] {event.cell}: {plain(str(event.error))}")
            self._line(f"{self._done()} {self._failures[-1]}")

    def _done(self) -> str:
        ended = self._number["done"] + self._number["failed"]
        return f"{ended} of {ended + len(self._left)}:"

    def _line(self, text: str) -> None:
        as_json = isinstance(self._console, SafeConsole) and self._console.as_json is not None
        if self._live is None and not as_json:
            self._console.print(text, highlight=False)

    def _progress(self, cell: str) -> str:
        at = self._now[cell]
        return f"{at.doing}, episode {at.episodes}/{self._budget[cell]}, return {_seconds(at.mean_return)} s"

    def _left_s(self, cell: str) -> float:
        """Return the remaining time of a cell, s: by its pace so far, or by the estimate before its first update."""
        at, estimated = self._now[cell], self._left.get(cell, 0.0)
        spent, trained = time.monotonic() - self._begun[cell], at.episodes - self._first[cell]
        left = self._budget[cell] - at.episodes
        return spent / trained * left if trained and left else max(estimated - spent, 0.0)

    def _table(self) -> RenderableType:
        done, failed = self._number["done"], self._number["failed"]
        total, waiting = len(self._left) + done + failed, len(self._left) - len(self._now)
        running_s = [self._left_s(cell) for cell in self._now]
        waiting_s = sum(seconds for cell, seconds in self._left.items() if cell not in self._now)
        eta = max([*running_s, (sum(running_s) + waiting_s) / self._slots], default=0.0)
        table = Table(box=None, pad_edge=False)
        for name in ("cell", "", "episode", "return, s", "ETA", ""):
            table.add_column(name, justify="right" if name in {"episode", "return, s", "ETA"} else "left")
        for cell, at in sorted(self._now.items()):
            budget = self._budget[cell]
            bar = ProgressBar(total=budget, completed=at.episodes, width=16)
            left = duration(self._left_s(cell))
            table.add_row(cell, bar, f"{at.episodes}/{budget}", _seconds(at.mean_return), left, at.doing)
        head = (
            f"{len(self._now)} running, {done} done, {failed} failed, {waiting} waiting of {total}; ETA {duration(eta)}"
        )
        return Group(Text(head, style="bold"), table, *map(Text.from_markup, self._failures[-FAILURES:]))
