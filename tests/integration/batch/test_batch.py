"""Batches on this machine and on Ray: results, interruptions, and every error of the user."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from relid_sumo.base import files as base_files
from relid_sumo.base import process
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.batch import cell, experiment, local, on_ray, parcel, run, store
from relid_sumo.batch.cell import CellProgress, DiskFullError, Order
from relid_sumo.batch.events import Event
from relid_sumo.batch.store import Standing
from relid_sumo.cli.batch_view import BatchView
from relid_sumo.cli.main import main
from relid_sumo.learn import run_folder
from relid_sumo.runs import layout
from relid_sumo.runs import summary as runs_summary
from relid_sumo.scenario.files import read_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare

pytestmark = pytest.mark.sumo

GRID = """
seeds = [0, 1]
episodes = 6

[scenarios.town.settings]
demand.rate_vph = 300.0
demand.warmup_s = 60.0
horizon_s = 400.0

[evaluation]
seeds = 1
baselines = ["shortest"]

[algorithms.ippo]
episodes_per_update = 2
"""
CELLS = ["town-ippo-0", "town-ippo-1"]


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def process_of(*arguments: str | Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", "from relid_sumo.cli.main import main; main()", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def states(folder: Path) -> dict[str, str]:
    return {standing.cell.name: standing.state for standing in store.standings(folder, store.load(folder))}


def outcome(folder: Path) -> dict[str, bytes]:
    """Return the files that must have the same bytes however a batch was run."""
    files = (layout.METRICS, layout.EVALUATION, layout.ROUTES)
    return {f"{name}/{file}": (folder / "runs" / name / file).read_bytes() for name in CELLS for file in files}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("experiments") / "grid.toml"
    file.write_text(GRID)
    return file


@pytest.fixture(scope="module")
def done(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed batch. Tests must not change it."""
    folder = tmp_path_factory.mktemp("batches") / "undisturbed"
    assert command("batch", grid, "--out", folder, "--quiet") == 0
    return folder


@pytest.fixture
def mine(done: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return shutil.copytree(done, tmp_path / "b")


def test_a_finished_cell_is_an_ordinary_run_folder_with_an_evaluation(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert states(done) == dict.fromkeys(CELLS, "done")
    assert sorted(one.name for one in (done / "runs").iterdir()) == CELLS, "no unfinished run folder is left"
    assert command("evaluate", done / "runs" / CELLS[0], "--seeds", "1", "--baselines", "shortest", "--json") == 0
    by_hand = json.loads(capsys.readouterr().out)["policies"]
    for name, driven in runs_summary.summarise(done / "runs" / CELLS[0]).evaluation.policies.items():  # type: ignore[union-attr]
        (times,) = driven.travel_time_s
        assert sum(times) / len(times) == pytest.approx(by_hand[name]["mean_travel_time_s"], abs=1e-3)


def test_the_command_in_a_summary_reproduces_the_run(done: Path, tmp_path: Path) -> None:
    summary = runs_summary.read_summary(done / "summaries" / f"{CELLS[1]}.json")
    assert summary.cell is not None
    _, *words = shlex.split(summary.cell.command)
    assert command(*words, "--out", tmp_path / "again") == 0
    metrics = (done / "runs" / CELLS[1] / layout.METRICS).read_bytes()
    assert (tmp_path / "again" / layout.METRICS).read_bytes() == metrics


def test_finished_cells_do_not_run_again(
    grid: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cell, "start", lambda _: pytest.fail("a cell was started"))
    before = {file: file.stat().st_mtime_ns for file in (mine / "runs").rglob("*")}
    assert command("batch", grid, "--out", mine) == 0
    assert "2 cells, nothing to run" in capsys.readouterr().err
    shutil.rmtree(mine / "runs" / CELLS[0])  # its summary is enough
    assert command("batch", "status", mine) == 0
    assert "2 done" in capsys.readouterr().out
    assert command("batch", grid, "--out", mine) == 0
    assert {file: file.stat().st_mtime_ns for file in (mine / "runs").rglob("*")}.items() <= before.items()


def test_single_cells_of_a_prepared_batch_give_the_same_bytes(
    grid: Path, done: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "b"
    store.save(mine, experiment.read(grid))
    assert command("batch", "cell", mine, CELLS[0]) == 2
    assert "its scenarios are not prepared" in capfd.readouterr().err
    assert command("batch", grid, "--out", mine, "--prepare") == 0
    assert set(states(mine).values()) == {"waiting"}
    capfd.readouterr()
    assert command("batch", "cell", mine, CELLS[0], "--log-json") == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    assert lines[-1]["message"] == f"done: {CELLS[0]}"
    assert max(line["progress"]["episodes"] for line in lines if (line.get("progress") or {}).get("episodes")) == 6
    assert states(mine) == {CELLS[0]: "done", CELLS[1]: "waiting"}
    assert command("batch", "cell", mine, "0") == 0, "a finished cell does nothing"
    with store.locked_cell(mine, store.load(mine).cells[1]):
        assert command("batch", "cell", mine, "1") == 2
    assert "the cell is run by" in capfd.readouterr().err
    with store.locked(mine):
        assert command("batch", "cell", mine, "1") == 2
    assert "a batch runs on it" in capfd.readouterr().err
    script = Path(__file__).parents[3] / "examples" / "slurm_array.sh"
    (tmp_path / "relid-sumo").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from relid_sumo.cli.main import main; main()' \"$@\"\n"
    )
    (tmp_path / "relid-sumo").chmod(0o755)
    slurm = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1"}
    subprocess.run(["bash", script, mine], env={**os.environ, **slurm}, check=True, capture_output=True)
    assert set(states(mine).values()) == {"done"}
    assert outcome(mine) == outcome(done)
    for wrong in ("town-ipo-0", "7"):
        assert command("batch", "cell", mine, wrong) == 2
    assert "number from 0 to 1" in capfd.readouterr().err


def test_a_batch_accepts_summaries_from_other_machines(
    grid: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b" / "summaries").mkdir(parents=True)
    for name in CELLS:
        shutil.copy(done / "summaries" / f"{name}.json", tmp_path / "b" / "summaries")
    monkeypatch.setattr(cell, "start", lambda _: pytest.fail("a cell was started"))
    assert command("batch", grid, "--out", tmp_path / "b", "--quiet") == 0
    assert command("report", tmp_path / "b", "--out", tmp_path / "r.html") == 0


def test_other_settings_with_the_same_names_are_refused(grid: Path, mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "grid.toml"
    other.write_text(GRID.replace("episodes = 6", "episodes = 8"))
    with pytest.raises(InputError, match="contains runs of these cells with other settings: town-ippo-0, town-ippo-1"):
        run.batch(other, mine, run.BatchSettings(), run.BatchWatch())
    other.write_text(GRID.replace("[0, 1]", "[0, 1, 2]"))
    assert [s.state for s in run.batch(other, mine, run.BatchSettings(), run.BatchWatch(), dry_run=True)] == [
        *("done", "done", "waiting")
    ], "a grid may get more cells"


def test_a_batch_killed_between_the_last_two_steps_of_a_cell_recovers(
    grid: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = mine / "summaries" / f"{CELLS[0]}.json"
    before = summary.read_bytes()
    summary.unlink()
    assert states(mine)[CELLS[0]] == "done"
    monkeypatch.setattr(cell, "start", lambda _: pytest.fail("a cell was started"))
    assert command("batch", grid, "--out", mine, "--quiet") == 0
    assert summary.read_bytes() == before


def test_a_dry_run_prints_the_grid_and_writes_nothing(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("batch", grid, "--out", tmp_path / "b", "--dry-run") == 0
    printed = capsys.readouterr().err
    assert re.search(r"2 cells, 2 to run: about \d+ (s|min), with ", printed)
    assert "2 waiting" in printed
    assert not (tmp_path / "b").exists()


def episodes(folder: Path) -> dict[str, int]:
    found = {}
    for name in CELLS:
        table = folder / "runs" / f"{name}.part" / layout.METRICS
        rows = base_files.read_columns(table).get("episodes") if table.is_file() else None
        found[name] = int(rows[-1]) if rows else 0
        found[name] = 10**6 if (folder / "runs" / name).is_dir() else found[name]
    return found


def reached(batch: subprocess.Popen[str], folder: Path, wanted: int) -> bool:
    return batch.poll() is not None or max(episodes(folder).values()) >= wanted


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a slow machine
def test_a_batch_killed_repeatedly_equals_an_undisturbed_one(
    grid: Path,
    done: Path,
    tmp_path: Path,
    descendants: Callable[[], dict[int, str]],
    wait_until: Callable[..., None],
) -> None:
    folder, before = tmp_path / "b", dict.fromkeys(CELLS, 0)
    for further in (1, 2):  # kill it after this many more updates of a cell
        batch = process_of("batch", grid, "--out", folder, "--workers", "1")
        wait_until(partial(reached, batch, folder, 2 * further), 250, every=0.02)
        batch.kill()
        batch.communicate()
        wait_until(lambda: not descendants(), 20)  # no process outlives its batch
        now = episodes(folder)
        assert all(now[name] >= before[name] for name in CELLS), "no update is lost"
        before = now
    assert command("batch", grid, "--out", folder, "--quiet") == 0
    assert outcome(folder) == outcome(done)


def test_ctrl_c_saves_the_progress_and_prints_how_to_resume(
    grid: Path, tmp_path: Path, descendants: Callable[[], dict[int, str]], wait_until: Callable[..., None]
) -> None:
    folder = tmp_path / "b"
    batch = process_of("batch", grid, "--out", folder)
    wait_until(lambda: list(folder.glob("runs/*.part/checkpoint.pt")), 250)
    assert store.is_locked(folder)
    with pytest.raises(InputError, match=rf"another batch runs on it \(process {batch.pid} on "):
        run.batch(grid, folder, run.BatchSettings(), run.BatchWatch())
    with pytest.raises(InputError, match="another batch runs on it"):
        run.retry(folder, run.BatchSettings(), run.BatchWatch())
    board = next(folder.glob("runs/*.part/checkpoint.pt")).with_name("tensorboard")
    events = EventAccumulator(str(board)).Reload()
    assert "mean_return" in events.Tags()["scalars"], "TensorBoard can read during the run"
    os.killpg(batch.pid, signal.SIGINT)  # as a terminal does
    _, printed = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert "the same command resumes" in printed
    assert "Traceback" not in printed
    assert not descendants()
    assert not store.is_locked(folder)
    assert "unfinished" in states(folder).values()


@pytest.mark.slow
def test_a_failed_cell_has_its_error_and_log_and_the_others_run(
    grid: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b"
    plan = experiment.read(grid)
    broken = folder / "runs" / f"{CELLS[0]}.part"
    (folder / "runs").mkdir(parents=True)
    store.save(folder, plan)
    shutil.copytree(done / "runs" / CELLS[0], broken)  # unfinished, with an incomplete checkpoint
    whole = (broken / run_folder.CHECKPOINT).read_bytes()
    (broken / run_folder.CHECKPOINT).write_bytes(whole[:1000])
    assert command("batch", grid, "--out", folder) == 1
    printed = capsys.readouterr().err
    assert "checkpoint.pt cannot be read" in printed
    assert f"relid-sumo batch retry {folder}" in printed
    assert states(folder) == {CELLS[0]: "failed", CELLS[1]: "done"}
    assert "checkpoint.pt cannot be read" in (folder / "logs" / f"{CELLS[0]}.log").read_text()
    assert command("batch", "status", folder) == 0
    assert "cannot be read" in capsys.readouterr().out
    assert command("batch", grid, "--out", folder, "--quiet") == 1, "a failed cell does not run again without retry"
    (broken / run_folder.CHECKPOINT).write_bytes(whole)
    assert command("batch", "retry", folder, "--quiet") == 0
    assert outcome(folder) == outcome(done)
    assert not list((folder / "failed").iterdir())


def orders(grid: Path, folder: Path) -> list[Order]:
    return [
        Order(one, store.scenario_folder(folder, one), store.part(folder, one), store.log(folder, one), 1)
        for one in experiment.read(grid).cells
    ]


def test_a_cell_fails_if_its_process_dies_and_the_next_one_runs(
    grid: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = process.Child(os_exits)
    monkeypatch.setattr(cell, "start", lambda order: first if order.cell.name == CELLS[0] else process.Child(nothing))
    said = [(event.cell, event.what, str(event.error)) for event in local.run(orders(grid, mine), 1)]
    assert said == [
        (CELLS[0], "failed", "its process ended with exit code 9; out of memory?"),
        (CELLS[1], "done", "None"),
    ]


def os_exits(pipe: object) -> None:
    os._exit(9)


def nothing(pipe: object) -> None:
    pipe.send(None)  # type: ignore[attr-defined]


def test_a_cell_writes_nothing_if_its_batch_has_ended(grid: Path, tmp_path: Path) -> None:
    order = orders(grid, tmp_path)[0]
    orphan = process.Child(cell.work, order, os.getpid() + 1)
    assert isinstance(cell.receive(orphan), SimulationError)
    assert not order.folder.exists()
    assert not order.log.exists()


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised to stop the batch."""


def test_a_full_disk_ends_the_batch_with_one_message_and_fails_no_cell(
    grid: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk may be full in a cell, with any kind of error, or in the batch itself."""
    (order, _) = orders(grid, mine)
    full = shutil.disk_usage(mine)._replace(free=0)
    monkeypatch.setattr(cell, "run", lambda *_: (_ for _ in ()).throw(RuntimeError("file write failed")))
    with pytest.raises(RuntimeError, match="file write failed"):
        cell._checked(order, lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(DiskFullError, match=r"no space left on the disk of .* free some") as caught:
            cell._checked(order, lambda _: None)
    shutil.rmtree(mine / "summaries")
    shutil.rmtree(mine / "runs")
    monkeypatch.setattr(local, "run", lambda *_: (e for e in [Event(CELLS[0], "failed", error=caught.value)]))
    assert command("batch", grid, "--out", mine, "--quiet") == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert states(mine) == dict.fromkeys(CELLS, "waiting")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local, "run", lambda *_: (e for e in [Event(CELLS[0], "done")]))
    monkeypatch.setattr(store, "finish", no_space)
    assert command("batch", grid, "--out", mine, "--quiet") == 2
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["no batch", "old batch", "old run", "old reward", "unwritable", "no file"])
def test_an_unusable_folder_gives_one_message(
    what: str, grid: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[str | Path] = ["batch", "status", mine]
    if what == "no batch":
        (mine / "batch.json").unlink()
        said = "is no batch: it has no batch.json"
    elif what == "old batch":
        base_files.write_json(mine / "batch.json", {"format": 0})
        said = "another version of relid_sumo (format 0, here 1)"
    elif what == "old run":
        summary = json.loads((mine / "summaries" / f"{CELLS[0]}.json").read_text())
        base_files.write_json(mine / "summaries" / f"{CELLS[0]}.json", {**summary, "format": 0})
        said = "another version of relid_sumo (format 0, here 1)"
    elif what == "old reward":
        file = mine / "summaries" / f"{CELLS[0]}.json"
        summary = json.loads(file.read_text())
        base_files.write_json(file, {**summary, "settings": {**summary["settings"], "format": 1}})
        words = ["batch", grid, "--out", mine]
        said = "its observations or rewards have another definition; train again, with another --out"
    elif what == "unwritable":
        (tmp_path / "file").touch()
        words = ["batch", grid, "--out", tmp_path / "file" / "b"]
        said = "cannot be written"
    else:
        words = ["batch", tmp_path / "none.toml", "--out", mine]
        said = "there is no such file"
    assert command(*words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves its log files open
@pytest.mark.timeout(600)  # on a slow machine
def test_on_ray_a_dead_node_loses_no_cell_and_no_cell_runs_twice(
    grid: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - a second to import

    monkeypatch.setattr(on_ray, "PARCEL_EVERY_S", 0.0)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    events: list[Event] = []
    at: dict[str, int] = {}

    def watch(event: Event) -> None:
        """Kill the second node after two updates of both cells."""
        events.append(event)
        if event.progress is not None:
            at[event.cell] = max(at.get(event.cell, 0), event.progress.episodes)
        if nodes and len(at) == len(CELLS) and min(at.values()) >= 4:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    try:
        nodes = [cluster.add_node(num_cpus=1)]
        settings = run.BatchSettings("ray", cluster.address, 1)
        standings = run.batch(grid, tmp_path / "b", settings, run.BatchWatch(event=watch))
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert [standing.state for standing in standings] == ["done", "done"]
    assert outcome(tmp_path / "b") == outcome(done)
    whats = [(event.cell, event.what) for event in events if event.what != "progress"]
    (lost,) = [name for name, what in whats if what == "lost"]
    assert sorted(whats) == sorted([(lost, "lost"), *((name, "done") for name in CELLS)]), "each cell is done once"
    after = events[next(i for i, event in enumerate(events) if event.what == "lost") + 1 :]
    again = next(event.progress for event in after if event.cell == lost)
    assert again is not None
    assert (again.doing, again.episodes >= 4) == ("resumes", True), "it resumes from its last parcel"
    other = next(name for name in CELLS if name != lost)
    episodes_seen = [e.progress.episodes for e in events if e.cell == other and e.progress is not None]
    assert episodes_seen == sorted(episodes_seen), "the other cell was not interrupted"
    read_back = read_scenario(tmp_path / "b" / "runs" / lost / "scenario.toml")
    assert Path(read_back.network).is_file(), "its paths are those of this machine"


def test_a_missing_ray_gives_one_message(
    grid: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(mine / "summaries")
    shutil.rmtree(mine / "runs")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert command("batch", grid, "--out", mine, "--backend", "ray", "--quiet") == 2
    assert 'ray is not installed; install it with: pip install "relid_sumo[ray]"' in capsys.readouterr().err
    monkeypatch.undo()
    for address, said in {
        "127.0.0.1:9": "no Ray cluster can be reached there",
        "head": "not an address; give HOST:PORT or auto",
    }.items():
        assert command("batch", grid, "--out", mine, "--backend", "ray", "--address", address, "--quiet") == 2
        assert f"--address {address}: {said}" in capsys.readouterr().err


def test_a_parcel_contains_all_that_resuming_elsewhere_needs(done: Path, tmp_path: Path) -> None:
    folder = done / "runs" / CELLS[0]
    parcel.unpack_scenario(parcel.pack_scenario(done / "scenarios" / "town"), tmp_path / "scenario")
    packed = parcel.pack_run(folder, done / "logs" / f"{CELLS[0]}.log")
    parcel.unpack_run(packed, tmp_path / "run", tmp_path / "log", tmp_path / "scenario")
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in {"scenario.toml", layout.LOCK}:
            assert (tmp_path / "run" / file.relative_to(folder)).read_bytes() == file.read_bytes()
    network = Path(read_scenario(tmp_path / "run" / "scenario.toml").network)
    assert network == tmp_path / "scenario" / "town.osm"
    run_folder.check_same(*_same(folder, tmp_path / "run"))
    log = tmp_path / "run" / "tensorboard" / "events"
    parcel.grow(log, b"one")
    inode = log.stat().st_ino
    parcel.grow(log, b"one two")
    assert (log.read_bytes(), log.stat().st_ino) == (b"one two", inode), (
        "the file grows in place, as TensorBoard requires"
    )


def _same(before: Path, after: Path) -> tuple[run_folder.RunSettings, PreparedScenario, Path]:
    return run_folder.load(before)[0], prepare(run_folder.load(after)[1]), after


def test_cores_and_memory_limit_the_cells_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv(process.MEMORY_VARIABLE, "1000000000")
    monkeypatch.setattr(local, "free_memory_mib", lambda: 64000.0)
    assert local.room(100) == (8, 1), "one core per cell"
    assert local.room(3) == (3, 2), "few cells use several cores each"
    assert local.room(100, workers=4) == (2, 4)
    monkeypatch.setattr(local, "free_memory_mib", lambda: 2000.0)
    assert local.room(100) == (2, 1), "limited by memory"
    monkeypatch.setattr(local, "free_memory_mib", lambda: 10.0)
    assert local.room(100) == (1, 1), "at least one cell"


def test_memory_is_the_free_memory_or_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.MEMORY_VARIABLE, "123")
    assert process.free_memory_mib() == 123
    monkeypatch.setenv(process.MEMORY_VARIABLE, "much")
    with pytest.raises(InputError, match="RELID_SUMO_MEMORY_MIB=much: give a number of MiB"):
        process.free_memory_mib()


def test_the_view_on_a_terminal_shows_running_and_failed_cells_and_the_remaining_time(grid: Path) -> None:
    cells = experiment.read(grid).cells
    standings = [Standing(one, "waiting") for one in cells]
    console = Console(force_terminal=True, width=120, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    view = BatchView(console)
    view.grid(run.Grid(standings, 1, 1, dict.fromkeys(CELLS, 100.0)))
    view.event(Event(CELLS[0], "progress", CellProgress(0, None, "starts")))
    view.event(Event(CELLS[0], "progress", CellProgress(4, -512.0, "trains")))
    console.print(view._table())
    view.event(Event(CELLS[0], "failed", error=SimulationError("SUMO [said] no")))
    console.print(view._table())
    view.close()
    console.file.close()
    shown = console.export_text()
    for said in (
        "2 cells, 2 to run: about 3 min, with 1 at once",
        "1 running, 0 done, 0 failed, 1 waiting of 2; ETA",
        "4/6",
        "-512",
        "0 running, 0 done, 1 failed, 1 waiting of 2; ETA 2 min",
        "failed town-ippo-0: SUMO [said] no",
    ):
        assert said in shown, said


def test_without_a_terminal_it_prints_lines_and_with_quiet_nothing(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standings = [Standing(one, "waiting") for one in experiment.read(grid).cells]
    for quiet in (False, True):
        view = BatchView(Console(width=120, quiet=quiet))
        view.grid(run.Grid(standings, 2, 1, dict.fromkeys(CELLS, 100.0)))
        view.event(Event(CELLS[0], "progress", CellProgress(6, -512.0, "evaluates 1/2")))
        view.event(Event(CELLS[0], "done"))
        view.event(Event(CELLS[1], "lost", error=SimulationError("its node died")))
        view.close()
        printed = capsys.readouterr().out
        said = ["1 of 2: done town-ippo-0: return -512 s", "1 of 2: lost town-ippo-1: its node died"]
        assert [one in printed for one in said] == [not quiet] * 2
