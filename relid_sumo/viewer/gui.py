"""Show an episode in sumo-gui, or record a picture of it. Showing does not change the traffic."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.episode import warm_up
from relid_sumo.env.play import Job, bridge_settings, drive, play
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import NEVER_INSERTED, EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import SumoBridge

# Colours by Okabe & Ito and by Tol: colour-blind readers can distinguish them, and they are visible on white.
COLOURS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0)),
    *((86, 180, 233), (136, 34, 85), (51, 34, 136), (153, 153, 51), (102, 17, 0)),
)
VIEW, SCHEME = "View #0", "relid_sumo"  # the name sumo-gui gives its view, and the name of the scheme in SETTINGS
WINDOW, SCREEN = (
    (1280, 960),
    (1920, 1440),
)  # pixels: on the user's screen, and on a recording's virtual screen
INCIDENT = (200, 30, 30, 255)
MARGIN = 0.06  # around the trips, as a share of the longer side of their bounding box
ROADS_TO_SCALE_M = 800.0  # in a larger area, edges are drawn wider than they are
MARKED = 50  # agents whose destinations are marked; the names of more would cover the roads
ON_TOP = 200  # drawing layer above the vehicles
INSTALL = "apt-get install xvfb"
NO_DISPLAY = "unable to open display"  # in sumo-gui's message where no X server answers
CLOSED_S = 5.0  # time limit for sumo-gui to exit after its window is closed

# Agents are selected, because selected vehicles keep their screen size when zoomed out. Fuller lanes are darker.
SETTINGS = """<viewsettings>
  <scheme name="relid_sumo">
    <opengl dither="0" fps="0"/>
    <background backgroundColor="white" showGrid="0"/>
    <edges laneEdgeMode="4" laneShowBorders="0" showLinkDecals="0" hideConnectors="1"
           widthExaggeration="{wider:.2f}" minSize="0">
      <colorScheme name="by current occupancy (lanewise, brutto)" interpolated="1">
        <entry color="205,210,216" threshold="0"/>
        <entry color="150,156,164" threshold="0.2"/>
        <entry color="110,116,124" threshold="0.5"/>
        <entry color="80,86,94" threshold="1"/>
      </colorScheme>
    </edges>
    <junctions drawShape="1" junction_minSize="0">
      <colorScheme name="uniform"><entry color="205,210,216"/></colorScheme>
    </junctions>
    <vehicles vehicleMode="0" vehicleQuality="1" vehicle_minSize="0" vehicle_exaggeration="1.3" vehicle_constantSize="1"
              vehicle_constantSizeSelected="1" showBlinker="0">
      <colorScheme name="given vehicle/type/route color"><entry color="30,34,40"/></colorScheme>
    </vehicles>
    <pois poi_minSize="0" poi_exaggeration="4" poi_constantSize="1" poiName_show="1" poiName_size="50"
          poiName_color="black" poiName_bgColor="255,255,255,190" poiName_constantSize="1"/>
    <legend showSizeLegend="1"/>
  </scheme>
</viewsettings>
"""


class _Window(SumoBridge):
    """A sumo-gui process that highlights the agents.

    Attributes
    ----------
    delay_s
        Pause after every step, s.
    picture
        Simulation time of the picture, s, and its file; None for no picture.
    """

    delay_s = 0.0
    picture: tuple[float, Path] | None = None

    def frame(
        self, task: RoutingTask, attribution: str, low: Floats, high: Floats, events: Sequence[tuple[int, str]]
    ) -> None:
        """Show the network between two corners (x, y), m, and mark the destinations and the events."""
        graph, gui, mark = task.graph, self.api.gui, self.api.poi.add
        self._colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(task.names)}
        gui.setSchema(VIEW, SCHEME)
        gui.setBoundary(VIEW, *low.tolist(), *high.tolist())
        foot = (low + (high - low) * (0.5, MARGIN / 3)).tolist()
        mark(attribution, *foot, (0, 0, 0, 0), layer=ON_TOP)
        for i, name in enumerate(task.names if task.n_agents <= MARKED else ()):
            there = np.flatnonzero(task.destination == task.destination[i]).tolist()  # marks lie side by side
            x, y, _ = graph.point_along(int(task.destination[i]), (there.index(i) + 1) / (len(there) + 1))
            mark(name, x, y, (*self._colour[name], 255), layer=ON_TOP)
        for edge, said in events:
            x, y, _ = graph.point_along(edge, 0.5)
            mark(said, x, y, INCIDENT, layer=ON_TOP)

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """See `Bridge.add`."""
        super().add(vehicle, route, depart_s, rerouting=rerouting, kind=kind)
        self.api.vehicle.setColor(vehicle, (*self._colour[vehicle], 255))
        self.api.gui.toggleSelection(vehicle)

    def step(self) -> float:
        """See `Bridge.step`."""
        now = super().step()
        if self.picture is not None and now >= self.picture[0]:
            self.api.gui.screenshot(VIEW, str(self.picture[1]))  # sumo-gui takes the picture in the next step
            self.picture = None
        time.sleep(self.delay_s)
        return now

    def last_word(self) -> str:
        """Return SUMO's last error line, or "". Other lines may come from the window's libraries."""
        line = super().last_word()
        return line if line.startswith("Error:") or NO_DISPLAY in line else ""

    def closed_by_user(self) -> bool:
        """Return whether sumo-gui exited normally, as it does when the user closes its window."""
        assert self._process is not None
        try:
            return self._process.wait(CLOSED_S) == 0
        except subprocess.TimeoutExpired:
            return False


def view(
    ready: PreparedScenario,
    policy: Policy,
    *,
    traffic_seed: int,
    delay_ms: float = 100.0,
    record: Path | None = None,
    record_at_s: float | None = None,
) -> EpisodeRecord | None:
    """Play an episode in sumo-gui and return its record; None if the user closed the window before the end.

    Agents are coloured and keep their size when zoomed out. With at most 50 agents, a mark of the same colour with the
    agent's name shows its destination. Incidents and surges are marked in red. Other vehicles are dark and drawn to
    scale. Fuller lanes are darker. The episode equals the one of `relid_sumo.env.play.drive`, which needs no screen.

    Parameters
    ----------
    traffic_seed
        Traffic seed of the episode.
    delay_ms
        Pause after each step, ms. There is no pause in the warm-up or while recording. Default: 100.
    record
        A .png file: record a picture on a virtual screen instead of showing a window.
    record_at_s
        Time of the picture, s after the warm-up. Default: the time when most agents are driving.

    Raises
    ------
    InputError
        There is no screen and `record` is None, the picture cannot be written, or a setting is out of range.
    SimulationError
        sumo-gui failed.
    """
    if record is not None:
        _check_picture(record)
    elif not os.environ.get("DISPLAY"):
        raise InputError(
            "view needs a screen, but DISPLAY is not set; set it, or record a picture without a screen with "
            f"--record FILE.png (this needs Xvfb: {INSTALL})"
        )
    task, scenario = ready.on(traffic_seed).task, ready.scenario
    if not 0 <= delay_ms < math.inf:
        raise InputError(f"--delay {delay_ms:g}: not a pause; give milliseconds, 0 or more")
    if record_at_s is not None and record is None:
        raise InputError("record_at_s is the time of a picture, but there is no record; give record=FILE.png")
    if record_at_s is not None and not 0 <= record_at_s <= scenario.horizon_s:
        raise InputError(f"record_at_s = {record_at_s:g}: outside the episode; give 0 to {scenario.horizon_s:g} s")
    job = Job(traffic_seed, ready.options(traffic_seed), policy)
    if record is not None and record_at_s is None:
        record_at_s = _busiest(task, drive(task, job))
    with contextlib.ExitStack() as stack:
        pixels = stack.enter_context(_screen()) if record else WINDOW
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".view-", dir=record and record.parent)))
        settings, picture = folder / "settings.xml", folder / "picture.png"
        low, high = _area(task)
        wider = float(np.clip((high - low).max() / ROADS_TO_SCALE_M, 1.0, 4.0))
        settings.write_text(SETTINGS.format(wider=wider), encoding="utf-8")
        options = ["--start", "--quit-on-end", "--window-size", "{},{}".format(*pixels), "--window-pos", "0,0"]
        options += ["--gui-settings-file", str(settings)]
        window = _opened([*job.options, *options], task)
        stack.callback(window.close)
        try:
            window.frame(task, ready.network.attribution, low, high, ready.events_of(traffic_seed))
            warm_up(window, scenario)
            if record_at_s is None:
                window.delay_s = delay_ms / 1000
            else:
                window.picture = scenario.start_s + record_at_s, picture
            episode = play(task, job, window)
        except (SimulationError, *window.failures) as error:
            if record is None and window.closed_by_user():
                return None
            raise SimulationError(f"sumo-gui failed: {window.last_word() or error.__cause__ or error}") from error
        if record is not None:
            if not picture.is_file():
                raise SimulationError(
                    f"sumo-gui took no picture at {record_at_s:g} s: the episode ended earlier; record earlier"
                )
            picture.replace(record)
    return episode


def _opened(options: Sequence[str], task: RoutingTask) -> _Window:
    """Start sumo-gui.

    Raises
    ------
    InputError
        No X server answers at DISPLAY.
    """
    try:
        return _Window(options, **bridge_settings(task), program="sumo-gui")
    except SimulationError as error:
        if NO_DISPLAY not in str(error):
            raise
        raise InputError(
            f"no screen answers at DISPLAY={os.environ.get('DISPLAY')}; correct it, or record a picture without "
            f"a screen with --record FILE.png (this needs Xvfb: {INSTALL})"
        ) from None


def _area(task: RoutingTask) -> tuple[Floats, Floats]:
    """Return the lower left and upper right corner, m, of the area of the free-flow routes, with a margin."""
    edges = {edge for i, origin in enumerate(task.origin) for edge in task.route(i, int(origin))}
    points = np.concatenate([task.graph.shape(edge) for edge in sorted(edges)])
    low, high = points.min(axis=0), points.max(axis=0)
    pad = MARGIN * (high - low).max()
    return low - pad, high + pad


def _check_picture(file: Path) -> None:
    if file.suffix.lower() != ".png":
        raise InputError(f"--record {file}: pictures are .png files; give the name that ending")
    if not file.parent.is_dir():
        raise InputError(f"--record {file}: the folder {file.parent} does not exist; make it first")
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"--record {file}: the file cannot be written; choose another place")


def _busiest(task: RoutingTask, episode: EpisodeRecord) -> float:
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


@contextlib.contextmanager
def _screen() -> Iterator[tuple[int, int]]:
    """Point DISPLAY at a virtual screen if Xvfb is installed, else use the present screen; yield its size, pixels."""
    program, before = shutil.which("Xvfb"), os.environ.get("DISPLAY")
    if program is None and before:
        yield WINDOW
        return
    if program is None:
        raise InputError(f"recording without a screen needs Xvfb, which is not installed: {INSTALL}")
    width, height = SCREEN
    reader, writer = os.pipe()
    command = [program, "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, pass_fds=[writer], stdin=quiet, stdout=quiet, stderr=quiet) as server:
        try:
            os.close(writer)
            with os.fdopen(reader) as answer:
                number = answer.readline().strip()  # written when the server is ready; empty if it exits
            if not number:
                raise SimulationError(f"Xvfb did not start (exit code {server.wait()})")
            os.environ["DISPLAY"] = f":{number}"
            yield SCREEN
        finally:
            if before is None:
                os.environ.pop("DISPLAY", None)
            else:
                os.environ["DISPLAY"] = before
            server.terminate()
