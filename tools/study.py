"""The study of docs/results: what is not learned, driven once a city, and the tables from the cells that are there.

    relid-sumo batch experiments/study-straight.toml --out study/straight    # then -ablations and -time
    python tools/study.py baselines orlando --demonstrations study/straight/runs/orlando-reled-0/demonstrations.npz
    python tools/study.py collect study/straight study/straight-ablations study/time
    python tools/study.py tables

    python tools/study.py unseen orlando study/straight/runs/orlando-reled-0 study/straight/runs/orlando-ippo-3

`collect` copies the summaries of finished cells to docs/results/cells (no weights, no map data), and `tables` writes
docs/results/summary.json and docs/results/tables.md from what lies there. What is not learned is driven once a city: it
does not look at the distance, so that its travel times go with both; its returns are those of `straight`. `unseen`
drives trained policies in evaluation traffic, greedy and sampled, then greedy in more traffic than they were trained
in, and with a road closed that most plans use.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo import results, runs, seeding
from relid_sumo.batch.cell import outcome
from relid_sumo.demos import Demonstrations
from relid_sumo.errors import InputError
from relid_sumo.evaluate import baselines, choose_seeds, episodes, load_trained, worked_out
from relid_sumo.experts import planned
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready, prepare
from relid_sumo.results import Driven, Summary
from relid_sumo.scenario_files import load_scenario

HERE = Path(__file__).resolve().parents[1] / "docs" / "results"
CITIES = ("orlando", "hong_kong")
MEASURES = ("travel_time_s", "arrival_rate", "return_s")
SHOWN = ("return_s", "travel_time_s")
SPAN = 3  # updates
CASES = ("as trained", "more traffic", "a road closed")
RESAMPLES = 10_000
PLANNED = "rerouting,hist,turns"
MORE = 1.2  # times the traffic that policies were trained in
NOT_LEARNED = "shortest,reactive,rerouting,hist,turns,bestroute,due"

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


def drive(city: str, names: str, demonstrations: Path | None, seeds: int) -> None:
    """Drive what is not learned in a city's evaluation traffic, beside what was driven before in the same seeds."""
    ready = prepare(load_scenario(city), report=say)
    policies = worked_out(baselines(names), ready, report=say)
    if demonstrations is not None:
        routes = planned(Demonstrations.load(demonstrations), ready, demonstrations)
        policies["demonstrations"] = Policy("fixed", routes=dict(enumerate(routes)))
    records = episodes(ready, policies, choose_seeds(ready, "evaluation", seeds), on_done=lambda _: say("."))
    file, content = HERE / "baselines" / f"{city}.json", dict[str, Any](outcome(ready, records))
    before = results.read_json(file) if file.is_file() else {}
    if before.get("traffic_seeds") == content["traffic_seeds"]:
        content["policies"] = {**before["policies"], **content["policies"]}
    results.write_json(file, content)


def unseen(city: str, folders: Sequence[Path], chosen: Sequence[str], seeds: int) -> None:
    """Drive trained policies where they have not been, beside what was planned from the same training traffic.

    As trained (drawn actions beside the most probable), with more traffic, and with a road closed: planners know of
    that road, but not of more traffic.
    """
    ready, _ = load_trained(folders[0], report=say)
    plans = worked_out(baselines(PLANNED), ready, report=say)
    rate, road = ready.scenario.demand.rate_vph, busiest(ready, [plans["hist"].routes, plans["turns"].routes])
    assert rate is not None
    distance = ready.scenario.observation.distance
    content: dict[str, Any] = {"distance": distance, "more_traffic": MORE, "closed": road, "cases": {}}
    for case in chosen:
        say(case)
        changes = [f"demand.rate_vph={MORE * rate}"] if case == "more traffic" else []
        closed = [road] if case == "a road closed" else []
        policies: dict[str, Policy] = {}
        for folder in folders:
            ready, policy = load_trained(folder, changes=changes, closed=closed, report=say)
            settings, _ = runs.load(folder)
            policies[f"{settings.train.algo}-{settings.train.seed}"] = policy
            if case == "as trained":
                policies[f"{settings.train.algo} sampled-{settings.train.seed}"] = replace(policy, greedy=False)
        policies |= worked_out(baselines(PLANNED), ready, report=say) if closed else plans
        records = episodes(ready, policies, choose_seeds(ready, "evaluation", seeds), on_done=lambda _: say("."))
        content["cases"][case] = dict(outcome(ready, records))
        results.write_json(HERE / "unseen" / f"{city}-{distance}.json", content)


def busiest(ready: Ready, plans: Sequence[Mapping[int, Sequence[int]]]) -> str:
    """Return the road that most vehicles are to take by some plans, and without which all still get there."""
    ends = {*ready.task.origin.tolist(), *ready.task.destination.tolist()}
    used = Counter(edge for plan in plans for route in plan.values() for edge in set(route) - ends)
    for edge, _ in used.most_common():
        name = str(ready.network.graph.edge_ids[edge])
        try:
            prepare(ready.scenario, closed=[name])
        except InputError:
            continue
        return name
    raise InputError("every road that is planned with is the only way for somebody")


def collect(folders: Sequence[Path]) -> None:
    """Copy the summaries of finished cells, under the name of their batch."""
    for folder in folders:
        for file in sorted((folder / "summaries").glob("*.json")):
            to = HERE / "cells" / folder.name / "summaries" / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
            say(f"{to}")


def cells(*batches: str) -> dict[tuple[str, str], list[Summary]]:
    """Return finished cells of batches by scenario and algorithm."""
    found: dict[tuple[str, str], list[Summary]] = {}
    for file in (file for batch in batches for file in sorted((HERE / "cells" / batch / "summaries").glob("*.json"))):
        summary = results.read_summary(file)
        if summary.cell is not None and summary.evaluation is not None:
            found.setdefault((summary.cell.scenario, summary.cell.algorithm), []).append(summary)
    return found


def by_seed(driven: Driven, name: str) -> Floats:
    """Return a figure per traffic seed, a mean over agents; `name` may be ``arrival_rate``."""
    rows = [[status == "arrived" for status in row] for row in driven.status]
    values: Floats = np.array(rows if name == "arrival_rate" else getattr(driven, name), dtype=np.float64)
    return np.asarray(values.mean(axis=1))


def trained(summaries: Sequence[Summary], name: str) -> Floats:
    """Return the same of each run's policy, shape (training seeds, traffic seeds)."""
    evaluations = [summary.evaluation for summary in summaries]
    return np.array([by_seed(e.policies["trained"], name) for e in evaluations if e is not None])


def resampled(values: Floats, columns: Indices, stream: str) -> Floats:
    """Return bootstrap means of an array (training seeds, traffic seeds), both drawn anew; traffic as given."""
    rows = seeding.stream(0, "study", stream).integers(0, len(values), (len(columns), len(values)))
    return np.asarray(values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)))


def traffic_draws(values: Floats) -> Indices:
    """Return draws of traffic seeds, the same for all policies: what is compared is compared in the same traffic."""
    count = values.shape[1]
    return seeding.stream(0, "study", "traffic").integers(0, count, (RESAMPLES, count))


def figure(values: Floats, digits: int = 1) -> dict[str, float]:
    """Return a mean with its 95 % interval over training and traffic seeds (over traffic alone if there is one row)."""
    return interval(values.mean(), resampled(values, traffic_draws(values), "own"), digits)


def interval(mean: float, draws: Floats, digits: int = 1) -> dict[str, float]:
    """Return a mean with the 95 % interval of its bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {name: round(float(v), digits) for name, v in (("mean", mean), ("low", low), ("high", high))}


def compared(ours: Floats, theirs: Floats, how: Callable[[Floats, Floats], Floats]) -> dict[str, float]:
    """Return what two policies' means come to, in the same traffic, with its interval."""
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError("driven in other traffic seeds: drive or train anew what has fewer")
    columns = traffic_draws(ours)
    mean = how(ours.mean(keepdims=True), theirs.mean(keepdims=True)).item()
    return interval(mean, how(resampled(ours, columns, "ours"), resampled(theirs, columns, "theirs")))


def over(ours: Floats, theirs: Floats) -> Floats:
    """Return 100 (R - R') / |R'| of returns."""
    return np.asarray(100 * (ours - theirs) / np.abs(theirs))


def quicker(ours: Floats, theirs: Floats) -> Floats:
    """Return by how much travel times are shorter, s."""
    return np.asarray(theirs - ours)


def level_ratio(ours: Sequence[Summary], theirs: Sequence[Summary]) -> float | None:
    """Return after which share of IPPO's budget RELED has the best level that IPPO has at any time; None where never.

    A level is a mean over `SPAN` updates, of sampled episodes of training, and over runs. What was driven until then
    beside training (to make demonstrations, to probe and to show them) counts.
    """
    level = max(_levels(theirs))
    reached = [k for k, value in enumerate(_levels(ours)) if value >= level]
    if not reached:
        return None
    metrics = ours[0].metrics
    at = reached[0] + SPAN - 1
    driven = metrics["episodes"][at] + metrics["driven_beside"][at]
    return round(driven / theirs[0].metrics["episodes"][-1], 3)


def _levels(runs: Sequence[Summary]) -> Floats:
    curves = np.array([run.metrics["mean_return"] for run in runs]).mean(axis=0)
    return np.convolve(curves, np.ones(SPAN) / SPAN, mode="valid")


def tables() -> None:
    """Write summary.json and tables.md from what there is."""
    summary: dict[str, Any] = {"straight": {}, "time": {}}
    text = [
        "<!-- written by tools/study.py tables -->",
        "",
        "Greedy, microscopic, evaluation traffic. In brackets 95 % bootstrap intervals over training and traffic",
        "seeds, or over traffic seeds alone where nothing was trained.",
        "",
    ]
    for distance, by_city in summary.items():
        found = cells(distance, f"{distance}-ablations")
        for city in CITIES:
            rows = {algo: runs for (where, algo), runs in found.items() if where == city}
            if rows:
                by_city[city] = entry(city, rows, returns=distance == "straight")
                text += table(f"{city}, distance `{distance}`", by_city[city])
                text += costs_table(by_city[city]["costs"])
    for file in sorted((HERE / "unseen").glob("*.json")):
        content = results.read_json(file)
        said, distance = elsewhere(content), content["distance"]
        city = file.stem.removesuffix(f"-{distance}")
        summary[distance][city]["unseen"] = said
        text += [f"## {city}, distance `{distance}`, where policies were not trained", "", *elsewhere_table(said)]
    if grown := scaling():
        summary["scaling"] = grown
        text += ["## orlando with more agents, distance `straight`", "", *scaling_table(grown)]
    (HERE / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (HERE / "tables.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def entry(city: str, rows: Mapping[str, Sequence[Summary]], *, returns: bool) -> dict[str, Any]:
    """Return what summary.json says of a city; `returns`: whether those of what is not learned are of its distance."""
    file = HERE / "baselines" / f"{city}.json"
    not_learned = results.read_json(file)["policies"] if file.is_file() else {}
    measured = {
        name: {algo: trained(runs, name) for algo, runs in rows.items()}
        | {
            algo: by_seed(Driven.model_validate(content), name)[None]
            for algo, content in not_learned.items()
            if returns or name != "return_s"
        }
        for name in MEASURES
    }
    said: dict[str, Any] = {"seeds": {algo: len(runs) for algo, runs in rows.items()}}
    said["costs"] = {algo: costs(runs) for algo, runs in rows.items()}
    said |= {
        key: {algo: figure(values, 3 if key == "arrival_rate" else 1) for algo, values in by_algo.items()}
        for key, by_algo in measured.items()
    }
    if "reled" in rows:
        times = measured["travel_time_s"]
        said["reled_quicker_s"] = {
            algo: compared(times["reled"], values, quicker) for algo, values in times.items() if algo != "reled"
        }
    if "ippo" in rows and "reled" in rows:
        by_algo = measured["return_s"]
        ours, theirs = by_algo["reled"], by_algo["ippo"]
        said |= {"reled_return": round(ours.mean(), 1), "ippo_return": round(theirs.mean(), 1)}
        change = compared(ours, theirs, over)
        said |= {"reled_over_ippo_percent": change["mean"], "reled_over_ippo": change}
        said["episodes_to_ippo_level_ratio"] = level_ratio(rows["reled"], rows["ippo"])
        if "bestroute" in by_algo:
            room = by_algo["bestroute"].mean() - theirs.mean()
            said["gap_closed"] = round((ours.mean() - theirs.mean()) / room, 2) if room > 0 else None
    return said


def costs(runs: Sequence[Summary]) -> dict[str, float]:
    """Return what a run took, as a mean: episodes, those beside training, and of what was trained on the rest."""
    totals = {name: np.mean([sum(run.metrics[name]) for run in runs]) for name in ("decisions", "simulated_s")}
    beside = [run.metrics["driven_beside"][-1] if "driven_beside" in run.metrics else 0 for run in runs]
    return {
        "episodes": round(np.mean([run.metrics["episodes"][-1] for run in runs])),
        "episodes_beside": round(np.mean(beside)),
        "decisions": round(totals["decisions"]),
        "simulated_h": round(float(totals["simulated_s"]) / 3600, 1),
        "training_min": round(float(np.mean([sum(run.seconds.values()) for run in runs])) / 60, 1),
    }


def costs_table(said: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what `costs` returned, by algorithm, as Markdown."""
    lines = ["| policy | episodes | beside | decisions | simulated, h | training, min |", "| --- |" + " --- |" * 5]
    return lines + [f"| {algo} | {' | '.join(f'{v:g}' for v in one.values())} |" for algo, one in said.items()] + [""]


def scaling() -> dict[str, Any]:
    """Return figures of the cells with more agents, by scenario: what was learned, and what was driven beside it."""
    said: dict[str, Any] = {}
    for (scenario, algo), (run, *_) in cells("straight-scale").items():
        driven = {algo if name == "trained" else name: one for name, one in _evaluation(run).policies.items()}
        about = said.setdefault(scenario, {"agents": len(_evaluation(run).agents), "costs": {}})
        about["costs"][algo] = costs([run])
        for name, digits in (("return_s", 1), ("travel_time_s", 1), ("arrival_rate", 3)):
            about.setdefault(name, {}).update(
                {a: figure(by_seed(one, name)[None], digits) for a, one in driven.items()}
            )
    return dict(sorted(said.items(), key=lambda item: int(item[1]["agents"])))


def _evaluation(run: Summary) -> results.Evaluation:
    assert run.evaluation is not None  # `cells` leaves others out
    return run.evaluation


def scaling_table(said: Mapping[str, Any]) -> list[str]:
    """Return what `scaling` returned as Markdown."""
    lines = ["| scenario | policy | return, s | travel time, s | arrived | episodes | beside | training, min |"]
    lines += ["| --- |" + " --- |" * 7]
    for scenario, one in said.items():
        for algo in sorted(one["travel_time_s"], key=lambda algo: float(one["travel_time_s"][algo]["mean"])):
            share, took = 100 * one["arrival_rate"][algo]["mean"], one["costs"].get(algo)
            spent = (
                [f"{took[name]:g}" for name in ("episodes", "episodes_beside", "training_min")] if took else ["-"] * 3
            )
            figures = [written(one[key][algo]) for key in SHOWN]
            lines.append(f"| {scenario} | {algo} | {' | '.join(figures)} | {share:.1f} % | {' | '.join(spent)} |")
    return [*lines, ""]


def elsewhere(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return travel times and arrival rates by case and policy, from what `unseen` drove."""
    said: dict[str, Any] = {}
    for case, driven in content["cases"].items():
        by_algo: dict[str, list[Driven]] = {}
        for name, figures in driven["policies"].items():
            algo = name.rpartition("-")[0] or name
            by_algo.setdefault(algo, []).append(Driven.model_validate(figures))
        said[case] = {
            algo: {
                name: figure(np.array([by_seed(one, name) for one in several]), digits)
                for name, digits in (("travel_time_s", 1), ("arrival_rate", 3))
            }
            | {"training_seeds": len(several), "traffic_seeds": len(driven["traffic_seeds"])}
            for algo, several in by_algo.items()
        }
    return said


def elsewhere_table(said: Mapping[str, Any]) -> list[str]:
    """Return what `elsewhere` returned as Markdown."""
    lines = ["| policy | " + " | ".join(f"{case}, s | arrived" for case in said) + " |"]
    lines += ["| --- |" + " --- | --- |" * len(said)]
    for algo in next(iter(said.values())):
        cells = [algo]
        for case in said.values():
            one = case.get(algo)
            cells += (
                [written(one["travel_time_s"]), f"{100 * one['arrival_rate']['mean']:.1f} %"] if one else ["-", "-"]
            )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def written(value: Mapping[str, float] | None, sign: str = "") -> str:
    """Return a figure and its interval as text, rounded; with `sign` ``+`` signed."""
    if value is None:
        return "-"
    mean, low, high = (f"{value[name]:{sign}.0f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def table(title: str, said: Mapping[str, Any]) -> list[str]:
    """Return a city's figures as Markdown, the quickest first."""
    lines = [f"## {title}", ""]
    lines += ["| policy | training seeds | return, s | travel time, s | RELED is quicker by, s | arrived |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name in sorted(said["travel_time_s"], key=lambda name: float(said["travel_time_s"][name]["mean"])):
        count, share = said["seeds"].get(name, "-"), 100 * said["arrival_rate"][name]["mean"]
        figures = [written(said[key].get(name)) for key in SHOWN]
        figures.append(written(said.get("reled_quicker_s", {}).get(name), "+"))
        lines.append(f"| {name} | {count} | {' | '.join(figures)} | {share:.1f} % |")
    if "reled_over_ippo" in said:
        v, ratio = said["reled_over_ippo"], said["episodes_to_ippo_level_ratio"]
        lines += ["", f"Return of reled over ippo: {v['mean']:+.0f} % [{v['low']:+.0f}, {v['high']:+.0f}]. "]
        lines[-1] += f"Episodes until reled has ippo's best level, over ippo's budget: {ratio}."
    return [*lines, ""]


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("baselines")
    one.add_argument("city", choices=CITIES)
    one.add_argument("--names", default=NOT_LEARNED, help="default: %(default)s")
    one.add_argument("--demonstrations", type=Path, help="file that `sed run` made, driven as it is")
    one.add_argument("--seeds", type=int, default=10)
    other = commands.add_parser("unseen")
    other.add_argument("city", choices=CITIES)
    other.add_argument("runs", type=Path, nargs="+", help="folders of trained runs")
    other.add_argument("--cases", choices=CASES, nargs="+", default=CASES, help="default: all")
    other.add_argument("--seeds", type=int, default=10, help="traffic seeds (default: %(default)s)")
    commands.add_parser("collect").add_argument("folders", type=Path, nargs="+")
    commands.add_parser("tables")
    given = parser.parse_args()
    match given.command:
        case "baselines":
            drive(given.city, given.names, given.demonstrations, given.seeds)
        case "unseen":
            unseen(given.city, given.runs, given.cases, given.seeds)
        case "collect":
            collect(given.folders)
        case _:
            tables()


if __name__ == "__main__":
    main()
