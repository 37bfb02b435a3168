"""Closed roads in a share of the training episodes, so that policies learn to drive around them.

A closed road is drawn from clearly different routes of an agent, without the first and the last edge of any trip. It
is closed from the warm-up to the horizon, and every agent can reach its destination without it. Agents see it at the
junction before it (`relid_sumo.env.closures`). Each traffic seed has at most `DRAWS` different closings, so that their
simulations are warmed up once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relid_sumo.base import seeding
from relid_sumo.scenario.incidents import Placed, on_grid, shut_with
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.task import RoutingTask

DRAWS = 16  # closings of a traffic seed
ROUTES = 3  # clearly different routes of an agent from whose edges one is drawn


class Closings:
    """The closed roads of a run's episodes.

    Parameters
    ----------
    ready
        The scenario; its agents have trips.
    seed
        Seed of the run.
    share
        Share of the episodes with a closed road.
    """

    def __init__(self, ready: PreparedScenario, seed: int, share: float) -> None:
        self._task, self._seed, self._share = ready.task, seed, share
        self._drawn: dict[tuple[int, int], Placed | None] = {}

    def of(self, episode: int, traffic_seed: int) -> Placed | None:
        """Return the closed road of a training episode; None for none."""
        if not self._share:
            return None
        rng = seeding.stream(self._seed, "closing", episode)
        return self.drawn(traffic_seed, int(rng.integers(DRAWS))) if rng.random() < self._share else None

    def drawn(self, traffic_seed: int, number: int) -> Placed | None:
        """Return a closing of a traffic seed, `number` from 0 to `DRAWS` - 1; None where no road can be spared."""
        key = traffic_seed, number
        if key not in self._drawn:
            self._drawn[key] = _draw(self._task, seeding.stream(self._seed, "closed road", *key))
        return self._drawn[key]


def _draw(task: RoutingTask, rng: np.random.Generator) -> Placed | None:
    ends = frozenset([*task.origin.tolist(), *task.destination.tolist()])
    for agent in rng.permutation(task.n_agents).tolist():
        routes = alternatives(task.graph, int(task.origin[agent]), int(task.destination[agent]), ROUTES)
        edges = sorted({edge for route in routes for edge in route} - ends - task.closed)
        for edge in rng.permutation(np.array(edges, dtype=np.int64)).tolist():
            found = closed_road(task, edge, ends)
            if found is not None:
                return found
    return None


def of_routes(task: RoutingTask, routes: Sequence[Sequence[int]]) -> list[Placed]:
    """Return the closing of each edge of some routes that can be spared, by edge."""
    ends = frozenset([*task.origin.tolist(), *task.destination.tolist()])
    edges = sorted({edge for route in routes for edge in route} - ends - task.closed)
    return [found for edge in edges if (found := closed_road(task, edge, ends)) is not None]


def closed_road(task: RoutingTask, edge: int, ends: frozenset[int]) -> Placed | None:
    """Return the closing of an edge for a whole episode; None where an agent cannot arrive without it.

    Parameters
    ----------
    ends
        First and last edges of all trips.
    """
    shut = shut_with(task.graph, edge, ends)
    cost = task.graph.free_flow_s.copy()
    cost[[*sorted(task.closed), *shut]] = np.inf
    goals = sorted(set(task.destination.tolist()))
    to_go = dict(zip(goals, task.graph.to_destinations(goals, cost)[0], strict=True))
    ways = zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    if ends & set(shut) or not all(np.isfinite(to_go[goal][origin]) for origin, goal in ways):
        return None
    end_s = on_grid(task.scenario.horizon_s, task.scenario.step_length_s)
    return Placed(edge, str(task.graph.edge_ids[edge]), (), 0.0, end_s, shut=shut)
