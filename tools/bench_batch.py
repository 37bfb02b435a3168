"""Measure the cost and the robustness of a batch; docs/scaling.md contains the results.

    python tools/bench_batch.py overhead    # a batch compared with the same runs started by hand
    python tools/bench_batch.py empty       # 200 cells that do nothing: time and memory of the scheduler
    python tools/bench_batch.py kill        # SIGKILL at 10 random moments: what is lost, are the results equal
    python tools/bench_batch.py report      # a report of 50 runs: time and size

Each part takes minutes and needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from relid_sumo.base import files as base_files
from relid_sumo.base.process import Child
from relid_sumo.runs import layout

# Modules that import torch are imported inside functions, because the 200 empty cells import this file.

GRID = """
seeds = {seeds}
episodes = {episodes}
[scenarios.town.settings]
horizon_s = 700.0
demand.rate_vph = 1200.0
demand.warmup_s = 60.0
[evaluation]
seeds = 2
baselines = ["shortest"]
[algorithms.ippo]
episodes_per_update = 4
"""
ROUNDS = 3


def relid_sumo(*words: str | Path) -> float:
    """Run a relid_sumo command and return its wall-clock time, s."""
    start = time.perf_counter()
    code = f"from relid_sumo.cli.main import main; main({[str(word) for word in words]!r})"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def overhead(scratch: Path) -> None:
    """Time a batch and the same commands run by hand with the same parallelism, several rounds of each."""
    from relid_sumo.batch import experiment, local  # noqa: PLC0415 - see above

    file = scratch / "grid.toml"
    file.write_text(GRID.format(seeds=[0, 1, 2, 3], episodes=24), encoding="utf-8")
    plan = experiment.read(file)
    relid_sumo("batch", file, "--out", scratch / "warm", "--dry-run")  # builds the network for both
    for number in range(ROUNDS):
        batch = relid_sumo("batch", file, "--out", scratch / f"batch-{number}", "--quiet", "--workers", "1")
        slots = local.room(len(plan.cells), 1)[0]

        def by_hand(one: Any, number: int = number) -> None:  # noqa: ANN401 - a cell
            out = scratch / f"hand-{number}" / one.name
            relid_sumo(*shlex.split(one.command)[1:], "--out", out, "--workers", "1")
            relid_sumo("evaluate", out, "--seeds", "2", "--baselines", "shortest", "--workers", "1")

        start = time.perf_counter()
        with ThreadPoolExecutor(slots) as pool:
            list(pool.map(by_hand, plan.cells))
        hand = time.perf_counter() - start
        print(f"round {number + 1}: batch {batch:.1f} s, by hand {hand:.1f} s: {batch / hand - 1:+.1%}")


def nothing(pipe: Connection) -> None:
    """Replace a cell's work by nothing."""
    pipe.recv()
    pipe.send(None)


def empty(scratch: Path) -> None:
    """Schedule 200 cells that do nothing, and print how the memory of this process grows."""
    from relid_sumo.batch import cell, experiment, local, store  # noqa: PLC0415 - see above

    file = scratch / "grid.toml"
    file.write_text(GRID.format(seeds=list(range(200)), episodes=4), encoding="utf-8")
    cells = experiment.read(file).cells
    here = importlib.import_module("bench_batch").nothing  # a name that the child can import, unlike __main__
    cell.start = lambda order: Child(here)
    orders = [
        cell.Order(one, store.scenario_folder(scratch, one), store.part(scratch, one), store.log(scratch, one), 1)
        for one in cells
    ]
    start, memory, files = time.perf_counter(), [], []
    for number, event in enumerate(local.run(orders, 2), start=1):
        assert event.what == "done", event
        if number in {20, 200}:
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
            files.append(len(list(Path("/proc/self/fd").iterdir())))
    took = time.perf_counter() - start
    print(f"200 cells in {took:.1f} s, {took / 200 * 1000:.0f} ms each, two at once")
    print(f"memory after 20 and 200 cells: {memory[0]:.1f}, {memory[1]:.1f} MiB; open files: {files[0]}, {files[1]}")


def kill(scratch: Path) -> None:
    """Kill a batch at ten random moments, and compare its results with those of an undisturbed batch."""
    from relid_sumo.batch import experiment  # noqa: PLC0415 - see above

    file = scratch / "grid.toml"
    text = GRID.format(seeds=[0, 1, 2, 3], episodes=60).replace("1200.0", "300.0").replace("700.0", "400.0")
    file.write_text(text, encoding="utf-8")  # short updates, so that kills fall between them
    took = relid_sumo("batch", file, "--out", scratch / "whole", "--quiet")
    rng, folder, kills = random.Random(0), scratch / "killed", 0
    names = [one.name for one in experiment.read(file).cells]
    before = dict.fromkeys(names, 0)
    while kills < 10:
        code = (
            f"from relid_sumo.cli.main import main; main(['batch', {str(file)!r}, '--out', {str(folder)!r}, '--quiet'])"
        )
        batch = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        moment = rng.uniform(0.0, took / 2)
        try:
            batch.wait(moment)
            print("the batch ended before the tenth kill")
            break
        except subprocess.TimeoutExpired:
            batch.kill()
            batch.wait()
        kills += 1
        time.sleep(1.0)
        now = {name: _episodes(folder, name) for name in names}
        lost = [name for name in names if now[name] < before[name]]
        print(f"kill {kills} after {moment:5.1f} s: episodes {list(now.values())}; fewer than before: {lost or 'none'}")
        before = now
    relid_sumo("batch", file, "--out", folder, "--quiet")
    same = all(
        (folder / "runs" / name / one).read_bytes() == (scratch / "whole" / "runs" / name / one).read_bytes()
        for name in names
        for one in (layout.METRICS, layout.EVALUATION)
    )
    print(f"{kills} kills; metrics and evaluations equal the undisturbed batch's, byte for byte: {same}")


def _episodes(folder: Path, name: str) -> int:
    for one in (folder / "runs" / name, folder / "runs" / f"{name}.part"):
        table = one / layout.METRICS
        rows = base_files.read_columns(table).get("episodes") if table.is_file() else None
        if rows:
            return int(rows[-1])
    return 0


def report(scratch: Path) -> None:
    """Time a report of 50 runs: one run of Orlando (of the town if there is no extract), copied and lengthened."""
    scenario = "orlando" if os.environ.get("RELID_SUMO_OSM_PATH") else "town"
    file = scratch / "grid.toml"
    text = GRID.format(seeds=[0], episodes=4).replace("scenarios.town", f"scenarios.{scenario}")
    file.write_text(text.replace("horizon_s = 700.0\n", ""), encoding="utf-8")
    relid_sumo("batch", file, "--out", scratch / "one", "--quiet")
    (made,) = (scratch / "one" / "runs").iterdir()
    header, *rows = (made / layout.METRICS).read_text().splitlines()
    for number in range(50):
        copy = shutil.copytree(made, scratch / "fifty" / f"run-{number}")
        settings = json.loads((copy / layout.SETTINGS).read_text())
        settings["train"] |= {"algo": f"ippo-{number % 5}", "seed": number // 5}
        base_files.write_json(copy / layout.SETTINGS, settings)
        longer = [f"{i},{4 * i},{rows[0].split(',', 2)[2]}" for i in range(1, 501)]
        (copy / layout.METRICS).write_text("\n".join([header, *longer]) + "\n")
    out = scratch / "report.html"
    took = relid_sumo("report", scratch / "fifty", "--out", out)
    print(f"report of 50 runs of {scenario}, 500 updates each: {took:.1f} s, {out.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {"overhead": overhead, "empty": empty, "kill": kill, "report": report}
    parser.add_argument("what", choices=list(known))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="relid_sumo-bench-") as scratch:
        known[parser.parse_args().what](Path(scratch))


if __name__ == "__main__":
    main()
