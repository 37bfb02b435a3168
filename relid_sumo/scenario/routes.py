"""Clearly different routes: the definition, and the thresholds of its users.

Two routes are clearly different where one shares less than a threshold of its length with the other. The threshold is
`MOST_SHARED` everywhere, with three exceptions, of which the first two decide published results:

- Probes pass 0.85 (`relid_sumo.learn.reled.probes`): a detour around one junction counts as a different route.
- The library of planning programs has its own copy of the method, as it runs alone in the sandbox
  (`relid_sumo.sed.programs.program`), and takes 0.7: recorded answers were written for it.
- Trips on a SUMO network with too few clearly different routes pass 0.85 and longer detours
  (`relid_sumo.scenario.trips`).

`relid_sumo.scenario.trips.NEARLY_SAME` is another measure: whether two trips use the same roads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph

MOST_SHARED = 0.6  # largest shared share of length of clearly different routes
MOST_DETOUR = 1.4  # an alternative takes at most this many times the fastest route's time
PENALTY = 2.0  # factor on the cost of edges already used, when searching the next alternative


def alternatives(
    graph: RoadGraph,
    origin: int,
    destination: int,
    k: int = 3,
    most_shared: float = MOST_SHARED,
    most_detour: float = MOST_DETOUR,
) -> list[list[int]]:
    """Return up to k clearly different routes, fastest at free flow first; see `distinct_routes`."""
    free = graph.free_flow_s
    return distinct_routes(
        graph,
        lambda weight: graph.path(origin, destination, free * weight),
        lambda path: float(free[path].sum()),
        k,
        most_shared,
        most_detour,
    )


def distinct_routes(
    graph: RoadGraph,
    fastest: Callable[[Floats], list[int]],
    seconds: Callable[[list[int]], float],
    k: int,
    most_shared: float = MOST_SHARED,
    most_detour: float = MOST_DETOUR,
) -> list[list[int]]:
    """Return up to k clearly different routes, fastest first, by the penalty method.

    Each route takes at most `most_detour` times as long as the fastest one, and shares less than `most_shared` of its
    length with every earlier one. The list is empty where the destination cannot be reached.

    Parameters
    ----------
    fastest
        Returns the fastest path where the time of each edge is multiplied by a weight, shape (E,).
    seconds
        Returns the travel time of a path, s.
    """
    weight = np.ones(graph.n_edges)
    best = fastest(weight)
    if not best:
        return []
    found, limit = [best], most_detour * seconds(best)
    path = best
    for _ in range(4 * k):
        if len(found) == k:
            break
        weight[path[1:-1]] *= PENALTY
        path = fastest(weight)
        if seconds(path) > limit:
            continue
        if all(shared(graph, path, other) < most_shared for other in found):
            found.append(path)
    return found


def shared(graph: RoadGraph, path: list[int], other: list[int]) -> float:
    """Return the share of a path's length that another path also uses."""
    common = sorted(set(path) & set(other))
    return float(graph.length[common].sum() / graph.length[path].sum())
