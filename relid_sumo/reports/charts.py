"""The curves of a report as numbers. The page and the figures draw them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import stats
from relid_sumo.reports.compare import Comparison
from relid_sumo.reports.read import Run

Floats = NDArray[np.float64]

# Colours by Okabe & Ito, which colour-blind readers can distinguish. Baselines are grey with different dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288")
GREYS = ("#555b63", "#8b9199", "#2f343a", "#a9aeb5")
POINTS = 150  # at most, per curve; neighbouring points of longer curves are averaged
QUANTILES = np.linspace(0.0, 1.0, 101)
AGENTS = 20  # at most, in an alpha chart
ALPHA = re.compile(r"alpha_(\d+)")
LEARNING = (
    ("mean_return", "return, s", "Return"),
    ("mean_travel_time_s", "travel time, s", "Travel time"),
    ("arrival_rate", "share arrived", "Arrived"),
)
ROUNDS = {"d_in": "D_in", "f_out": "F_out", "execution_rate": "execution rate"}


@dataclass(frozen=True, eq=False)
class Series:
    """A line, with a band if it is the mean of several seeds."""

    name: str
    colour: str
    dashed: bool
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines over a common axis."""

    key: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    note: str = ""


def colours(names: Sequence[str], baselines: Sequence[str]) -> dict[str, str]:
    """Return a colour for each policy."""
    learned = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}
    return learned | {name: GREYS[i % len(GREYS)] for i, name in enumerate(dict.fromkeys(baselines))}


def learning(runs: Sequence[Run], scenario: str, colour: dict[str, str]) -> list[Chart]:
    """Return the learning curves of a scenario: one line per algorithm, with a band over its seeds."""
    charts = []
    for column, label, title in LEARNING:
        series = [
            _over_seeds(rows, column, "episodes", algorithm, colour[algorithm])
            for algorithm, rows in _groups(runs, scenario).items()
            if all(column in run.metrics for run in rows)
        ]
        if series:
            charts.append(Chart(slug(scenario, column), f"{title}, {scenario}", "episode", label, series))
    return charts


def alpha(runs: Sequence[Run], scenario: str) -> list[Chart]:
    """Return each agent's alpha over training, one chart per algorithm that logs it; means over seeds."""
    charts = []
    for algorithm, rows in _groups(runs, scenario).items():
        found = {int(match[1]) for run in rows for name in run.metrics if (match := ALPHA.fullmatch(name))}
        agents = sorted(agent for agent in found if all(f"alpha_{agent}" in run.metrics for run in rows))
        series = [
            _over_seeds(rows, f"alpha_{agent}", "episodes", f"agent {agent}", COLOURS[agent % len(COLOURS)])
            for agent in agents[:AGENTS]
        ]
        note = f"The first {AGENTS} of {len(agents)} agents." if len(agents) > AGENTS else ""
        if series:
            title = f"Alpha of each agent, {algorithm}, {scenario}"
            charts.append(Chart(slug(scenario, algorithm, "alpha"), title, "episode", "alpha", series, note))
    return charts


def rounds(runs: Sequence[Run], scenario: str, colour: dict[str, str]) -> list[Chart]:
    """Return the curves over demonstration rounds, one chart per column of rounds.csv."""
    groups = {name: [run for run in rows if run.rounds.get("round")] for name, rows in _groups(runs, scenario).items()}
    groups = {name: rows for name, rows in groups.items() if rows}
    columns = dict.fromkeys(c for rows in groups.values() for run in rows for c in run.rounds if c != "round")
    charts = []
    for column in columns:
        series = [
            _over_seeds(rows, column, "round", algorithm, colour[algorithm])
            for algorithm, rows in groups.items()
            if all(column in run.rounds for run in rows)
        ]
        label = ROUNDS.get(column, column)
        if series:
            charts.append(Chart(slug(scenario, "rounds", column), f"{label}, {scenario}", "round", label, series))
    return charts


def travel_times(comparison: Comparison, colour: dict[str, str]) -> Chart:
    """Return the cumulative distribution of travel times: the share of trips that take at most x seconds."""
    series = [
        Series(one.name, colour[one.name], not one.learned, np.quantile(one.times, QUANTILES), QUANTILES)
        for one in comparison.driven
    ]
    name = comparison.scenario
    title = f"Travel times, {name}"
    note = "Share of all trips (agents, traffic seeds and training seeds together) that take at most this time."
    return Chart(slug(name, "travel-times"), title, "travel time, s", "share of trips", series, note)


def slug(*words: str) -> str:
    """Return words as part of a file name or an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def _groups(runs: Sequence[Run], scenario: str) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.scenario == scenario:
            groups.setdefault(run.algorithm, []).append(run)
    return groups


def _over_seeds(runs: Sequence[Run], column: str, over: str, name: str, colour: str) -> Series:
    """Return the mean over seeds, up to the length of the shortest run, averaged to at most `POINTS` points."""
    tables = [run.metrics if over == "episodes" else run.rounds for run in runs]
    length = min(len(table[column]) for table in tables)
    values = np.array([table[column][:length] for table in tables], dtype=float)
    x = np.array(tables[0][over][:length], dtype=float)
    edges = np.unique(np.linspace(0, length, min(length, POINTS) + 1).astype(int))
    starts, sizes = edges[:-1], np.diff(edges)
    binned = np.add.reduceat(values, starts, axis=1) / sizes
    mean, low, high = stats.band(binned)
    return Series(name, colour, False, np.add.reduceat(x, starts) / sizes, mean, low, high)
