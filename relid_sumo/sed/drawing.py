"""Maps of subsets and planned routes."""

from __future__ import annotations

import relid_sumo.base.own_matplotlib  # noqa: F401 - before matplotlib

# isort: split
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D

from relid_sumo.network import maps
from relid_sumo.network.network import Network

COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined] # of a listed colour map
NARROWEST, WIDER = 1.6, 1.8  # line widths on a map, points; and how much wider each earlier group is


def draw_routes(network: Network, groups: Sequence[Sequence[Sequence[int]]], labels: Sequence[str], file: Path) -> None:
    """Draw routes (edge indices) on the map, one colour for each group.

    Earlier groups are wider, so that they stay visible under later ones on shared edges.
    """
    figure, axes = maps.new_map(network)
    maps.draw_roads(axes, network)
    handles = []
    for number, (routes, label) in enumerate(zip(groups, labels, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        width = NARROWEST + WIDER * (len(groups) - 1 - number)
        for route in filter(len, routes):
            xy = np.concatenate([network.graph.shape(edge) for edge in route])
            axes.plot(*xy.T, color=colour, linewidth=width, zorder=6 + 0.01 * number)
            axes.plot(*xy[0], marker="o", color=colour, markersize=6, markeredgecolor="white", zorder=8)
            axes.plot(*xy[-1], marker="s", color=colour, markersize=6, markeredgecolor="white", zorder=8)
        handles.append(Line2D([], [], color=colour, linewidth=2.2, label=label))
    maps.draw_furniture(axes, network)
    roads = axes.get_legend()
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(1.005, 0.0), fontsize=8, frameon=False)
    if roads is not None:
        axes.add_artist(roads)
    maps.save_map(figure, file)
