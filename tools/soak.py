"""Train, kill, resume, evaluate and report at random; check that all bytes agree and that nothing grows.

    python tools/soak.py --minutes 10            # the table in docs/reliability.md
    python tools/soak.py --kills 100             # until 100 commands were killed
    python tools/soak.py --kills 3 --only sed    # one kind of action

Each action is drawn by --seed. A command is killed (SIGKILL, the command itself or one of its processes) at random
moments and started again until it ends; its files must then have the same bytes as without a kill. Other actions run in
this process, which must not grow: environments whose simulation is killed, evaluations and reports.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import relid_sumo
from relid_sumo.base import cache
from relid_sumo.base.errors import SimulationError
from relid_sumo.runs import layout
from relid_sumo.scenario.files import write_scenario

TOWN = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
SETTINGS = [
    *("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=400", "simulator=meso"),
    *("seeds.training=[0, 1, 2]", "seeds.validation=[100]", "seeds.evaluation=[200, 201]"),
]
GRID = """seeds = [0]
episodes = 4
[scenarios.{name}]
[evaluation]
seeds = 1
baselines = ["shortest"]
[algorithms.ippo]
episodes_per_update = 2
"""
SOON_S = 20.0  # time limit for the processes of a killed command to end
MOST_STARTS = 12  # of one command; more kills than progress
PARTS = 0.3  # share of kills that hit one of a command's processes and not the command
RSS_MIB, RSS_SHARE = 20.0, 0.05  # growth of this process's memory that counts as noise


@dataclass(frozen=True)
class Command:
    """A command that is killed: its words at the first start and after a kill, and the files that must agree.

    `failed` are its words after exit code 1: a batch says so of a cell whose process was killed.
    """

    name: str
    first: tuple[str, ...]
    again: tuple[str, ...]
    agree: tuple[str, ...]
    start_from: Path | None = None
    failed: tuple[str, ...] = ()


@dataclass
class Tally:
    """What happened so far, by action: number, kills, seconds; faults; and measures after each action."""

    actions: dict[str, list[float]] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    measures: list[dict[str, float]] = field(default_factory=list)


Act = Callable[[Path], str]  # runs an action in a folder that does not exist yet, and returns a fault or ""


def processes(session: int | None = None) -> list[int]:
    """Return the living processes of a session, or the descendants of this process."""
    parents, sessions = {}, {}
    for folder in (one for one in Path("/proc").iterdir() if one.name.isdigit()):
        try:
            state, parent, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it has ended
        if state != "Z":
            parents[int(folder.name)], sessions[int(folder.name)] = int(parent), int(its)
    if session is not None:
        return [pid for pid, its in sessions.items() if its == session]
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def run(words: Sequence[str], moment: float | None, rng: random.Random) -> tuple[int, str, bool]:
    """Run a command; with a moment [s], kill it or one of its processes then. Return its code, errors and if it was."""
    code = "from relid_sumo.cli.main import main; main()"
    command = [sys.executable, "-c", code, *words]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
        hit = False
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            own = [pid for pid in processes(process.pid) if pid != process.pid]
            victim = rng.choice(own) if own and rng.random() < PARTS else process.pid
            try:
                os.kill(victim, signal.SIGKILL)
                hit = True
            except ProcessLookupError:
                pass
        process.wait()
        deadline = time.monotonic() + SOON_S
        while processes(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in processes(process.pid):
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{' '.join(words)}: process {pid} outlives its killed command")
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace"), hit


def filled(words: Sequence[str], folder: Path) -> list[str]:
    """Return the words of a command, with its folder."""
    return [word.replace("FOLDER", str(folder)) for word in words]


def killed(command: Command, folder: Path, kills: int, seconds: float, rng: random.Random) -> tuple[int, str]:
    """Run a command to its end, killed some times before; return the number of kills and a fault or ""."""
    if command.start_from is not None:
        shutil.copytree(command.start_from, folder)
    done, code = 0, 0
    for _ in range(MOST_STARTS):
        begun = (folder / layout.SETTINGS).is_file()
        words = command.failed if code == 1 else command.again if begun else command.first
        moment = rng.uniform(0.0, seconds) if done < kills else None
        code, said, hit = run(filled(words, folder), moment, rng)
        done += hit
        if "Traceback" in said:
            return done, f"traceback: {said[-500:]}"
        if code == 0 or "the run is finished" in said:
            return done, ""
        if not hit and not (code == 1 and command.failed):
            return done, f"exit code {code}: {' '.join(said.split())[-500:]}"
    return done, f"not at its end after {MOST_STARTS} starts"


def commands(scratch: Path, scenario: Path) -> list[Command]:
    """Return the commands that are killed. The reference of the first is the run that others read."""
    trained = scratch / "reference" / "train"
    grid = scratch / "grid.toml"
    grid.write_text(GRID.format(name=scenario.name))
    short = ("--episodes", "6", "--set", "train.episodes_per_update=2", "--out", "FOLDER")
    resume = ("train", "--resume", "FOLDER")
    table = (layout.METRICS, layout.CHECKPOINT, layout.DIGESTS)
    reled = ("--algo", "reled", "--llm", "template", "--set", "train.renew_every=2", "--set", "train.score_seeds=1")
    few = ("--rounds", "2", "--samples", "1", "--set", "sed.seeds=1", "--set", "sed.held_out=1")
    sed = ("sed", "run", str(scenario), "--llm", "template", "--out", "FOLDER", *few)
    batch = ("batch", str(grid), "--out", "FOLDER", "--workers", "1")
    evaluate = ("evaluate", "FOLDER", "--seeds", "2", "--baselines", "shortest,random")
    evaluated = (layout.EVALUATION, layout.ROUTES)
    cell = tuple(f"runs/{scenario.name}-ippo-0/{file}" for file in (layout.METRICS, *evaluated))
    return [
        Command("train", ("train", str(scenario), *short), resume, table),
        Command("reled", ("train", str(scenario), *reled, *short), resume, (*table, layout.ROUNDS)),
        Command("evaluate", evaluate, evaluate, evaluated, trained),
        Command("batch", batch, batch, cell, failed=("batch", "retry", "FOLDER")),
        Command("sed", sed, sed, ("results.json", "demonstrations.npz")),
    ]


def play(env: relid_sumo.RoutingEnv, traffic_seed: int, moment: int | None) -> str | None:
    """Play an episode by leftmost slots and return its digest; kill a process of its simulation at a step."""
    seen, infos = env.reset(options={"traffic_seed": traffic_seed})
    step = 0
    while env.agents:
        if step == moment:
            os.kill(random.Random(step).choice(processes()), signal.SIGKILL)
        actions = {n: int(np.argmax(seen[n]["action_mask"])) for n in env.agents if infos[n]["decides"]}
        seen, _, _, _, infos = env.step(actions)
        step += 1
    return env.digest


def measures(scratch: Path) -> dict[str, float]:
    """Return what must not grow."""
    gc.collect()
    memory = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    held = [file for file in scratch.rglob("*") if file.is_file()]
    return {
        "memory of this process, MiB": float(memory.split()[1]) / 1024,
        "file descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "processes": len(processes()),
        "temporary files": sum(1 for _ in (scratch / "tmp").rglob("*")) + sum(f.suffix == ".part" for f in held),
        "files in the cache": sum((scratch / "cache") in file.parents for file in held),
    }


def grown(tally: Tally) -> list[str]:
    """Print first, last and highest measures, and return those that grow."""
    third = max(1, len(tally.measures) // 3)
    found = []
    print("\n| measure | first third (median) | last third (median) | highest |\n| --- | --- | --- | --- |")
    for name in tally.measures[0] if tally.measures else ():
        values = [one[name] for one in tally.measures]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        print(f"| {name} | {first:.0f} | {last:.0f} | {max(values):.0f} |")
        noise = max(RSS_MIB, RSS_SHARE * first) if "memory" in name else 0.0
        if last > first + noise and len(tally.measures) > 2:
            found.append(f"{name} grows from {first:.0f} to {last:.0f}")
    return found


def content(file: Path) -> bytes:
    """Return what must agree: a file without the wall-clock time of programs."""
    return re.sub(rb'"sandbox_s": ?[0-9.e-]+', b"", file.read_bytes())


def disturbed(command: Command, reference: Path, seconds: float, rng: random.Random, tally: Tally) -> Act:
    """Return the action that kills a command one to three times and compares its files with those of the reference."""

    def act(folder: Path) -> str:
        kills, fault = killed(command, folder, rng.randint(1, 3), seconds, rng)
        tally.kills[command.name] = tally.kills.get(command.name, 0) + kills
        other = [n for n in command.agree if not fault and content(folder / n) != content(reference / n)]
        return fault or (f"other bytes in {', '.join(other)}" if other else "")

    return act


def inside(trained: Path, rng: random.Random, tally: Tally) -> dict[str, Act]:
    """Return the actions that run in this process; they read a trained run."""
    env = relid_sumo.parallel_env(relid_sumo.load_scenario(trained))
    digests = {traffic_seed: play(env, traffic_seed, None) for traffic_seed in (0, 1)}
    env.close()
    shortest = relid_sumo.baselines("shortest")
    expected = relid_sumo.evaluate(trained, shortest, seeds=1).as_json()

    def environment(_: Path) -> str:
        traffic_seed, moment = rng.choice((0, 1)), rng.choice((None, rng.randrange(60)))
        try:
            digest = play(env, traffic_seed, moment)
        except SimulationError:
            tally.kills["environment"] = tally.kills.get("environment", 0) + 1
            digest = play(env, traffic_seed, None)
        env.close()
        return "" if digest == digests[traffic_seed] else f"traffic seed {traffic_seed}: another episode"

    def evaluation(_: Path) -> str:
        again = relid_sumo.evaluate(trained, shortest, seeds=1).as_json()
        return "" if again == expected else "another evaluation"

    def report(folder: Path) -> str:
        folder.mkdir()
        written = relid_sumo.report(trained, folder / "report.html")
        return "" if written.runs == 1 else f"{written.runs} runs"

    return {"environment": environment, "evaluation": evaluation, "report": report}


def prepared(scratch: Path, only: Sequence[str], rng: random.Random, tally: Tally) -> dict[str, Act]:
    """Return the actions by name, once each command has run without a kill, which also fills the cache."""
    scenario = scratch / "small"
    scenario.mkdir()
    shutil.copy(TOWN, scenario)
    loaded = relid_sumo.load_scenario("town", changes=SETTINGS)
    write_scenario(loaded.model_copy(update={"name": "small", "network": TOWN.name}), scenario)
    acts = {}
    for command in commands(scratch, scenario):
        if only and command.name not in (*only, "train"):  # others need the trained run
            continue
        start, reference = time.monotonic(), scratch / "reference" / command.name
        _, fault = killed(command, reference, 0, 0.0, rng)
        if fault:
            raise SystemExit(f"{command.name}, without a kill: {fault}")
        acts[command.name] = disturbed(command, reference, time.monotonic() - start, rng, tally)
    acts |= inside(scratch / "reference" / "train", rng, tally)
    return {name: act for name, act in acts.items() if not only or name in only}


def soak(scratch: Path, seed: int, minutes: float, most_kills: int, only: Sequence[str]) -> Tally:
    """Run actions until the time is over, or until that many kills."""
    rng, tally = random.Random(seed), Tally()
    acts = prepared(scratch, only, rng, tally)
    deadline, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < deadline and sum(tally.kills.values()) < most_kills:
        name = list(acts)[number] if number < len(acts) else rng.choice(list(acts))  # each once, then at random
        start, folder = time.monotonic(), scratch / f"{number}-{name}"
        try:
            fault = acts[name](folder)
        except Exception as error:  # a fault of any kind is reported, and the next action runs
            fault = f"{type(error).__name__}: {error}"
        tally.actions.setdefault(name, []).append(time.monotonic() - start)
        if fault:
            tally.faults.append(f"action {number}, {name}: {fault}")
        shutil.rmtree(folder, ignore_errors=True)
        number += 1
        if number >= len(acts):  # libraries are loaded and caches filled
            tally.measures.append(measures(scratch))
        print(f"{number:4d} {name:12s} {tally.actions[name][-1]:6.1f} s  {fault or 'ok'}", flush=True)
    return tally


def main() -> None:
    """Run the tool; exit code 1 where bytes differ or something grows."""
    about, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(description=about, epilog=rest, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1e6, help="how long (default: no limit)")
    parser.add_argument("--kills", type=int, default=10**9, help="number of kills after which to end")
    parser.add_argument("--seed", type=int, default=0, help="seed of actions and moments")
    parser.add_argument("--only", default="", help="actions, separated by commas (default: all)")
    chosen = parser.parse_args()
    if chosen.minutes == 1e6 and chosen.kills == 10**9:
        parser.error("give --minutes or --kills")
    with tempfile.TemporaryDirectory(prefix="relid-sumo-soak-") as place:
        scratch = Path(place)
        (scratch / "tmp").mkdir()
        os.environ |= {cache.CACHE_VARIABLE: str(scratch / "cache"), "TMPDIR": str(scratch / "tmp")}
        tempfile.tempdir = None
        tally = soak(scratch, chosen.seed, chosen.minutes, chosen.kills, [n for n in chosen.only.split(",") if n])
    print("\n| action | times | kills | mean, s |\n| --- | --- | --- | --- |")
    for name, seconds in tally.actions.items():
        print(f"| {name} | {len(seconds)} | {tally.kills.get(name, 0)} | {statistics.mean(seconds):.1f} |")
    faults = tally.faults + grown(tally)
    print("\n" + "\n".join(faults or ["no fault: all bytes agree, nothing grows"]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
