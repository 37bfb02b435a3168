"""The study of docs/results: what is not learned, driven once a city, and the tables from the cells that are there.

    relid-sumo batch experiments/study-straight.toml --out study/straight      # then study-time.toml
    python tools/study.py baselines orlando --demonstrations s/demonstrations.npz
    python tools/study.py collect study/straight study/time
    python tools/study.py tables

`collect` copies the summaries of finished cells to docs/results/cells (no weights, no map data), and `tables` writes
docs/results/summary.json and docs/results/tables.md from what lies there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo import results, stats
from relid_sumo.batch.cell import outcome
from relid_sumo.demos import Demonstrations
from relid_sumo.evaluate import baselines, choose_seeds, episodes, worked_out
from relid_sumo.experts import planned
from relid_sumo.policies import Policy
from relid_sumo.prepare import prepare
from relid_sumo.results import Driven, Summary
from relid_sumo.scenario_files import load_scenario

HERE = Path(__file__).resolve().parents[1] / "docs" / "results"
CITIES = ("orlando", "hong_kong")
SPAN = 3  # updates
NOT_LEARNED = "shortest,reactive,rerouting,hist,bestroute"

Floats = NDArray[np.float64]


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


def drive(city: str, names: str, demonstrations: Path | None, seeds: int) -> None:
    """Drive what is not learned in a city's evaluation traffic."""
    ready = prepare(load_scenario(city), report=say)
    policies = worked_out(baselines(names), ready, report=say)
    if demonstrations is not None:
        routes = planned(Demonstrations.load(demonstrations), ready, demonstrations)
        policies["demonstrations"] = Policy("fixed", routes=dict(enumerate(routes)))
    records = episodes(ready, policies, choose_seeds(ready, "evaluation", seeds), on_done=lambda _: say("."))
    results.write_json(HERE / "baselines" / f"{city}.json", outcome(ready, records))


def collect(folders: Sequence[Path]) -> None:
    """Copy the summaries of finished cells, under the name of their batch."""
    for folder in folders:
        for file in sorted((folder / "summaries").glob("*.json")):
            to = HERE / "cells" / folder.name / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
            say(f"{to}")


def cells(distance: str) -> dict[tuple[str, str], list[Summary]]:
    """Return finished cells by city and algorithm."""
    found: dict[tuple[str, str], list[Summary]] = {}
    for file in sorted((HERE / "cells" / distance).glob("*.json")):
        summary = results.read_summary(file)
        if summary.cell is not None and summary.evaluation is not None:
            found.setdefault((summary.cell.scenario, summary.cell.algorithm), []).append(summary)
    return found


def trained(summaries: Sequence[Summary], name: str) -> Floats:
    """Return one figure per training seed: its mean over agents and traffic seeds."""
    values = []
    for summary in summaries:
        assert summary.evaluation is not None
        driven = summary.evaluation.policies["trained"]
        values.append(_arrived(driven) if name == "arrival_rate" else float(np.mean(getattr(driven, name))))
    return np.array(values)


def _arrived(driven: Driven) -> float:
    return float(np.mean([[status == "arrived" for status in row] for row in driven.status]))


def figure(values: Floats) -> dict[str, float | None]:
    """Return a mean with its bootstrap interval over training seeds."""
    one = stats.estimate(values)
    return {"mean": round(one.mean, 2)} | {
        name: None if value is None else round(value, 2) for name, value in (("low", one.low), ("high", one.high))
    }


def level_ratio(ours: Sequence[Summary], theirs: Sequence[Summary]) -> float | None:
    """Return after which share of IPPO's budget RELED has the best level that IPPO has at any time; None where never.

    A level is a mean over `SPAN` updates, of sampled episodes of training, and over runs. What was driven before the
    first update (to make demonstrations, to probe and to show them) counts.
    """
    level = max(_levels(theirs))
    reached = [k for k, value in enumerate(_levels(ours)) if value >= level]
    if not reached:
        return None
    metrics = ours[0].metrics
    at = reached[0] + SPAN - 1
    driven = metrics["episodes"][at] + metrics.get("driven_before", [0.0])[0]
    return round(driven / theirs[0].metrics["episodes"][-1], 3)


def _levels(runs: Sequence[Summary]) -> Floats:
    curves = np.array([run.metrics["mean_return"] for run in runs]).mean(axis=0)
    return np.convolve(curves, np.ones(SPAN) / SPAN, mode="valid")


def tables() -> None:
    """Write summary.json and tables.md from what there is."""
    summary: dict[str, Any] = {"straight": {}, "time": {}}
    text = ["<!-- written by tools/study.py tables -->", ""]
    for distance, by_city in summary.items():
        found = cells(distance)
        for city in CITIES:
            rows = {algo: runs for (where, algo), runs in found.items() if where == city}
            if not rows:
                continue
            file = HERE / "baselines" / f"{city}.json"
            not_learned = results.read_json(file)["policies"] if file.is_file() else {}
            entry: dict[str, Any] = {"seeds": {algo: len(runs) for algo, runs in rows.items()}}
            times = {algo: figure(trained(runs, "travel_time_s")) for algo, runs in rows.items()}
            arrivals = {algo: figure(trained(runs, "arrival_rate")) for algo, runs in rows.items()}
            returns = {algo: figure(trained(runs, "return_s")) for algo, runs in rows.items()}
            for name, content in not_learned.items():
                driven = Driven.model_validate(content)
                by_seed = np.array(driven.travel_time_s).mean(axis=1)
                times[name] = figure(by_seed)
                returns[name] = figure(np.array(driven.return_s).mean(axis=1))
                arrivals[name] = {"mean": round(_arrived(driven), 3), "low": None, "high": None}
            entry |= {"travel_time_s": times, "arrival_rate": arrivals, "return_s": returns}
            if "ippo" in rows and "reled" in rows:
                ours, theirs = trained(rows["reled"], "return_s"), trained(rows["ippo"], "return_s")
                entry["reled_return"], entry["ippo_return"] = round(ours.mean(), 1), round(theirs.mean(), 1)
                entry["reled_over_ippo_percent"] = round(100 * (ours.mean() - theirs.mean()) / abs(theirs.mean()), 1)
                entry["episodes_to_ippo_level_ratio"] = level_ratio(rows["reled"], rows["ippo"])
                if "bestroute" in returns:
                    room = float(returns["bestroute"]["mean"] or 0.0) - theirs.mean()
                    entry["gap_closed"] = round((ours.mean() - theirs.mean()) / room, 2) if room > 0 else None
            by_city[city] = entry
            text += [f"## {city}, distance `{distance}`", ""]
            text += [
                "| policy | training seeds | return, s | travel time, s | arrived |",
                "| --- | --- | --- | --- | --- |",
            ]
            for name in sorted(times, key=lambda name: float(times[name]["mean"] or 0.0)):
                count = len(rows[name]) if name in rows else "-"
                share = f"{100 * float(arrivals[name]['mean'] or 0.0):.1f} %"
                text.append(f"| {name} | {count} | {_shown(returns[name])} | {_shown(times[name])} | {share} |")
            text.append("")
    (HERE / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (HERE / "tables.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def _shown(values: dict[str, float | None]) -> str:
    mean = f"{values['mean']:.0f}"
    return mean if values["low"] is None else f"{mean} [{values['low']:.0f}, {values['high']:.0f}]"


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("baselines")
    one.add_argument("city", choices=CITIES)
    one.add_argument("--names", default=NOT_LEARNED, help="default: %(default)s")
    one.add_argument("--demonstrations", type=Path, help="file that `sed run` made, driven as it is")
    one.add_argument("--seeds", type=int, default=10)
    commands.add_parser("collect").add_argument("folders", type=Path, nargs="+")
    commands.add_parser("tables")
    given = parser.parse_args()
    match given.command:
        case "baselines":
            drive(given.city, given.names, given.demonstrations, given.seeds)
        case "collect":
            collect(given.folders)
        case _:
            tables()


if __name__ == "__main__":
    main()
