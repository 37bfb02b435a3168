"""Maps of a network as pictures: roads by speed, signals, scale bar, attribution."""

from __future__ import annotations

import relid_sumo.base.own_matplotlib  # noqa: F401 - before matplotlib

# isort: split
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from relid_sumo.base import files, safe_paths, temporary
from relid_sumo.network import streets
from relid_sumo.network.network import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Roads from slow to fast: upper speed limit (km/h), label, colour, width (points, for a map of 2 km).
SPEED_CLASSES = (
    (35.0, "up to 30 km/h", "#b8bdc4", 0.9),
    (55.0, "up to 50 km/h", "#8c96a3", 1.2),
    (75.0, "up to 70 km/h", "#e0a458", 1.8),
    (95.0, "up to 90 km/h", "#d1733f", 2.2),
    (math.inf, "faster", "#a63a3a", 2.6),
)
SIGNAL = "#2a7f62"
INK = "#333a44"
LEFT_OUT = "#8064a2"
MOST_NAMES = 14  # streets on a map
LONG_SIDE_IN = 9.0
MARGIN = 0.03


def draw_roads(ax: Axes, network: Network) -> None:
    """Draw the roads of a network, in m, with its signals; routes can then be drawn on top (zorder above 5).

    The colour is the speed limit, the width the speed limit and the number of lanes.
    """
    graph = network.graph
    kmh = graph.speed * 3.6
    limit = np.array([c[0] for c in SPEED_CLASSES])
    of_class = np.searchsorted(limit, kmh, side="left")
    scale = _stroke_scale(network)
    for number, (_, _, colour, width) in enumerate(SPEED_CLASSES):
        edges = np.flatnonzero(of_class == number)
        lines = [graph.shape(edge) for edge in edges.tolist()]
        widths = scale * width * (0.75 + 0.25 * graph.lanes[edges])
        ax.add_collection(
            LineCollection(lines, colors=colour, linewidths=widths.tolist(), capstyle="round", zorder=2 + 0.1 * number)
        )
    edge, slot = np.nonzero(graph.slots >= 0)
    start = graph.shape_xy[graph.shape_start[graph.slots[edge, slot]]]
    across = np.stack([graph.end_xy[edge], start], axis=1)  # movements over junctions
    ax.add_collection(LineCollection(list(across), colors=SPEED_CLASSES[0][2], linewidths=0.7 * scale, zorder=1.9))
    signals = graph.junction_xy[graph.junction_signal]
    ax.scatter(
        signals[:, 0], signals[:, 1], s=22 * scale, color=SIGNAL, edgecolors="white", linewidths=0.5 * scale, zorder=4
    )
    low, high = graph.shape_xy.min(axis=0), graph.shape_xy.max(axis=0)
    pad = MARGIN * float((high - low).max())
    ax.set_xlim(low[0] - pad, high[0] + pad)
    ax.set_ylim(low[1] - pad, high[1] + pad)
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_furniture(ax: Axes, network: Network, legend: Sequence[Line2D] = ()) -> None:
    """Add title, legend (with further entries), scale bar and attribution to a map."""
    graph = network.graph
    title = network.title or network.name
    facts = (
        f"{graph.n_edges} edges, {graph.length.sum() / 1000:.0f} km, {network.summary['signals']} signals, "
        f"{'left' if network.summary['left_hand'] else 'right'}-hand traffic"
    )
    ax.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold", color=INK, pad=4, parse_math=False)
    ax.text(0.0, 1.012, facts, transform=ax.transAxes, fontsize=8.5, color=INK, va="bottom")
    used = np.unique(np.searchsorted([c[0] for c in SPEED_CLASSES], graph.speed * 3.6))
    handles = [
        Line2D([], [], color=colour, linewidth=1.4 * width, label=label)
        for number, (_, label, colour, width) in enumerate(SPEED_CLASSES)
        if number in used
    ]
    if graph.junction_signal.any():
        handles.append(
            Line2D([], [], color=SIGNAL, marker="o", markersize=5, markeredgecolor="white", linewidth=0, label="signal")
        )
    ax.legend(
        handles=[*handles, *legend],
        loc="upper left",
        bbox_to_anchor=(1.005, 1.0),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    _scale_bar(ax)
    ax.text(
        1.0, -0.005, network.attribution, transform=ax.transAxes, fontsize=7, color=INK, ha="right", va="top", zorder=9
    )


def draw_map(network: Network, file: Path, marked: Sequence[tuple[Sequence[int], str, str]] = ()) -> None:
    """Draw a network as a picture; the ending of the file selects its format (.png, .svg, .pdf).

    Parameters
    ----------
    marked
        Edges to draw in a colour, with their label in the legend: (edges, colour, label).
    """
    fig, ax = new_map(network)
    draw_roads(ax, network)
    legend = draw_left_out(ax, network)
    for edges, colour, label in marked:
        legend += draw_marked(ax, network, edges, colour, label)
    draw_streets(ax, network)
    draw_furniture(ax, network, legend)
    save_map(fig, file)


def draw_marked(ax: Axes, network: Network, edges: Sequence[int], colour: str, label: str) -> list[Line2D]:
    """Draw edges in a colour, above all roads, for instance closed ones; return the legend."""
    if not edges:
        return []
    width = 4.0 * _stroke_scale(network)
    lines = [network.graph.shape(edge) for edge in edges]
    ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="round", zorder=6))
    return [Line2D([], [], color=colour, linewidth=4.0, label=label)]


def draw_left_out(ax: Axes, network: Network) -> list[Line2D]:
    """Draw the roads that cars could drive on and the network does not have, below all others; return the legend."""
    if not network.left_out:
        return []
    width = 0.9 * _stroke_scale(network)
    ax.add_collection(LineCollection(network.left_out, colors=LEFT_OUT, linewidths=width, linestyles=":", zorder=1.5))
    return [Line2D([], [], color=LEFT_OUT, linestyle=":", linewidth=1.2, label="not in the network")]


def draw_streets(ax: Axes, network: Network) -> None:
    """Write the names of the longest streets along them."""
    graph, scale = network.graph, _stroke_scale(network)
    lengths = dict(zip(graph.edge_ids.tolist(), graph.length.tolist(), strict=True))
    for street, edge in streets.longest(network.streets, lengths, MOST_NAMES).items():
        x, y, bearing = graph.point_along(graph.index[edge], 0.5)
        angle = (90.0 - bearing + 90.0) % 180.0 - 90.0  # readable from left to right
        text = ax.text(
            *(float(x), float(y), safe_paths.printable(street)),
            rotation=angle,
            fontsize=max(4.0, 6.5 * scale),
            color=INK,
            ha="center",
            va="center",
            rotation_mode="anchor",
            parse_math=False,
            zorder=8,
            clip_on=True,
        )
        text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])


def new_map(network: Network) -> tuple[Figure, Axes]:
    """Return a figure, and axes on it, in the proportions of a network."""
    width, height = np.ptp(network.graph.shape_xy, axis=0)
    scale = LONG_SIDE_IN / max(width, height)
    fig = Figure(figsize=(max(width * scale, 4.0) + 1.2, max(height * scale, 3.0) + 0.6), facecolor="white")
    FigureCanvasAgg(fig)
    return fig, fig.add_subplot()


def save_map(fig: Figure, file: Path) -> None:
    """Write a figure to a temporary file that is then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary.folder(".map-", file.parent) as scratch:
        whole = Path(scratch) / file.name
        fig.savefig(whole, dpi=150, bbox_inches="tight", pad_inches=0.15)
        files.put(whole, file)


def _stroke_scale(network: Network) -> float:
    """Return the factor on stroke widths by the size of the area: 1 on 2 km, a third on 40 km."""
    return float(np.clip((2000.0 / np.ptp(network.graph.shape_xy, axis=0).max()) ** 0.37, 0.3, 1.2))


def _scale_bar(ax: Axes) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten metres, about a fifth of the map, under its lower left corner."""
    x0, x1 = ax.get_xlim()
    y0, y1 = ax.get_ylim()
    target = (x1 - x0) / 5
    power = 10.0 ** math.floor(math.log10(target))
    length = max(f * power for f in (1, 2, 5) if f * power <= target)
    y, tick = y0 - 0.012 * (y1 - y0), 0.006 * (y1 - y0)
    ax.plot(
        [x0, x0, x0 + length, x0 + length],
        [y + tick, y, y, y + tick],
        color=INK,
        linewidth=1.5,
        clip_on=False,
        zorder=9,
    )
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    ax.text(x0 + length / 2, y - tick, label, fontsize=7.5, color=INK, ha="center", va="top", zorder=9)
