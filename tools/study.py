"""The study of docs/results: evaluate the baselines once per city, and write the tables from the finished cells.

    relid-sumo batch experiments/study-straight.toml --out study/straight    # then -ablations, -time and -scale
    python tools/study.py baselines orlando --demonstrations study/straight/runs/orlando-reled-0/demonstrations.npz
    python tools/study.py hindsight orlando
    python tools/study.py collect study/straight study/straight-ablations study/time study/straight-scale
    python tools/study.py tables

    python tools/study.py unseen orlando study/straight/runs/orlando-reled-0 study/straight/runs/orlando-ippo-3

`collect` copies the summaries of finished cells to docs/results/cells (no weights, no map data). `tables` writes
docs/results/summary.json and docs/results/tables.md from them. Baselines are evaluated once per city: they do not use
the distance, so their travel times are valid for both distances; their returns are those of `straight`. `unseen`
evaluates trained policies in evaluation traffic (greedy and sampled), and greedily in more traffic than in training and
with a closed edge that most plans use.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import study_tables
from study_tables import CITIES, HERE

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.baseline import planners
from relid_sumo.baseline.named import baselines, plan_baselines
from relid_sumo.env.policies import Policy
from relid_sumo.evaluation.evaluate import choose_seeds, episodes
from relid_sumo.evaluation.outcome import outcome
from relid_sumo.evaluation.trained import load_trained
from relid_sumo.learn import run_folder
from relid_sumo.learn.reled.demonstrated import planned
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.sed.demonstrations import Demonstrations

CASES = ("as trained", "more traffic", "a road closed")
PLANNED = "rerouting,hist,turns"
MORE = 1.2  # times the traffic of the training
PLANS = "hist,turns,due"  # plans with one route per vehicle for all traffic, in addition to the routes of `bestroute`
NOT_LEARNED = "shortest,reactive,rerouting,hist,turns,bestroute,due"


def say(text: str) -> None:
    """Print a progress line."""
    print(text, file=sys.stderr, flush=True)


def drive(city: str, names: str, demonstrations: Path | None, seeds: int) -> None:
    """Evaluate baselines in a city's evaluation traffic; earlier results with the same seeds stay in the file."""
    ready = prepare(load_scenario(city))
    policies = plan_baselines(baselines(names), ready)
    if demonstrations is not None:
        routes = planned(Demonstrations.load(demonstrations), ready, demonstrations)
        policies["demonstrations"] = Policy("fixed", routes=dict(enumerate(routes)))
    chosen, file = choose_seeds(ready, "evaluation", seeds), HERE / "baselines" / f"{city}.json"
    before = files.read_json(file) if file.is_file() else {"policies": {}}
    earlier = before["policies"].keys() - policies.keys() - {"hindsight"}  # hindsight depends on the others
    if earlier and before["traffic_seeds"] != list(chosen):
        raise InputError(f"{file} has {', '.join(sorted(earlier))} with other traffic seeds; add them to --names")
    content = dict[str, Any](outcome(ready, episodes(ready, policies, chosen, on_done=lambda _: say("."))))
    content["policies"] = {name: before["policies"][name] for name in sorted(earlier)} | content["policies"]
    files.write_json(file, content)


def hindsight(city: str) -> None:
    """Evaluate the routes that `bestroute` chooses from in a city's evaluation traffic; save the best in each seed.

    The best route is chosen per vehicle from these routes and the planned routes evaluated before. The result is
    better than knowing each day's traffic would give, because the minimum of several random times is biased low.
    """
    ready, file = prepare(load_scenario(city)), HERE / "baselines" / f"{city}.json"
    content = files.read_json(file) if file.is_file() else {"policies": {}}
    if missing := set(PLANS.split(",")) - content["policies"].keys():
        raise InputError(f"{file} has no {', '.join(sorted(missing))}: run tools/study.py baselines {city} first")
    plans = {f"route {k}": plan for k, plan in enumerate(planners.in_turn(planners.options(ready)))}
    records = episodes(ready, plans, content["traffic_seeds"], on_done=lambda _: say("."))
    driven = {**content["policies"], **dict[str, Any](outcome(ready, records))["policies"]}
    plans |= plan_baselines(baselines(PLANS), ready)
    content["policies"]["hindsight"] = best_of([(plan.routes, driven[name]) for name, plan in plans.items()])
    files.write_json(file, content)


def best_of(driven: Sequence[tuple[Mapping[int, Sequence[int]], Mapping[str, Any]]]) -> dict[str, Any]:
    """Return each vehicle's best route in each seed, from the routes of several plans and their outcomes.

    A route that several plans contain counts with its mean, and as arrived if it always arrived. The format is that of
    `PolicyOutcome`, without counts of whole episodes.
    """
    best: dict[str, Any] = {name: [] for name in ("return_s", "travel_time_s", "status")}
    for seed in range(len(driven[0][1]["travel_time_s"])):
        rows: dict[str, list[Any]] = {name: [] for name in best}
        for agent in driven[0][0]:
            by_route: dict[tuple[int, ...], list[tuple[float, float, str]]] = {}
            for routes, one in driven:
                drive = (one["travel_time_s"][seed][agent], one["return_s"][seed][agent], one["status"][seed][agent])
                by_route.setdefault(tuple(routes[agent]), []).append(drive)
            drives = min(by_route.values(), key=lambda several: float(np.mean([one[0] for one in several])))
            rows["travel_time_s"].append(float(np.mean([one[0] for one in drives])))
            rows["return_s"].append(float(np.mean([one[1] for one in drives])))
            rows["status"].append(max(drives)[2])
        for name, values in rows.items():
            best[name].append(values)
    return {**best, "teleports": [], "background_vehicle_s": []}


def unseen(city: str, folders: Sequence[Path], chosen: Sequence[str], seeds: int) -> None:
    """Evaluate trained policies outside their training, compared with plans from the same training traffic.

    Cases: as trained (sampled and greedy), more traffic, and a closed edge. Planners know the closed edge, but not the
    extra traffic.
    """
    ready, _ = load_trained(folders[0])
    for folder in folders:
        _, scenario = run_folder.load(folder)
        if scenario.name != city or scenario.observation != ready.scenario.observation:
            raise InputError(
                f"{folder}: not comparable with {folders[0]}; give runs of {city} with the same observation"
            )
    plans = plan_baselines(baselines(PLANNED), ready)
    rate = ready.scenario.demand.rate_vph
    assert rate is not None  # the cities' traffic is calibrated
    distance = ready.scenario.observation.distance
    file = HERE / "unseen" / f"{city}-{distance}.json"
    before = files.read_json(file) if file.is_file() else {"cases": {}}
    content: dict[str, Any] = {**before, "distance": distance, "more_traffic": MORE}
    if "a road closed" in chosen:
        content["closed"] = busiest(ready, [plans["hist"].routes, plans["turns"].routes])
    for case in chosen:
        say(case)
        changes = [f"demand.rate_vph={MORE * rate}"] if case == "more traffic" else []
        closed = [content["closed"]] if case == "a road closed" else []
        policies: dict[str, Policy] = {}
        for folder in folders:
            ready, policy = load_trained(folder, changes=changes, closed=closed)
            settings, _ = run_folder.load(folder)
            algo, seed = settings.train.algo, settings.train.seed
            if f"{algo}-{seed}" in policies:
                raise InputError(f"{folder}: another given run is also {algo} with seed {seed}; give one of them")
            policies[f"{algo}-{seed}"] = policy
            if case == "as trained":
                policies[f"{algo} sampled-{seed}"] = replace(policy, greedy=False)
        policies |= plan_baselines(baselines(PLANNED), ready) if closed else plans
        records = episodes(ready, policies, choose_seeds(ready, "evaluation", seeds), on_done=lambda _: say("."))
        content["cases"][case] = dict(outcome(ready, records))
        files.write_json(file, content)


def busiest(ready: PreparedScenario, plans: Sequence[Mapping[int, Sequence[int]]]) -> str:
    """Return the edge that most vehicles use in the plans, and without which all can still reach their destination."""
    ends = {*ready.task.origin.tolist(), *ready.task.destination.tolist()}
    used = Counter(edge for plan in plans for route in plan.values() for edge in set(route) - ends)
    for edge, _ in used.most_common():
        name = str(ready.network.graph.edge_ids[edge])
        try:
            prepare(ready.scenario, closed=[name])
        except InputError:
            continue
        return name
    raise InputError("the plans use no edge that can be closed: each is the only connection of some vehicle")


def collect(folders: Sequence[Path]) -> None:
    """Copy the summaries of finished cells, by the name of their batch."""
    for folder in folders:
        for file in sorted((folder / "summaries").glob("*.json")):
            to = HERE / "cells" / folder.name / "summaries" / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
            say(f"{to}")


def main() -> None:
    """Run the command line."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("relid_sumo").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("baselines")
    one.add_argument("city", choices=CITIES)
    one.add_argument(
        "--names", default=NOT_LEARNED, help="baselines to evaluate, separated by commas (default: %(default)s)"
    )
    one.add_argument(
        "--demonstrations", type=Path, help="file of demonstrations from `sed run`, evaluated as fixed routes"
    )
    one.add_argument("--seeds", type=int, default=10, help="number of traffic seeds (default: %(default)s)")
    commands.add_parser("hindsight").add_argument("city", choices=CITIES)
    other = commands.add_parser("unseen")
    other.add_argument("city", choices=CITIES)
    other.add_argument("runs", type=Path, nargs="+", help="folders of trained runs")
    other.add_argument("--cases", choices=CASES, nargs="+", default=CASES, help="cases to evaluate (default: all)")
    other.add_argument("--seeds", type=int, default=10, help="number of traffic seeds (default: %(default)s)")
    commands.add_parser("collect").add_argument("folders", type=Path, nargs="+")
    commands.add_parser("tables")
    given = parser.parse_args()
    try:
        match given.command:
            case "baselines":
                drive(given.city, given.names, given.demonstrations, given.seeds)
            case "hindsight":
                hindsight(given.city)
            case "unseen":
                unseen(given.city, given.runs, given.cases, given.seeds)
            case "collect":
                collect(given.folders)
            case _:
                study_tables.tables()
    except InputError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
