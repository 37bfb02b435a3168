"""Worker processes that run whole episodes from a policy and a traffic seed. They never import torch.

Weights go out, episodes come back. An episode depends only on its job, not on the worker or the number of workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from relid_sumo.base import sumo
from relid_sumo.base.errors import RelidSumoError, SimulationError
from relid_sumo.base.process import Child, die_with_parent, free_memory_mib, result_or_error, silence
from relid_sumo.base.progress import counting
from relid_sumo.env.play import Job, drive, play, warmed
from relid_sumo.env.play import job as job_of
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import DailyTasks, Day, RoutingTask
from relid_sumo.sim.bridge import Bridge
from relid_sumo.sim.snapshot import LIMIT_S, Pool, SnapshotDiedError, can_fork

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.5  # share of the free memory at the start, for all snapshots together
TRIES = 2  # attempts at an episode whose process dies
SLACK_S = 10.0  # time beyond the worker's own limits before it counts as hanging


def _work(pipe: Connection) -> None:
    """Run the jobs received: in forks of snapshots, or with a new SUMO each time if the memory is None."""
    silence()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    task: RoutingTask
    memory_mib: float | None
    task, memory_mib, limit_s = pipe.recv()

    tasks = DailyTasks(task)

    def answer(bridge: Bridge, job: Job, to: Connection) -> None:
        to.send(result_or_error(lambda: play(tasks.of(job.day, job.options), job, bridge)))

    pool = None if memory_mib is None else Pool(answer, memory_mib, limit_s)
    try:
        while True:
            job: Job = pipe.recv()
            pipe.send(result_or_error(partial(_driven, tasks, job, pool)))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if pool is not None:
            pool.close()


def _driven(tasks: DailyTasks, job: Job, pool: Pool[Job] | None) -> object:
    task = tasks.of(job.day, job.options)  # made here, so that a new snapshot contains it
    if pool is None:
        return drive(task, replace(job, day=Day()))
    key = (job.options, job.measures)
    return pool.drive(key, lambda: warmed(task, job.options, measures=job.measures), job)


@dataclass(eq=False)
class _Worker:
    child: Child
    warm: set[tuple[str, ...]] = field(default_factory=set)
    job: int = -1
    since: float = 0.0


class Rollouts:
    """A pool of worker processes for one task. It is a context manager.

    Parameters
    ----------
    task
        The task of all episodes.
    workers
        Number of processes. Default: the number of cores.
    fork
        Keep simulations after their warm-up and fork them. Default: if the system can fork. Otherwise SUMO starts and
        warms up for every episode, which gives the same episodes more slowly.
    memory_mib
        Memory limit of all snapshots together, MiB. Default: half of the free memory. Each worker keeps at least
        one snapshot.
    limit_s
        Time limit of a warm-up and of an episode, s. A process that takes longer counts as hanging.
    """

    def __init__(
        self,
        task: RoutingTask,
        workers: int | None = None,
        *,
        fork: bool = True,
        memory_mib: float | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.task = task
        self.workers = workers or os.cpu_count() or 1
        memory = MEMORY_SHARE * free_memory_mib() if memory_mib is None else memory_mib
        self._memory_mib = memory / self.workers if fork and can_fork() else None
        self._limit_s = limit_s
        self._idle: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self, jobs: Sequence[Job], on_done: Callable[[EpisodeRecord], None] = lambda _: None
    ) -> list[EpisodeRecord]:
        """Run all jobs and return their episodes in the same order; call `on_done` with each finished episode.

        An episode whose process dies or hangs is run again.

        Raises
        ------
        SimulationError
            SUMO failed in an episode, or an episode's process died twice.
        """
        done: dict[int, EpisodeRecord] = {}
        busy: dict[Connection, _Worker] = {}
        todo = list(range(len(jobs)))
        deaths: dict[int, int] = {}
        try:
            while todo or busy:
                while todo and len(busy) < self.workers:
                    worker = self._idle.pop() if self._idle else self._start()
                    worker.job = self._pick(worker, todo, jobs, list(busy.values()))
                    worker.since = time.monotonic()
                    worker.warm.add(jobs[worker.job].options)
                    busy[worker.child.pipe] = worker
                    with contextlib.suppress(OSError):  # it has died, which is noticed when its answer is read
                        worker.child.pipe.send(jobs[worker.job])
                for worker in self._ready(busy):
                    del busy[worker.child.pipe]
                    answer = self._receive(worker)
                    if isinstance(answer, EpisodeRecord):
                        done[worker.job] = answer
                        on_done(answer)
                        continue
                    number, seed = worker.job, jobs[worker.job].traffic_seed
                    deaths[number] = deaths.get(number, 0) + 1
                    if deaths[number] == TRIES:
                        raise SimulationError(
                            f"the simulation of traffic seed {seed} died {TRIES} times ({answer}); if memory is short, "
                            "use fewer --workers"
                        )
                    log.warning(f"the simulation of traffic seed {seed} died ({answer}); the episode runs again")
                    todo.append(number)
        finally:
            for worker in busy.values():
                worker.child.stop(at_once=True)
        return [done[i] for i in range(len(jobs))]

    def _pick(self, worker: _Worker, todo: list[int], jobs: Sequence[Job], busy: list[_Worker]) -> int:
        """Take a job from `todo`: one with a snapshot in this worker, else one with no snapshot in any, else any."""
        elsewhere = set().union(*(other.warm for other in [*busy, *self._idle]))
        best = min(
            todo, key=lambda i: 0 if jobs[i].options in worker.warm else 1 if jobs[i].options not in elsewhere else 2
        )
        todo.remove(best)
        return best

    def _start(self) -> _Worker:
        return _Worker(Child(_work, self.task, self._memory_mib, self._limit_s))

    def _ready(self, busy: Mapping[Connection, _Worker]) -> list[_Worker]:
        """Wait for workers that have answered, died or exceeded the time limit."""
        oldest = min(busy.values(), key=lambda worker: worker.since)
        latest = oldest.since + self._patience_s
        ready = wait(list(busy), timeout=max(0.0, latest - time.monotonic()))
        return [worker for pipe, worker in busy.items() if pipe in ready] or [oldest]

    @property
    def _patience_s(self) -> float:
        return 2 * self._limit_s + SLACK_S  # a warm-up and an episode

    def _receive(self, worker: _Worker) -> EpisodeRecord | str:
        """Return an episode, or how its process died. Raise the error that it sends."""
        child = worker.child
        try:
            if not child.pipe.poll():
                child.stop(at_once=True)
                return f"no answer in {self._patience_s:g} s"
            answer = child.pipe.recv()
        except (EOFError, OSError):
            return how_it_died(child)
        self._idle.append(worker)
        said = child.said()
        if isinstance(answer, SnapshotDiedError):
            return _why(str(answer), said)
        if isinstance(answer, RelidSumoError):
            raise answer
        assert isinstance(answer, EpisodeRecord)
        return answer

    def close(self) -> None:
        """End all workers."""
        for worker in self._idle:
            worker.child.stop()
        self._idle.clear()


def how_it_died(child: Child) -> str:
    """End a process that gives no answer, and return how it ended."""
    said = child.said()
    return _why(child.stop(), said)


def _why(how: str, said: str) -> str:
    """Return how a process ended, with SUMO's error line if there is one."""
    return f"{how}: {sumo.error_line(said)}" if said.strip() else how


def in_traffic(
    ready: PreparedScenario,
    rollouts: Rollouts,
    policies: Sequence[Policy] | Mapping[int, Sequence[Policy]],
    seeds: Sequence[int],
    simulator: Simulator = "micro",
    *,
    job: Callable[[int, Policy], Job] | None = None,
    what: str = "running episode",
    on_done: Callable[[EpisodeRecord], None] = lambda _: None,
) -> list[list[EpisodeRecord]]:
    """Return the episodes of each policy, one for each traffic seed, in the order given.

    Parameters
    ----------
    policies
        The policies, or those of each traffic seed: as many in each.
    job
        Makes an episode's `Job` from traffic seed and policy. Default: `relid_sumo.env.play.job`.
    what
        What the progress says.
    on_done
        Called with each episode as it comes in.
    """
    make = job or (lambda seed, policy: job_of(ready, seed, policy, simulator))
    by_seed = policies if isinstance(policies, Mapping) else dict.fromkeys(seeds, policies)
    jobs = [make(seed, policy) for seed in seeds for policy in by_seed[seed]]
    with counting(what, len(jobs)) as tick:

        def done(record: EpisodeRecord) -> None:
            tick(record)
            on_done(record)

        records = rollouts.run(jobs, done)
    count = len(jobs) // max(1, len(seeds))
    return [records[i::count] for i in range(count)]
