"""One cell: train or resume a run, evaluate its final policy, and report the progress.

`work` runs in the cell's own process, whether this machine or Ray started it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from relid_sumo.base import files
from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError
from relid_sumo.base.process import MEMORY_VARIABLE, Child, die_with_parent, result_or_error
from relid_sumo.base.trusted import note, note_code, note_service
from relid_sumo.baseline import named as baselines_named
from relid_sumo.batch.experiment import Cell
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation import evaluate, stored
from relid_sumo.evaluation.outcome import outcome, routes
from relid_sumo.learn import run_folder
from relid_sumo.runs import layout
from relid_sumo.scenario.files import FILE, read_scenario
from relid_sumo.scenario.prepare import prepare

FULL_MIB = 1.0  # less free space than this means a full disk


class DiskFullError(InputError):
    """There is no space left on the disk. All other cells would fail too."""


@dataclass(frozen=True)
class Order:
    """A cell, and the place to run it.

    Attributes
    ----------
    scenario
        The scenario's folder.
    folder
        The run folder: a new one, or one to resume.
    log
        File for the output of the process.
    workers, memory_mib
        Number of simulation processes, and memory limit of all their snapshots, MiB.
    """

    cell: Cell
    scenario: Path
    folder: Path
    log: Path
    workers: int
    memory_mib: float = math.inf


@dataclass(frozen=True)
class CellProgress:
    """Progress of a cell: episodes trained, mean return of the last update [s] (None before it), present activity."""

    episodes: int
    mean_return: float | None
    doing: str


Tell = Callable[[CellProgress], None]


def work(pipe: Connection) -> None:
    """Receive an order and run it; send `CellProgress` messages, and at the end None or the error."""
    die_with_parent()
    order: Order
    order, parent = pipe.recv()
    if os.getppid() != parent:
        return  # the batch ended during this start, so only the next batch may write to the folder
    order.log.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    notes = logging.getLogger("relid_sumo")
    notes.setLevel(logging.INFO)
    notes.addHandler(logging.StreamHandler(sys.stdout))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch handles Ctrl-C and ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ[MEMORY_VARIABLE] = f"{order.memory_mib:.0f}"
    answer = result_or_error(lambda: _checked(order, pipe.send))
    if answer is not None:
        print("\n".join([f"{type(answer).__name__}: {answer}", *getattr(answer, "__notes__", [])]), flush=True)
    pipe.send(answer)


def start(order: Order) -> Child:
    """Start a process for an order."""
    return Child(work, order, os.getpid())


def receive(child: Child) -> CellProgress | RelidSumoError | None:
    """Return a cell's next message: None at its end, an error if its process died."""
    try:
        message = child.pipe.recv()
    except (EOFError, OSError):
        said = child.said().strip().splitlines()[-1:]
        return SimulationError(f"its process {child.stop()}; out of memory? {' '.join(said)}".rstrip())
    assert message is None or isinstance(message, CellProgress | RelidSumoError)
    return message


def _checked(order: Order, tell: Tell) -> None:
    """Run a cell; convert failures from a full disk into `DiskFullError`."""
    try:
        run(order, tell)
    except Exception as error:  # torch reports a full disk as a RuntimeError, TensorBoard in another thread
        free = shutil.disk_usage(files.nearest(order.folder)).free
        if getattr(error, "errno", None) == errno.ENOSPC or free < FULL_MIB * 2**20:
            raise DiskFullError(
                f"no space left on the disk of {order.folder}; free some and run the same command again"
            ) from error
        raise


def run(order: Order, tell: Tell) -> None:
    """Train a cell in its folder or resume it, then evaluate it.

    Raises
    ------
    InputError, SimulationError
        As in `relid_sumo.learn.train` and `relid_sumo.evaluation.evaluate`. The last checkpoint is then complete.
    """
    from relid_sumo.evaluation import trained  # noqa: PLC0415 - torch, which the process that starts cells does without
    from relid_sumo.learn.checkpoint import episodes as episodes_done  # noqa: PLC0415
    from relid_sumo.learn.train import TrainingWatch, resume, train  # noqa: PLC0415

    cell, folder = order.cell, order.folder
    watch = TrainingWatch(
        update=lambda row: tell(
            CellProgress(int(row["episodes"] + row.get("skipped", 0)), row["mean_return"], "trains")
        ),
    )
    if cell.train.demonstrations:
        note(cell.train.demonstrations)  # checked by the batch, perhaps on another machine
    for name in (cell.train.algo, cell.train.llm, *cell.evaluation.baselines):
        note_code(name)
    if cell.train.asks:
        note_service(read_scenario(order.scenario / FILE).llm.service)
    if not (folder / run_folder.SETTINGS).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # killed before the run folder was complete
        tell(CellProgress(0, None, "starts"))
        scenario = read_scenario(order.scenario / FILE)
        ready = prepare(scenario, simulators=cell.train.simulators(scenario))
        train(ready, folder, cell.train, workers=order.workers, watch=watch)
    elif (done := episodes_done(folder)) < cell.train.episodes:
        tell(CellProgress(done, None, "resumes"))
        resume(folder, workers=order.workers, watch=watch)
    ready, policy = trained.load_trained(folder)
    policies = {"trained": policy, **baselines_named.baselines(",".join(cell.evaluation.baselines))}
    seeds = evaluate.choose_seeds(ready, "evaluation", cell.evaluation.seeds)
    driven, last = 0, last_return(folder)

    def count(_: EpisodeRecord) -> None:
        nonlocal driven
        driven += 1
        tell(CellProgress(cell.train.episodes, last, f"evaluates {driven}/{len(seeds) * len(policies)}"))

    records = evaluate.episodes(ready, policies, seeds, workers=order.workers, on_done=count)
    stored.write(folder, outcome(ready, records), routes(ready, records))


def last_return(folder: Path) -> float | None:
    """Return the mean return of a run's last update, s; None before the first."""
    file = folder / layout.METRICS
    values = files.read_columns(file).get("mean_return") if file.is_file() else None
    return values[-1] if values else None
