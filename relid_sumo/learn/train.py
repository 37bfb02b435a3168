"""The training loop: drive episodes, update the learner, save a checkpoint."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relid_sumo.base import seeding, trusted
from relid_sumo.base.errors import InputError, SimulationError, missing_extra
from relid_sumo.env.play import Job
from relid_sumo.env.play import job as job_of
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import LOST, NEVER_INSERTED, EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn import algorithms, checkpoint, run_folder
from relid_sumo.learn.algos.gae import Batch
from relid_sumo.learn.algos.ippo import NotFiniteError
from relid_sumo.learn.closing import Closings
from relid_sumo.learn.learner import Learner, LearnerSetup
from relid_sumo.learn.reled import reled
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.learn.validation import Validation
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingWatch:
    """Functions that training calls: after each episode, and with the numbers of each update."""

    episode: Callable[[EpisodeRecord], None] = lambda _: None
    update: Callable[[dict[str, float]], None] = lambda _: None


def train(
    ready: PreparedScenario,
    folder: Path,
    settings: TrainSettings,
    *,
    workers: int | None = None,
    fork: bool = True,
    watch: TrainingWatch | None = None,
) -> dict[str, float]:
    """Train from the start and return the numbers of the last update.

    Parameters
    ----------
    ready
        The scenario, prepared.
    folder
        The run folder; must not exist, or be empty.
    settings
        Algorithm, seed and budget.
    workers, fork
        Simulation processes, and whether they fork warmed simulations; neither changes the results.
    watch
        Functions to call while training runs.

    Raises
    ------
    InputError
        The folder is not empty or cannot be written; demonstrations do not fit, or cannot be made here.
    SimulationError
        SUMO failed, or a loss is not finite; the last checkpoint is complete.
    """
    settings.check_agents(ready.scenario)
    if settings.algorithm.experts:
        reled.check(ready, settings)
    run_folder.check_free(folder)
    with run_folder.locked(folder):
        run_folder.create(folder, ready, settings)
        return run_updates(ready, folder, settings, None, watch or TrainingWatch(), workers=workers, fork=fork)


def resume(
    folder: Path, *, workers: int | None = None, fork: bool = True, watch: TrainingWatch | None = None
) -> dict[str, float]:
    """Resume a run from its last checkpoint, exactly as if it had not been interrupted.

    Raises
    ------
    InputError
        The folder contains no run that can be resumed, or another process trains it.
    """
    run_folder.load(folder)  # it is a run folder
    with run_folder.locked(folder):
        return _resumed(folder, watch or TrainingWatch(), workers=workers, fork=fork)


def _resumed(folder: Path, watch: TrainingWatch, *, workers: int | None, fork: bool) -> dict[str, float]:
    settings, scenario = run_folder.load(folder)
    ready = prepare(scenario, simulators=settings.train.simulators(scenario))
    run_folder.check_same(settings, ready, folder)
    if ready.demand != settings.demand:
        raise InputError(
            f"{folder}: its traffic ({scenario.demand.route_file}) has changed since; train again, or restore the file"
        )
    source = run_folder.sources(scenario, settings.train).get(settings.train.algo)
    if source != settings.sources.get(settings.train.algo, source):
        log.warning(f"the source of {settings.train.algo} has changed since: the run may not continue exactly")
    now = run_folder.versions()
    for name in sorted(now.keys() & settings.versions.keys()):
        if now[name] != settings.versions[name]:
            log.warning(
                f"{name} is {now[name]} here, and was {settings.versions[name]}: the run may not continue exactly"
            )
    has_state = (folder / run_folder.CHECKPOINT).exists()  # a run that was killed before its first update starts again
    state = checkpoint.load(folder) if has_state else None
    if state is not None and state.get("algo", settings.train.algo) != settings.train.algo:
        raise InputError(
            f"{folder}: its checkpoint is of '{state['algo']}', and its {run_folder.SETTINGS} says "
            f"'{settings.train.algo}'; restore the settings that it was trained with"
        )
    if state is not None and state.get("format") != checkpoint.FORMAT:
        raise InputError(
            f"{folder}: its checkpoint was written by another version of relid_sumo and cannot be resumed; "
            "evaluate it, or train again"
        )
    if state is not None and checkpoint.position(state) >= settings.train.episodes:
        raise InputError(f"{folder}: the run is finished ({settings.train.episodes} episodes); evaluate it instead")
    return run_updates(ready, folder, settings.train, state, watch, workers=workers, fork=fork)


def run_updates(
    ready: PreparedScenario,
    folder: Path,
    settings: TrainSettings,
    state: dict[str, Any] | None,
    watch: TrainingWatch,
    *,
    workers: int | None,
    fork: bool,
) -> dict[str, float]:
    """Train in a run folder from a checkpoint, or from the start if `state` is None, to the end of the settings.

    The other arguments are those of `train`. The caller has made, checked and locked the folder.
    """
    torch.set_num_threads(1)  # the networks are small, and one thread makes sums reproducible
    with contextlib.nullcontext() if state is None else _fitting(folder):
        learner = algorithms.build(LearnerSetup(ready, settings, folder, workers), state)
        validation = (
            Validation(ready, settings, None if state is None else state["validation"])
            if settings.validate_every
            else None
        )
    update, episodes, row = (0, 0, {}) if state is None else (int(state["update"]), int(state["episodes"]), {})
    metrics, timing = (run_folder.Table(folder / name, keep=update) for name in (run_folder.METRICS, run_folder.TIMING))
    digests = _digests(folder, update)
    board, closings = _board(folder, episodes), Closings(ready, settings.seed, settings.closed_share)
    try:
        with Rollouts(ready.task, workers, fork=fork) as rollouts:
            while (at := episodes + (validation.skipped if validation else 0)) < settings.episodes:
                simulator, progress = settings.simulator(ready.scenario, at), at / settings.episodes
                learner.enter(rollouts, simulator)
                start = time.perf_counter()
                weights = learner.weights()
                jobs = [
                    _job(
                        ready,
                        settings,
                        number,
                        simulator,
                        Policy("learned", weights=weights, path=learner.acts),
                        closings,
                    )
                    for number in range(episodes, episodes + min(settings.episodes_per_update, settings.episodes - at))
                ]
                records = rollouts.run(jobs, watch.episode)
                driven = time.perf_counter()
                batch, follows = learner.batch(records, simulator, progress)
                learnt = _learn(learner, batch, progress, ready, update + 1, folder)
                done = time.perf_counter()
                micro = int(simulator == "micro")
                update, episodes = update + 1, episodes + len(records)
                row = {"update": update, "episodes": episodes, "micro": micro, **summary(records), **learnt, **follows}
                if validation is not None:
                    measured = validation.after_update(learner, rollouts, simulator, episodes)
                    row |= {**measured, "driven_beside": measured["driven_beside"] + follows.get("driven_beside", 0)}
                _check_finite(row, folder)
                metrics.add(row)
                if digests is not None:
                    digests.add(_hashes(update, records))
                timing.add({"update": update, "rollout_s": driven - start, "learner_s": done - driven})
                if board is not None:
                    for name, value in row.items():
                        board.add_scalar(name, value, episodes)
                    board.flush()  # TensorBoard follows a run; by default it writes every two minutes
                at = episodes + (validation.skipped if validation else 0)
                if at < settings.episodes:  # after the last update nothing would be learned from it
                    learner.after_update(rollouts, update)
                counters: dict[str, Any] = {"algo": settings.algo, "update": update, "episodes": episodes}
                if validation is not None:
                    counters["validation"] = validation.state()
                checkpoint.save(folder, {**counters, **learner.checkpoint(), **_policy(learner)})
                watch.update(row)
    finally:
        if board is not None:
            board.close()
    return row


def _digests(folder: Path, update: int) -> run_folder.Table | None:
    """Return the table of the hashes of episodes; None for a run that began without it."""
    file = folder / layout.DIGESTS
    return run_folder.Table(file, keep=update) if update == 0 or file.is_file() else None


def _hashes(update: int, records: Sequence[EpisodeRecord]) -> dict[str, int | str]:
    columns = {"traffic_seed": [str(r.traffic_seed) for r in records], "digest": [r.digest for r in records]}
    return {"update": update, **{name: " ".join(values) for name, values in columns.items()}}


def _board(folder: Path, episodes: int) -> SummaryWriter | None:
    """Return the writer of ``tensorboard/`` from an episode on; None if the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra, and a second to import
    except ImportError:
        log.info("no TensorBoard files: %s", missing_extra("tensorboard", "tensorboard"))
        return None
    return SummaryWriter(str(folder / layout.TENSORBOARD), purge_step=episodes + 1)


def _policy(learner: Learner) -> dict[str, object]:
    """Return the weights of a user's own policy, so that it can be evaluated without its algorithm."""
    if "actor" in learner.state() and not learner.acts:
        return {}
    if learner.acts:
        trusted.note_code(learner.acts)
    weights = {name: torch.from_numpy(np.array(value)) for name, value in learner.weights().items()}
    return {"policy": {"acts": learner.acts, "weights": weights}}


@contextlib.contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Say of a checkpoint that is not of this run that it is not."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{folder / run_folder.CHECKPOINT}: does not fit the run ({str(error)[:300]}); put back its own, or "
            "train again"
        ) from None


def _job(
    ready: PreparedScenario,
    settings: TrainSettings,
    number: int,
    simulator: Simulator,
    policy: Policy,
    closings: Closings,
) -> Job:
    """Return a training episode: every training traffic seed occurs once per pass, in shuffled order."""
    seeds = ready.scenario.seeds.training
    turn, place = divmod(number, len(seeds))
    traffic_seed = int(seeding.stream(settings.seed, "traffic order", turn).permutation(seeds)[place])
    drawing = replace(policy, seed=seeding.derive(settings.seed, "episode", number))
    return job_of(ready, traffic_seed, drawing, simulator, closing=closings.of(number, traffic_seed))


def summary(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Return the metrics of some episodes: means over agents and episodes, and counts."""
    statuses = [status for record in records for status in record.status]
    return {
        "decisions": sum(len(r.agent) for r in records),
        "simulated_s": float(sum(r.simulated_s for r in records)),
        "mean_return": float(np.mean(np.concatenate([r.returns for r in records]))),
        "mean_travel_time_s": float(np.mean(np.concatenate([r.travel_time for r in records]))),
        "arrival_rate": float(np.mean([r.arrival_rate for r in records])),
        "lost": statuses.count(LOST),
        "never_inserted": statuses.count(NEVER_INSERTED),
        "teleports": int(sum(r.teleports.sum() for r in records)),
        "crossed": int(sum(r.crossed.sum() for r in records)),
        "one_way": int(sum(r.one_way.sum() for r in records)),
    }


def _learn(
    learner: Learner, batch: Batch, progress: float, ready: PreparedScenario, update: int, folder: Path
) -> dict[str, float]:
    try:
        return learner.update(batch, progress)
    except NotFiniteError as error:
        names = "all agents" if learner.shared else ", ".join(ready.task.names[i] for i in error.agents)
        raise SimulationError(
            f"update {update}: the loss of {names} is not finite; the last good checkpoint is in {folder}; lower the "
            "learning rate"
        ) from None


def _check_finite(row: dict[str, float], folder: Path) -> None:
    bad = [name for name, value in row.items() if not np.isfinite(value)]
    if bad:
        raise SimulationError(
            f"update {row['update']}: {', '.join(bad)} is not finite; the last good checkpoint is in {folder}; "
            "lower the learning rate"
        )
