"""Write the figures (summary.json) and tables (tables.md) of the study from the files in docs/results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import files, seeding
from relid_sumo.base.errors import InputError
from relid_sumo.runs import summary as runs_summary
from relid_sumo.runs.summary import PolicyOutcome, Summary

HERE = Path(__file__).resolve().parents[1] / "docs" / "results"
CITIES = ("orlando", "hong_kong")
DIGITS = {"travel_time_s": 1, "arrival_rate": 3, "return_s": 1}  # of each measure
SHOWN = ("return_s", "travel_time_s")
SPAN = 3  # updates
RESAMPLES = 10_000

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def cells(*batches: str) -> dict[tuple[str, str], list[Summary]]:
    """Return the finished cells of batches by scenario and algorithm."""
    found: dict[tuple[str, str], list[Summary]] = {}
    for file in (file for batch in batches for file in sorted((HERE / "cells" / batch / "summaries").glob("*.json"))):
        summary = runs_summary.read_summary(file)
        if summary.cell is not None and summary.evaluation is not None:
            found.setdefault((summary.cell.scenario, summary.cell.algorithm), []).append(summary)
    if len({summary.settings.format for row in found.values() for summary in row}) > 1:
        raise InputError(f"{HERE / 'cells'}: cells of several definitions of the reward; train the oldest ones again")
    return found


def by_seed(driven: PolicyOutcome, name: str) -> Floats:
    """Return one value per traffic seed, the mean over agents. `name` may also be ``arrival_rate``."""
    rows = [[status == "arrived" for status in row] for row in driven.status]
    values: Floats = np.array(rows if name == "arrival_rate" else getattr(driven, name), dtype=np.float64)
    return np.asarray(values.mean(axis=1))


def trained(summaries: Sequence[Summary], name: str) -> Floats:
    """Return these values for the policy of each run, shape (training seeds, traffic seeds)."""
    evaluations = [summary.evaluation for summary in summaries]
    return np.array([by_seed(e.policies["trained"], name) for e in evaluations if e is not None])


def resampled(values: Floats, columns: Indices, stream: str) -> Floats:
    """Return bootstrap means of an array (training seeds, traffic seeds). `columns` are the draws of traffic seeds."""
    rows = seeding.stream(0, "study", stream).integers(0, len(values), (len(columns), len(values)))
    return np.asarray(values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)))


def traffic_draws(values: Floats) -> Indices:
    """Return draws of traffic seeds. They are equal for all policies, for comparisons in equal traffic."""
    count = values.shape[1]
    return seeding.stream(0, "study", "traffic").integers(0, count, (RESAMPLES, count))


def figure(values: Floats, digits: int = 1) -> dict[str, float]:
    """Return a mean with its 95 % interval over training and traffic seeds (only traffic seeds if there is one row)."""
    return interval(values.mean(), resampled(values, traffic_draws(values), "own"), digits)


def interval(mean: float, draws: Floats, digits: int = 1) -> dict[str, float]:
    """Return a mean with the 95 % interval of its bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {name: round(float(v), digits) for name, v in (("mean", mean), ("low", low), ("high", high))}


def compared(ours: Floats, theirs: Floats, how: Callable[[Floats, Floats], Floats]) -> dict[str, float]:
    """Return a comparison of two policies' means in the same traffic, with its interval."""
    columns = traffic_draws(ours)
    mean = how(ours.mean(keepdims=True), theirs.mean(keepdims=True)).item()
    return interval(mean, how(resampled(ours, columns, "ours"), resampled(theirs, columns, "theirs")))


def over(ours: Floats, theirs: Floats) -> Floats:
    """Return 100 (R - R') / |R'| of returns."""
    return np.asarray(100 * (ours - theirs) / np.abs(theirs))


def quicker(ours: Floats, theirs: Floats) -> Floats:
    """Return the reduction of travel times, s."""
    return np.asarray(theirs - ours)


def level_ratio(ours: Sequence[Summary], theirs: Sequence[Summary]) -> float | None:
    """Return the share of IPPO's budget after which RELED reaches IPPO's best level; None if it never does.

    A level is the mean return of sampled training episodes over `SPAN` updates and over runs. Episodes outside training
    (to make, probe and show demonstrations) count too.
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
    """Write summary.json and tables.md from the available files."""
    summary: dict[str, Any] = {"straight": {}, "time": {}}
    text = [
        "<!-- written by tools/study.py tables -->",
        "",
        "# Tables",
        "",
        "Greedy, microscopic, evaluation traffic. Brackets are 95 % bootstrap intervals over training and traffic",
        "seeds, or over traffic seeds alone for a policy with at most one training seed. Decisions, simulated hours",
        "and minutes count training episodes only, not other episodes and imitation. Minutes are wall-clock time with",
        "other load on the machine. They differ up to eightfold between seeds of one cell: no measure of a method's",
        "cost.",
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
        content = files.read_json(file)
        said, distance = elsewhere(content), content["distance"]
        city = file.stem.removesuffix(f"-{distance}")
        summary[distance][city]["unseen"] = said
        text += [f"## {city}, distance `{distance}`, in conditions without training", "", *elsewhere_table(said)]
    if grown := scaling():
        summary["scaling"] = grown
        text += ["## orlando with more agents, distance `straight`", "", *scaling_table(grown)]
    (HERE / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (HERE / "tables.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def entry(city: str, rows: Mapping[str, Sequence[Summary]], *, returns: bool) -> dict[str, Any]:
    """Return what summary.json says of a city; `returns`: whether those of what is not learned are of its distance."""
    file = HERE / "baselines" / f"{city}.json"
    content = files.read_json(file) if file.is_file() else {"policies": {}}
    not_learned = content.pop("policies")
    seeds = [_evaluation(run).traffic_seeds for runs in rows.values() for run in runs]
    if any(own != seeds[0] for own in [*seeds, content.get("traffic_seeds", seeds[0])]):
        raise ValueError(f"{city}: some results are not from traffic seeds {seeds[0]}; evaluate or train these again")
    measured = {
        name: {algo: trained(runs, name) for algo, runs in rows.items()}
        | {
            algo: by_seed(PolicyOutcome.model_validate(content), name)[None]
            for algo, content in not_learned.items()
            if returns or name != "return_s"
        }
        for name in DIGITS
    }
    said: dict[str, Any] = {"seeds": {algo: len(runs) for algo, runs in rows.items()}}
    said["costs"] = {algo: costs(runs) for algo, runs in rows.items()}
    said |= {
        key: {algo: figure(values, DIGITS[key]) for algo, values in by_algo.items()}
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
        if "hindsight" in by_algo:
            said["gap_closed"] = round((ours.mean() - theirs.mean()) / (by_algo["hindsight"].mean() - theirs.mean()), 2)
    return said


def costs(runs: Sequence[Summary]) -> dict[str, float]:
    """Return mean costs of a run: training episodes, with decisions, simulated time and wall time; other episodes.

    The times exclude the start of the run, the change between simulators and the end of the run.
    """
    totals = {name: np.mean([sum(run.metrics[name]) for run in runs]) for name in ("decisions", "simulated_s")}
    beside = [run.metrics["driven_beside"][-1] if "driven_beside" in run.metrics else 0 for run in runs]
    return {
        "episodes_beside": round(np.mean(beside)),
        "episodes": round(np.mean([run.metrics["episodes"][-1] for run in runs])),
        "decisions": round(totals["decisions"]),
        "simulated_h": round(float(totals["simulated_s"]) / 3600, 1),
        "training_min": round(float(np.mean([sum(run.seconds.values()) for run in runs])) / 60, 1),
    }


def costs_table(said: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the result of `costs` by algorithm as Markdown."""
    lines = [
        "| policy | other episodes | training episodes | decisions | simulated, h | min |",
        "| --- |" + " --- |" * 5,
    ]
    return lines + [f"| {algo} | {' | '.join(f'{v:g}' for v in one.values())} |" for algo, one in said.items()] + [""]


def scaling() -> dict[str, Any]:
    """Return figures of the cells with more agents, by scenario: learnt policies and baselines."""
    said: dict[str, Any] = {}
    for (scenario, algo), (run,) in cells("straight-scale").items():  # one training seed
        driven = {algo if name == "trained" else name: one for name, one in _evaluation(run).policies.items()}
        about = said.setdefault(scenario, {"agents": len(_evaluation(run).agents), "costs": {}})
        about["costs"][algo] = costs([run])
        for name, digits in DIGITS.items():
            about.setdefault(name, {}).update(
                {a: figure(by_seed(one, name)[None], digits) for a, one in driven.items()}
            )
    return dict(sorted(said.items(), key=lambda item: int(item[1]["agents"])))


def _evaluation(run: Summary) -> runs_summary.StoredEvaluation:
    assert run.evaluation is not None  # `cells` returns only evaluated runs
    return run.evaluation


def scaling_table(said: Mapping[str, Any]) -> list[str]:
    """Return the result of `scaling` as Markdown."""
    lines = ["| scenario | policy | return, s | travel time, s | arrived | episodes | other episodes | training, min |"]
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
    """Return travel times and arrival rates by case and policy, from the results of `unseen`."""
    said: dict[str, Any] = {}
    for case, driven in content["cases"].items():
        by_algo: dict[str, list[PolicyOutcome]] = {}
        for name, figures in driven["policies"].items():
            algo = name.rpartition("-")[0] or name
            by_algo.setdefault(algo, []).append(PolicyOutcome.model_validate(figures))
        said[case] = {
            algo: {
                name: figure(np.array([by_seed(one, name) for one in several]), DIGITS[name])
                for name in ("travel_time_s", "arrival_rate")
            }
            | {"training_seeds": len(several), "traffic_seeds": len(driven["traffic_seeds"])}
            for algo, several in by_algo.items()
        }
    return said


def elsewhere_table(said: Mapping[str, Any]) -> list[str]:
    """Return the result of `elsewhere` as Markdown."""
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
    """Return a rounded figure with its interval as text; with a sign if `sign` is ``+``."""
    if value is None:
        return "-"
    mean, low, high = (f"{value[name]:{sign}.0f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def table(title: str, said: Mapping[str, Any]) -> list[str]:
    """Return a city's figures as Markdown, fastest policy first."""
    lines = [f"## {title}", ""]
    lines += ["| policy | training seeds | return, s | travel time, s | RELED is faster by, s | arrived |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name in sorted(said["travel_time_s"], key=lambda name: float(said["travel_time_s"][name]["mean"])):
        count, share = said["seeds"].get(name, "-"), 100 * said["arrival_rate"][name]["mean"]
        figures = [written(said[key].get(name)) for key in SHOWN]
        figures.append(written(said.get("reled_quicker_s", {}).get(name), "+"))
        lines.append(f"| {name} | {count} | {' | '.join(figures)} | {share:.1f} % |")
    if "reled_over_ippo" in said:
        v, ratio = said["reled_over_ippo"], said["episodes_to_ippo_level_ratio"]
        lines += ["", f"RELED's return over IPPO's: {v['mean']:+.0f} % [{v['low']:+.0f}, {v['high']:+.0f}]. "]
        reached = "never" if ratio is None else f"after {ratio} of IPPO's episode budget"
        lines[-1] += f"RELED reaches IPPO's best level: {reached}."
        if "gap_closed" in said:
            lines[-1] += f" RELED closes {100 * said['gap_closed']:.0f} % of the gap between IPPO and hindsight."
    return [*lines, ""]
