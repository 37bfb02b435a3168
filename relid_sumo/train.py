"""Training: drive episodes, learn from them, keep what was learnt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from relid_sumo import results, runs, seeding
from relid_sumo.algos.gae import make_batch
from relid_sumo.algos.hpo import Expert, Hpo
from relid_sumo.algos.ippo import Ippo
from relid_sumo.algos.mappo import Mappo
from relid_sumo.demos import Demonstrations
from relid_sumo.env import LOST, NEVER_INSERTED, EpisodeRecord
from relid_sumo.errors import InputError, SimulationError
from relid_sumo.experts import Experts, planned
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready, prepare
from relid_sumo.rollout import Job, Rollouts
from relid_sumo.runs import TrainSettings
from relid_sumo.sed import bench
from relid_sumo.sed import run as sed
from relid_sumo.sed.settings import SedSettings

DEMONSTRATIONS, EXPERTS = "demonstrations.npz", "experts.json"


@dataclass(frozen=True)
class Watch:
    """Who is told what while training goes on: each episode, the numbers of each update, what is being prepared."""

    episode: Callable[[EpisodeRecord], None] = lambda _: None
    update: Callable[[dict[str, float]], None] = lambda _: None
    report: Callable[[str], None] = lambda _: None


def train(
    ready: Ready,
    folder: Path,
    settings: TrainSettings,
    *,
    workers: int | None = None,
    fork: bool = True,
    watch: Watch | None = None,
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
        Told of the progress.

    Raises
    ------
    InputError
        The folder is taken or cannot be written.
    SimulationError
        SUMO failed, or a loss is not finite; the last checkpoint is whole.
    """
    runs.create(folder, ready, settings)
    return _run(ready, folder, settings, None, watch or Watch(), workers=workers, fork=fork)


def resume(
    folder: Path, *, workers: int | None = None, fork: bool = True, watch: Watch | None = None
) -> dict[str, float]:
    """Go on with a run from its last checkpoint, exactly as if it had not been interrupted.

    Raises
    ------
    InputError
        The folder holds no run that can go on.
    """
    watch = watch or Watch()
    settings, scenario = runs.load(folder)
    ready = prepare(scenario, simulators=settings.train.simulators(scenario), report=watch.report)
    runs.check_same(settings, ready, folder)
    now = runs.versions()
    for name in sorted(now.keys() & settings.versions.keys()):
        if now[name] != settings.versions[name]:
            watch.report(f"{name} is {now[name]} here, and was {settings.versions[name]}: it may not go on exactly")
    has_state = (folder / runs.CHECKPOINT).exists()  # killed before its first update, it simply starts
    state = runs.load_checkpoint(folder) if has_state else None
    if state is not None and state["episodes"] >= settings.train.episodes:
        raise InputError(f"{folder}: the run is finished ({settings.train.episodes} episodes); evaluate it instead")
    return _run(ready, folder, settings.train, state, watch, workers=workers, fork=fork)


def episodes_done(folder: Path) -> int:
    """Return how many episodes the last checkpoint of a run has behind it."""
    return int(runs.load_checkpoint(folder)["episodes"]) if (folder / runs.CHECKPOINT).exists() else 0


def _run(
    ready: Ready,
    folder: Path,
    settings: TrainSettings,
    state: dict[str, object] | None,
    watch: Watch,
    *,
    workers: int | None,
    fork: bool,
) -> dict[str, float]:
    torch.set_num_threads(1)  # the networks are small, and sums then always come out the same
    learner = _learner(ready, settings)
    experts = _experts(ready, folder, settings, workers, watch) if isinstance(learner, Hpo) else None
    update, episodes, row = 0, 0, {}
    if state is not None:
        learner.restore(state["learner"])  # type: ignore[arg-type]
        update, episodes = int(state["update"]), int(state["episodes"])  # type: ignore[call-overload]
    metrics, timing = (runs.Table(folder / name, keep=update) for name in (runs.METRICS, runs.TIMING))
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=episodes + 1)
    try:
        with Rollouts(ready.task, workers, fork=fork, report=watch.report) as rollouts:
            if isinstance(learner, Hpo) and experts is not None:
                if state is not None:
                    experts.restore(state["experts"])  # type: ignore[arg-type]
                learner.expert = _begin(
                    ready, folder, settings, learner, experts, rollouts, watch, begun=state is not None
                )
            while episodes < settings.episodes:
                start = time.perf_counter()
                jobs = _jobs(ready, settings, episodes, learner)
                records = rollouts.run(jobs, watch.episode)
                driven = time.perf_counter()
                simulator, progress = settings.simulator(ready.scenario, episodes), episodes / settings.episodes
                follows: dict[str, float] = {}
                if isinstance(learner, Hpo) and experts is not None:
                    if experts.note(records, simulator):
                        learner.expert = experts.stacked()
                    alpha = learner.follow(experts.ways(records, simulator), progress)
                    follows = {"replaced": int(experts.replaced.sum())}
                    follows |= {f"alpha_{i}": float(value) for i, value in enumerate(alpha)}
                learnt = (
                    learner.update(make_batch(records, ready.task.n_agents, joint=settings.algo == "mappo"), progress)
                    | follows
                )
                done = time.perf_counter()
                micro = int(simulator == "micro")
                update, episodes = update + 1, episodes + len(records)
                row = {"update": update, "episodes": episodes, "micro": micro, **summary(records), **learnt}
                _check_finite(row, folder)
                metrics.add(row)
                timing.add({"update": update, "rollout_s": driven - start, "learner_s": done - driven})
                for name, value in row.items():
                    board.add_scalar(name, value, episodes)
                board.flush()  # TensorBoard is to follow a run; of itself it writes every two minutes
                content = {"update": update, "episodes": episodes, "learner": learner.state()}
                runs.save_checkpoint(folder, content | ({"experts": experts.state()} if experts is not None else {}))
                watch.update(row)
    finally:
        board.close()
    return row


def _learner(ready: Ready, settings: TrainSettings) -> Ippo:
    agents, m_out = ready.task.n_agents, ready.task.graph.m_out
    if settings.expert:
        return Hpo(agents, m_out, settings.hpo, settings.seed)
    return (Mappo if settings.algo == "mappo" else Ippo)(agents, m_out, settings.ippo, settings.seed)


def _experts(ready: Ready, folder: Path, settings: TrainSettings, workers: int | None, watch: Watch) -> Experts:
    """Return experts with the routes of the run's demonstrations, which are made where the run has none yet."""
    file = folder / DEMONSTRATIONS
    if not file.is_file():
        if settings.demonstrations:
            found = Demonstrations.load(Path(settings.demonstrations))
        else:
            told = bench.Watch(episode=watch.episode, report=watch.report)
            ask, how = sed.Ask(settings.llm), SedSettings()
            micro = prepare(ready.scenario, simulators=sed.simulators(how, ready.scenario), report=watch.report)
            found = sed.plan(micro, folder / "sed", how, ask, workers=workers, watch=told)
        planned(found, ready, Path(settings.demonstrations or folder / "sed"))
        found.save(file)
    routes = planned(Demonstrations.load(file), ready, file)
    return Experts(ready.task, routes, elite=settings.elite)


def _begin(
    ready: Ready,
    folder: Path,
    settings: TrainSettings,
    learner: Hpo,
    experts: Experts,
    rollouts: Rollouts,
    watch: Watch,
    *,
    begun: bool,
) -> Expert:
    """Drive the demonstrations and imitate them, unless that has been done; return what is demonstrated."""
    if begun:
        return experts.stacked()
    watch.report("driving the demonstrations")
    simulators = settings.simulators(ready.scenario)
    driven = experts.start(ready, rollouts, simulators, settings.seed, settings.episodes_per_update)
    learner.expert = experts.stacked()
    told = learner.imitate()
    watch.report(
        f"imitation: {told['steps']:.0f} steps; the experts' actions now have probability {told['imitated']:.2f}"
    )
    results.write_json(folder / EXPERTS, {"episodes_driven": driven, **told})
    return learner.expert


def _jobs(ready: Ready, settings: TrainSettings, episodes: int, learner: Ippo) -> list[Job]:
    """Return the episodes of the next update: every training traffic seed once per pass, in shuffled order."""
    count = min(settings.episodes_per_update, settings.episodes - episodes)
    simulator = settings.simulator(ready.scenario, episodes)
    seeds, weights, jobs = ready.scenario.seeds.training, learner.weights(), []
    for number in range(episodes, episodes + count):
        turn, place = divmod(number, len(seeds))
        traffic_seed = int(seeding.stream(settings.seed, "traffic order", turn).permutation(seeds)[place])
        policy = Policy("learned", seed=seeding.derive(settings.seed, "episode", number), weights=weights)
        jobs.append(Job(traffic_seed, ready.options(traffic_seed, simulator), policy))
    return jobs


def summary(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Return what happened in some episodes, as means over agents and episodes, and counts."""
    statuses = [status for record in records for status in record.status]
    return {
        "decisions": sum(len(r.agent) for r in records),
        "simulated_s": float(sum(r.simulated_s for r in records)),
        "mean_return": float(np.mean([r.returns for r in records])),
        "mean_travel_time_s": float(np.mean([r.travel_time for r in records])),
        "arrival_rate": float(np.mean([r.arrival_rate for r in records])),
        "lost": statuses.count(LOST),
        "never_inserted": statuses.count(NEVER_INSERTED),
        "teleports": int(sum(r.teleports.sum() for r in records)),
        "crossed": int(sum(r.crossed.sum() for r in records)),
        "one_way": int(sum(r.one_way.sum() for r in records)),
    }


def _check_finite(row: dict[str, float], folder: Path) -> None:
    bad = [name for name, value in row.items() if not np.isfinite(value)]
    if bad:
        raise SimulationError(
            f"update {row['update']}: {', '.join(bad)} is not finite; the last good checkpoint is in {folder}; "
            "lower the learning rate"
        )
