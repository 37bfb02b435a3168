"""Groups agents that plan together: their plausible routes use the same edges at about the same time.

Overlap of agents i and j: each agent has up to k clearly different plausible routes. ``u_i(e)`` is the share of them
that uses edge e, and ``t_i(e)`` is the mean time [s] at which they reach it at free flow. Then

``o_ij = sum_e l_e u_i(e) u_j(e) exp(-|t_i(e) - t_j(e)| / tau) / sqrt(sum_e l_e u_i(e)^2  sum_e l_e u_j(e)^2)``

lies in [0, 1]: a cosine similarity, reduced for edges that the agents reach at different times. Average-linkage
clustering on ``1 - o`` (scipy) is cut from the top until no subset has more than `max_size` agents and none is joined
at an overlap below `least_overlap`. The paper (arXiv 2511.19368) puts agents into subsets; the measure is this
project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.cluster.hierarchy import ClusterNode, linkage, to_tree
from scipy.spatial.distance import squareform

from relid_sumo.base.arrays import Floats
from relid_sumo.base.settings import WEEK_S, Settings
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.task import RoutingTask


class PartitionSettings(Settings):
    """How agents are grouped into subsets."""

    max_size: Annotated[int, Field(ge=1, le=10**6)] = 5
    """Largest number of agents in a subset."""
    routes: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of plausible routes of an agent, k."""
    tau_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 120.0
    """Time constant: agents that reach an edge this far apart count 1/e, s."""
    least_overlap: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Smallest mean overlap at which agents are joined."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Subsets of agents, with the overlaps that decide them.

    Attributes
    ----------
    subsets : tuple of tuples of int
        The agents of each subset in ascending order; subsets in the order of their first agent.
    overlap : array, shape (N, N)
        Symmetric, in [0, 1]; 1 on the diagonal.
    routes : tuple of lists of routes
        Each agent's plausible routes as edge indices.
    """

    subsets: tuple[tuple[int, ...], ...]
    overlap: Floats
    routes: tuple[list[list[int]], ...]

    def inside(self, subset: tuple[int, ...]) -> float:
        """Return the mean overlap of a subset's pairs; 0 for one agent."""
        pairs = [self.overlap[i, j] for i in subset for j in subset if i < j]
        return float(np.mean(pairs)) if pairs else 0.0

    def outside(self, subset: tuple[int, ...]) -> float:
        """Return the mean overlap of a subset's agents with all others; 0 where there are none."""
        others = [j for j in range(len(self.overlap)) if j not in subset]
        return float(self.overlap[np.ix_(subset, others)].mean()) if others else 0.0


def partition(task: RoutingTask, settings: PartitionSettings) -> Partition:
    """Group the agents of a task into subsets; the same task and settings give the same subsets."""
    graph = task.graph
    routes = tuple(
        alternatives(graph, int(task.origin[i]), int(task.destination[i]), settings.routes)
        for i in range(task.n_agents)
    )
    used, reached = np.zeros((task.n_agents, graph.n_edges)), np.zeros((task.n_agents, graph.n_edges))
    for i, own in enumerate(routes):
        for route in own:
            until = task.depart_s[i] + np.cumsum(graph.free_flow_s[route])
            used[i, route] += 1.0 / len(own)
            reached[i, route] += (until - graph.free_flow_s[route]) / len(own)
    reached /= np.maximum(used, 1e-12)
    overlap = _overlap(graph.length, used, reached, settings.tau_s)
    return Partition(_subsets(overlap, settings), overlap, routes)


def _overlap(length: Floats, used: Floats, reached: Floats, tau_s: float) -> Floats:
    n = len(used)
    meets = np.empty((n, n))
    for i in range(n):
        near = np.exp(-np.abs(reached[i] - reached) / tau_s)
        meets[i] = (length * used[i] * used * near).sum(axis=1)
    size = np.sqrt(np.diag(meets))
    return np.asarray(meets / np.outer(size, size))


def _subsets(overlap: NDArray[np.float64], settings: PartitionSettings) -> tuple[tuple[int, ...], ...]:
    if len(overlap) == 1:
        return ((0,),)
    apart = np.round(1.0 - (overlap + overlap.T) / 2, 12)  # rounded: a tie must not depend on the order of a sum
    np.fill_diagonal(apart, 0.0)
    found: list[tuple[int, ...]] = []
    waiting: list[ClusterNode] = [to_tree(linkage(squareform(apart), "average"))]
    while waiting:
        node = waiting.pop()
        if node.get_count() <= settings.max_size and node.dist <= 1.0 - settings.least_overlap:
            found.append(tuple(sorted(node.pre_order())))
        else:
            waiting += [node.get_left(), node.get_right()]
    return tuple(sorted(found))
