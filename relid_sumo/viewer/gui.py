"""Show episodes in sumo-gui, one or two side by side, or record them. Showing does not change the traffic."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from relid_sumo.base import progress, temporary
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError, SimulationError, did_you_mean
from relid_sumo.env.play import Job, bridge_settings, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import NEVER_INSERTED, EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.viewer import film, screen
from relid_sumo.viewer.captions import caption, headline, summary
from relid_sumo.viewer.drawing import Drawing
from relid_sumo.viewer.together import Clock, Side, closed_by_user, first_error
from relid_sumo.viewer.window import COLOURS, SETTINGS, Window

LIVE = {1: (1280, 960), 2: (950, 900)}  # size of each window on the user's screen, pixels, by number of windows
SIZES = {".png": {1: (1920, 1440), 2: (1280, 1280)}, ".mp4": {1: (1280, 960), 2: (960, 960)}}
SIZES[".gif"] = {1: (900, 800), 2: (700, 740)}
TEXT = {"": 50, ".png": 80, ".mp4": 60, ".gif": 55}  # size of labels in a window
MARGIN = 0.06  # around the routes, as a share of the longer side of their bounding box
ROADS_TO_SCALE_M = 800.0  # in a larger area, edges are drawn wider than they are
FOLLOWED_M = 500.0  # width of the view that follows an agent
FILM_S, HOLD_S = 30.0, 2.0  # default length of a film; for how long its last frame, and a decision, is held
FEWEST, MOST = 8.0, 20.0  # frames per second of a film
BEFORE_S = 3.0  # a film starts this long before the first departure
pause = time.sleep
AWAY = np.array([-1e6, -1e6])  # nothing is there: sumo-gui draws an empty view, and the warm-up is fast


@dataclass(frozen=True, eq=False)
class Shown:
    """What one window shows.

    Attributes
    ----------
    name : str
        Name of the policy, for titles.
    ready : PreparedScenario
    policy : Policy
    plans : mapping
        Route of each agent's expert, as edge indices by agent index; empty where there are no experts.
    """

    name: str
    ready: PreparedScenario
    policy: Policy
    plans: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class How:
    """How episodes are shown.

    Attributes
    ----------
    delay_ms
        Least time of each step in a window, ms. The delay of the window itself can only make it longer.
    speed
        Simulated seconds per second, of a window or a film, instead of `delay_ms`. Default of a film: as long as it
        takes to show the episode in 30 s.
    agents
        Agents whose routes and decisions are drawn. Default: all.
    follow
        Agent that the view follows.
    at_s, until_s
        Times at which to start and to stop, s after the warm-up. Before `at_s` the episode is played as fast as
        possible; a picture (.png) is taken at `at_s`. Default: the whole episode; a picture when most agents drive.
    pause_at_decisions
        The first window pauses after each decision of an agent that is drawn, until its run button is pressed; a film
        shows the decision for two seconds.
    record
        A .png, .gif or .mp4 file to record without a screen.
    """

    delay_ms: float = 100.0
    speed: float | None = None
    agents: tuple[str, ...] = ()
    follow: str | None = None
    at_s: float | None = None
    until_s: float | None = None
    pause_at_decisions: bool = False
    record: Path | None = None


def view(sides: Sequence[Shown], traffic_seed: int, how: How = How()) -> list[EpisodeRecord] | None:
    """Play one or two episodes in sumo-gui; return their records, or None if a window was closed before the end.

    Two windows show the same traffic at the same time: they step together, and wait for each other. Agents are coloured
    and keep their size when zoomed out; thick lines are the routes they drove, thin lines the routes of their experts
    or those they follow at present; arrows show the last decision, as wide as the policy's probabilities. At the end
    the windows stay open with a summary until they are closed. Each episode equals the one of
    `relid_sumo.env.play.drive`, which needs no screen. That one is driven first, to know when the episode ends, and its
    record is returned where the windows do not show the episode to its end.

    Parameters
    ----------
    sides
        One or two policies, on the same network with the same trips and traffic.
    traffic_seed
        Traffic seed of the episodes.
    how
        See `How`.

    Raises
    ------
    InputError
        There is no screen and nothing to record, the recording cannot be written, a setting is out of range, or the two
        sides differ in their trips or traffic.
    SimulationError
        sumo-gui failed.
    """
    if how.record is None:
        screen.check_display()
    else:
        film.check(how.record)
    _check(sides, traffic_seed, how)
    tasks = [side.ready.on(traffic_seed).task for side in sides]
    jobs = [Job(traffic_seed, side.ready.options(traffic_seed), side.policy) for side in sides]
    with progress.counting("driving the episodes without a window", len(sides)) as tick:
        records: list[EpisodeRecord] = []
        for task, job in zip(tasks, jobs, strict=True):
            records.append(drive(task, job))
            tick(None)
    show = _Show(sides, tasks, jobs, records, traffic_seed, how)
    return list(show.records) if show.run() else None


def _check(sides: Sequence[Shown], traffic_seed: int, how: How) -> None:
    """Raise InputError where a setting is out of range, or where the sides do not fit each other."""
    task, scenario = sides[0].ready.on(traffic_seed).task, sides[0].ready.scenario
    if not 0 <= how.delay_ms < math.inf:
        raise InputError(f"--delay {how.delay_ms:g}: not a pause; give milliseconds, 0 or more")
    if how.speed is not None and not 0 < how.speed < math.inf:
        raise InputError(f"--speed {how.speed:g}: not a speed; give simulated seconds per second, more than 0")
    for option, value in (("--at", how.at_s), ("--until", how.until_s)):
        if value is not None and not 0 <= value <= scenario.horizon_s:
            raise InputError(f"{option} {value:g}: outside the episode; give 0 to {scenario.horizon_s:g} s")
    if how.at_s is not None and how.until_s is not None and how.until_s <= how.at_s:
        raise InputError(f"--until {how.until_s:g} is not after --at {how.at_s:g}; give a later time")
    for option, name in [("--agent", one) for one in how.agents] + [("--follow", how.follow)]:
        if name is not None and name not in task.names:
            near = did_you_mean(name, task.names)
            some = ", ".join(task.names[:10]) + (", ..." if task.n_agents > 10 else "")
            raise InputError(f"{option} {name}: there is no such agent{near}; the agents are {some}")
    for other in sides[1:]:
        why = _difference(sides[0].ready, other.ready, traffic_seed)
        if why:
            raise InputError(
                f"'{other.name}' cannot be shown next to '{sides[0].name}': {why}; compare runs of one scenario"
            )


def _difference(one: PreparedScenario, other: PreparedScenario, traffic_seed: int) -> str:
    """Return how the network, trips or traffic of two scenarios differ; "" where they are the same."""
    if one.network.key != other.network.key:
        return f"its network is '{other.network.name}', another than '{one.network.name}' or built otherwise"
    a, b = one.on(traffic_seed).task, other.on(traffic_seed).task
    same = a.names == b.names and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("origin", "destination", "depart_s")
    )
    if not same:
        return "its agents have other trips"
    if one.options(traffic_seed) != other.options(traffic_seed) or one.scenario.horizon_s != other.scenario.horizon_s:
        return "its traffic differs"
    return ""


class _Show:
    """One show: the windows, what is drawn in them, and the recording."""

    def __init__(
        self,
        sides: Sequence[Shown],
        tasks: Sequence[RoutingTask],
        jobs: Sequence[Job],
        records: Sequence[EpisodeRecord],
        traffic_seed: int,
        how: How,
    ) -> None:
        self.shown, self.tasks, self.jobs, self.records = sides, tasks, jobs, records
        self.seed, self.how = traffic_seed, how
        self.task, scenario = tasks[0], sides[0].ready.scenario
        self.start_s, self.step_s = scenario.start_s, scenario.step_length_s
        self.agents = [i for i, name in enumerate(self.task.names) if not how.agents or name in how.agents]
        self.end_s = max(record.simulated_s for record in records)
        self.last_s = self.end_s + self.step_s  # the step after the end shows the last arrival
        if how.until_s is not None:
            self.end_s, self.last_s = min(self.end_s, how.until_s), min(self.last_s, how.until_s)
        self.low, self.high = _area(self.task, records)
        self.colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(self.task.names)}
        self.events = sides[0].ready.events_of(traffic_seed)
        self.at_s = how.at_s if how.at_s is not None else self._first()
        if self.how.record is not None and self.at_s > self.end_s:
            raise InputError(
                f"--at {self.at_s:g}: the episode ends after {self.end_s:g} s, before this time; record earlier"
            )

    def _first(self) -> float:
        """Return the default time at which to start, s after the warm-up."""
        if self.how.record is None:
            return 0.0
        if self.how.record.suffix.lower() == ".png":
            return busiest(self.task, self.records[0])
        return max(0.0, float(self.task.depart_s.min()) - BEFORE_S)

    def run(self) -> bool:
        """Show the episodes; return whether they ended before a window was closed."""
        n, record = len(self.shown), self.how.record
        width, height = SIZES[record.suffix.lower()][n] if record else LIVE[n]
        clock, sides = Clock(n), list[Side]()
        with contextlib.ExitStack() as stack:
            if record is not None:
                stack.enter_context(screen.virtual(width * n, height))
            folder = stack.enter_context(temporary.folder(".relid_sumo-view-", record and record.parent))
            settings = folder / "settings.xml"
            wider = float(np.clip((self.high - self.low).max() / ROADS_TO_SCALE_M, 1.0, 4.0))
            cars, text = 1.6, TEXT[record.suffix.lower() if record else ""]
            settings.write_text(SETTINGS.format(wider=wider, cars=cars, text=text), encoding="utf-8")
            stack.callback(_end, sides, clock)
            for i in range(n):
                options = ["--window-size", f"{width},{height}", "--window-pos", f"{i * width},0", "--start"]
                options += ["--gui-settings-file", str(settings), *self._breakpoints(i)]
                options += ["--quit-on-end"] if record else []
                options = [*self.jobs[i].options, *options]
                window = Window(options, self.colours, **bridge_settings(self.tasks[i]))
                sides.append(Side(self.shown[i].name, window, self.tasks[i], self.jobs[i], clock))
                window.show(*((AWAY, AWAY + 1.0) if record else (self.low, self.high)))
            for side in sides:
                side.start()
            drawings = [
                Drawing(side, shown.plans, self.low, self.high, self.agents)
                for side, shown in zip(sides, self.shown, strict=True)
            ]
            error: BaseException | None = None
            try:
                if record is None:
                    self._live(sides, drawings, clock)
                else:
                    self._record(sides, drawings, clock, record, folder)
            except (SimulationError, *sides[0].window.failures) as raised:
                error = raised
            failed = first_error(sides)
            error = failed.error if failed is not None else error
            self.records = [side.record or old for side, old in zip(sides, self.records, strict=True)]
            if error is None:
                return True
            if record is None and closed_by_user(sides):
                return clock.free  # whether it was closed at the end
            if not isinstance(error, (SimulationError, *sides[0].window.failures)):
                raise error
            cause = (failed or sides[0]).window.last_word() or error.__cause__ or error
            raise SimulationError(f"sumo-gui failed: {cause}") from error

    def _breakpoints(self, window: int) -> list[str]:
        """Return the option with the times at which a window pauses by itself; it then stays open and can be closed."""
        if self.how.record is not None:
            return []
        times = {self.start_s + self.last_s + self.step_s}
        if self.how.pause_at_decisions and window == 0:
            drawn = np.isin(self.records[0].agent, self.agents)
            times |= set((self.records[0].time[drawn] + 2 * self.step_s).tolist())
        return ["--breakpoints", ",".join(f"{t:g}" for t in sorted(times) if t >= self.start_s + self.at_s)]

    def _now(self, side: Side) -> float:
        """Return the present time, s after the warm-up."""
        return side.now + self.step_s - self.start_s

    def _begin(self, sides: Sequence[Side], drawings: Sequence[Drawing]) -> None:
        """Show the area, with marks that do not change."""
        for side, drawing in zip(sides, drawings, strict=True):
            side.window.show(self.low, self.high)
            drawing.marks(self.events)

    def _follow(self, sides: Sequence[Side]) -> None:
        """Move the views to the agent that they follow."""
        if self.how.follow is None:
            return
        i = self.task.names.index(self.how.follow)
        for side in sides:
            if side.episode and side.episode.vehicles[i].inserted and side.window.has(self.how.follow):
                side.window.follow(self.how.follow, FOLLOWED_M)

    def _live(self, sides: Sequence[Side], drawings: Sequence[Drawing], clock: Clock) -> None:
        """Draw after each step until the end, then leave the windows open until they are closed."""
        step_s = self.how.delay_ms / 1000 if self.how.speed is None else self.step_s / self.how.speed
        begun, last = False, time.monotonic()
        for _ in clock.steps():
            now = self._now(sides[0])
            if not begun:
                self._begin(sides, drawings)
                begun = True
            for drawing in drawings:
                drawing.update(labels=True)
            self._follow(sides)
            self._headlines(sides)
            if now >= self.last_s:
                self._summary(sides)
                clock.free = True
            elif now >= self.at_s:
                pause(max(0.0, last + step_s - time.monotonic()))
            last = time.monotonic()
        if clock.free:
            for side in sides:
                side.join()

    def _headlines(self, sides: Sequence[Side]) -> None:
        """Write what each window shows at its top, and the legend and the attribution at its foot."""
        middle, span = (self.low + self.high) / 2, self.high - self.low
        for i, side in enumerate(sides):
            text = headline(sides, i, self._now(side))
            side.window.mark("headline", float(middle[0]), float(self.high[1] - 0.02 * span[1]), text)
        if self._now(sides[0]) <= self.step_s:
            legend = "box: agent - circle: destination - thick line: driven - thin line: planned - arrows: decision"
            for side in sides:
                window = side.window
                window.mark("legend", float(middle[0]), float(self.low[1] + 0.05 * span[1]), legend)
                foot = self.shown[0].ready.network.attribution
                window.mark("attribution", float(middle[0]), float(self.low[1] + 0.02 * span[1]), foot)

    def _summary(self, sides: Sequence[Side]) -> None:
        """Write the results into the middle of each window."""
        middle, span = (self.low + self.high) / 2, float((self.high - self.low).max())
        for side in sides:
            for k, text in enumerate(summary(self.shown, self.records, self.how.until_s)):
                side.window.mark(f"summary {k}", float(middle[0]), float(middle[1] - 0.04 * span * k), text)

    def _record(
        self, sides: Sequence[Side], drawings: Sequence[Drawing], clock: Clock, file: Path, folder: Path
    ) -> None:
        """Write the recording."""
        picture = file.suffix.lower() == ".png"
        length_s = max(self.last_s - self.at_s, self.step_s)
        speed = self.how.speed or max(length_s / FILM_S, FEWEST * self.step_s)
        every = max(1, math.ceil(speed / (MOST * self.step_s)))
        rate = speed / (every * self.step_s)
        views = [folder / f"{i}.bmp" for i in range(len(sides))]
        frames = 1 if picture else int(length_s / (every * self.step_s)) + 1
        taken, begun, asked, decided = 0, False, False, 0
        what, steps = f"recording {file.name}", 0
        with film.Recording(file, folder, rate) as recording, progress.counting(what, frames) as tick:
            for _ in clock.steps():
                now = self._now(sides[0])
                if not begun:
                    self._begin(sides, drawings)
                    begun = True
                if asked:
                    count = sum(choice.number + 1 for choice in sides[0].choices.values())
                    hold = self.how.pause_at_decisions and count > decided
                    decided, taken, asked = count, taken + 1, False
                    last = picture or now >= self.last_s
                    frame = film.framed(views, self._caption(sides, now))
                    recording.add(frame, max(1, round(HOLD_S * rate)) if hold or last else 1)
                    tick(None)
                    clock.free = last
                if now + self.step_s >= self.at_s and not clock.free:
                    if steps % every == 0 or now + self.step_s >= self.last_s:
                        self._follow(sides)
                        for drawing, side, one in zip(drawings, sides, views, strict=True):
                            drawing.update(labels=False)
                            side.window.picture(one)
                        asked = True
                    steps += 1
            if (failed := first_error(sides)) is not None and failed.error is not None:
                raise failed.error  # here, so that no file is written
        if not picture and self.how.until_s is None:
            for side in sides:
                side.ended.wait()

    def _caption(self, sides: Sequence[Side], now: float) -> film.Caption:
        notes = {"incidents"} if self.events else set()
        if any(shown.policy.name == "learned" for shown in self.shown):
            notes.add("probabilities")
        if any(shown.plans for shown in self.shown):
            notes.add("expert")
        return caption(self.shown, sides, self.records, self.agents, now, frozenset(notes))


def _end(sides: Sequence[Side], clock: Clock) -> None:
    """End all threads and windows."""
    clock.stop()
    for side in sides:
        side.window.kill()
    for side in sides:
        if side.ident is not None:
            side.join()
        side.window.close()


def _area(task: RoutingTask, records: Sequence[EpisodeRecord]) -> tuple[Floats, Floats]:
    """Return the corners, m, of the area of the free-flow routes and of those driven, with a margin."""
    edges = {edge for i, origin in enumerate(task.origin) for edge in task.route(i, int(origin))}
    edges |= {int(edge) for record in records for route in record.routes for edge in route}
    points = np.concatenate([task.graph.shape(edge) for edge in sorted(edges)])
    low, high = points.min(axis=0), points.max(axis=0)
    pad = MARGIN * (high - low).max()
    return low - pad, high + pad


def busiest(task: RoutingTask, episode: EpisodeRecord) -> float:
    """Return the middle of the longest interval with the most agents driving, s after the warm-up."""
    drove = np.array([status != NEVER_INSERTED for status in episode.status])
    start = task.depart_s[drove]
    end = np.minimum(start + episode.travel_time[drove], task.scenario.horizon_s)
    if not len(start):
        return 0.0
    times = np.unique([*start, *end])
    middle = (times[:-1] + times[1:]) / 2
    under_way = ((start <= middle[:, None]) & (middle[:, None] < end)).sum(axis=1)
    length = np.where(under_way == under_way.max(), np.diff(times), 0.0)
    return float(math.floor(middle[np.argmax(length)]))
