"""Episodes in a real sumo-gui, on a virtual X server."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import traci
from matplotlib.image import imread
from PIL import Image

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Events, Surge
from relid_sumo.viewer import gui, together
from relid_sumo.viewer.drawing import INCIDENT
from relid_sumo.viewer.gui import How, Shown
from relid_sumo.viewer.opponents import check as check_opponent
from relid_sumo.viewer.window import COLOURS

CLIENT_MESSAGE = 33
SEED = 3
Id = ctypes.c_ulong


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)


def headless(ready: PreparedScenario, policy: Policy) -> EpisodeRecord:
    return drive(ready.task, Job(SEED, ready.options(SEED), policy))


def sides(ready: PreparedScenario, *names: str) -> list[Shown]:
    return [Shown(name, ready, Policy(name, seed=1)) for name in names]


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Return a function that runs another one in a thread, which is joined at the end of the test."""
    threads: list[threading.Thread] = []

    def run(function: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=function))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join()


def close_window(title: bytes) -> None:
    """Wait for a window, let it play briefly and close it as a click on its close button does."""

    class Message(ctypes.Structure):
        _fields_ = (
            *(("type", ctypes.c_int), ("serial", Id), ("sent", ctypes.c_int), ("display", ctypes.c_void_p)),
            *(("window", Id), ("kind", Id), ("format", ctypes.c_int), ("data", Id * 5), ("rest", Id * 12)),
        )

    x = ctypes.CDLL("libX11.so.6")
    x.XOpenDisplay.restype, x.XInternAtom.restype, x.XDefaultRootWindow.restype = ctypes.c_void_p, Id, Id
    display = ctypes.c_void_p(x.XOpenDisplay(None))
    root = Id(x.XDefaultRootWindow(display))
    kind, what = (x.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(1.0)
        windows, count, name = ctypes.POINTER(Id)(), ctypes.c_uint(), ctypes.c_char_p()
        unused = Id()
        x.XQueryTree(display, root, *map(ctypes.byref, (unused, unused, windows, count)))
        for window in windows[: count.value]:
            x.XFetchName(display, Id(window), ctypes.byref(name))
            if name.value and title in name.value:
                time.sleep(2.0)
                message = Message(CLIENT_MESSAGE, 0, 1, display, window, kind, 32, (Id * 5)(what))
                x.XSendEvent(display, Id(window), 0, Id(0), ctypes.byref(message))
                x.XCloseDisplay(display)
                return
    x.XCloseDisplay(display)


@pytest.mark.gui
@pytest.mark.sumo
def test_windows_play_the_episodes_of_no_window_and_stay_open_with_a_summary(
    xvfb: str,
    town_ready: PreparedScenario,
    in_background: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, apart, errors, pauses = threading.Event(), list[float](), list[str](), list[float]()
    run, finish, draw = gui._Show.run, gui._Show._summary, gui._Show._headlines

    def ran(show: gui._Show) -> bool:
        errors.clear()  # those of the windows alone: an episode without a window may ask for a vehicle that has left
        return run(show)

    def finished(show: gui._Show, playing: Sequence[together.Side]) -> None:
        finish(show, playing)
        ended.set()

    def drawn(show: gui._Show, playing: Sequence[together.Side]) -> None:
        draw(show, playing)
        apart.append(playing[0].now - playing[1].now)

    def noted(error: Exception, message: str, *_: object) -> None:
        errors.append(message)

    monkeypatch.setattr(gui._Show, "run", ran)
    monkeypatch.setattr(gui._Show, "_summary", finished)
    monkeypatch.setattr(gui._Show, "_headlines", drawn)
    monkeypatch.setattr(gui, "pause", pauses.append)
    monkeypatch.setattr(traci.exceptions.TraCIException, "__init__", noted)

    def close_both() -> None:
        assert ended.wait(120)
        for _ in range(2):
            close_window(b"SUMO")

    in_background(close_both)
    shown = gui.view(sides(town_ready, "reactive", "rerouting"), SEED, How(delay_ms=40))
    told = tuple(errors)
    assert shown is not None
    assert [one.digest for one in shown] == [
        headless(town_ready, Policy(name, seed=1)).digest for name in ("reactive", "rerouting")
    ]
    assert set(apart) == {0.0}, "both windows show the same time"
    assert not told, "sumo-gui writes each into its message window"
    assert len(pauses) == round(max(one.simulated_s for one in shown)), "one in each step, none in the warm-up"
    assert max(pauses) > 0


def pixels(picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]], colour: tuple[int, int, int]) -> int:
    """Return the number of pixels of the view, without the table below it, that have a colour."""
    view = picture[: int(0.7 * len(picture)), :, :3]
    return int((np.abs(view * 255 - colour).max(axis=-1) < 2).sum())


@pytest.mark.gui
@pytest.mark.sumo
def test_a_picture_shows_roads_agents_and_destinations(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path
) -> None:
    busy, early = tmp_path / "town.png", tmp_path / "early.png"
    for file, at_s in ((busy, None), (early, 0.0)):  # before the first departure: destinations only
        assert gui.view(sides(town_ready, "shortest"), SEED, How(record=file, at_s=at_s)) is not None
    assert sorted(tmp_path.iterdir()) == [early, busy]
    picture, marks = imread(busy), imread(early)
    assert picture.shape[1] > 1800
    assert picture.shape[0] > 1200
    assert pixels(picture, (205, 210, 216)) > 10_000
    colours = COLOURS[: town_ready.task.n_agents]
    assert all(pixels(marks, colour) > 100 for colour in colours)
    driving = [pixels(picture, colour) > pixels(marks, colour) + 100 for colour in colours]
    assert sum(driving) >= len(colours) - 1, "one may hide behind another"


@pytest.mark.gui
@pytest.mark.sumo
def test_a_picture_marks_the_place_of_a_surge(no_screen: None, town_ready: PreparedScenario, tmp_path: Path) -> None:
    surges = Events(
        ordinary=0.0,
        with_incidents=0.0,
        with_both=0.0,
        surge=Surge(vehicles=5, begin_s=(0.0, 60.0), radius_m=250.0, min_distance_m=600.0),
    )
    crowded = prepare(town_ready.scenario.model_copy(update={"events": surges}))
    red = []
    for number, ready in enumerate((town_ready, crowded)):
        file = tmp_path / f"{number}.png"
        gui.view(sides(ready, "shortest"), SEED, How(record=file, at_s=0.0))
        red.append(pixels(imread(file), INCIDENT[:3]))
    assert red[0] == 0
    assert red[1] > 20


@pytest.mark.gui
@pytest.mark.sumo
def test_films_show_two_policies_side_by_side(no_screen: None, town_ready: PreparedScenario, tmp_path: Path) -> None:
    how = How(at_s=60.0, until_s=66.0, speed=20.0)
    for name in ("a.gif", "a.mp4"):
        shown = gui.view(sides(town_ready, "shortest", "random"), SEED, replace(how, record=tmp_path / name))
        assert shown is not None
        assert [len(one.status) for one in shown] == [town_ready.task.n_agents] * 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gif", "a.mp4"]
    frames = 6 + round(gui.HOLD_S * 20)  # one for each second, and the last one held
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.width > 1300
        durations = []
        for number in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(number)
            durations.append(gif.info["duration"])
    assert sum(durations) == 50 * frames
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))[0] == frames


@pytest.mark.gui
@pytest.mark.sumo
def test_a_recorded_episode_is_the_one_of_no_window_and_leaves_no_process(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    played: list[EpisodeRecord | None] = []
    end = gui._end

    def ended(playing: Sequence[together.Side], clock: together.Clock) -> None:
        end(playing, clock)
        played.extend(side.record for side in playing)

    monkeypatch.setattr(gui, "_end", ended)
    how = How(record=tmp_path / "a.gif", speed=200.0, agents=("agent1",), follow="agent1")
    assert gui.view(sides(town_ready, "reactive"), SEED, how) is not None
    assert played[0] is not None
    assert played[0].digest == headless(town_ready, Policy("reactive", seed=1)).digest
    assert any("Xvfb" in str(process.args) for process in started)
    assert all(process.poll() is not None for process in started)
    assert "DISPLAY" not in os.environ


@pytest.mark.gui
@pytest.mark.sumo
def test_closing_a_window_ends_the_view(
    xvfb: str, town_ready: PreparedScenario, in_background: Callable[[Callable[[], None]], None]
) -> None:
    in_background(lambda: close_window(b"SUMO"))
    assert gui.view(sides(town_ready, "shortest", "random"), SEED, How(delay_ms=100)) is None


@pytest.mark.gui
@pytest.mark.sumo
def test_a_killed_sumo_gui_raises_an_error(
    xvfb: str, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "CLOSED_S", 0.5)
    monkeypatch.setattr(gui._Show, "_begin", lambda _, playing, __: playing[0].window.kill())
    for how in (How(), How(record=tmp_path / "a.png")):
        with pytest.raises(SimulationError, match=r"^sumo-gui failed: .*[Cc]onnection"):
            gui.view(sides(town_ready, "shortest"), SEED, how)
    assert not list(tmp_path.iterdir())


@pytest.mark.sumo
def test_the_default_picture_is_taken_when_most_agents_are_driving(town_ready: PreparedScenario) -> None:
    episode = headless(town_ready, Policy("shortest"))
    start = town_ready.task.depart_s
    at = gui.busiest(town_ready.task, episode)
    busy = [int(((start <= t) & (t < start + episode.travel_time)).sum()) for t in range(600)]
    assert busy[int(at)] == max(busy)


@pytest.mark.sumo
def test_the_error_without_a_screen_names_the_fix(no_screen: None, town_ready: PreparedScenario) -> None:
    with pytest.raises(InputError, match=r"DISPLAY is not set.*--record FILE\.png.*apt-get install xvfb"):
        gui.view(sides(town_ready, "shortest"), SEED)


@pytest.mark.sumo
def test_the_error_of_a_screen_that_does_not_answer_names_the_variable(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":7654")
    with pytest.raises(InputError, match=r"no screen answers at DISPLAY=:7654; correct it, .*--record FILE\.png"):
        gui.view(sides(town_ready, "shortest"), SEED)


@pytest.mark.sumo
def test_the_error_without_xvfb_names_the_fix(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="apt-get install xvfb"):
        gui.view(sides(town_ready, "shortest"), SEED, How(record=tmp_path / "a.png"))
    assert not list(tmp_path.iterdir())


@pytest.mark.sumo
def test_the_error_without_an_encoder_names_the_extra(
    town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match=r'pip install "relid_sumo\[video\]"'):
        gui.view(sides(town_ready, "shortest"), SEED, How(record=tmp_path / "a.mp4"))


@pytest.mark.sumo
def test_the_error_without_ffmpeg_names_another_kind_of_film(
    town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found. Install ffmpeg")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(InputError, match=r"--record of an \.mp4 needs ffmpeg.*install ffmpeg, or record a \.gif"):
        gui.view(sides(town_ready, "shortest"), SEED, How(record=tmp_path / "a.mp4"))


@pytest.mark.sumo
@pytest.mark.parametrize(
    ("name", "complaint"), [("a.jpg", r"\.png"), ("no/a.png", "does not exist"), ("d.png", "another place")]
)
def test_a_recording_that_cannot_be_written_is_refused_before_anything_runs(
    town_ready: PreparedScenario, tmp_path: Path, name: str, complaint: str
) -> None:
    (tmp_path / "d.png").mkdir()
    never = replace(town_ready, scenario=None)  # type: ignore[arg-type]  # any use of the scenario would fail
    with pytest.raises(InputError, match=complaint):
        gui.view(sides(never, "shortest"), SEED, How(record=tmp_path / name))


@pytest.mark.sumo
@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (How(delay_ms=-1.0), "--delay -1"),
        (How(speed=0.0), "--speed 0"),
        (How(at_s=9000.0), "--at 9000: outside the episode; give 0 to 600 s"),
        (How(at_s=9.0, until_s=9.0), "--until 9 is not after --at 9"),
        (How(agents=("agent11",)), "--agent agent11: there is no such agent .did you mean 'agent1'"),
        (How(follow="bus"), "--follow bus: .*the agents are agent0, agent1"),
    ],
)
def test_impossible_settings_are_refused(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch, how: How, complaint: str
) -> None:
    monkeypatch.setenv("DISPLAY", ":nowhere")
    with pytest.raises(InputError, match=complaint):
        gui.view(sides(town_ready, "shortest"), SEED, how)


@pytest.mark.sumo
def test_a_picture_after_the_end_is_refused(no_screen: None, town_ready: PreparedScenario, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--at 600: the episode ends after \d+ s"):
        gui.view(sides(town_ready, "shortest"), SEED, How(record=tmp_path / "a.png", at_s=600.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.sumo
def test_runs_of_other_networks_trips_and_traffic_are_not_compared(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":nowhere")
    scenario, task, network = town_ready.scenario, town_ready.task, town_ready.network
    longer = scenario.model_copy(update={"horizon_s": 700.0})
    for other, complaint in (
        (
            replace(town_ready, network=replace(network, summary={**network.summary, "key": "another"})),
            "its network is",
        ),
        (replace(town_ready, task=replace(task, depart_s=task.depart_s + 1)), "its agents have other trips"),
        (replace(town_ready, scenario=longer), "its traffic differs"),
    ):
        pair = [Shown("a", town_ready, Policy("shortest")), Shown("b", other, Policy("shortest"))]
        with pytest.raises(InputError, match=f"'b' cannot be shown next to 'a': {complaint}.*compare runs of one"):
            gui.view(pair, SEED)


@pytest.mark.parametrize(
    ("against", "complaint"),
    [
        ("rerouteing", r"no such baseline or run folder \(did you mean 'rerouting'\?\)"),
        ("runs/missing", "give a run folder, 'demonstration', or one of random"),
        (".", "not a run folder"),
    ],
)
def test_an_unknown_opponent_is_refused(against: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        check_opponent(against)
