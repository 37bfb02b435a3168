"""The simulation process of a PettingZoo environment, and its protocol."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.base.errors import InputError, RelidSumoError
from relid_sumo.base.process import die_with_parent, result_or_error, silence
from relid_sumo.env.episode import Episode
from relid_sumo.env.play import branch, warmed
from relid_sumo.env.records import Decision, EpisodeRecord
from relid_sumo.scenario.task import DailyTasks, Day, RoutingTask
from relid_sumo.sim.bridge import Bridge, SumoBridge
from relid_sumo.sim.snapshot import Pool, Snapshot, SnapshotDiedError


@dataclass(frozen=True, eq=False)
class Moment:
    """The state sent to the environment: decisions, rewards of all agents since the last moment, and agents' ends."""

    asked: dict[int, tuple[Float32s, Bools]]
    totals: tuple[float, ...]
    statuses: tuple[str | None, ...]
    travel_times: tuple[float, ...]
    digest: str | None


Answer = Moment | list[EpisodeRecord] | RelidSumoError


Talk = Generator[Answer, tuple[Any, ...], None]


def serve(pipe: Connection) -> None:
    """Run episodes on the parent's requests: ("reset", traffic seed, options, day), or a request for `_talk`."""
    silence()
    die_with_parent()
    task, memory_mib, limit_s = pipe.recv()
    stage = _Stage(task, memory_mib, limit_s)
    try:
        while True:
            word, *rest = pipe.recv()
            pipe.send(
                result_or_error(partial(stage.reset, *rest) if word == "reset" else partial(stage.ask, (word, *rest)))
            )
    except (EOFError, BrokenPipeError):
        pass
    finally:
        stage.close()


@dataclass(frozen=True, eq=False)
class _Reset:
    """An episode to start."""

    traffic_seed: int
    options: tuple[str, ...]
    day: Day


class _Stage:
    """The current episode: in a fork of a snapshot, or in this process if `memory_mib` is None."""

    def __init__(self, task: RoutingTask, memory_mib: float | None, limit_s: float) -> None:
        self._tasks = tasks = DailyTasks(task)

        def converse(bridge: Bridge, episode: _Reset, pipe: Connection) -> None:
            _converse(tasks.of(episode.day, episode.options), bridge, episode.traffic_seed, pipe)

        self._pool = None if memory_mib is None else Pool(converse, memory_mib, limit_s)
        self._snapshot: Snapshot[_Reset] | None = None
        self._key: tuple[str, ...] = ()
        self._talk: Talk | None = None
        self._bridge: SumoBridge | None = None

    def reset(self, traffic_seed: int, options: tuple[str, ...], day: Day) -> object:
        """Start an episode; end the previous one."""
        task = self._tasks.of(day, options)
        start = partial(warmed, task, options)
        if self._pool is None:
            if self._bridge is not None:
                self._bridge.close()
            self._bridge = start()
            self._talk = _talk(task, self._bridge, traffic_seed)
            return next(self._talk)
        if self._snapshot is not None:
            self._snapshot.send(None)
            self._snapshot = None
        snapshot = self._pool.snapshot(options, start)
        self._key = options
        snapshot.send(_Reset(traffic_seed, options, day))
        return self._heard(snapshot)

    def ask(self, request: tuple[Any, ...]) -> object:
        """Answer decisions, or branch the episode."""
        if self._talk is not None:
            return self._talk.send(request)
        assert self._snapshot is not None
        self._snapshot.send(request)
        return self._heard(self._snapshot)

    def _heard(self, snapshot: Snapshot[_Reset]) -> object:
        assert self._pool is not None
        self._snapshot = None
        try:
            answer = snapshot.answer()
        except InputError:  # the episode is unchanged
            self._snapshot = snapshot
            raise
        except SnapshotDiedError:
            self._pool.drop(self._key)
            raise
        over = isinstance(answer, Moment) and answer.digest is not None
        self._snapshot = None if over else snapshot
        return answer

    def close(self) -> None:
        """End all simulations."""
        if self._pool is not None:
            self._pool.close()
        if self._bridge is not None:
            self._bridge.close()


def _converse(task: RoutingTask, bridge: Bridge, traffic_seed: int, pipe: Connection) -> None:
    """Run an episode through a pipe, until it is over or the other side sends None."""
    talk = _talk(task, bridge, traffic_seed)
    answer = result_or_error(partial(next, talk))
    while True:
        pipe.send(answer)
        goes_on = answer.digest is None if isinstance(answer, Moment) else isinstance(answer, list | InputError)
        if not goes_on:
            return
        request = pipe.recv()
        if request is None:
            return
        answer = result_or_error(partial(talk.send, request))


def _talk(task: RoutingTask, bridge: Bridge, traffic_seed: int) -> Talk:
    """Yield an episode's answers; receive ("act", {agent: slot}) or ("branch", alternatives, policy)."""
    episode = Episode(task, bridge, traffic_seed=traffic_seed)
    answer: Answer = _moment(episode, episode.advance())
    while True:
        word, *rest = yield answer
        if word == "branch":
            answer = result_or_error(partial(branch, episode, *rest))
            continue
        (slots,) = rest
        for decision in episode.open_decisions:
            episode.act(decision, slots[decision.agent])
        answer = _moment(episode, episode.advance())


def _moment(episode: Episode, decisions: Sequence[Decision]) -> Moment:
    return Moment(
        asked={d.agent: (d.observation, d.mask) for d in decisions},
        totals=tuple(v.total for v in episode.vehicles),
        statuses=tuple(v.status for v in episode.vehicles),
        travel_times=tuple(v.travel_time for v in episode.vehicles),
        digest=episode.record().digest if episode.over else None,
    )
