"""Play one or two episodes in windows on the same simulated clock.

Each episode runs in a thread of its own, which waits after every step until all have made it. In between the main
thread draws; so no two threads use a window at the same time, and a window that pauses stops the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from relid_sumo.env.choices import Choice, Chooser
from relid_sumo.env.episode import Episode, warm_up
from relid_sumo.env.play import Job, begin
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.viewer.window import Window

CLOSED_S = 5.0  # time limit for sumo-gui to exit after its window is closed


class _Stopped(Exception):  # noqa: N818 - not an error
    """The show is over."""


class Clock:
    """Lets several threads make one step at a time.

    Attributes
    ----------
    free : bool
        Threads no longer wait for each other.
    """

    def __init__(self, threads: int) -> None:
        self._here, self._on = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
        self.free = self._stopped = False

    def arrive(self) -> None:
        """Wait until all threads have made their step and the main thread lets them continue."""
        if not self.free:
            try:
                self._here.wait()
                self._on.wait()
            except threading.BrokenBarrierError:
                self._stopped = True
        if self._stopped:
            raise _Stopped

    def steps(self) -> Iterator[None]:
        """Yield after each step, when all threads wait; end when a thread failed."""
        try:
            while not self.free:
                self._here.wait()
                yield
                self._on.wait()
        except threading.BrokenBarrierError:
            return

    def stop(self) -> None:
        """End all threads at their next step."""
        self._stopped = True
        self._here.abort()
        self._on.abort()


class Side(threading.Thread):
    """An episode in a window.

    Attributes
    ----------
    episode : Episode or None
        The running episode; None in the warm-up.
    record : EpisodeRecord or None
        The finished episode. The traffic then continues, so that both windows show the same time.
    choices : dict
        The last decision of each agent.
    now : float
        Time of the last step, s (warm-up included).
    ended : threading.Event
        Set when the episode or the thread has ended.
    error : BaseException or None
        Why the thread ended early.
    """

    def __init__(self, name: str, window: Window, task: RoutingTask, job: Job, clock: Clock) -> None:
        super().__init__(name=name, daemon=True)
        self.window, self.task, self.job = window, task, job
        self._clock = clock
        self.episode: Episode | None = None
        self.record: EpisodeRecord | None = None
        self.choices: dict[int, Choice] = {}
        self.now = 0.0
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Play the episode."""
        try:
            self._play()
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
            if not self._clock.free:
                self._clock.stop()
        finally:
            self.ended.set()

    def _play(self) -> None:
        warm_up(self.window, self.task.scenario)
        self.episode = episode = begin(self.task, self.job, self.window)
        self.window.after = self._arrived
        choose, chooser = self.job.policy.start(), Chooser(self.task, self.job.policy)
        while decisions := episode.advance():
            for decision in decisions:
                slot = choose(episode, decision)
                self.choices[decision.agent] = chooser.explain(decision, slot)
                episode.act(decision, slot)
        self.record = episode.record()
        self.ended.set()
        while True:
            self.window.step()

    def _arrived(self, now: float) -> None:
        self.now = now
        self._clock.arrive()


def first_error(sides: Sequence[Side]) -> Side | None:
    """Return the side that failed, if any; the other one was only stopped."""
    return next((side for side in sides if side.error is not None), None)


def closed_by_user(sides: Sequence[Side]) -> bool:
    """Return whether a sumo-gui exited normally, as it does soon after the user closes its window."""
    until = time.monotonic() + CLOSED_S
    while time.monotonic() < until:
        if any(side.window.exit_code() == 0 for side in sides):
            return True
        time.sleep(0.05)
    return False
