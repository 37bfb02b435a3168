"""Measure the engine: resets, overhead over SUMO, the mesoscopic simulation, workers, learner, growth.

Alternatives are measured in turn within one run and compared as ratios (median, lowest, highest), because the speed of
a machine varies. One scenario takes about ten minutes. Growth (generated towns of up to 32,000 edges) takes ten more.
Networks are built once and cached.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import make_town
import numpy as np

from relid_sumo.base import seeding, sumo
from relid_sumo.env.episode import Episode
from relid_sumo.env.play import Job, play, warmed
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn import run_folder
from relid_sumo.learn import settings as learn_settings
from relid_sumo.network import network
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.settings import Demand, Meso, Place, Scenario, Simulator, Trip
from relid_sumo.scenario.task import make_task
from relid_sumo.scenario.traffic import meso
from relid_sumo.scenario.traffic.readings import LEVELS, Readings
from relid_sumo.scenario.traffic.sumo_options import AGENT_TYPE
from relid_sumo.sim.bridge import Bridge
from relid_sumo.sim.snapshot import Snapshot, in_fork

ROUNDS = 3  # repetitions of each measurement
RESETS = 20
SIZES, AGENTS = (500, 2000, 8000, 32000), (10, 100, 1000)
TOWN_SEED = 7
WORKER_JOBS = 4
SPIN = 6_000_000
GROWTH_S, GROWTH_WARMUP_S = 300.0, 60.0
COLD_BYTES = 1 << 24
EXAMPLES = """examples:
  python tools/bench_engine.py --json engine.json                          all parts, on the embedded town
  python tools/bench_engine.py --scenario orlando --json orlando.json --skip growth
  python tools/bench_engine.py --only growth --json growth.json
"""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU time, s, of a function that runs in a fork of this process."""

    def timed() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return in_fork(timed)


# --- resets -----------------------------------------------------------------------------------------------------------


def resets(ready: PreparedScenario) -> dict[str, Any]:
    """Time resets by fork (child ready, agents added) and by load() in place with warm-up; compare the episodes."""
    task, options = ready.task, ready.options(0)
    job = Job(0, options, Policy("shortest"))

    def answer(bridge: Bridge, whole: bool, pipe: Connection) -> None:
        if not whole:
            Episode(task, bridge)
            pipe.send("ready")
        else:
            pipe.send(play(task, job, bridge).digest)

    snapshot = Snapshot[bool](lambda: warmed(task, options), answer)
    forks, digests = [], set()
    for _ in range(RESETS):
        start = time.perf_counter()
        snapshot.send(False)
        snapshot.answer()
        forks.append(1000 * (time.perf_counter() - start))
    for _ in range(RESETS):
        snapshot.send(True)
        digests.add(snapshot.answer())
    snapshot.close()

    def load() -> list[float]:
        bridge, seconds = warmed(task, options), []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            bridge.api.load(list(options))
            for _ in range(round(ready.scenario.start_s / ready.scenario.step_length_s)):
                bridge.step()
            seconds.append(1000 * (time.perf_counter() - start))
        return seconds

    loads = in_fork(load)
    return {
        "reset_fork_ms": statistics.median(forks),
        "reset_load_ms": statistics.median(loads),
        "reset_ratio": statistics.median(loads) / statistics.median(forks),
        "hashes_equal": len(digests) == 1,
        "reset_fork_ms_spread": spread(forks),
        "reset_load_ms_spread": spread(loads),
    }


# --- overhead ---------------------------------------------------------------------------------------------------------


def overhead(ready: PreparedScenario, folder: Path) -> dict[str, Any]:
    """Measure the CPU time of an episode on fixed routes: in the environment, in a bare loop, in the sumo binary."""
    task, graph, scenario = ready.task, ready.task.graph, ready.scenario
    options = ready.options(0)
    routes = {}
    for i in range(task.n_agents):  # each agent's last alternative, so that the route changes while it drives
        found = alternatives(graph, int(task.origin[i]), int(task.destination[i]))
        routes[i] = tuple(found[-1])
    policy = Policy("fixed", routes=routes)
    record = in_fork(lambda: play(task, Job(0, options, policy), warmed(task, options)))
    driven = [[str(name) for name in graph.edge_ids[route]] for route in record.routes]
    departs = [scenario.start_s + float(t) for t in task.depart_s]
    steps = round((scenario.start_s + record.simulated_s) / scenario.step_length_s)

    def through_environment() -> None:
        play(task, Job(0, options, policy), warmed(task, options))

    def only_steps() -> None:
        bridge = warmed(task, options)
        for name, route, depart in zip(task.names, driven, departs, strict=True):
            bridge.add(name, route, depart)
        step = bridge.api.simulationStep
        for _ in range(round(record.simulated_s / scenario.step_length_s)):
            step()

    agents = folder / "agents.rou.xml"
    rows = [
        f'<vehicle id="{name}" type="{AGENT_TYPE}" depart="{depart}" departLane="best" departSpeed="max">'
        f'<route edges="{" ".join(route)}"/></vehicle>'
        for name, route, depart in sorted(zip(task.names, driven, departs, strict=True), key=lambda row: row[2])
    ]
    agents.write_text("\n".join(["<routes>", f'<vType id="{AGENT_TYPE}"/>', *rows, "</routes>"]), encoding="utf-8")
    background = options[options.index("-r") + 1]
    command = [word if word != background else f"{background},{agents}" for word in options]

    def binary() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        sumo.run("sumo", [*command, "--end", str(steps * scenario.step_length_s), "--no-step-log"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    importlib.import_module("libsumo")  # once per process, not once per episode
    rounds = [(cpu(through_environment), cpu(only_steps), binary()) for _ in range(ROUNDS)]
    over_loop, over_binary = [a / b for a, b, _ in rounds], [a / c for a, _, c in rounds]
    return {
        "overhead_ratio": statistics.median(over_loop),
        "overhead_binary_ratio": statistics.median(over_binary),
        "overhead_ratio_spread": spread(over_loop),
        "overhead_binary_ratio_spread": spread(over_binary),
        "overhead_cpu_s": {
            name: statistics.median(row[i] for row in rounds)
            for i, name in enumerate(("environment", "loop", "binary"))
        },
        "overhead_decisions": len(record.agent),
    }


# --- the mesoscopic simulation ----------------------------------------------------------------------------------------


def mesoscopic(ready: PreparedScenario) -> dict[str, Any]:
    """Compare the speed of both simulations, and their travel times on the validation traffic."""
    task, scenario = ready.task, ready.scenario

    def stepping(simulator: Simulator) -> float:
        bridge = warmed(task, ready.options(0, simulator))
        Episode(task, bridge)  # adds the agents, which then drive their free-flow fastest paths
        start = time.process_time()
        for _ in range(round(scenario.horizon_s / scenario.step_length_s)):
            bridge.step()
        return time.process_time() - start

    def episode(simulator: Simulator) -> float:
        job = Job(0, ready.options(0, simulator), Policy("random"))
        bridge = warmed(task, job.options)
        start = time.process_time()
        record = play(task, job, bridge)
        return (time.process_time() - start) / record.simulated_s

    def ratios(measure: Callable[[Simulator], float]) -> list[float]:
        return [in_fork(lambda: measure("micro")) / in_fork(lambda: measure("meso")) for _ in range(ROUNDS)]

    steps, episodes = ratios(stepping), ratios(episode)
    gap, floor = meso.compare(scenario, ready.network, scenario.seeds.validation)
    return {
        "meso_speedup": statistics.median(steps),
        "meso_speedup_spread": spread(steps),
        "meso_speedup_episode": statistics.median(episodes),
        "meso_speedup_episode_spread": spread(episodes),
        "meso_gap_light": gap.light,
        "meso_gap_loaded": gap.loaded,
        "meso_correlation": gap.correlation,
        "micro_again_gap_light": floor.light,
        "micro_again_gap_loaded": floor.loaded,
        "micro_again_correlation": floor.correlation,
        "meso_trips": gap.trips,
    }


# --- workers ----------------------------------------------------------------------------------------------------------


def _spin(count: int) -> None:
    total = 0
    for i in range(count):
        total += i & 3


def control(processes: int) -> float:
    """Return the rate, units/s, at which this many processes together do plain arithmetic."""
    workers = [multiprocessing.get_context("fork").Process(target=_spin, args=(SPIN,)) for _ in range(processes)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return processes / (time.perf_counter() - start)


def workers(ready: PreparedScenario) -> dict[str, Any]:
    """Measure episodes per minute of one and two workers, compared with the arithmetic rate at the same time."""
    result: dict[str, Any] = {}
    for simulator in ("micro", "meso"):
        count = WORKER_JOBS if simulator == "micro" else 8 * WORKER_JOBS
        jobs = [
            Job(seed, ready.options(seed, simulator), Policy("random", seed=n))
            for n in range(count)
            for seed in [ready.scenario.seeds.training[n % 2]]
        ]
        with Rollouts(ready.task, 1) as one, Rollouts(ready.task, 2) as two:
            for pool in (one, two):  # every worker warms up its simulations
                pool.run(jobs[:4])
                pool.run(jobs[:4])
            efficiency, rates = [], []
            for _ in range(ROUNDS):
                single, alone = control(1), _rate(one, jobs[: count // 2])
                double, both = control(2), _rate(two, jobs)
                efficiency.append((both / alone) / (double / single))
                rates.append((60 * alone, 60 * both, double / single))
        key = "workers2_efficiency" if simulator == "micro" else "workers2_efficiency_meso"
        result |= {
            key: statistics.median(efficiency),
            f"{key}_spread": spread(efficiency),
            f"episodes_per_minute_{simulator}": {
                "1 worker": statistics.median(r[0] for r in rates),
                "2 workers": statistics.median(r[1] for r in rates),
                "control": statistics.median(r[2] for r in rates),
            },
        }
    return result


def _rate(pool: Rollouts, jobs: Sequence[Job]) -> float:
    start = time.perf_counter()
    pool.run(jobs)
    return len(jobs) / (time.perf_counter() - start)


# --- learner ----------------------------------------------------------------------------------------------------------


def learner(ready: PreparedScenario, folder: Path) -> dict[str, Any]:
    """Measure the learner's share of a run's wall time, and a stacked update compared with a loop over the agents."""
    from relid_sumo.learn.train import train  # noqa: PLC0415 - imports torch, which forks must not contain

    result: dict[str, Any] = {}
    for simulator, updates in (("micro", 4), ("meso", 16)):
        out = folder / f"share-{simulator}"
        settings = learn_settings.train_settings(
            {"algo": "ippo", "episodes": 4 * updates, "curriculum": [(simulator, 1.0)]}
        )
        train(ready, out, settings)
        rows = [line.split(",") for line in (out / run_folder.TIMING).read_text(encoding="utf-8").splitlines()[1:]]
        driven, learnt = (np.array([float(row[i]) for row in rows]) for i in (1, 2))
        half = len(rows) // 2  # by then most simulations are warm
        name = "learner_share" if simulator == "micro" else "learner_share_meso"
        result[name] = float(learnt.sum() / (driven + learnt).sum())
        result[f"{name}_warm"] = float(learnt[half:].sum() / (driven + learnt)[half:].sum())
    for agents in (10, 64, 256):
        ratios = _stacked(agents, ready.task.graph.m_out)
        result |= {f"stacked_speedup_{agents}": statistics.median(ratios), f"stacked_{agents}_spread": spread(ratios)}
    return result


def _stacked(agents: int, slots: int) -> list[float]:
    import torch  # noqa: PLC0415 - see above

    from relid_sumo.learn.algos.gae import Batch  # noqa: PLC0415
    from relid_sumo.learn.algos.ippo import Ippo  # noqa: PLC0415
    from relid_sumo.learn.algos.settings import IppoSettings  # noqa: PLC0415

    torch.set_num_threads(1)
    rng, decisions = seeding.stream(0, "bench"), 80
    shape = agents, decisions
    whole = Batch(
        observation=rng.uniform(-1, 1, (*shape, 2 * slots + 2)).astype(np.float32),
        mask=np.ones((*shape, slots), dtype=bool),
        action=rng.integers(0, slots, shape),
        reward=rng.normal(-20, 5, shape).astype(np.float32),
        last=np.tile(np.arange(decisions) % 20 == 19, (agents, 1)),
        valid=np.ones(shape, dtype=bool),
    )
    parts = [Batch(**{name: value[i : i + 1] for name, value in vars(whole).items()}) for i in range(agents)]
    stacked = Ippo(agents, slots, IppoSettings(), 0)
    alone = [Ippo(1, slots, IppoSettings(), i) for i in range(agents)]

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def loop() -> None:
        for one, part in zip(alone, parts, strict=True):
            one.update(part, 0.0)

    stacked.update(whole, 0.0)  # the first call allocates memory
    return [seconds(loop) / seconds(lambda: stacked.update(whole, 0.0)) for _ in range(ROUNDS)]


# --- growth -----------------------------------------------------------------------------------------------------------


def town(edges: int, folder: Path) -> network.Network:
    """Return the network of a generated town."""
    file = folder / f"town{edges}.osm"
    make_town.make_town(edges, TOWN_SEED, file)
    return network.build(file, name=f"town{edges}")


def crowd(roads: network.Network, agents: int) -> PreparedScenario:
    """Return a scenario of agents with random trips of 1 to 3 km in light traffic, in proportion to the town."""
    graph, rng = roads.graph, seeding.stream(0, "crowd", agents)
    ends: list[tuple[int, int]] = []
    while len(ends) < agents:
        origin, destination = rng.integers(0, graph.n_edges, 2).tolist()
        gap = float(np.hypot(*(graph.end_xy[origin] - graph.end_xy[destination])))
        if 1000 <= gap <= 3000:
            ends.append((origin, destination))
    here = Place(lon=0, lat=0, bearing=0)
    departs = np.sort(rng.uniform(0, 60, agents))
    scenario = Scenario(
        name=f"{roads.name}-{agents}",
        network=roads.name,
        horizon_s=GROWTH_S,
        simulator="meso",
        meso=Meso(),
        demand=Demand(rate_vph=1.5 * graph.n_edges, warmup_s=GROWTH_WARMUP_S),
        trips=tuple(
            Trip(id=f"agent{i}", origin=here, destination=here, depart_s=float(t)) for i, t in enumerate(departs)
        ),
    )
    task = make_task(scenario.model_copy(update={"horizon_s": 1e5}), graph, ends)  # some trips are long
    quantiles = np.zeros((graph.n_edges, len(LEVELS)))  # translating takes as long with any
    return PreparedScenario(scenario, roads, replace(task, scenario=scenario, readings=Readings(quantiles, quantiles)))


def growth(folder: Path) -> dict[str, Any]:
    """Measure CPU time per agent and simulated second, and memory, by size of the town and number of agents."""
    rows = []
    for edges in SIZES:
        roads = town(edges, folder)
        for agents in AGENTS:
            ready = crowd(roads, agents)
            row = {"edges": roads.graph.n_edges, "agents": agents, **_cost(ready)}
            if edges == SIZES[0]:
                row["own_cold_seconds_per_vehicle_second"] = _cost(ready, cold=True)["own_seconds_per_vehicle_second"]
            say(f"  {row}")
            rows.append(row)
    return {"growth": rows, **_thousand(folder)}


def _cost(ready: PreparedScenario, *, cold: bool = False) -> dict[str, float]:
    """Return CPU seconds per agent and second of driving (in total, and without SUMO's steps), and peak memory, MiB.

    With `cold`, each step also reads as much memory as a large town's, so that the code after it finds cold processor
    caches. This reading counts as SUMO's time.
    """
    from relid_sumo.learn.algos.nets import Actor  # noqa: PLC0415 - in a fork: no simulation contains torch

    task = ready.task
    weights = in_fork(lambda: Actor(task.n_agents, task.graph.m_out, hidden=64, octaves=0, scorer=32, seed=0).weights())
    job = Job(0, ready.options(0, "meso"), Policy("learned", weights=weights))

    def measured() -> tuple[float, float, float, float]:
        bridge = warmed(task, job.options)
        own_step, spent, walk = bridge.step, [0.0], np.zeros(COLD_BYTES if cold else 0, dtype=np.uint8)

        def step() -> float:
            start = time.process_time()
            now = own_step()
            np.add(walk, 1, out=walk)
            spent[0] += time.process_time() - start
            return now

        bridge.step = step  # type: ignore[method-assign] # separates SUMO's time from ours
        start = time.process_time()
        record = play(task, job, bridge)
        total = time.process_time() - start
        ends = np.minimum(record.travel_time, ready.scenario.horizon_s - task.depart_s)
        return total, spent[0], float(ends.sum()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    tries = [in_fork(measured) for _ in range(3)]
    total, stepping, on_road, peak = min(tries, key=lambda t: t[0])
    return {
        "seconds_per_vehicle_second": total / on_road,
        "own_seconds_per_vehicle_second": (total - stepping) / on_road,
        "peak_mib": peak,
    }


def _thousand(folder: Path) -> dict[str, Any]:
    """Train 1000 agents on the town of 8,000 edges for two updates; return times and the peak of all processes."""
    ready = crowd(town(8000, folder), 1000)
    for seed in ready.scenario.seeds.training[:8]:
        ready.options(seed, "meso")
    watch = Memory()
    start = time.perf_counter()

    def work() -> None:
        from relid_sumo.learn.train import train  # noqa: PLC0415 - torch, in a process of its own

        settings = learn_settings.train_settings({"algo": "ippo", "episodes": 8, "curriculum": [("meso", 1.0)]})
        train(ready, folder / "thousand", settings)

    in_fork(work)
    rows = (folder / "thousand" / run_folder.TIMING).read_text(encoding="utf-8").splitlines()[1:]
    return {
        "thousand_agents_peak_mib": watch.stop(),
        "thousand_agents_two_updates_s": time.perf_counter() - start,
        "thousand_agents_learner_s": [float(row.split(",")[2]) for row in rows],
    }


class Memory:
    """Record the memory of all descendant processes (proportional set size: shared memory counts once)."""

    def __init__(self) -> None:
        self._peak, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self._peak = max(self._peak, sum(_pss_mib(pid) for pid in _below(os.getpid())))

    def stop(self) -> float:
        """Stop recording and return the peak, MiB."""
        self._over.set()
        self._thread.join()
        return self._peak


def _below(root: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent == root or parent in found} - found:
        found |= more
    return found


def _pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


# --- main -------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a progress line."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and write the figures."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("relid_sumo").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="town", help="scenario to measure (default: town)")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file to write the figures to")
    parts = ("resets", "overhead", "meso", "workers", "learner", "growth")
    parser.add_argument(
        "--only", nargs="+", choices=parts, default=parts, help="measure only these parts (default: all)"
    )
    parser.add_argument(
        "--skip", nargs="+", choices=parts, default=[], help="do not measure these parts (default: none)"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = [part for part in parts if part in arguments.only and part not in arguments.skip]
    figures: dict[str, Any] = {
        "scenario": arguments.scenario,
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": run_folder.versions(),
    }
    with tempfile.TemporaryDirectory(prefix="relid-sumo-bench-") as name:
        folder = Path(name)
        ready = prepare(load_scenario(arguments.scenario), simulators=("micro", "meso"))
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "resets": lambda: resets(ready),
            "overhead": lambda: overhead(ready, folder),
            "meso": lambda: mesoscopic(ready),
            "workers": lambda: workers(ready),
            "learner": lambda: learner(ready, folder),
            "growth": lambda: growth(folder),
        }
        for part in chosen:
            say(f"measuring: {part}")
            figures |= measures[part]()
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for key, value in figures.items():
        print(f"{key}: {json.dumps(value)}")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
