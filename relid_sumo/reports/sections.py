"""Parts of a report about one scenario besides curves and maps: per-trip numbers, SED runs, settings that differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relid_sumo.base.errors import InputError
from relid_sumo.learn import algorithms
from relid_sumo.reports.read import Run
from relid_sumo.runs.summary import PolicyOutcome
from relid_sumo.sed import stored

MEASURED = {
    "delay, s": ("time_loss_s", 1.0, 0),
    "waiting, s": ("waiting_s", 1.0, 0),
    "stops": ("stops", 1.0, 1),
    "distance, km": ("distance_m", 1e-3, 2),
    "CO2, g": ("co2_g", 1.0, 0),
    "fuel, g": ("fuel_g", 1.0, 0),
}  # heading: measurement of SUMO over arrived trips, its scale, digits


@dataclass(frozen=True)
class NumbersTable:
    """Further numbers per trip, by policy; a value is None where it was not measured. `digits` is by column."""

    columns: list[str]
    digits: list[int]
    rows: dict[str, list[float | None]]


def numbers(runs: Sequence[Run], scenario: str) -> NumbersTable | None:
    """Return further numbers of each policy, means over its runs; None where no run was evaluated."""
    found: dict[str, list[PolicyOutcome]] = {}
    for run in (run for run in runs if run.scenario == scenario and run.evaluation is not None):
        for name, outcome in run.evaluation.policies.items() if run.evaluation is not None else ():
            if name == "trained":
                found.setdefault(run.algorithm, []).append(outcome)
            else:
                found.setdefault(name, [outcome])
    rows = {
        name: [
            *(_mean([one.over_arrived(what) for one in outcomes], scale) for what, scale, _ in MEASURED.values()),
            _mean([_agents(one)[0] for one in outcomes]),
            _mean([_agents(one)[1] for one in outcomes]),
        ]
        for name, outcomes in found.items()
    }
    columns = [*MEASURED, "slowest agent, s", "spread over agents, s"]
    used = [i for i in range(len(columns)) if any(row[i] is not None for row in rows.values())]
    digits = [*(one[2] for one in MEASURED.values()), 0, 0]
    if not used:
        return None
    kept = {name: [row[i] for i in used] for name, row in rows.items()}
    return NumbersTable([columns[i] for i in used], [digits[i] for i in used], kept)


def _mean(values: Sequence[float | None], scale: float = 1.0) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) * scale if known else None


def _agents(outcome: PolicyOutcome) -> tuple[float | None, float | None]:
    """Return the mean travel time of the slowest agent, and the standard deviation over agents, s.

    None for a fleet whose size differs between traffic seeds.
    """
    if len({len(row) for row in outcome.travel_time_s}) != 1:
        return None, None
    by_agent = np.mean(outcome.travel_time_s, axis=0)
    return float(by_agent.max()), float(by_agent.std())


@dataclass(frozen=True)
class SedRow:
    """One round of a SED run; score and travel time [s] are means over the best plans of the subsets."""

    run: str
    round: int
    valid: int
    programs: int
    score: float | None
    travel_time_s: float | None


def sed(runs: Sequence[Run], scenario: str) -> tuple[list[SedRow], list[str]]:
    """Return the rounds of the SED runs inside the runs, and a sentence on the programs and the cost of each."""
    rows, sentences = [], []
    for run in (run for run in runs if run.scenario == scenario and run.folder is not None):
        inside = run.folder / "sed" if run.folder is not None else None
        if inside is None or not inside.is_dir() or stored.is_begun(inside):
            continue
        try:
            content, usage, model = stored.read_shown(inside), stored.read_usage(inside), stored.model_of(inside)
        except InputError as error:
            sentences.append(f"{run.name}: {error}")
            continue
        rows += [
            SedRow(run.name, one["round"], one["valid"], one["programs"], one["score"], one["travel_time_s"])
            for one in content["rounds"]
        ]
        counted = content["programs"]["all"]
        share = f" ({counted['valid'] / counted['programs']:.0%})" if counted["programs"] else ""
        cost = "no service was asked"
        if usage is not None:
            cost = f"{usage['requests']:.0f} requests, {usage['tokens_in'] + usage['tokens_out']:,.0f} tokens"
            cost += f", {usage['usd']:.4f} USD" if usage["usd"] else ""
        sentences.append(
            f"{run.name}: {counted['valid']} of {counted['programs']} programs of {model} gave a valid plan{share}; "
            f"{cost}."
        )
    return rows, sentences


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that a training read, except its seed, as text by dotted name."""
    left_out = {"seed", *algorithms.unread(str(settings.get("algo")))}
    found = {}
    for key, value in settings.items():
        for name, one in value.items() if isinstance(value, dict) else [("", value)]:
            if key not in left_out:
                found[f"{key}.{name}" if name else key] = one if isinstance(one, str) else json.dumps(one)
    return found


def differing(runs: Sequence[Run], scenario: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the algorithms of a scenario, and their values of each setting that several read and that differs."""
    groups = {run.algorithm: flat(run.settings) for run in reversed(runs) if run.scenario == scenario}
    groups = dict(reversed(groups.items()))
    names = list(dict.fromkeys(name for settings in groups.values() for name in settings))
    rows = {}
    for name in names:
        known = [settings[name] for settings in groups.values() if name in settings]
        if len(known) > 1 and len(set(known)) > 1:
            rows[name] = [settings.get(name, "-") for settings in groups.values()]
    return list(groups), rows
