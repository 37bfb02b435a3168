"""The folder of a batch: its files, its lock and the states of its cells.

==============================  ====================================================================================
batch.json                      the grid: sources, cells, all settings
batch.lock                      locked while the batch runs
scenarios/LABEL/scenario.toml   each scenario, as used by all its cells
runs/CELL.part/                 the run folder of an unfinished cell
runs/CELL/                      of a finished cell: an ordinary run folder with an evaluation
summaries/CELL.json             the summary of a finished cell (`relid_sumo.runs.summary`); it suffices for "done"
failed/CELL.json                the error of a failed cell
logs/CELL.log                   the output of a cell's process
logs/CELL.lock                  locked while ``batch cell`` runs the cell
==============================  ====================================================================================
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relid_sumo.base import files, safe_paths, trusted
from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import validate
from relid_sumo.batch.cell import last_return
from relid_sumo.batch.experiment import Cell, Plan
from relid_sumo.learn.run_folder import versions
from relid_sumo.runs import layout
from relid_sumo.runs import summary as runs_summary

BATCH, LOCK, SCENARIOS = "batch.json", "batch.lock", "scenarios"
FORMAT = 1

State = Literal["done", "failed", "unfinished", "waiting"]


@dataclass(frozen=True)
class Standing:
    """The state of a cell, with episodes trained, mean return of the last update [s] and its error."""

    cell: Cell
    state: State
    episodes: int = 0
    mean_return: float | None = None
    error: str = ""


def scenario_folder(folder: Path, cell: Cell) -> Path:
    """Return the folder of a cell's scenario."""
    return folder / SCENARIOS / cell.scenario


def part(folder: Path, cell: Cell) -> Path:
    """Return the run folder of an unfinished cell."""
    return folder / "runs" / f"{cell.name}.part"


def whole(folder: Path, cell: Cell) -> Path:
    """Return the run folder of a finished cell."""
    return folder / "runs" / cell.name


def log(folder: Path, cell: Cell) -> Path:
    """Return a cell's log."""
    return folder / "logs" / f"{cell.name}.log"


def _summary(folder: Path, cell: Cell) -> Path:
    return folder / "summaries" / f"{cell.name}.json"


def _failure(folder: Path, cell: Cell) -> Path:
    return folder / "failed" / f"{cell.name}.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a batch's folder. The system releases the lock however this process ends.

    Raises
    ------
    InputError
        Another batch has locked the folder, or it cannot be written.
    """
    safe_paths.check_folder(folder)
    with files.locked_folder(folder, LOCK, "another batch runs on it ({holder})"):
        yield


@contextlib.contextmanager
def locked_cell(folder: Path, cell: Cell) -> Iterator[None]:
    """Lock one cell, while other processes run other cells of the same batch.

    Raises
    ------
    InputError
        A batch runs on the folder, or another process runs this cell.
    """
    safe_paths.check_folder(folder)
    if is_locked(folder):
        raise InputError(f"{folder}: a batch runs on it, and runs this cell too; wait for its end")
    place = log(folder, cell).parent
    place.mkdir(exist_ok=True)
    with files.locked_folder(place, f"{cell.name}.lock", "the cell is run by {holder}"):
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a batch runs on a folder."""
    return files.is_locked(folder / LOCK)


def save(folder: Path, plan: Plan) -> None:
    """Write the grid."""
    content = {"format": FORMAT, "versions": versions(), "plan": plan.model_dump(mode="json")}
    files.write_json(folder / BATCH, content)


def load(folder: Path) -> Plan:
    """Return the grid of a batch's folder.

    Raises
    ------
    InputError
        The folder contains no batch, or one of another version.
    """
    file = folder / BATCH
    safe_paths.check_folder(folder)
    if not file.is_file():
        raise InputError(
            f"{folder} is no batch: it has no {BATCH}; make one with: relid-sumo batch FILE --out {folder}"
        )
    content = files.read_json(file, FORMAT)
    trusted.check_code(content, str(file))
    return validate(content.get("plan"), Plan, str(file))


def check_same(folder: Path, plan: Plan) -> set[str]:
    """Check that finished and unfinished runs in a folder have the settings of a grid; nothing is written or deleted.

    Returns
    -------
    set of str
        Labels of scenarios that have changed, and on which nothing was run.

    Raises
    ------
    InputError
        Cells have the same names as stored ones but other settings; the message lists them.
    """
    safe_paths.check_folder(folder)
    before = {cell.name: cell for cell in load(folder).cells} if (folder / BATCH).is_file() else {}
    others = []
    for cell in plan.cells:
        file = _summary(folder, cell)
        if file.is_file():
            summary = runs_summary.read_summary(file)
            if summary.settings.format != layout.RUN_FORMAT:
                raise InputError(f"{file}: {layout.RUN_ADVICE}, with another --out")
            found = summary.cell.fingerprint if summary.cell is not None else None
        elif whole(folder, cell).exists() or part(folder, cell).exists():
            found = before[cell.name].fingerprint if cell.name in before else None
        else:
            continue
        if found != cell.fingerprint:
            others.append(cell.name)
    if others:
        raise InputError(
            f"{folder} contains runs of these cells with other settings: {', '.join(others)}; choose another --out, or "
            f"delete their files in runs and summaries"
        )
    return {c.scenario for c in plan.cells if c.name in before and before[c.name].fingerprint != c.fingerprint}


def remove_scenarios(folder: Path, labels: Iterable[str]) -> None:
    """Remove changed scenarios from a batch's folder."""
    for label in labels:
        shutil.rmtree(folder / SCENARIOS / safe_paths.check_name(label), ignore_errors=True)


def standings(folder: Path, plan: Plan, *, again: bool = False) -> list[Standing]:
    """Return the state of each cell of a grid; with `again`, errors of failed cells are ignored."""
    return [standing(folder, cell, again=again) for cell in plan.cells]


def is_summarised(folder: Path, cell: Cell) -> bool:
    """Return whether a cell has its summary, the last file of a finished cell."""
    return _summary(folder, cell).is_file()


def standing(folder: Path, cell: Cell, *, again: bool = False) -> Standing:
    """Return the state of a cell; with `again`, its error is ignored."""
    file = _summary(folder, cell)
    if file.is_file():
        metrics = runs_summary.read_summary(file).metrics
        return Standing(cell, "done", int(metrics["episodes"][-1]), metrics["mean_return"][-1])
    if whole(folder, cell).is_dir():
        return Standing(cell, "done", cell.train.episodes, last_return(whole(folder, cell)))
    failure = _failure(folder, cell)
    begun = part(folder, cell)
    table = begun / layout.METRICS
    episodes = (files.read_columns(table).get("episodes") if table.is_file() else None) or [0]
    where = int(episodes[-1]), last_return(begun)
    if failure.is_file() and not again:
        return Standing(cell, "failed", *where, str(files.read_json(failure).get("error")))
    return Standing(cell, "unfinished" if begun.exists() else "waiting", *where)


def write_missing_summaries(folder: Path, plan: Plan) -> None:
    """Write missing summaries, because a batch may be killed between the last two steps of a cell."""
    for cell in plan.cells:
        if whole(folder, cell).is_dir() and not _summary(folder, cell).is_file():
            finish(folder, cell)


def finish(folder: Path, cell: Cell) -> None:
    """Give a finished cell's run folder its final name, and write its summary."""
    if part(folder, cell).exists():
        part(folder, cell).rename(whole(folder, cell))
    labels = runs_summary.Labels.model_validate(cell, from_attributes=True)
    summary = runs_summary.summarise(whole(folder, cell)).model_copy(update={"cell": labels})
    files.write_json(_summary(folder, cell), summary.model_dump(mode="json"))
    forget(folder, cell)


def fail(folder: Path, cell: Cell, error: Exception) -> None:
    """Store a cell's error. Its run folder stays, so that the cell can be resumed."""
    content = {"error": str(error), "kind": type(error).__name__, "log": str(log(folder, cell).relative_to(folder))}
    files.write_json(_failure(folder, cell), content)


def forget(folder: Path, cell: Cell) -> None:
    """Remove a cell's error."""
    _failure(folder, cell).unlink(missing_ok=True)
