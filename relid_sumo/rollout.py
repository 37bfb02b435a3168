"""Worker processes that turn (policy, traffic seed) into whole episodes. No torch here.

Weights go out, episodes come back; what an episode is depends on its job alone, not on the worker or their number.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from relid_sumo.bridge import SumoBridge
from relid_sumo.env import Episode, EpisodeRecord, RoutingTask, warm_up
from relid_sumo.errors import RelidSumoError, SimulationError
from relid_sumo.policies import Policy


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to drive: in which traffic (its seed and SUMO's options for it), by which policy.

    With `background` the episode goes on until the effect on the background traffic has been measured.
    """

    traffic_seed: int
    options: tuple[str, ...]
    policy: Policy
    background: bool = False


def open_bridge(task: RoutingTask, options: Sequence[str], *, program: str = "libsumo") -> SumoBridge:
    """Start SUMO for a task, with the task's closed edges closed."""
    closed = [str(task.graph.edge_ids[edge]) for edge in sorted(task.closed)]
    return SumoBridge(options, window_s=task.scenario.observation.window_s, closed=closed, program=program)


def drive(task: RoutingTask, job: Job, *, program: str = "libsumo") -> EpisodeRecord:
    """Drive one episode in this process, from SUMO's start to its end."""
    bridge = open_bridge(task, job.options, program=program)
    try:
        warm_up(bridge, task.scenario)
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
    finally:
        bridge.close()


def silence(log: str = os.devnull) -> None:
    """Send what SUMO prints in this process to a file, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(target, stream)


def _work(pipe: Connection, task: RoutingTask) -> None:
    silence()
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(drive(task, job))
        except RelidSumoError as error:
            pipe.send(error)


class Rollouts:
    """A pool of worker processes for one task; a context manager.

    Parameters
    ----------
    task
        What all episodes share.
    workers
        Number of processes; as many as there are cores where not given.
    """

    def __init__(self, task: RoutingTask, workers: int | None = None) -> None:
        self.task = task
        self.workers = workers or os.cpu_count() or 1
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[BaseProcess, Connection]] = []

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

        Raises
        ------
        SimulationError
            SUMO failed in an episode, or a worker died.
        """
        done: dict[int, EpisodeRecord] = {}
        busy: dict[Connection, tuple[BaseProcess, int]] = {}
        todo = list(enumerate(jobs))[::-1]
        try:
            while todo or busy:
                while todo and len(busy) < self.workers:
                    number, job = todo.pop()
                    process, pipe = self._worker()
                    busy[pipe] = process, number
                    pipe.send(job)
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    process, number = busy[ready]
                    record = self._receive(ready, process, jobs[number])
                    del busy[ready]
                    self._idle.append((process, ready))
                    done[number] = record
                    on_done(record)
        finally:
            _stop((process, pipe) for pipe, (process, _) in busy.items())
        return [done[i] for i in range(len(jobs))]

    def _worker(self) -> tuple[BaseProcess, Connection]:
        if self._idle:
            return self._idle.pop()
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self.task), daemon=True)
        process.start()
        there.close()
        return process, here

    def _receive(self, pipe: Connection, process: BaseProcess, job: Job) -> EpisodeRecord:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join(5)
            raise SimulationError(
                f"the simulation of traffic seed {job.traffic_seed} died (exit code {process.exitcode})"
            ) from None
        if isinstance(answer, RelidSumoError):
            raise answer
        assert isinstance(answer, EpisodeRecord)
        return answer

    def close(self) -> None:
        """End all workers."""
        _stop(self._idle)
        self._idle.clear()


def _stop(workers: Iterable[tuple[BaseProcess, Connection]]) -> None:
    for process, pipe in workers:
        pipe.close()
        process.terminate()
        process.join()
