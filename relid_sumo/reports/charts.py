"""The curves of a report as numbers. The page and the figures draw them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import stats
from relid_sumo.reports.compare import Comparison
from relid_sumo.reports.read import Run

Floats = NDArray[np.float64]

# Colours by Okabe & Ito, which colour-blind readers can distinguish. Baselines are grey with different dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288")
GREYS = ("#5d656e", "#8f969e", "#737b84", "#abb1b8")
POINTS = 150  # at most, per curve; neighbouring points of longer curves are averaged
QUANTILES = np.linspace(0.0, 1.0, 101)
AGENTS = 20  # at most, in an alpha chart
ALPHA = re.compile(r"alpha_(\d+)")
LEARNING = (
    ("mean_travel_time_s", "travel time, s", "Travel time", "travel_time_s"),
    ("mean_return", "return, s", "Return", "mean_return"),
    ("arrival_rate", "share arrived", "Arrived", "arrival_rate"),
    ("validation_return", "return, s", "Return in validation traffic, greedy", "mean_return"),
    ("validation_arrival_rate", "share arrived", "Arrived in validation traffic, greedy", "arrival_rate"),
)  # column, label of the axis, title, and the figure of a baseline
BESIDE = "driven_beside"  # column: episodes so far that were driven for demonstrations and validation
ROUNDS = {"d_in": "D_in", "f_out": "F_out", "execution_rate": "execution rate"}


@dataclass(frozen=True, eq=False)
class Series:
    """A line, with a band if it is the mean of several seeds or agents. `hidden`: drawn only if the reader asks."""

    name: str
    colour: str
    dashed: bool
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    hidden: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines over a common axis; `marks` are places on the axis with labels."""

    key: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    note: str = ""
    marks: Sequence[tuple[float, str]] = ()


def colours(names: Sequence[str], baselines: Sequence[str]) -> dict[str, str]:
    """Return a colour for each policy."""
    learned = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}
    return learned | {name: GREYS[i % len(GREYS)] for i, name in enumerate(dict.fromkeys(baselines))}


def learning(
    runs: Sequence[Run], scenario: str, colour: dict[str, str], comparison: Comparison | None = None
) -> list[Chart]:
    """Return the learning curves of a scenario: one line per algorithm, with a band over its seeds.

    Baselines of the comparison are horizontal lines. The axis counts all episodes that were driven so far, those for
    demonstrations and validation too. A mark shows where training changes its simulator.
    """
    charts, groups = [], _groups(runs, scenario)
    beside = any(max(run.metrics.get(BESIDE) or [0.0]) > 0 for rows in groups.values() for run in rows)
    label_x = "episodes driven, with those for demonstrations and validation" if beside else "episode"
    marks = _changes(groups)
    baselines = [] if comparison is None else [row for row in comparison.rows if not row.learned]
    for column, label, title, result in LEARNING:
        series = [
            _over_seeds(rows, column, "episodes", algorithm, colour[algorithm])
            for algorithm, rows in groups.items()
            if all(column in run.metrics for run in rows)
        ]
        if series:
            ends = np.array([min(one.x.min() for one in series), max(one.x.max() for one in series)])
            levels = {row.name: float(getattr(row, result).mean) for row in baselines}
            low, high = min(one.y.min() for one in series), max(one.y.max() for one in series)
            far = {name for name, y in levels.items() if not 2 * low - high <= y <= 2 * high - low}
            series += [
                Series(name, colour[name], True, ends, np.full(2, y), hidden=name in far) for name, y in levels.items()
            ]
            note = "Dashed: baselines in the held-out traffic, microscopic." if baselines else ""
            note += f" Click to draw what is far from the curves: {', '.join(sorted(far))}." if far else ""
            name = slug(scenario, column)
            charts.append(Chart(name, f"{title}, {scenario}", label_x, label, series, note, marks))
    return charts


def _changes(groups: dict[str, list[Run]]) -> list[tuple[float, str]]:
    """Return where training changes its simulator, with a label; algorithms are named where they differ."""
    found: dict[str, tuple[float, str]] = {}
    for algorithm, rows in groups.items():
        micro, x = rows[0].metrics.get("micro") or [], driven(rows[0])
        for k in range(1, min(len(micro), len(x))):
            if micro[k] != micro[k - 1]:
                found[algorithm] = float(x[k - 1] + x[k]) / 2, "microscopic from here" if micro[k] else "mesoscopic"
    distinct = list(dict.fromkeys(found.values()))
    if len(distinct) <= 1:
        return distinct
    return [(x, f"{said}: {algorithm}") for algorithm, (x, said) in found.items()]


def driven(run: Run) -> Floats:
    """Return the number of episodes driven after each update, those for demonstrations and validation included."""
    episodes = np.array(run.metrics["episodes"], dtype=float)
    beside = np.array(run.metrics.get(BESIDE) or [0.0], dtype=float)
    return episodes + (beside[: len(episodes)] if len(beside) >= len(episodes) else 0.0)


def alpha(runs: Sequence[Run], scenario: str) -> list[Chart]:
    """Return alpha over training, one chart per algorithm that logs it; means over seeds.

    A band reaches from the lowest to the highest agent. Single agents are hidden until the reader asks for them.
    """
    charts = []
    for algorithm, rows in _groups(runs, scenario).items():
        found = {int(match[1]) for run in rows for name in run.metrics if (match := ALPHA.fullmatch(name))}
        agents = sorted(agent for agent in found if all(f"alpha_{agent}" in run.metrics for run in rows))
        if not agents:
            continue
        single = [
            _over_seeds(rows, f"alpha_{agent}", "episodes", f"agent {agent}", COLOURS[agent % len(COLOURS)])
            for agent in agents
        ]
        values = np.stack([one.y for one in single])
        mean = Series(
            "mean of agents",
            COLOURS[0],
            False,
            single[0].x,
            values.mean(axis=0),
            values.min(axis=0),
            values.max(axis=0),
        )
        note = "Band: from the lowest to the highest agent. Click an agent to draw its line."
        note += f" The first {AGENTS} of {len(agents)} agents are listed." if len(agents) > AGENTS else ""
        shown = [mean, *(replace(one, low=None, high=None, hidden=True) for one in single[:AGENTS])]
        title = f"Alpha, {algorithm}, {scenario}"
        charts.append(Chart(slug(scenario, algorithm, "alpha"), title, "episodes driven", "alpha", shown, note))
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
    every = [driven(run) if over == "episodes" else np.array(run.rounds[over], dtype=float) for run in runs]
    x = np.mean([one[:length] for one in every], axis=0)
    edges = np.unique(np.linspace(0, length, min(length, POINTS) + 1).astype(int))
    starts, sizes = edges[:-1], np.diff(edges)
    binned = np.add.reduceat(values, starts, axis=1) / sizes
    mean, low, high = stats.band(binned)
    return Series(name, colour, False, np.add.reduceat(x, starts) / sizes, mean, low, high)
