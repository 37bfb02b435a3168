"""An episode in a real sumo-gui, on a virtual X server."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.viewer import gui as module
from relid_sumo.viewer.gui import COLOURS, view

CLIENT_MESSAGE = 33
Id = ctypes.c_ulong


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)


def headless(ready: PreparedScenario, policy: Policy, traffic_seed: int) -> EpisodeRecord:
    return drive(ready.task, Job(traffic_seed, ready.options(traffic_seed), policy))


@pytest.mark.gui
@pytest.mark.sumo
@pytest.mark.parametrize("name", ["random", "rerouting"])
def test_sumo_gui_plays_the_same_episode_as_without_a_screen(
    xvfb: str, town_ready: PreparedScenario, name: str
) -> None:
    policy = Policy(name, seed=1)
    shown = view(town_ready, policy, traffic_seed=3, delay_ms=0)
    assert shown is not None
    assert shown.digest == headless(town_ready, policy, 3).digest


@pytest.mark.gui
@pytest.mark.sumo
def test_the_delay_pauses_after_every_step_but_not_in_the_warm_up(
    xvfb: str, town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, sleep = list[float](), time.sleep

    def noted(seconds: float) -> None:
        pauses.append(seconds)
        sleep(0.0 if seconds == 0.04 else seconds)

    monkeypatch.setattr(time, "sleep", noted)
    shown = view(town_ready, Policy("shortest"), traffic_seed=3, delay_ms=40)
    assert shown is not None
    warm_up = round(town_ready.scenario.start_s)
    assert [p for p in pauses if p in {0.0, 0.04}] == [0.0] * warm_up + [0.04] * round(shown.simulated_s)


def pixels(picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]], colour: tuple[int, int, int]) -> int:
    """Return the number of pixels that have a colour."""
    return int((np.abs(picture[..., :3] * 255 - colour).max(axis=-1) < 2).sum())


@pytest.mark.gui
@pytest.mark.sumo
def test_a_recording_shows_roads_agents_and_destinations(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path
) -> None:
    file = tmp_path / "town.png"
    shown = view(town_ready, Policy("shortest"), traffic_seed=3, record=file)
    assert shown is not None
    assert shown.digest == headless(town_ready, Policy("shortest"), 3).digest
    assert list(tmp_path.iterdir()) == [file]
    busy, early = imread(file), tmp_path / "early.png"
    view(town_ready, Policy("shortest"), traffic_seed=3, record=early, record_at_s=0.0)
    marks = imread(early)  # before the first departure: destinations only
    assert busy.shape[1] > 1800
    assert busy.shape[0] > 1200
    assert pixels(busy, (205, 210, 216)) > 10_000
    driving = [pixels(busy, c) > pixels(marks, c) + 100 for c in COLOURS[: town_ready.task.n_agents]]
    assert sum(driving) >= town_ready.task.n_agents - 1, "one may hide behind another"
    for colour in COLOURS[: town_ready.task.n_agents]:
        assert pixels(marks, colour) > 100


@pytest.mark.gui
@pytest.mark.sumo
def test_a_recording_ends_its_x_server_and_restores_display(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(SimulationError, match="took no picture at 600 s: the episode ended earlier"):
        view(town_ready, Policy("shortest"), traffic_seed=3, record=tmp_path / "late.png", record_at_s=600.0)
    assert any("Xvfb" in str(process.args) for process in started)
    assert all(process.poll() is not None for process in started)
    assert "DISPLAY" not in os.environ
    assert not list(tmp_path.iterdir())


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
def test_closing_the_window_ends_the_view(
    xvfb: str, town_ready: PreparedScenario, in_background: Callable[[Callable[[], None]], None]
) -> None:
    in_background(lambda: close_window(b"SUMO"))
    assert view(town_ready, Policy("shortest"), traffic_seed=3, delay_ms=100) is None


@pytest.mark.gui
@pytest.mark.sumo
def test_a_killed_sumo_gui_raises_an_error(
    xvfb: str, town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(window: module._Window, *_: object) -> None:
        assert window._process is not None
        window._process.kill()

    monkeypatch.setattr(module._Window, "frame", killed)
    with pytest.raises(SimulationError, match=r"sumo-gui failed: [Cc]onnection"):
        view(town_ready, Policy("shortest"), traffic_seed=3)


@pytest.mark.sumo
def test_the_default_picture_is_taken_when_most_agents_are_driving(town_ready: PreparedScenario) -> None:
    episode = headless(town_ready, Policy("shortest"), 3)
    start = town_ready.task.depart_s
    at = module._busiest(town_ready.task, episode)
    busy = [int(((start <= t) & (t < start + episode.travel_time)).sum()) for t in range(600)]
    assert busy[int(at)] == max(busy)


@pytest.mark.sumo
def test_the_error_without_a_screen_names_the_fix(no_screen: None, town_ready: PreparedScenario) -> None:
    with pytest.raises(InputError, match=r"DISPLAY is not set.*--record FILE\.png.*apt-get install xvfb"):
        view(town_ready, Policy("shortest"), traffic_seed=3)


@pytest.mark.sumo
def test_the_error_of_a_screen_that_does_not_answer_names_the_variable(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":7654")
    with pytest.raises(InputError, match=r"no screen answers at DISPLAY=:7654; correct it, .*--record FILE\.png"):
        view(town_ready, Policy("shortest"), traffic_seed=3)


@pytest.mark.sumo
def test_the_error_without_xvfb_names_the_fix(
    no_screen: None, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="apt-get install xvfb"):
        view(town_ready, Policy("shortest"), traffic_seed=3, record=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.sumo
@pytest.mark.parametrize(
    ("name", "complaint"), [("a.jpg", r"\.png"), ("no/a.png", "does not exist"), ("d.png", "another place")]
)
def test_a_picture_that_cannot_be_written_is_refused_before_anything_runs(
    town_ready: PreparedScenario, tmp_path: Path, name: str, complaint: str
) -> None:
    (tmp_path / "d.png").mkdir()
    never = replace(town_ready, scenario=None)  # type: ignore[arg-type]  # any use of the scenario would fail
    with pytest.raises(InputError, match=complaint):
        view(never, Policy("shortest"), traffic_seed=3, record=tmp_path / name)


@pytest.mark.sumo
def test_a_picture_time_outside_the_episode_is_refused(town_ready: PreparedScenario, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outside the episode; give 0 to"):
        view(town_ready, Policy("shortest"), traffic_seed=3, record=tmp_path / "a.png", record_at_s=1e6)


@pytest.mark.sumo
@pytest.mark.parametrize(
    ("settings", "complaint"), [({"delay_ms": -1.0}, "--delay -1"), ({"record_at_s": 9.0}, "give record=FILE")]
)
def test_impossible_settings_are_refused(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch, settings: dict[str, float], complaint: str
) -> None:
    monkeypatch.setenv("DISPLAY", ":nowhere")
    with pytest.raises(InputError, match=complaint):
        view(town_ready, Policy("shortest"), traffic_seed=3, **settings)  # type: ignore[arg-type]
