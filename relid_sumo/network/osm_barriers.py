"""Closed barriers on roads: both sides of the road end before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BEFORE_M = 3.0  # both sides end this far from a closed barrier: netconvert joins nodes that are less than 1 m apart
NEW_NODE = 10**16  # ends of roads before a barrier are numbered from here
METRES_PER_DEGREE = 111_195.0


@dataclass(frozen=True)
class Piece:
    """An OSM way, or a part of one, that a car may use.

    Attributes
    ----------
    id
        The number of the OSM way; the second and later pieces of one OSM way have other numbers.
    way
        The number of the OSM way.
    nodes
        Node numbers in order.
    tags
        The tags of the OSM way after the rules.
    km
        Length.
    """

    id: int
    way: int
    nodes: tuple[int, ...]
    tags: dict[str, str]
    km: float


def cut_at_barriers(
    pieces: Sequence[Piece], positions: dict[int, tuple[float, float]], barriers: set[int]
) -> tuple[set[int], list[Piece]]:
    """Return the barriers that cut roads, and the pieces after the cuts.

    Parameters
    ----------
    pieces
        Pieces that cars may use.
    positions
        Longitude and latitude of the nodes, degrees; the new ends are added.
    barriers
        Nodes that are closed to cars. A barrier at a dead end cuts nothing.
    """
    touched = Counter(node for piece in pieces for node in (*piece.nodes[:-1], *piece.nodes[1:]))
    cuts = {node for node in barriers if touched[node] > 1}
    result: list[Piece] = []
    for piece in pieces:
        if cuts.isdisjoint(piece.nodes):
            result.append(piece)
        else:
            result += _parts(piece, positions, cuts)
    return cuts, result


def _parts(piece: Piece, positions: dict[int, tuple[float, float]], cuts: set[int]) -> list[Piece]:
    last = len(piece.nodes) - 1
    stops = [0, *(i for i in range(1, last) if piece.nodes[i] in cuts), last]
    parts = []
    for a, b in pairwise(stops):
        nodes: Sequence[int] | None = piece.nodes[a : b + 1]
        if nodes and nodes[-1] in cuts:
            nodes = _shortened(nodes, positions)
        if nodes and nodes[0] in cuts:
            turned = _shortened(nodes[::-1], positions)
            nodes = turned and turned[::-1]
        if nodes:
            km = sum(_metres(positions[p], positions[q]) for p, q in pairwise(nodes)) / 1000
            parts.append(Piece(piece.id, piece.way, tuple(nodes), piece.tags, km))
    return parts


def _shortened(nodes: Sequence[int], positions: dict[int, tuple[float, float]]) -> list[int] | None:
    """Return a line that ends `BEFORE_M` earlier, at a new node; None where it is too short."""
    left, rest = list(nodes), BEFORE_M
    while len(left) > 1:
        start, end = positions[left[-2]], positions[left[-1]]
        step = _metres(start, end)
        left.pop()
        if step > rest:
            share = rest / step
            node = NEW_NODE + len(positions)
            east = (start[0] - end[0] + 540) % 360 - 180
            lon = (end[0] + share * east + 540) % 360 - 180
            positions[node] = (lon, end[1] + share * (start[1] - end[1]))
            return [*left, node]
        rest -= step
    return None


def _metres(start: tuple[float, float], end: tuple[float, float]) -> float:
    """Return the length of a short line (equirectangular)."""
    east = ((end[0] - start[0] + 540) % 360 - 180) * np.cos(np.radians((start[1] + end[1]) / 2))
    return float(np.hypot(east, end[1] - start[1])) * METRES_PER_DEGREE
