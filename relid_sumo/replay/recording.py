"""Record where every vehicle is during an episode. Recording reads the simulation and does not change it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Floats
from relid_sumo.base.progress import counting, phase
from relid_sumo.env.choices import Choice, choices
from relid_sumo.env.episode import warm_up
from relid_sumo.env.play import Job, bridge_settings, play
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.sim.bridge import SumoBridge

FRAME_S = 1.0  # time between two frames, s; a longer step of the simulation is a frame
NOWHERE_M = -1e6  # SUMO's coordinates of a vehicle that is not on the network are below


@dataclass(frozen=True, eq=False)
class Tracks:
    """The positions of T tracks: each is one vehicle during consecutive frames (a teleport begins another track).

    Attributes
    ----------
    frame_s : float
        Time between two frames, s. Frame 0 is the first step after the warm-up.
    vehicle : array of int, shape (T,)
        Index into `names`.
    first, length : array of int, shape (T,)
        First frame and number of frames.
    xy : array, shape (sum of length, 2)
        Positions of the vehicles' front bumpers, m, track by track.
    names : list of str
        SUMO's names of the vehicles.
    """

    frame_s: float
    vehicle: NDArray[np.int32]
    first: NDArray[np.int32]
    length: NDArray[np.int32]
    xy: Floats
    names: list[str]


@dataclass(frozen=True, eq=False)
class Recording:
    """An episode with the positions of all vehicles, and what the policy considered at each decision."""

    episode: EpisodeRecord
    choices: list[Choice]
    tracks: Tracks


class Frames:
    """Positions read so far, in the order of time."""

    def __init__(self, step_s: float, on_frame: Callable[[], object] = lambda: None) -> None:
        self._on_frame = on_frame
        self._every = max(1, round(FRAME_S / step_s))
        self._frame_s = self._every * step_s
        self._steps = 0
        self._numbers: dict[str, int] = {}
        self._frame, self._vehicle = array("i"), array("i")
        self._x, self._y = array("d"), array("d")

    def read(self, vehicles: Any) -> None:  # noqa: ANN401 - SUMO's modules carry no types
        """Read the positions after a step, if the step is a frame."""
        frame, rest = divmod(self._steps, self._every)
        self._steps += 1
        if rest:
            return
        self._on_frame()
        numbers, position = self._numbers, vehicles.getPosition
        for name in vehicles.getIDList():
            x, y = position(name)
            if x > NOWHERE_M:
                self._frame.append(frame)
                self._vehicle.append(numbers.setdefault(name, len(numbers)))
                self._x.append(x)
                self._y.append(y)

    def tracks(self) -> Tracks:
        """Return the positions by track."""
        vehicle, frame = np.array(self._vehicle, np.int32), np.array(self._frame, np.int32)
        order = np.argsort(vehicle, kind="stable")
        vehicle, frame = vehicle[order], frame[order]
        starts = np.flatnonzero((np.diff(vehicle, prepend=-1) != 0) | (np.diff(frame, prepend=-1) != 1))
        return Tracks(
            frame_s=self._frame_s,
            vehicle=vehicle[starts],
            first=frame[starts],
            length=np.diff(starts, append=len(vehicle)).astype(np.int32),
            xy=np.column_stack([np.array(self._x), np.array(self._y)])[order],
            names=list(self._numbers),
        )


class _Recorder(SumoBridge):
    """A simulation whose positions are read after every step, once `frames` is set. A fork of it reads none."""

    frames: Frames | None = None
    _owner = 0

    def record(self, frames: Frames) -> None:
        self.frames, self._owner = frames, os.getpid()

    def step(self) -> float:
        """See `Bridge.step`."""
        now = super().step()
        if self.frames is not None and os.getpid() == self._owner:  # a branch runs in a fork
            self.frames.read(self.api.vehicle)
        return now


def record(
    ready: PreparedScenario, policy: Policy, *, name: str, traffic_seed: int, branches: float = 0.0
) -> Recording:
    """Run an episode and record it. It equals the one of `relid_sumo.env.play.drive`.

    Parameters
    ----------
    policy, name
        The policy that drives the agents, with planned routes where it needs them, and its name for the progress.
    branches
        Share of the decisions at which every next edge is tried in a fork (see `relid_sumo.env.play.Job`).

    Raises
    ------
    SimulationError
        SUMO failed.
    """
    task = ready.on(traffic_seed).task
    job = Job(traffic_seed, ready.options(traffic_seed), policy, branches=branches)
    step_s, horizon_s = task.scenario.step_length_s, task.scenario.horizon_s
    total = round(horizon_s / max(step_s, FRAME_S))
    with phase(f"recording {name}"), counting(f"recording {name}: frame", total) as tick:
        bridge = _Recorder(job.options, **bridge_settings(task))
        try:
            warm_up(bridge, task.scenario)
            frames = Frames(step_s, lambda: tick(None))
            bridge.record(frames)
            episode = play(task, job, bridge)
        finally:
            bridge.close()
    return Recording(episode, choices(task, policy, episode), frames.tracks())
