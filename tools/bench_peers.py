"""Measure episodes per minute and memory against RouteRL on one scenario, in one sitting.

The scenario is a folder in the form of the Urban Routing Benchmark: a .net.xml, agents.csv and od_*.txt. 40 % of its
drivers are agents. RouteRL runs from its own environment, with the versions it pins; its agents choose one of four
routes at departure, at random. Here agents observe and choose the next edge at every junction, on free-flow fastest
routes. Runs alternate, and are compared as ratios, because the speed of a machine varies.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urb_trips

from relid_sumo.env.observation import Junction, roads
from relid_sumo.env.play import job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.given.source import Inputs
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator

SHARE = 0.4
HORIZON_S = 5400.0  # departures last an hour
EXAMPLES = """example, with RouteRL in an environment of its own:
  python3.11 -m venv peer && peer/bin/pip install routerl==2.0.0 libsumo==1.21.0 eclipse-sumo==1.21.0
  python tools/bench_peers.py FOLDER --peer peer/bin/python --json peers.json
"""
TARGETS = {"libsumo": 1.2, "default": 3.0}  # times RouteRL's episodes per minute, microscopic
MESO_TARGET = 15.0


def follow(junction: Junction) -> int:
    """Observe as a learned policy does, and take the slot of the free-flow fastest route."""
    roads(junction)
    return min(junction.open_slots, key=lambda slot: junction.free_flow_to_go(junction.next_edge(slot)))


class Memory:
    """The largest memory of a process and all its children, MiB, shared pages counted once; sampled twice a second."""

    def __init__(self, pid: int) -> None:
        self.most = 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the sampling and return the maximum."""
        self._over.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, sum(map(_pss_mib, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def peer(python: Path, scenario: Path, work: Path, days: int, machines: int, *, libsumo: bool) -> dict[str, Any]:
    """Run RouteRL in its own environment, and return its figures."""
    script = Path(__file__).with_name("peer_routerl.py")
    words = [python.absolute(), script, scenario, "--work", work, "--days", days, "--machines", machines]
    packages = next(python.absolute().parent.parent.glob("lib/python3*/site-packages"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean["SUMO_HOME"] = str(packages / "sumo")
    clean["PATH"] = f"{python.absolute().parent}:{clean.get('PATH', '')}"
    process = subprocess.Popen(
        [*map(str, words), *(["--libsumo"] if libsumo else [])], stdout=subprocess.PIPE, env=clean, text=True
    )
    memory = Memory(process.pid)
    out, _ = process.communicate()
    most = memory.stop()
    if process.returncode:
        raise SystemExit(f"RouteRL ended with code {process.returncode}")
    return {**json.loads(out.splitlines()[-1]), "memory_mib": most}


def ours(ready: PreparedScenario, simulator: Simulator, episodes: int, workers: int) -> dict[str, Any]:
    """Run episodes here, and return their seconds; the first one, with SUMO's start, is not counted."""
    policy = Policy("own", path=f"{Path(__file__).resolve()}:follow")
    memory = Memory(os.getpid())
    with Rollouts(ready.task, workers) as rollouts:
        rollouts.run([job(ready, 0, policy, simulator)] * workers)
        began = time.perf_counter()
        records = rollouts.run([job(ready, 0, policy, simulator)] * episodes)
        seconds = time.perf_counter() - began
    return {
        "episode_s": seconds / episodes,
        "memory_mib": memory.stop(),
        "agents": len(records[0].status),
        "arrived": sum(status == "arrived" for status in records[0].status),
        "decisions": len(records[0].action),
    }


def main() -> None:
    """Measure all parts and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="Python of RouteRL's environment")
    parser.add_argument("--work", type=Path, help="folder for RouteRL's files; its paths take minutes")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions of each measurement (default: 2)")
    parser.add_argument("--days", type=int, default=2, help="days or episodes in each (default: 2)")
    parser.add_argument("--workers", type=int, default=2, help="simulation processes here (default: 2)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (od,) = options.scenario.glob("od_*.txt")
        drivers = urb_trips.trips(options.scenario / "agents.csv", od)
        (folder / "drivers.trips.xml").write_text(drivers)
        agents = round(SHARE * drivers.count("<trip "))
        work = options.work or folder / "routerl"
        (net,) = options.scenario.glob("*.net.xml")
        changes = [f"horizon_s={HORIZON_S}", "demand.warmup_s=0"]
        scenario = load_scenario(
            net, changes=changes, fleet=agents, inputs=Inputs(routes=(folder / "drivers.trips.xml",))
        )
        ready = prepare(scenario, simulators=("micro", "meso"))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "RouteRL, libsumo": lambda: peer(options.peer, options.scenario, work, options.days, agents, libsumo=True),
            "RouteRL, default": lambda: peer(options.peer, options.scenario, work, options.days, agents, libsumo=False),
            "here, micro": lambda: ours(ready, "micro", options.days * options.workers, options.workers),
            "here, meso": lambda: ours(ready, "meso", 8 * options.workers, options.workers),
        }
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in parts}
        for number in range(options.rounds):
            for name, run in parts.items():
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
                results[name].append(run())
    report(results, options.json)


def report(results: dict[str, list[dict[str, Any]]], file: Path | None) -> None:
    """Print one line per part and the ratios, and write the figures."""
    per_minute, memory = {}, {}
    for name, rounds in results.items():
        seconds = [second for one in rounds for second in one.get("days_s", [one.get("episode_s")])]
        per_minute[name] = 60.0 / statistics.median(seconds)
        memory[name] = max(one["memory_mib"] for one in rounds)
        print(f"{name:18s} {per_minute[name]:8.2f} episodes per minute {memory[name]:8.0f} MiB")
    for other, target in TARGETS.items():
        rival = f"RouteRL, {other}"
        ratio = per_minute["here, micro"] / per_minute[rival]
        print(f"micro / {rival}: {ratio:.2f} (target {target:g})")
    ratio = per_minute["here, meso"] / per_minute["RouteRL, libsumo"]
    print(f"meso / RouteRL, libsumo: {ratio:.1f} (target {MESO_TARGET:g})")
    if file is not None:
        file.write_text(
            json.dumps({"results": results, "per_minute": per_minute, "memory_mib": memory}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
