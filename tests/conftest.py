"""Shared fixtures: the real extracts, a cache of the tests' own, tasks, a display, and no internet access."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from relid_sumo.base import files
from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.network import network
from relid_sumo.network.graph import RoadGraph
from relid_sumo.runs import layout
from relid_sumo.runs.summary import MEASURED
from relid_sumo.scenario import trips
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Meso, Place, Scenario, Trip
from relid_sumo.scenario.task import RoutingTask, make_task
from relid_sumo.scenario.traffic.history import History
from relid_sumo.scenario.traffic.turn_times import TurnTimes
from relid_sumo.sed.programs.sandbox import missing_isolation
from relid_sumo.sim.toy import ToyBridge, grid

TOWN = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}

# Markers whose tests need a program that a user's machine may lack: (program, how to get it)
PROGRAMS = {
    "gui": ("Xvfb", "apt-get install xvfb"),
    "browser": ("chromedriver", "apt-get install chromium chromium-driver"),
}


def absent(reason: str) -> NoReturn:
    """Skip the test because something it needs is absent; fail it on CI, where everything must be present."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a cache of its own and enable Ctrl-C.

    Each session has a new cache, so that no test uses a network built by an earlier version of the code. The workers of
    xdist share it, so that each network is built once. RELID_SUMO_TEST_CACHE names a folder to reuse between sessions,
    for work on tests that do not concern the building of networks.
    """
    if hasattr(config, "workerinput"):
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; some tests send Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    kept = os.environ.get("RELID_SUMO_TEST_CACHE")
    folder = kept or tempfile.mkdtemp(prefix="relid_sumo-tests-")
    if not kept:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["RELID_SUMO_CACHE"] = folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check that the programs which a test's markers require are installed."""
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
def isolated() -> None:
    """Require a kernel that can isolate programs."""
    reason = missing_isolation()
    if reason is not None:
        absent(reason)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return the session's cache of built networks."""
    return Path(os.environ["RELID_SUMO_CACHE"])


@pytest.fixture(scope="session")
def toy_task() -> Callable[..., RoutingTask]:
    """Return a function that makes tasks without traffic from edge names; other settings go to the scenario."""

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
def free_history() -> Callable[..., History]:
    """Return a function that makes the history of an empty network; `expected` replaces times of edges, s."""

    def make(graph: RoadGraph, expected: Mapping[int, float] | None = None) -> History:
        seconds = graph.free_flow_s.copy()
        for edge, value in (expected or {}).items():
            seconds[edge] = value
        times = TurnTimes(graph, np.tile(seconds[None, :, None], (6, 1, graph.m_out)), seconds)
        return History(times, np.zeros((6, graph.n_edges)), {"micro": np.tile(seconds, (6, 1))})

    return make


@pytest.fixture(scope="session")
def crossing(toy_task: Callable[..., RoutingTask]) -> RoutingTask:
    """Return a task of six agents that cross a grid of 5 x 5 junctions and meet in the middle."""
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
    """Return a function that runs an episode without SUMO: `toy_drive(task, policy, slow={edge: factor})`."""

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
def town_ready(cache_dir: Path) -> PreparedScenario:
    """Return the town with six agents in light traffic: one minute of warm-up, ten minutes, no calibration."""
    del cache_dir  # requested because it sets the cache
    roads = network.build(TOWN, name="town")
    return prepare(
        Scenario(
            name="small-town",
            network=str(TOWN),
            horizon_s=600.0,
            demand=Demand(rate_vph=600.0, warmup_s=60.0),
            meso=Meso(),
            trips=trips.choose(roads, 6, seed=0),
        ),
        simulators=("micro", "meso"),
    )


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Return a function that writes the run folder of a finished cell with invented numbers: `write_run(folder)`."""

    def write(
        folder: Path,
        *,
        scenario: str = "town",
        algo: str = "ippo",
        seed: int = 0,
        updates: int = 5,
        agents: int = 4,
        roads: int = 60,
        faster_s: float = 0.0,
        columns: Mapping[str, float] | None = None,
        evaluated: bool = True,
    ) -> Path:
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True)
        train = {"algo": algo, "seed": seed, "episodes": 4 * updates, "ippo": {"clip": 0.2}}
        versions = {"python": "3.11.2", "relid_sumo": "0.1.0"}
        settings = {
            "format": layout.RUN_FORMAT,
            "train": train,
            "network_key": f"{scenario}-roads",
            "m_out": 3,
            "versions": versions,
        }
        files.write_json(folder / layout.SETTINGS, settings)
        (folder / layout.SCENARIO).write_text(
            f'name = "{scenario}"\nnetwork = "{folder}/town.osm"\nhorizon_s = 900.0\n'
        )
        metrics = [
            {
                "update": i + 1,
                "episodes": 4 * (i + 1),
                "mean_return": -800.0 + 300 * i / updates + rng.normal(),
                "mean_travel_time_s": 900.0 - 300 * i / updates + rng.normal(),
                "arrival_rate": i / updates,
                **{name: value + i for name, value in (columns or {}).items()},
            }
            for i in range(updates)
        ]
        timing = [{"update": i + 1, "rollout_s": 2.0, "learner_s": 0.5} for i in range(updates)]
        for name, rows in ((layout.METRICS, metrics), (layout.TIMING, timing)):
            table = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            (folder / name).write_text("\n".join(table) + "\n")
        if not evaluated:
            return folder
        names, policies = [f"agent{i}" for i in range(agents)], {"trained": 500.0 - faster_s, "shortest": 400.0}
        times = {p: base + 50 * np.arange(agents) + [[0.0], [10.0]] for p, base in policies.items()}
        times["trained"] += rng.normal(0.0, 5.0)
        driven = {
            policy: {
                "return_s": (100.0 - seconds).tolist(),
                "travel_time_s": seconds.tolist(),
                "status": [["arrived"] * (agents - 1) + ["horizon"]] * 2,
                "teleports": [1, 0],
                "background_vehicle_s": [1000.0, 1100.0] if policy == "shortest" else [1030.0, 1280.0],
                "vehicle_s": [1100.0, 1200.0] if policy == "shortest" else [1140.0, 1390.0],
                **{name: (seconds / 10).tolist() for name in MEASURED},
            }
            for policy, seconds in times.items()
        }
        about = {"scenario": scenario, "horizon_s": 900.0, "traffic_seeds": [200, 201], "agents": names}
        about["free_flow_s"] = [[300.0] * agents] * 2
        files.write_json(folder / layout.EVALUATION, {**about, "policies": driven})
        side = max(2, math.isqrt(roads // 2))
        across = [[100 * i, 100 * j, 100 * i + 100, 100 * j] for j in range(side) for i in range(side)]
        up = [[100 * i, 100 * j, 100 * i, 100 * j + 100] for j in range(side) for i in range(side)]
        lines = across + up
        routes = {
            "network": f"{scenario} town",
            "network_key": f"{scenario}-roads",
            "attribution": "drawn by a test",
            "roads": lines,
            "speed_class": [i % 5 for i in range(len(lines))],
            "traffic_seed": 200,
            "agents": names,
            "origin": [0] * agents,
            "destination": [side - 1] * agents,
            "routes": {policy: [list(range(side))] * agents for policy in policies},
        }
        files.write_json(folder / layout.ROUTES, routes)
        return folder

    return write


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """Return a function that waits until a condition is true and returns its value: `wait_until(condition, s)`."""

    def wait(condition: Callable[[], Any], seconds: float, every: float = 0.05) -> Any:  # noqa: ANN401 - as condition
        deadline = time.monotonic() + seconds
        while not (given := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:g} s in vain")
            time.sleep(every)
        return given

    return wait


def processes() -> dict[int, tuple[int, str]]:
    """Return a list of all processes by id: the parent's id and the command, "" for zombies."""
    found = {}
    for process in filter(lambda folder: folder.name.isdigit(), Path("/proc").iterdir()):
        with contextlib.suppress(OSError):  # it may have ended since
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_text().replace("\0", " ").strip()
            if "resource_tracker" not in command:
                found[int(process.name)] = parent, command
    return found


@pytest.fixture(scope="session")
def children() -> Callable[[int], dict[int, str]]:
    """Return a function that lists the children of a process: commands by process id."""
    return lambda pid: {child: command for child, (parent, command) in sorted(processes().items()) if parent == pid}


@pytest.fixture(scope="session")
def descendants() -> Callable[[], dict[int, str]]:
    """Return a function that lists all processes started from here: commands by process id, "" for zombies."""

    def listed() -> dict[int, str]:
        running, found = processes(), {os.getpid()}
        while more := {pid for pid, (parent, _) in running.items() if parent in found} - found:
            found |= more
        return {pid: running[pid][1] for pid in sorted(found - {os.getpid()})}

    return listed


@pytest.fixture
def xvfb(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a virtual X server and point DISPLAY at it; for tests marked gui."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x960x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()  # written when the server is ready; empty if it exits
        if not number:
            pytest.fail(f"Xvfb did not start (exit code {server.wait()})")
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
        server.terminate()


def own_addresses() -> set[str]:
    """Return this machine's own address, which programs such as Ray use instead of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # a documentation address; nothing is sent, only a route is looked up
        return {str(probe.getsockname()[0])}
    return set()


@pytest.fixture(autouse=True, scope="session")
def no_internet() -> Iterator[None]:
    """Refuse connections that leave this machine: tests must neither depend on nor load other servers."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo
    here = LOOPBACK | own_addresses()

    def checked_connect(self: socket.socket, address: Any) -> None:  # noqa: ANN401 - the shape depends on the family
        if self.family != socket.AF_UNIX and address[0] not in here:
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)

    def checked_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as socket.getaddrinfo
        if host is not None and str(host) not in here:
            raise OSError(f"a test tried to look up {host}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket, "getaddrinfo", checked_look_up)
        yield
