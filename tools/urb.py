"""Run the Urban Routing Benchmark: automated drivers among humans who have settled on their routes day to day.

By URB's definitions: every driver starts as a human and learns with RouteRL's default model (Gawron) which of four
paths to take. Then 40 % of the drivers are automated, and the humans stop learning. A day's figure is the mean travel
time of the automated drivers, and that of the humans, in minutes. RouteRL settles the humans and drives its baseline
AON (every automated driver takes the shortest path at free flow). It runs from its own environment, with the SUMO of
this one.

Here the automated drivers have several policies: the paths that they would take as humans (`humans`) and those of AON,
which show that both simulations are the same; one route at departure by the edges' mean travel times on three other
settled days, out of the same four paths (`departure`) or in the whole network (`any route`); junction by junction,
by baselines or by a run whose agents share one policy.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

import numpy as np
import urb_trips

from relid_sumo.base import seeding, sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.base.stats import estimate
from relid_sumo.baseline.named import baselines, plan_baselines
from relid_sumo.env.episode import warm_up
from relid_sumo.env.play import Job, bridge_settings, play
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Fleet, Scenario, Seeds
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.sim.bridge import SumoBridge

SHARE, PATHS, HISTORY_DAYS = 0.4, 4, 3
HORIZON_S, DEPARTURES_S = 5400.0, 3600.0
STUCK_S = 600.0  # standing time after which RouteRL removes a vehicle, and SUMO teleports it here
COUNTED_S = 2.0  # RouteRL reads arrivals after SUMO's next step: its travel times are this much longer
SUMO_PACKAGES = ("sumo", "libsumo", "libsumo.libs", "traci", "eclipse_sumo.libs")
EXAMPLES = """example, with RouteRL in an environment of its own:
  python3.11 -m venv peer && peer/bin/pip install routerl==2.0.0 libsumo==1.21.0 eclipse-sumo==1.21.0
  python tools/urb.py FOLDER --peer peer/bin/python --json urb.json
"""


@dataclass(frozen=True)
class Driver:
    """A driver of the benchmark: departure, s, the four paths, as names of edges, and their times at free flow, min."""

    name: str
    start_s: float
    paths: tuple[tuple[str, ...], ...]
    free_min: tuple[float, ...]


def drivers(agents: Path, routes: Path) -> list[Driver]:
    """Return the drivers in the order of their departures, with the paths that RouteRL made."""
    paths: dict[tuple[str, str], list[tuple[tuple[str, ...], float]]] = {}
    with routes.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            own = paths.setdefault((row["origins"], row["destinations"]), [])
            own.append((tuple(row["path"].split()), float(row["free_flow_time"])))
    with agents.open(encoding="utf-8", newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: (float(row["start_time"]), int(row["id"])))
    return [
        Driver(row["id"], float(row["start_time"]), *zip(*paths[row["origin"], row["destination"]], strict=True))
        for row in rows
    ]


def settled_choices(
    every: Sequence[Driver], tables: Mapping[str, Mapping[str, Any]], seed: int, day: int
) -> dict[str, int]:
    """Return the path that each driver takes as a human on a day: drawn with Gawron's probabilities."""
    found = {}
    for one in every:
        cost = np.array(tables[one.name]["cost"]) * float(tables[one.name]["beta"])
        shares = np.exp(cost - cost.max())
        draw = seeding.stream(seed, "urb", day, one.name)
        found[one.name] = int(draw.choice(len(shares), p=shares / shares.sum()))
    return found


def route_file(every: Sequence[Driver], choices: Mapping[str, int], automated: set[str]) -> str:
    """Return a day's traffic as a route file of SUMO, with RouteRL's two vehicle types."""
    lines = ['<vType id="Human"/>', '<vType id="AV"/>']
    for one in every:
        kind, edges = "AV" if one.name in automated else "Human", " ".join(one.paths[choices[one.name]])
        lines.append(
            f'<vehicle id={quoteattr(one.name)} type="{kind}" depart="{one.start_s:g}">'
            f"<route edges={quoteattr(edges)}/></vehicle>"
        )
    return "\n".join(["<routes>", *lines, "</routes>\n"])


def scenario(net: Path, file: Path) -> Scenario:
    """Return the scenario of a day, in which the automated drivers are a fleet."""
    return Scenario(
        name="urb",
        network=str(net.resolve()),
        horizon_s=HORIZON_S,
        teleport_after_s=STUCK_S,
        demand=Demand(route_file=str(file.resolve()), warmup_s=0.0),
        fleet=Fleet(share=1.0, types=("AV",), end_s=DEPARTURES_S),
        seeds=Seeds(training=(0,), validation=(1,), evaluation=(2,)),
    )


def on_paths(ready: PreparedScenario, every: Mapping[str, Driver], choose: Callable[[Driver], int]) -> Policy:
    """Return the policy of automated drivers that take one of their four paths at departure."""
    trips, index = ready.day(0).trips, ready.network.graph.index
    assert trips is not None  # the scenario has a fleet
    own = [every[name] for name in trips.vehicles]
    return Policy("fixed", routes={i: [index[edge] for edge in one.paths[choose(one)]] for i, one in enumerate(own)})


def fastest_routes(ready: PreparedScenario, seconds: Floats) -> list[list[int]]:
    """Return each automated driver's route with the lowest travel time in the whole network, as edge indices."""
    task = ready.on(0).task
    ends = zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    return [task.graph.path(origin, destination, seconds) for origin, destination in ends]


def known(ready: PreparedScenario) -> Floats:
    """Return the mean travel time of each edge on a settled day, s."""
    return np.asarray(edge_times.edge_times(ready.scenario, ready.network, ready.demand, (0,)).mean(axis=0))


class LikeRouteRl(SumoBridge):
    """A simulation that inserts agents as RouteRL does all drivers: on the first lane, from standing."""

    insertion: ClassVar[dict[str, str]] = {}


def measure(ready: PreparedScenario, policy: Policy, folder: Path) -> dict[str, float]:
    """Drive a day, and return the mean travel times by URB's definition, min, and the trips that do not arrive."""
    file = folder / "trips.xml"
    more = ["--tripinfo-output", str(file), "--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted"]
    job = Job(0, (*ready.options(0), *more), policy)
    bridge = LikeRouteRl(job.options, **bridge_settings(ready.task))
    try:
        warm_up(bridge, ready.scenario)
        record = play(ready.task, job, bridge)
        while bridge.step() < ready.scenario.end_s:  # an episode ends with its agents: let the other vehicles arrive
            pass
    finally:
        bridge.close()
    times, missing = [], 0
    for _, one in ET.iterparse(file):
        if one.tag == "tripinfo" and one.get("vType") == "Human":
            spent_s = float(one.get("duration", "0")) + float(one.get("departDelay", "0"))
            missing += float(one.get("arrival", "-1")) < 0
            times.append(spent_s)
    return {
        "automated_min": (float(record.travel_time.mean()) + COUNTED_S) / 60.0,
        "human_min": (float(np.mean(times)) + COUNTED_S) / 60.0,
        "automated_missing": float(len(record.status) - record.status.count(ARRIVED)),
        "human_missing": float(missing),
    }


def peer(python: Path, words: Sequence[object], work: Path) -> dict[str, Any]:
    """Run RouteRL in its own environment with the SUMO of this one, and return what it prints."""
    links = work / "same-sumo"
    links.mkdir(parents=True, exist_ok=True)
    packages = sumo.home().parent
    for name in SUMO_PACKAGES:
        if (packages / name).exists() and not (links / name).is_symlink():
            (links / name).symlink_to(packages / name)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean |= {"SUMO_HOME": str(sumo.home()), "PYTHONPATH": str(links.resolve())}
    clean["PATH"] = f"{sumo.home() / 'bin'}:{clean.get('PATH', '')}"
    script = Path(__file__).with_name("urb_peer.py")
    command = [str(word) for word in (python.absolute(), script, *words, "--work", work)]
    done = subprocess.run(command, env=clean, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"RouteRL ended with code {done.returncode}")
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def compare(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return the figures of all methods, by day."""
    (od,) = options.scenario.glob("od_*.txt")
    (net,) = options.scenario.glob("*.net.xml")
    agents = options.scenario / "agents.csv"
    machines = round(SHARE * urb_trips.trips(agents, od).count("<trip "))
    words = [options.scenario, "--settle", options.settle, "--days", options.days, "--machines", machines]
    theirs = peer(options.peer, [*words, "--paths", PATHS, "--seed", options.seed], work)
    every = drivers(agents, work / "training_records" / "routes.csv")
    automated, by_name = set(theirs["automated"]), {one.name: one for one in every}
    found: dict[str, list[dict[str, float]]] = {"RouteRL: AON": theirs["aon"]}

    def settled_day(day: int) -> tuple[PreparedScenario, dict[str, int]]:
        choices = settled_choices(every, theirs["tables"], options.seed, day)
        file = work / f"day-{day}.rou.xml"
        file.write_text(route_file(every, choices, automated), encoding="utf-8")
        return prepare(scenario(net, file)), choices

    past = [settled_day(options.days + number)[0] for number in range(HISTORY_DAYS)]
    seconds = np.mean([known(one) for one in past], axis=0)
    planned = plan_baselines(baselines(options.baselines), past[0].on(0))  # the same trips, on another day's traffic
    for day in range(options.days):
        ready, choices = settled_day(day)
        trips = ready.day(0).trips
        assert trips is not None  # the scenario has a fleet
        if set(trips.vehicles) != automated:
            raise SystemExit(f"day {day}: {len(trips.vehicles)} of {len(automated)} automated drivers can be driven")
        index = ready.network.graph.index

        def expected(one: Driver, index: Mapping[str, int] = index) -> int:
            return int(np.argmin([seconds[[index[edge] for edge in path]].sum() for path in one.paths]))

        policies = {
            "humans": on_paths(ready, by_name, lambda one, taken=choices: taken[one.name]),  # type: ignore[misc]
            "AON": on_paths(ready, by_name, lambda one: int(np.argmin(one.free_min))),
            "departure": on_paths(ready, by_name, expected),
            "any route": Policy("fixed", routes=dict(enumerate(fastest_routes(ready, seconds)))),
            **planned,
        }
        if options.run is not None:
            from relid_sumo.evaluation.trained import load_trained  # noqa: PLC0415 - torch, only where it is needed

            other, policies[options.run.name] = load_trained(options.run, scenario=ready.scenario)
            ready = other
        for name, policy in policies.items():
            with tempfile.TemporaryDirectory() as folder:
                found.setdefault(name, []).append(measure(ready.on(0), policy, Path(folder)))
            print(f"day {day}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return {"settled_min": theirs["settled_min"], "settling_s": theirs["settling_s"], "methods": found}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", type=Path, help="folder with a .net.xml, agents.csv and od_*.txt")
    parser.add_argument("--peer", type=Path, required=True, help="Python of RouteRL's environment")
    parser.add_argument("--work", type=Path, help="folder for RouteRL's files; its paths take minutes")
    parser.add_argument("--settle", type=int, default=200, help="days on which the humans learn (default: 200)")
    parser.add_argument("--days", type=int, default=10, help="days that count (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drivers (default: 0)")
    parser.add_argument("--baselines", default="shortest,reactive", help="policies of this package to compare")
    parser.add_argument("--run", type=Path, help="run folder whose agents share one policy")
    parser.add_argument("--quick", action="store_true", help="two days to settle, one that counts: a check of the tool")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    if options.quick:
        options.settle, options.days = 2, 1
    with tempfile.TemporaryDirectory() as scratch:
        result = compare(options, options.work or Path(scratch))
    last = result["settled_min"][-10:]
    print(f"settled humans, RouteRL, last {len(last)} days: {sum(last) / len(last):.3f} min")
    for name, days in result["methods"].items():
        means = {key: estimate(np.array([day[key] for day in days])) for key in ("automated_min", "human_min")}
        missing = sum(day.get("automated_missing", 0) + day.get("human_missing", 0) for day in days)
        print(f"{name:16s} automated {means['automated_min'].mean:.3f} min, humans {means['human_min'].mean:.3f} min, "
              f"{missing:g} trips without arrival")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
