"""The road graph as arrays: edges, their slots (successors), and shortest paths.

A node of this graph is a road edge; an arc is a permitted movement from one edge to the next. It is read once from a
SUMO network (see `relid_sumo.network.network`) and then needs neither SUMO nor XML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from relid_sumo.base import files
from relid_sumo.base.arrays import Floats
from relid_sumo.base.npz import read_npz

Ints = NDArray[np.int32]

U_TURN_RAD = np.deg2rad(170.0)


@dataclass(frozen=True, eq=False)
class RoadGraph:
    """A road network as arrays; index `e` runs over the E drivable edges.

    Attributes
    ----------
    edge_ids : array of str, shape (E,)
        SUMO's edge names.
    length, speed : array, shape (E,)
        Length in m and speed limit in m/s.
    lanes : array of int, shape (E,)
        Lanes a passenger car may use.
    slots : array of int, shape (E, m_out)
        Successor edges ordered by turning angle, left to right as driven; -1 where absent. A U-turn comes
        first in right-hand traffic and last in left-hand traffic, by the side to which it is driven.
    shape_xy, shape_start : array, shape (P, 2) and (E + 1,)
        Centre line of edge e in m (network coordinates): ``shape_xy[shape_start[e]:shape_start[e + 1]]``.
    from_junction, to_junction : array of int, shape (E,)
        Indices into the junction arrays.
    junction_xy : array, shape (J, 2)
        Junction positions, m.
    junction_signal : array of bool, shape (J,)
        Whether the junction is signalled.
    projection : array of str, shape (1,)
        PROJ definition of the network coordinates before the offset; empty where the network has none.
    offset : array, shape (2,)
        Offset that SUMO adds to projected coordinates, m.
    left_hand : array of bool, shape (1,)
        Whether traffic drives on the left.
    """

    edge_ids: NDArray[np.str_]
    length: Floats
    speed: Floats
    lanes: Ints
    slots: Ints
    shape_xy: Floats
    shape_start: Ints
    from_junction: Ints
    to_junction: Ints
    junction_xy: Floats
    junction_signal: NDArray[np.bool_]
    projection: NDArray[np.str_]
    offset: Floats
    left_hand: NDArray[np.bool_]

    @property
    def n_edges(self) -> int:
        """Number of edges, E."""
        return len(self.edge_ids)

    @property
    def m_out(self) -> int:
        """The largest number of successors an edge has."""
        return int(self.slots.shape[1])

    @cached_property
    def index(self) -> dict[str, int]:
        """Edge indices by edge name."""
        return {str(name): i for i, name in enumerate(self.edge_ids)}

    @cached_property
    def names(self) -> list[str]:
        """Edge names, by edge."""
        return [str(name) for name in self.edge_ids]

    @cached_property
    def free_flow_s(self) -> Floats:
        """Time to cross each edge at its speed limit, s, shape (E,)."""
        return self.length / self.speed

    @cached_property
    def end_xy(self) -> Floats:
        """End point of each edge, m, shape (E, 2)."""
        return self.shape_xy[self.shape_start[1:] - 1]

    @cached_property
    def middle_xy(self) -> Floats:
        """Point half along each edge, m, shape (E, 2)."""
        return np.array([self.point_along(edge, 0.5)[:2] for edge in range(self.n_edges)])

    @cached_property
    def n_successors(self) -> Ints:
        """Number of successors of each edge, shape (E,)."""
        return np.asarray((self.slots >= 0).sum(axis=1), dtype=np.int32)

    @cached_property
    def _arcs(self) -> tuple[Ints, Ints]:
        """All movements as (from edge, to edge)."""
        edge, slot = np.nonzero(self.slots >= 0)
        return edge.astype(np.int32), self.slots[edge, slot]

    def shape(self, edge: int) -> Floats:
        """Return the centre line of an edge, m, shape (points, 2)."""
        return self.shape_xy[self.shape_start[edge] : self.shape_start[edge + 1]]

    def point_along(self, edge: int, share: float) -> tuple[float, float, float]:
        """Return x, y (m) and the bearing (degrees clockwise from the y axis) at a share of an edge's length."""
        xy = self.shape(edge)
        step = np.diff(xy, axis=0)
        reach = np.concatenate([[0.0], np.cumsum(np.hypot(step[:, 0], step[:, 1]))])
        at = share * reach[-1]
        i = min(int(np.searchsorted(reach, at, side="right")) - 1, len(step) - 1)
        part = (at - reach[i]) / max(reach[i + 1] - reach[i], 1e-9)
        x, y = xy[i] + part * step[i]
        return float(x), float(y), float(np.degrees(np.arctan2(step[i, 0], step[i, 1])) % 360.0)

    def strong_component(self) -> NDArray[np.bool_]:
        """Return which edges belong to the largest strongly connected part (by length), shape (E,)."""
        if not self.n_edges:
            return np.zeros(0, dtype=bool)
        src, dst = self._arcs
        matrix = csr_array((np.ones(len(src)), (src, dst)), shape=(self.n_edges, self.n_edges))
        count, label = connected_components(matrix, directed=True, connection="strong")
        size = np.bincount(label, minlength=count)
        reach = np.bincount(label, weights=self.length, minlength=count)
        best = int(np.argmax(np.where(size > 1, reach, -1.0)))
        return np.asarray(label == best) if size[best] > 1 else np.zeros(self.n_edges, dtype=bool)

    def part(self, keep: NDArray[np.bool_]) -> RoadGraph:
        """Return the graph of some of the edges, shape (E,), in the same order; other edges are no successors."""
        edges = np.flatnonzero(keep)
        number = np.full(self.n_edges + 1, -1, dtype=np.int32)  # the last entry is for "no successor", -1
        number[edges] = np.arange(len(edges), dtype=np.int32)
        slots = number[self.slots[edges]]
        order = np.argsort(slots < 0, axis=1, kind="stable")  # successors first, in their order
        slots = np.take_along_axis(slots, order, axis=1)
        width = int((slots >= 0).sum(axis=1).max(initial=0))
        points = np.concatenate([np.arange(self.shape_start[e], self.shape_start[e + 1]) for e in edges])
        sizes = np.diff(self.shape_start)[edges]
        ends = np.concatenate([self.from_junction[edges], self.to_junction[edges]])
        used, ends = np.unique(ends, return_inverse=True)
        from_junction, to_junction = ends.astype(np.int32).reshape(2, -1)
        return replace(
            self,
            edge_ids=self.edge_ids[edges],
            length=self.length[edges],
            speed=self.speed[edges],
            lanes=self.lanes[edges],
            from_junction=from_junction,
            to_junction=to_junction,
            junction_xy=self.junction_xy[used],
            junction_signal=self.junction_signal[used],
            slots=np.ascontiguousarray(slots[:, :width]),
            shape_xy=self.shape_xy[points],
            shape_start=np.cumsum([0, *sizes], dtype=np.int32),
        )

    def to_destination(self, destination: int, cost: Floats | None = None) -> tuple[Floats, Ints]:
        """Return the cost to go and the best next edge from every edge.

        Parameters
        ----------
        destination : int
            Edge index.
        cost : array, shape (E,), optional
            Cost of crossing each edge, > 0; free-flow seconds where not given.

        Returns
        -------
        to_go : array, shape (E,)
            Cost from the end of each edge to the end of the destination; 0 on it, inf where it cannot be reached.
        next_edge : array of int, shape (E,)
            The next edge on a cheapest path; -1 on the destination and where it cannot be reached.
        """
        to_go, next_edge = self.to_destinations([destination], cost)
        return to_go[0], next_edge[0]

    def to_destinations(self, destinations: Sequence[int], cost: Floats | None = None) -> tuple[Floats, Ints]:
        """Return `to_destination` of several destinations, in rows, each array of shape (destinations, E)."""
        weight = self.free_flow_s if cost is None else cost
        src, dst = self._arcs
        reverse = csr_array((weight[dst], (dst, src)), shape=(self.n_edges, self.n_edges))
        to_go, before = dijkstra(reverse, indices=list(destinations), return_predecessors=True)
        return to_go, np.where(before < 0, -1, before).astype(np.int32)

    def path(self, origin: int, destination: int, cost: Floats | None = None) -> list[int]:
        """Return a cheapest path as edge indices, both ends included; empty where there is none."""
        return follow(self.to_destination(destination, cost)[1], origin, destination)

    def save(self, file: Path) -> None:
        """Write the arrays as one .npz file."""
        files.write_npz(file, {f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, file: Path) -> RoadGraph:
        """Return the graph in a file of `save`.

        Raises
        ------
        InputError
            The file is missing or damaged.
        """
        return cls(**read_npz(file, {f.name for f in fields(cls)}, "a road graph", "build the network again"))


def follow(next_edge: Ints, origin: int, destination: int) -> list[int]:
    """Follow a next-edge table from one edge to another; empty where it does not reach the destination."""
    path = [origin]
    while path[-1] != destination:
        nxt = int(next_edge[path[-1]])
        if nxt < 0:
            return []
        path.append(nxt)
    return path


def order_slots(successors: list[list[int]], arriving: Floats, leaving: Floats, *, left_hand: bool) -> Ints:
    """Order each edge's successors by turning angle, left to right as driven.

    Parameters
    ----------
    successors : list of lists of int
        Successor edges of each edge, in any order.
    arriving, leaving : array, shape (E,)
        Direction (rad, counter-clockwise from the x axis) at the end and at the start of each edge.
    left_hand : bool
        Whether traffic drives on the left, where a U-turn goes to the right.

    Returns
    -------
    array of int, shape (E, m_out)
        -1 where absent.
    """
    width = max((len(s) for s in successors), default=0)
    slots = np.full((len(successors), width), -1, dtype=np.int32)
    for edge, nexts in enumerate(successors):
        if not nexts:
            continue
        after = np.array(sorted(nexts))
        turn = (leaving[after] - arriving[edge] + np.pi) % (2 * np.pi) - np.pi
        turn = np.where(np.abs(turn) > U_TURN_RAD, -np.pi if left_hand else np.pi, turn)
        slots[edge, : len(after)] = after[np.argsort(-turn, kind="stable")]
    return slots
