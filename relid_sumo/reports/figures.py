"""Figures for papers, as PNG and PDF: each curve, and the comparison of each scenario."""

from __future__ import annotations

import relid_sumo.base.own_matplotlib  # noqa: F401 - before matplotlib

# isort: split
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from relid_sumo.base.files import whole
from relid_sumo.reports.charts import Chart, slug
from relid_sumo.reports.city import City
from relid_sumo.reports.compare import Comparison
from relid_sumo.reports.content import Content

KINDS = ("png", "pdf")
SIZE_IN = (5.0, 3.2)
ROAD = "#c9cfd6"
INCIDENT = "#d00000"
# Without a date in the file, the same numbers give the same bytes.
METADATA = {"png": {}, "pdf": {"CreationDate": None}}


def write(content: Content, folder: Path) -> list[Path]:
    """Write all figures into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in content.parts:
        drawn = [(chart.key, _curves(chart)) for chart in part.charts]
        if part.comparison is not None:
            drawn.append((slug(part.name, "comparison"), _intervals(part.comparison, content.colours)))
        if part.city is not None:
            drawn.append((slug(part.name, "routes"), _routes(part.city, content.colours)))
        for name, figure in drawn:
            written += _save(figure, folder, name)
    return written


def _new(size: tuple[float, float] = SIZE_IN) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    files = []
    for kind in KINDS:
        file = folder / f"{name}.{kind}"
        with whole(file) as part:
            figure.savefig(part, format=kind, dpi=200, metadata=METADATA[kind])
        files.append(file)
    return files


def _curves(chart: Chart) -> Figure:
    figure = _new()
    axes = figure.add_subplot()
    shown = [one for one in chart.series if not one.hidden]
    for one in shown:
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, color=one.colour, alpha=0.15, linewidth=0)
    for x, said in chart.marks:
        axes.axvline(x, color=ROAD, linewidth=1)
        axes.text(x, 1, f" {said}", transform=axes.get_xaxis_transform(), fontsize=6, va="top")
    for one in shown:
        marker = "o" if len(one.x) == 1 else ""
        axes.plot(one.x, one.y, color=one.colour, label=one.name, marker=marker, linestyle="--" if one.dashed else "-")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.set_title(chart.title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _intervals(comparison: Comparison, colours: dict[str, str]) -> Figure:
    """Draw each policy's mean travel time with its interval; dots are training seeds."""
    figure = _new((SIZE_IN[0], 0.9 + 0.4 * len(comparison.rows)))
    axes = figure.add_subplot()
    for i, (row, one) in enumerate(zip(comparison.rows, comparison.driven, strict=True)):
        estimate = row.travel_time_s
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [i, i], color=colours[row.name], linewidth=3, alpha=0.5)
        axes.plot([estimate.mean], [i], "o", color=colours[row.name], markersize=7)
        if row.seeds > 1:
            axes.plot(one.travel_time_s, [i] * row.seeds, "|", color=colours[row.name], markersize=9)
    axes.set_yticks(range(len(comparison.rows)), [row.name for row in comparison.rows])
    axes.invert_yaxis()
    axes.set_xlabel("mean travel time, s")
    axes.set_title(f"{comparison.scenario}: mean, 95 % interval, training seeds", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _routes(city: City, colours: dict[str, str]) -> Figure:
    """Draw the route that each policy (its first seed) chose for the first agent; wider lines lie below."""
    figure = _new((5.0, 5.0))
    axes = figure.add_subplot()
    lines = [list(zip(road[::2], road[1::2], strict=True)) for road in city.roads]
    axes.add_collection(LineCollection(lines, colors=ROAD, linewidths=0.7))
    blocked = [lines[edge] for edge, _ in city.incidents]
    axes.add_collection(LineCollection(blocked, colors=INCIDENT, linewidths=5, alpha=0.55))
    first = {layer.policy: layer for layer in reversed(city.layers)}
    for rank, layer in enumerate(first[name] for name in dict.fromkeys(layer.policy for layer in city.layers)):
        points = [point for edge in layer.routes[0] for point in lines[edge]]
        width = 1.5 * (len(first) - rank)
        axes.plot(*zip(*points, strict=True), color=colours[layer.policy], linewidth=width, label=layer.policy)
    start, end = lines[city.origin[0]][0], lines[city.destination[0]][-1]
    axes.plot(*start, "o", *end, "s", color="white", markeredgecolor="black", markersize=7)
    axes.set_aspect("equal")
    axes.autoscale()
    axes.set_axis_off()
    axes.set_title(f"{city.network}: {city.agents[0]}, traffic seed {city.traffic_seed}", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.text(1, 0, city.attribution, transform=axes.transAxes, fontsize=6, ha="right", va="top")
    return figure
