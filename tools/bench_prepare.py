"""Measure how long a new scenario takes from its map to the first update of training, by phase, from an empty cache.

Wall time depends on what else the machine does, so the table also has the CPU time of each phase with its child
processes. On a quiet machine with two cores, a phase in which all samples run at once takes about half of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relid_sumo.base import cache, sumo
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.base.progress import PhaseTime
from relid_sumo.learn import settings as learn_settings
from relid_sumo.learn import train as training
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import meso

BUDGET_S = ((500, 60.0), (5_000, 180.0), (21_000, 600.0))  # wall time on two cores, for networks up to so many edges
SLACK = 1.1  # "500 edges" are 535 of a real extract
EXAMPLES = """examples:
  python tools/bench_prepare.py city.osm                       up to the first update of ippo
  python tools/bench_prepare.py city.osm --algo reled --json city.json
  python tools/bench_prepare.py a.osm b.osm.gz --gap           also the mesoscopic gap on validation traffic
"""


class Phases(logging.Handler):
    """Collect the times of phases from the log, and print notes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[PhaseTime] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store a phase, or print a note."""
        spent = getattr(record, "phase", None)
        if isinstance(spent, PhaseTime):
            self.found.append(spent)
        if record.levelno >= logging.INFO:
            print(record.getMessage(), file=sys.stderr, flush=True)


@contextmanager
def phases() -> Iterator[list[PhaseTime]]:
    """Collect the phases that end inside this context."""
    logger, handler = logging.getLogger("relid_sumo"), Phases()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)


def cpu_s() -> float:
    """Return the CPU time of this process and of its ended children, s."""
    return sum(os.times()[:4])


def measured(source: str, agents: int, algo: str, *, gap: bool) -> dict[str, Any]:
    """Make, prepare and train a scenario in an empty cache up to the first update; return its phases."""
    with tempfile.TemporaryDirectory(prefix="relid-sumo-bench-") as name, phases() as found:
        os.environ[cache.CACHE_VARIABLE] = str(Path(name) / "cache")
        start, start_cpu = time.perf_counter(), cpu_s()
        scenario = load_scenario(source, agents=agents)
        curriculum = [("meso", 0.8), ("micro", 0.2)]
        plan = learn_settings.train_settings({"algo": algo, "episodes": 8, "curriculum": curriculum})
        ready = prepare(scenario, simulators=plan.simulators(scenario))
        before, before_cpu = time.perf_counter(), cpu_s()
        until = _first_update(ready, Path(name) / "run", plan)
        first = PhaseTime("first update", until - before, cpu_s() - before_cpu)
        total = PhaseTime("all", until - start, cpu_s() - start_cpu)
        named = [*found, first]
        rest = PhaseTime(
            "rest", total.wall_s - sum(one.wall_s for one in named), total.cpu_s - sum(one.cpu_s for one in named)
        )
        rows = [*named, rest, total]
        result: dict[str, Any] = {
            "source": Path(source).name,
            "edges": ready.network.graph.n_edges,
            "phases": [vars(row) for row in rows],
        }
        if gap:
            result["gap"] = _gap(ready.scenario, ready)
        return result


class _EnoughError(Exception):
    """The first update is done."""


def _first_update(ready: PreparedScenario, folder: Path, plan: learn_settings.TrainSettings) -> float:
    """Train until the first update; return the time at which it ended."""

    def stop(_: dict[str, float]) -> None:
        raise _EnoughError

    try:
        training.train(ready, folder, plan, watch=training.TrainingWatch(update=stop))
    except _EnoughError:
        return time.perf_counter()
    raise AssertionError("training ended without an update")


def _gap(scenario: Scenario, ready: PreparedScenario) -> dict[str, float]:
    found, floor = meso.compare(scenario, ready.network, scenario.seeds.validation)
    return {**vars(found), **{f"floor_{name}": value for name, value in vars(floor).items()}}


def budget_s(edges: int) -> float:
    """Return the target for a network, s of wall time on two cores."""
    return next((seconds for most, seconds in BUDGET_S if edges <= SLACK * most), BUDGET_S[-1][1])


def table(result: dict[str, Any]) -> str:
    """Return the phases as a Markdown table."""
    lines = [
        f"**{result['source']}** ({result['edges']:,} edges; target {budget_s(result['edges']):.0f} s)",
        "",
        "| phase | wall, s | CPU, s |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {row['what']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} |" for row in result["phases"]]
    return "\n".join(lines)


def main() -> None:
    """Measure each file and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="FILE", help="OSM files")
    parser.add_argument("--agents", type=int, default=10, help="number of agents (default: 10)")
    parser.add_argument("--algo", default="ippo", help="algorithm of the first update (default: ippo)")
    parser.add_argument("--workers", type=int, help="SUMO processes at a time (default: one per core)")
    parser.add_argument("--gap", action="store_true", help="compare the simulators on validation traffic afterwards")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the figures to")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = []
    for source in given.sources:
        try:
            with sumo.limited(given.workers):
                results.append(measured(source, given.agents, given.algo, gap=given.gap))
        except RelidSumoError as error:
            print(f"{source}: {error}\n")
            continue
        print(table(results[-1]) + "\n", flush=True)
        if "gap" in results[-1]:
            print(json.dumps(results[-1]["gap"]) + "\n", flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
