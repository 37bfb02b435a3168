"""What the tests share: the real extracts, a cache of their own, tasks to drive, a display, and no way out."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from relid_sumo import network, trips
from relid_sumo.env import Episode, EpisodeRecord
from relid_sumo.graph import RoadGraph
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready, prepare
from relid_sumo.scenario import Demand, Meso, Place, Scenario, Trip
from relid_sumo.task import RoutingTask, make_task
from relid_sumo.toy import ToyBridge, grid

TOWN = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}

# Markers whose tests need a program that a user's machine may lack: (program, how to get it)
PROGRAMS = {
    "gui": ("Xvfb", "apt-get install xvfb"),
    "browser": ("chromium", "apt-get install chromium"),
}


def absent(reason: str) -> NoReturn:
    """Skip the test that needs what is absent; fail it on CI, where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a cache of its own.

    New for every session, so that no test passes on a network which an earlier version of the code built; one for the
    session, and inherited by xdist's workers, so that each network is built once. RELID_SUMO_TEST_CACHE names a folder
    that is kept, for work on tests that do not concern the building of networks.
    """
    if hasattr(config, "workerinput"):
        return
    kept = os.environ.get("RELID_SUMO_TEST_CACHE")
    folder = kept or tempfile.mkdtemp(prefix="relid_sumo-tests-")
    if not kept:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["RELID_SUMO_CACHE"] = folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check that the programs a test's markers speak of are there."""
    for marker, (program, install) in PROGRAMS.items():
        if item.get_closest_marker(marker) and not shutil.which(program):
            absent(f"{program} is not installed: {install}")


@pytest.fixture(scope="session")
def osm_dir() -> Path:
    """Return the first existing folder of RELID_SUMO_OSM_PATH."""
    setting = os.environ.get("RELID_SUMO_OSM_PATH", "")
    for folder in filter(None, setting.split(os.pathsep)):
        if Path(folder).is_dir():
            return Path(folder).resolve()
    absent(f"RELID_SUMO_OSM_PATH names no existing folder with real extracts: '{setting}'")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return the session's cache of built networks."""
    return Path(os.environ["RELID_SUMO_CACHE"])


@pytest.fixture(scope="session")
def toy_task() -> Callable[..., RoutingTask]:
    """Return a maker of tasks without traffic, from edges by name; more settings are the scenario's."""

    def make(
        graph: RoadGraph,
        ends: Sequence[tuple[str, str]],
        *,
        depart_s: Sequence[float] = (),
        closed: Sequence[str] = (),
        edge_times: Any = None,  # noqa: ANN401 - as make_task
        **settings: Any,  # noqa: ANN401 - as Scenario
    ) -> RoutingTask:
        nowhere = Place(lon=0, lat=0, bearing=0)
        departs = depart_s or [0.0] * len(ends)
        scenario = Scenario.model_validate(
            {
                "name": "toy",
                "network": "toy",
                "demand": Demand(warmup_s=0, rate_vph=0),
                "trips": [
                    Trip(id=f"a{i}", origin=nowhere, destination=nowhere, depart_s=t) for i, t in enumerate(departs)
                ],
                **settings,
            }
        )
        index = graph.index
        indices = [(index[a], index[b]) for a, b in ends]
        return make_task(scenario, graph, indices, edge_times, frozenset(index[e] for e in closed))

    return make


@pytest.fixture(scope="session")
def crossing(toy_task: Callable[..., RoutingTask]) -> RoutingTask:
    """Return six agents who cross a grid of 5 x 5 junctions and meet in the middle."""
    ends = [
        ("0>1", "23>24"),
        ("4>3", "21>20"),
        ("20>21", "3>4"),
        ("24>23", "1>0"),
        ("2>7", "17>22"),
        ("10>11", "13>14"),
    ]
    return toy_task(grid(5), ends, depart_s=[4.0 * i for i in range(6)], horizon_s=300.0)


@pytest.fixture(scope="session")
def toy_drive() -> Callable[..., EpisodeRecord]:
    """Return what drives one episode of a task without SUMO: `toy_drive(task, policy, slow={edge: factor})`."""

    def drive(
        task: RoutingTask, policy: Policy, slow: dict[int, float] | None = None, **settings: bool
    ) -> EpisodeRecord:
        episode = Episode(task, ToyBridge(task.graph, slow), observe=policy.observes, **settings)
        choose = policy.start()
        while decisions := episode.advance():
            for decision in decisions:
                episode.act(decision, choose(episode, decision))
        return episode.record()

    return drive


@pytest.fixture(scope="session")
def town_ready(cache_dir: Path) -> Ready:
    """Return six agents in the town in light traffic: a minute of warm-up, ten minutes, nothing to calibrate."""
    del cache_dir  # which has to be set
    roads = network.build(TOWN, name="town")
    return prepare(
        Scenario(
            name="small-town",
            network=str(TOWN),
            horizon_s=600.0,
            demand=Demand(rate_vph=600.0, warmup_s=60.0),
            meso=Meso(),
            trips=trips.choose(roads, 6, seed=0),
        )
    )


@pytest.fixture(scope="session")
def descendants() -> Callable[[], dict[int, str]]:
    """Return what lists the processes started from here, by process id: their commands, "" for zombies."""

    def listed() -> dict[int, str]:
        parents, commands = {}, {}
        for process in filter(lambda folder: folder.name.isdigit(), Path("/proc").iterdir()):
            with contextlib.suppress(OSError):  # it may end while we look
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ").strip()
        found = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        ours = {pid: commands[pid] for pid in sorted(found - {os.getpid()})}
        return {pid: command for pid, command in ours.items() if "resource_tracker" not in command}

    return listed


@pytest.fixture
def xvfb(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run an X server without a screen and point DISPLAY at it; for tests marked gui."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x960x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()  # the server writes it when it is ready, and nothing if it dies
        if not number:
            pytest.fail(f"Xvfb did not start (exit code {server.wait()})")
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
        server.terminate()


@pytest.fixture(autouse=True, scope="session")
def no_internet() -> Iterator[None]:
    """Refuse every connection that leaves this machine: tests must not depend on it, nor burden anyone's server."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:  # noqa: ANN401 - the shape depends on the family
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)

    def checked_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as socket.getaddrinfo
        if host is not None and str(host) not in LOOPBACK:
            raise OSError(f"a test tried to look up {host}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket, "getaddrinfo", checked_look_up)
        yield
