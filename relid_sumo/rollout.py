"""Worker processes that turn (policy, traffic seed) into whole episodes. No torch here.

Weights go out, episodes come back; what an episode is depends on its job alone, not on the worker or their number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

from relid_sumo.bridge import Bridge, SumoBridge
from relid_sumo.env import Episode, EpisodeRecord, warm_up
from relid_sumo.errors import RelidSumoError, SimulationError
from relid_sumo.policies import Policy
from relid_sumo.process import Child, die_with_parent, free_memory_mib, silence, told
from relid_sumo.snapshot import Pool, can_fork
from relid_sumo.task import RoutingTask

MEMORY_SHARE = 0.5  # of what is free at the start, for all warmed simulations together
TRIES = 2  # of an episode whose worker dies


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to drive: in which traffic (its seed and SUMO's options for it), by which policy.

    With `background` the episode goes on until the effect on the background traffic has been measured.
    """

    traffic_seed: int
    options: tuple[str, ...]
    policy: Policy
    background: bool = False


def bridge_settings(task: RoutingTask) -> dict[str, Any]:
    """Return what a `SumoBridge` has to know of a task."""
    closed = [str(task.graph.edge_ids[edge]) for edge in sorted(task.closed)]
    return {"window_s": task.scenario.observation.window_s, "closed": closed}


def open_bridge(task: RoutingTask, options: Sequence[str], *, program: str = "libsumo") -> SumoBridge:
    """Start SUMO for a task, with the task's closed edges closed."""
    return SumoBridge(options, **bridge_settings(task), program=program)


def drive(task: RoutingTask, job: Job, *, program: str = "libsumo") -> EpisodeRecord:
    """Drive one episode in this process, from SUMO's start to its end."""
    bridge = warmed(task, job.options, program=program)
    try:
        return play(task, job, bridge)
    finally:
        bridge.close()


def warmed(task: RoutingTask, options: Sequence[str], *, program: str = "libsumo") -> SumoBridge:
    """Return a simulation at the agents' time 0."""
    bridge = open_bridge(task, options, program=program)
    try:
        warm_up(bridge, task.scenario)
    except BaseException:
        bridge.close()
        raise
    return bridge


def play(task: RoutingTask, job: Job, bridge: Bridge) -> EpisodeRecord:
    """Drive one episode over a simulation that has been warmed up."""
    episode = Episode(
        task,
        bridge,
        traffic_seed=job.traffic_seed,
        observe=job.policy.observes,
        rerouting=job.policy.name == "rerouting",
        background=job.background,
    )
    choose = job.policy.start()
    while decisions := episode.advance():
        for decision in decisions:
            episode.act(decision, choose(episode, decision))
    return episode.record()


def _work(pipe: Connection) -> None:
    """Drive the jobs that come in; over snapshots where there is memory for them (None: start SUMO each time)."""
    silence()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    task: RoutingTask
    memory_mib: float | None
    task, memory_mib = pipe.recv()
    pool = None if memory_mib is None else Pool[Job, EpisodeRecord](lambda b, job: play(task, job, b), memory_mib)
    try:
        while True:
            job: Job = pipe.recv()
            pipe.send(told(lambda job=job: _drive(task, job, pool)))  # type: ignore[misc]
    except EOFError:
        pass
    finally:
        if pool is not None:
            pool.close()


def _drive(task: RoutingTask, job: Job, pool: Pool[Job, EpisodeRecord] | None) -> EpisodeRecord:
    return drive(task, job) if pool is None else pool.drive(job.options, lambda: warmed(task, job.options), job)


@dataclass(frozen=True, eq=False)
class _Worker:
    child: Child
    warm: set[tuple[str, ...]] = field(default_factory=set)


class Rollouts:
    """A pool of worker processes for one task; a context manager.

    Parameters
    ----------
    task
        What all episodes share.
    workers
        Number of processes; as many as there are cores where not given.
    fork
        Keep warmed simulations and fork them; where the system can, unless told otherwise. Without, SUMO starts and
        warms up for every episode: the same episodes, slower.
    """

    def __init__(self, task: RoutingTask, workers: int | None = None, *, fork: bool = True) -> None:
        self.task = task
        self.workers = workers or os.cpu_count() or 1
        self._memory_mib = MEMORY_SHARE * free_memory_mib() / self.workers if fork and can_fork() else None
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
        """Drive all jobs and return their episodes in the same order; `on_done` is told of each as it comes in.

        An episode whose worker dies is driven again by another.

        Raises
        ------
        SimulationError
            SUMO failed in an episode, or its workers died.
        """
        done: dict[int, EpisodeRecord] = {}
        busy: dict[Connection, tuple[_Worker, int]] = {}
        todo = list(range(len(jobs)))
        deaths: dict[int, int] = {}
        try:
            while todo or busy:
                while todo and len(busy) < self.workers:
                    worker = self._idle.pop() if self._idle else self._start()
                    number = self._pick(worker, todo, jobs, [w for w, _ in busy.values()])
                    worker.warm.add(jobs[number].options)
                    busy[worker.child.pipe] = worker, number
                    with contextlib.suppress(OSError):  # it has died; that shows when its answer is read
                        worker.child.pipe.send(jobs[number])
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    worker, number = busy.pop(ready)
                    record = self._receive(worker)
                    if record is None:
                        worker.child.stop()
                        deaths[number] = deaths.get(number, 0) + 1
                        if deaths[number] == TRIES:
                            raise SimulationError(
                                f"the simulation of traffic seed {jobs[number].traffic_seed} died {TRIES} times (exit "
                                f"code {worker.child.exit_code()}); out of memory? try fewer --workers"
                            )
                        todo.append(number)
                        continue
                    self._idle.append(worker)
                    done[number] = record
                    on_done(record)
        finally:
            for worker, _ in busy.values():
                worker.child.stop()
        return [done[i] for i in range(len(jobs))]

    def _pick(self, worker: _Worker, todo: list[int], jobs: Sequence[Job], busy: list[_Worker]) -> int:
        """Take a job out of `todo`: one whose traffic this worker holds warm, else one that nobody holds, else any."""
        elsewhere = set().union(*(other.warm for other in [*busy, *self._idle]))
        best = min(
            todo, key=lambda i: 0 if jobs[i].options in worker.warm else 1 if jobs[i].options not in elsewhere else 2
        )
        todo.remove(best)
        return best

    def _start(self) -> _Worker:
        return _Worker(Child(_work, self.task, self._memory_mib))

    def _receive(self, worker: _Worker) -> EpisodeRecord | None:
        """Return an episode; None where the worker has died. Raises the error that it sends."""
        try:
            answer = worker.child.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, RelidSumoError):
            self._idle.append(worker)
            raise answer
        assert isinstance(answer, EpisodeRecord)
        return answer

    def close(self) -> None:
        """End all workers."""
        for worker in self._idle:
            worker.child.stop()
        self._idle.clear()
