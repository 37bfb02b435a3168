"""Worker processes: episodes do not depend on the workers, and no process or file stays afterwards."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base.errors import SimulationError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo

FORK = pytest.mark.parametrize("fork", [True, False], ids=["snapshots", "no snapshots"])
Descendants = Callable[[], dict[int, str]]
Children = Callable[[int], dict[int, str]]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descendants: Descendants) -> Iterator[None]:
    """Check that no process and no temporary file of a test stays."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert descendants() == {}
    assert list((tmp_path / "temporary").iterdir()) == []


def jobs_of(ready: PreparedScenario) -> list[Job]:
    task = ready.task
    weights = Actor(task.n_agents, task.graph.m_out, hidden=8, scorer=8, octaves=3, seed=0).weights()
    policies = [
        Policy("learned", seed=5, weights=weights),
        Policy("learned", weights=weights, greedy=True),
        Policy("random", seed=3),
        Policy("reactive"),
        Policy("rerouting"),
    ]
    return [Job(seed, ready.options(seed), policy) for seed, policy in enumerate(policies)]


def assert_same(one: EpisodeRecord, other: EpisodeRecord) -> None:
    assert one.digest == other.digest
    assert one.status == other.status
    assert one.traffic_seed == other.traffic_seed
    for name in ("agent", "edge", "action", "time", "reward", "observation", "mask", "returns", "travel_time"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    for mine, theirs in zip(one.routes, other.routes, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def expected(town_ready: PreparedScenario) -> list[EpisodeRecord]:
    """Return the episodes of `jobs_of`, run in this process."""
    return [drive(town_ready.task, job) for job in jobs_of(town_ready)]


@pytest.mark.parametrize(
    ("workers", "fork", "memory_mib"),
    [(1, True, None), (2, True, None), (5, True, None), (1, True, 0.0), (2, False, None)],
    ids=["one worker", "two", "more than cores and jobs", "memory for one snapshot", "no snapshots"],
)
def test_an_episode_does_not_depend_on_the_workers(
    town_ready: PreparedScenario, expected: list[EpisodeRecord], workers: int, fork: bool, memory_mib: float | None
) -> None:
    jobs = jobs_of(town_ready)
    seen: list[int] = []
    with Rollouts(town_ready.task, workers, fork=fork, memory_mib=memory_mib) as rollouts:
        records = rollouts.run(jobs, lambda record: seen.append(record.traffic_seed))
        again = rollouts.run(jobs[::-1])[::-1]  # after other episodes, and possibly in other workers
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert len({record.digest for record in records}) == len(jobs)
    for k, record in enumerate(expected):
        assert_same(record, records[k])
        assert_same(record, again[k])


def test_another_traffic_seed_gives_another_episode(town_ready: PreparedScenario) -> None:
    one, other = (drive(town_ready.task, Job(s, town_ready.options(s), Policy("shortest"))) for s in (0, 1))
    assert one.digest != other.digest
    assert one.travel_time.tolist() != other.travel_time.tolist()


@FORK
def test_the_error_contains_sumos_line(town_ready: PreparedScenario, tmp_path: Path, fork: bool) -> None:
    options = list(town_ready.options(0))
    options[options.index("-n") + 1] = str(tmp_path / "nowhere.net.xml")
    bad = Job(0, tuple(options), Policy("shortest"))
    jobs = jobs_of(town_ready)[2:4]
    with Rollouts(town_ready.task, 2, fork=fork) as rollouts:
        with pytest.raises(SimulationError, match=r"nowhere.net.xml' is not accessible"):
            rollouts.run([*jobs, bad])
        assert len(rollouts.run(jobs)) == 2  # the pool still works


@FORK
def test_a_failure_during_an_episode_raises_an_error(town_ready: PreparedScenario, tmp_path: Path, fork: bool) -> None:
    routes = tmp_path / "own.rou.xml"
    edge = town_ready.network.graph.edge_ids[0]
    good = [f'<vehicle id="v{i}" depart="{i}"><route edges="{edge}"/></vehicle>' for i in range(400)]
    bad = '<vehicle id="x" depart="400"><route edges="nowhere"/></vehicle>'
    routes.write_text("\n".join(["<routes>", *good, bad, "</routes>"]))
    options = list(town_ready.options(0))
    options[options.index("-r") + 1] = str(routes)
    options[options.index("--route-steps") + 1] = "200"  # so that SUMO reads the faulty vehicle during the episode
    options.remove("--ignore-route-errors")
    with Rollouts(town_ready.task, 1, fork=fork) as rollouts:
        with pytest.raises(
            SimulationError, match=r"SUMO failed: .*The edge 'nowhere' within the route for vehicle 'x'"
        ):
            rollouts.run([Job(0, tuple(options), Policy("shortest"))])
        assert len(rollouts.run(jobs_of(town_ready)[2:3])) == 1


# --- killed processes -------------------------------------------------------------------------------------------------


def workers_of(children: Children) -> list[int]:
    return [pid for pid, command in children(os.getpid()).items() if "relid_sumo.base.process" in command]


@FORK
def test_the_episode_of_a_killed_worker_runs_again(
    town_ready: PreparedScenario, children: Children, fork: bool
) -> None:
    jobs = [Job(seed, town_ready.options(seed), Policy("random", seed=seed)) for seed in range(4)]
    killed: list[int] = []

    def kill_one(_: EpisodeRecord) -> None:
        if not killed:
            killed.append(workers_of(children)[0])
            os.kill(killed[0], signal.SIGKILL)

    with Rollouts(town_ready.task, 2, fork=fork) as rollouts:
        records = rollouts.run(jobs, kill_one)
    assert killed
    for job, record in zip(jobs, records, strict=True):
        assert_same(drive(town_ready.task, job), record)


@FORK
def test_an_episode_raises_an_error_if_all_its_workers_are_killed(
    town_ready: PreparedScenario, children: Children, fork: bool
) -> None:
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.05):
            for pid in workers_of(children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    with Rollouts(town_ready.task, 1, fork=fork) as rollouts:
        killer.start()
        try:
            with pytest.raises(SimulationError, match=r"traffic seed 2 died 2 times \(ended by SIGKILL\)"):
                rollouts.run(jobs_of(town_ready)[2:3])
        finally:
            over.set()
            killer.join()
        assert len(rollouts.run(jobs_of(town_ready)[2:3])) == 1


def test_a_killed_snapshot_is_replaced(town_ready: PreparedScenario, children: Children) -> None:
    job = jobs_of(town_ready)[2]
    with Rollouts(town_ready.task, 1) as rollouts:
        first = rollouts.run([job])[0]
        (worker,) = workers_of(children)
        (snapshot,) = children(worker)
        os.kill(snapshot, signal.SIGKILL)
        assert_same(first, rollouts.run([job])[0])


@pytest.mark.parametrize(
    ("word", "why"),
    [
        (signal.SIGKILL, "ended by SIGKILL"),
        (signal.SIGSEGV, "ended by SIGSEGV: Error: the road is gone."),
        (signal.SIGSTOP, "no answer in 10 s"),
    ],
    ids=["killed", "crashes", "hangs"],
)
def test_a_lost_episode_runs_again(
    town_ready: PreparedScenario,
    tmp_path: Path,
    children: Children,
    wait_until: Callable[..., int],
    word: signal.Signals,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef first(j): time.sleep(0.02); return j.open_slots[0]\n")
    policy = Policy("own", path=f"{tmp_path / 'slow.py'}:first")
    job = replace(jobs_of(town_ready)[2], policy=policy)  # still driving when it is hit

    def driving() -> int | None:  # the process that drives an episode, in a fork of a snapshot
        snapshots = (snapshot for worker in workers_of(children) for snapshot in children(worker))
        return next((pid for snapshot in snapshots for pid in children(snapshot)), None)

    def hit() -> None:
        pid = wait_until(driving, 60, every=0.002)
        if word == signal.SIGSEGV:
            with Path(f"/proc/{pid}/fd/2").open("a") as last_words:
                last_words.write("Error: the road is gone.\nQuitting (on error).\n")
        os.kill(pid, word)

    with Rollouts(town_ready.task, 1, limit_s=10.0) as rollouts:
        first = rollouts.run([job])[0]
        hitter = threading.Thread(target=hit)
        hitter.start()
        assert_same(first, rollouts.run([job])[0])
        hitter.join()
    assert caplog.messages == [f"the simulation of traffic seed 2 died ({why}); the episode runs again"]


def test_a_hanging_worker_is_replaced(
    town_ready: PreparedScenario, children: Children, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("relid_sumo.env.workers.SLACK_S", 1.0)
    job = jobs_of(town_ready)[2]
    with Rollouts(town_ready.task, 1, fork=False, limit_s=5.0) as rollouts:
        first = rollouts.run([job])[0]
        os.kill(workers_of(children)[0], signal.SIGSTOP)
        assert_same(first, rollouts.run([job])[0])
    assert caplog.messages == ["the simulation of traffic seed 2 died (no answer in 11 s); the episode runs again"]


@FORK
def test_the_error_says_that_memory_is_short(town_ready: PreparedScenario, tmp_path: Path, fork: bool) -> None:
    (tmp_path / "parent.py").write_text(textwrap.dedent(SHORT_OF_MEMORY))
    (tmp_path / "jobs.pickle").write_bytes(pickle.dumps((town_ready.task, jobs_of(town_ready)[2:3], fork)))
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "jobs.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"^out of memory \(.*\); try fewer --workers", done.stdout), done.stdout + done.stderr


SHORT_OF_MEMORY = """
    import pickle, resource, sys
    from relid_sumo.base.errors import SimulationError
    from relid_sumo.env.workers import Rollouts

    if __name__ == "__main__":
        with open(sys.argv[1], "rb") as file:
            task, jobs, fork = pickle.load(file)
        used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) << 10
        room = used + (40 << 20)  # SUMO's libraries need more
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        with Rollouts(task, 1, fork=fork) as rollouts:
            try:
                rollouts.run(jobs)
            except SimulationError as error:
                print(error)
"""


@FORK
def test_a_worker_killed_between_two_runs_is_replaced(
    town_ready: PreparedScenario, children: Children, wait_until: Callable[..., bool], fork: bool
) -> None:
    job = jobs_of(town_ready)[2]
    with Rollouts(town_ready.task, 1, fork=fork) as rollouts:
        first = rollouts.run([job])[0]
        (worker,) = workers_of(children)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not children(os.getpid()).get(worker), 60)  # until it is a zombie
        assert_same(first, rollouts.run([job])[0])


PARENT = """
    import pickle, sys
    from relid_sumo.env.workers import Rollouts

    if __name__ == "__main__":
        with open(sys.argv[1], "rb") as file:
            task, jobs, fork = pickle.load(file)
        with Rollouts(task, 2, fork=fork) as rollouts:
            rollouts.run(jobs, lambda record: print("one", flush=True))
"""


def in_session(leader: int) -> list[str]:
    """Return the living processes of a session."""
    found = []
    for process in filter(lambda folder: folder.name.isdigit(), Path("/proc").iterdir()):
        with suppress(OSError):
            state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(f"{process.name} {(process / 'cmdline').read_text()}")
    return found


@FORK
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_parent(
    town_ready: PreparedScenario, tmp_path: Path, word: signal.Signals, fork: bool
) -> None:
    options = list(town_ready.options(0))
    short = Job(0, tuple(options), Policy("shortest"))
    options[options.index("--step-length") + 1] = "0.001"  # so that an episode takes very long
    long = [Job(seed, tuple(options), Policy("shortest")) for seed in range(2)]
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    (tmp_path / "jobs.pickle").write_bytes(pickle.dumps((town_ready.task, [short, *long], fork)))
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "jobs.pickle")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "one\n"
        time.sleep(0.5)
        assert len(in_session(parent.pid)) >= 3
        if word == signal.SIGINT:
            os.killpg(parent.pid, word)  # as Ctrl-C does
        else:
            parent.send_signal(word)
        _, said = parent.communicate(timeout=20)
    assert parent.returncode != 0
    if word == signal.SIGINT:
        assert said.count("Traceback") == 1  # the parent's; workers print nothing
    until = time.monotonic() + 5
    while (left := in_session(parent.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    for process in left:
        os.kill(int(process.split()[0]), signal.SIGKILL)
    assert left == []
