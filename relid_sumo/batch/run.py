"""Run a batch: prepare the unfinished cells, run them on a backend, and store each finished cell."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from relid_sumo.base import extension, files, safe_paths, trusted
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.toml import validate
from relid_sumo.batch import estimate, experiment, local, on_ray, store
from relid_sumo.batch.cell import DiskFullError, Order
from relid_sumo.batch.estimate import Speeds
from relid_sumo.batch.events import Event
from relid_sumo.batch.experiment import Cell, Plan, ScenarioEntry
from relid_sumo.batch.store import Standing
from relid_sumo.learn.settings import check_provider
from relid_sumo.network import catalogue
from relid_sumo.scenario import files as scenario_files
from relid_sumo.scenario import make
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Scenario, Simulator

log = logging.getLogger(__name__)

SPEED = "speed.json"
HEADING = "The scenario of all cells of this batch."

Backend = Literal["local", "ray"]


@dataclass(frozen=True)
class BatchSettings:
    """Where cells run. These settings do not change results.

    Attributes
    ----------
    backend, address
        ``local`` or ``ray``, and the address of a Ray cluster (None: start Ray on this machine).
    workers
        Simulation processes per cell (None: chosen by the numbers of cores and cells).
    """

    backend: Backend = "local"
    address: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Grid:
    """The grid before it runs.

    Attributes
    ----------
    standings
        The state of each cell.
    slots, workers
        Number of cells at once (None: as many as the cluster allows), and simulation processes of each.
    seconds
        Estimated wall-clock time of each cell to run, s, by name.
    """

    standings: list[Standing]
    slots: int | None
    workers: int
    seconds: dict[str, float]

    @property
    def total_s(self) -> float:
        """Estimated wall-clock time of all cells to run, s; if `slots` is None, of one after the other."""
        work = self.seconds.values()
        return max([sum(work) / (self.slots or 1), *work])


@dataclass(frozen=True)
class BatchWatch:
    """The callbacks of a batch: one for the grid before it runs, one for each event."""

    grid: Callable[[Grid], None] = lambda _: None
    event: Callable[[Event], None] = lambda _: None


def batch(
    file: Path,
    out: Path,
    settings: BatchSettings,
    watch: BatchWatch,
    *,
    dry_run: bool = False,
    only_prepare: bool = False,
    changes: Sequence[str] = (),
) -> list[Standing]:
    """Run the cells of an experiment file that are neither done nor failed, and return the state of each cell.

    Parameters
    ----------
    file, out
        The experiment file, and the batch's folder.
    settings
        Where cells run.
    watch
        Receives the grid and the events.
    dry_run
        Only report the grid and its estimated time. Nothing is written except to the cache.
    only_prepare
        Write the grid and its scenarios, and run no cell; `run_cell` then runs each.
    changes
        Replaced settings of the language-model service, such as ``"llm.model=NAME"``.

    Raises
    ------
    InputError
        The file has faults, the folder belongs to another batch, or the disk is full.
    """
    plan = experiment.read(file, changes)
    _note(plan, file.parent)
    if dry_run:
        changed = store.check_same(out, plan)
        _grid(plan, out, settings, watch, keep=False, changed=changed)
        return store.standings(out, plan)
    with store.locked(out):
        store.remove_scenarios(out, store.check_same(out, plan))
        store.save(out, plan)
        if only_prepare:
            _grid(plan, out, settings, watch, keep=True)
            return store.standings(out, plan)
        return _run(plan, out, settings, watch)


def _note(plan: Plan, folder: Path) -> None:
    """Note the files and the code named by an experiment file in a folder, because the user has chosen that file."""
    for entry in plan.sources.values():
        own = (entry.settings.get("demand") or {}).get("route_file") if "demand" in entry.settings else None
        for path in (entry.source, entry.settings.get("network"), own):
            if isinstance(path, str) and Path(path).is_absolute():
                trusted.note(path)
        for part in ("observation", "reward"):
            kind = str((entry.settings.get(part) or {}).get("kind", ""))
            trusted.note_code(extension.located(kind, folder))
    for cell in plan.cells:
        if cell.train.demonstrations:
            trusted.note(cell.train.demonstrations)
        for name in (cell.train.algo, cell.train.llm, *cell.evaluation.baselines):
            trusted.note_code(name)


def _check_named(plan: Plan, out: Path) -> None:
    """Check that the user has named the files that a batch's folder names, because a stranger may have made the folder.

    Raises
    ------
    InputError
        The folder names another file.
    """
    file = out / store.BATCH
    for cell in plan.cells:
        given = cell.train.demonstrations
        if given and not trusted.is_noted(given):
            raise InputError(
                f"{file}: cell '{cell.name}': demonstrations = '{safe_paths.printable(given)}': outside the batch, and "
                "not named by you; run: relid-sumo batch FILE --out DIR with an experiment file of yours"
            )
    for label, entry in plan.sources.items():
        known = entry.source in catalogue.catalogue("scenarios", scenario_files.FILE) or trusted.is_noted(entry.source)
        if not known and not (out / store.SCENARIOS / label / scenario_files.FILE).is_file():
            raise InputError(
                f"{file}: sources.{label} = '{safe_paths.printable(entry.source)}': outside the batch, and not named "
                "by you; run: relid-sumo batch FILE --out DIR with an experiment file of yours"
            )


def retry(out: Path, settings: BatchSettings, watch: BatchWatch) -> list[Standing]:
    """Run the failed cells of a batch again, each from its last checkpoint, and all cells that are not done.

    Raises
    ------
    InputError
        The folder contains no batch, another process runs it, or the disk is full.
    """
    plan = store.load(out)
    _check_named(plan, out)
    with store.locked(out):
        return _run(plan, out, settings, watch, again=True)


def run_cell(out: Path, name: str, watch: BatchWatch, *, workers: int | None = None) -> Standing:
    """Run one cell of a prepared batch to its end, or resume it; other cells may run at the same time.

    Parameters
    ----------
    name
        The cell's name, or its number from 0 in the order of ``batch status``.
    workers
        Simulation processes. Default: one per core.

    Raises
    ------
    InputError
        The folder contains no prepared batch or no such cell, another process runs it, or the disk is full.
    """
    plan = store.load(out)
    _check_named(plan, out)
    cell = _named(plan, name)
    if not (store.scenario_folder(out, cell) / scenario_files.FILE).is_file():
        raise InputError(f"{out}: its scenarios are not prepared; run: relid-sumo batch FILE --out {out} --prepare")
    with store.locked_cell(out, cell):
        standing = store.standing(out, cell, again=True)
        if standing.state == "done":
            if not store.is_summarised(out, cell):
                store.finish(out, cell)
            return standing
        check_provider(cell.train, scenario_files.read_scenario(store.scenario_folder(out, cell) / scenario_files.FILE))
        store.forget(out, cell)
        _, each = local.room(1, workers)
        watch.grid(Grid([standing], 1, each, {cell.name: 0.0}))
        order = Order(cell, store.scenario_folder(out, cell), store.part(out, cell), store.log(out, cell), each)
        _follow(out, {cell.name: cell}, local.run([order], 1), watch)
        return store.standing(out, cell)


def _named(plan: Plan, name: str) -> Cell:
    """Return a cell by its name or its number."""
    found = next((cell for cell in plan.cells if cell.name == name), None)
    if found is None and name.isascii() and name.isdigit() and int(name) < len(plan.cells):
        found = plan.cells[int(name)]
    if found is None:
        names = [cell.name for cell in plan.cells]
        raise InputError(
            f"there is no cell '{safe_paths.printable(name)}'{did_you_mean(name, names)}; name one of "
            f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}, or a number from 0 to {len(names) - 1}"
        )
    return found


def _run(plan: Plan, out: Path, settings: BatchSettings, watch: BatchWatch, *, again: bool = False) -> list[Standing]:
    """Run the cells that are not done; with `again`, failed ones too, once the files of the batch have been read."""
    store.write_missing_summaries(out, plan)
    grid = _grid(plan, out, settings, watch, keep=True, again=again)
    for standing in _todo(grid.standings):
        store.forget(out, standing.cell)
    cells = {standing.cell.name: standing.cell for standing in _todo(grid.standings)}
    orders = [
        Order(cell, store.scenario_folder(out, cell), store.part(out, cell), store.log(out, cell), grid.workers)
        for cell in cells.values()
    ]
    on_cluster = settings.backend == "ray" and orders
    working = on_ray.run(orders, settings.address) if on_cluster else local.run(orders, grid.slots or 1)
    _follow(out, cells, working, watch)
    return store.standings(out, plan)


def _follow(out: Path, cells: Mapping[str, Cell], working: Generator[Event], watch: BatchWatch) -> None:
    """Store what running cells report until all have ended."""
    try:
        with contextlib.closing(working) as events:
            for event in events:
                if event.what == "done":
                    store.finish(out, cells[event.cell])
                elif isinstance(event.error, DiskFullError):
                    raise event.error
                elif event.what == "failed" and event.error is not None:
                    store.fail(out, cells[event.cell], event.error)
                watch.event(event)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFullError(f"no space left on the disk of {out}; free some and run the same command again") from None


def _todo(standings: Sequence[Standing]) -> list[Standing]:
    return [standing for standing in standings if standing.state in {"waiting", "unfinished"}]


def _grid(
    plan: Plan,
    out: Path,
    settings: BatchSettings,
    watch: BatchWatch,
    *,
    keep: bool,
    changed: Collection[str] = (),
    again: bool = False,
) -> Grid:
    """Prepare the scenarios, estimate the time and report both; with `keep`, store them in the batch's folder.

    Stored files of `changed` scenarios are not read.
    """
    standings = store.standings(out, plan, again=again)
    todo = _todo(standings)
    slots: int | None
    slots, workers = local.room(len(todo), settings.workers)
    if settings.backend == "ray":
        slots, workers = None, settings.workers or 1
    known: dict[str, tuple[PreparedScenario, Speeds]] = {}
    for label in dict.fromkeys(standing.cell.scenario for standing in todo):
        folder = None if label in changed else out / store.SCENARIOS / label
        made = _scenario(label, plan.sources[label], folder)
        for standing in todo:
            if standing.cell.scenario == label:
                check_provider(standing.cell.train, made)
        trained_in = [name for s in todo if s.cell.scenario == label for name in s.cell.train.simulators(made)]
        ready = prepare(made, simulators=trained_in)
        known[label] = ready, _speeds(ready, ["micro", *trained_in], folder, keep)
    seconds = {s.cell.name: estimate.seconds(s, *known[s.cell.scenario], workers) for s in todo}
    grid = Grid(standings, slots, workers, seconds)
    watch.grid(grid)
    return grid


def _scenario(label: str, entry: ScenarioEntry, folder: Path | None) -> Scenario:
    """Return a scenario, from its folder in the batch if it is stored there."""
    if folder is not None and (folder / scenario_files.FILE).is_file():
        return scenario_files.read_scenario(folder / scenario_files.FILE)
    if experiment.is_made(entry.source):
        source = Path(entry.source)
        made = make.new_scenario(label, source, bbox=entry.bbox, agents=entry.agents, changes=entry.changes)
    else:
        made = make.load_scenario(entry.source, changes=entry.changes)
        scenario_files.check_paths(made, f"sources.{label}")
    unnamed = scenario_files.unnamed_service(made.llm, f"sources.{label}")
    return made.model_copy(update={"llm_unnamed": unnamed})


def _speeds(ready: PreparedScenario, simulators: Sequence[Simulator], folder: Path | None, keep: bool) -> Speeds:
    """Return the speeds of a scenario; with `keep`, store them and the prepared scenario in the batch's folder."""
    if folder is None:
        return _measured(ready, simulators, {})
    file = folder / scenario_files.FILE
    if keep and (not file.is_file() or scenario_files.read_scenario(file) != ready.scenario):
        file.unlink(missing_ok=True)  # the grid has a new cell whose simulator was not calibrated before
        scenario_files.write_scenario(scenario_files.placed(ready.scenario), folder, [HEADING])
    known: Speeds = {}
    if (folder / SPEED).is_file():
        known = validate(files.read_json(folder / SPEED), _Known, str(folder / SPEED)).root
    speeds = _measured(ready, simulators, known)
    if keep:
        files.write_json(folder / SPEED, speeds)
    return speeds


MOST_SPEED = 1e4  # wall-clock seconds per simulated second


class _Known(RootModel[dict[Simulator, Annotated[float, Field(gt=0, le=MOST_SPEED)]]]):
    """The content of speed.json."""


def _measured(ready: PreparedScenario, simulators: Sequence[Simulator], known: Speeds) -> Speeds:
    """Return the known speeds of a scenario and those of other simulators, which are measured."""
    speeds = dict(known)
    for simulator in dict.fromkeys(simulators):
        if simulator not in speeds:
            log.info(f"running an episode of {ready.scenario.name} ({simulator}) to estimate the time")
            speeds[simulator] = estimate.speed(ready, simulator)
    return speeds
