"""Probes: search for routes that are quicker in traffic than the demonstrations.

Queues differ by turn and by time, so the candidates are the routes that are quickest by the turn times of the training
traffic (`relid_sumo.scenario.traffic.turn_times`). All agents drive their k-th candidate in the same episode, and are
compared with their demonstrations in the same traffic, microscopically, in every training traffic seed. Two estimates
of a route's gain result: the turn times' estimate with the standard deviation `DOUBT_S`, and the driven mean with its
standard error. They are weighted by their precision. The best route replaces the demonstration. Every probe counts as
an episode of the budget.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from relid_sumo.base import cache
from relid_sumo.base.arrays import Floats
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.routes import distinct_routes
from relid_sumo.scenario.traffic import turn_times
from relid_sumo.scenario.traffic.turn_times import TurnTimes

log = logging.getLogger(__name__)

CANDIDATES = 3  # of each agent, in addition to its demonstration
MOST_SHARED = 0.85  # of a candidate's length with an earlier one; a detour around one junction is short
DOUBT_S = 20.0  # standard deviation of the gain that turn times predict
Route = Sequence[int]


@dataclass(frozen=True)
class Probed:
    """Result of probes: each agent's best route, its gain over the demonstration [s], number of episodes."""

    routes: tuple[tuple[int, ...], ...]
    gain_s: tuple[float, ...]
    episodes: int


def probe(ready: PreparedScenario, demonstrated: Sequence[Route], rollouts: Rollouts) -> Probed:
    """Return every agent's best route; cached, as it does not depend on the learner.

    Parameters
    ----------
    demonstrated
        The demonstrated route of every agent, edges.
    """
    content = [ready.identity("observation", "reward"), [list(map(int, route)) for route in demonstrated]]
    return cache.cached_json(
        "probes", ready.network.name, content, lambda: asdict(_probed(ready, demonstrated, rollouts)), Probed
    )


def _probed(ready: PreparedScenario, demonstrated: Sequence[Route], rollouts: Rollouts) -> Probed:
    times = turn_times.measured(ready.scenario, ready.network, ready.demand)
    candidates = _candidates(ready, demonstrated, times)
    log.info(f"probing {sum(map(len, candidates)) - len(candidates)} routes in addition to the demonstrations")
    chosen, gains = [], []
    driven_s = _driven(ready, candidates, rollouts)
    for routes, driven, depart_s in zip(candidates, driven_s, ready.task.depart_s, strict=True):
        expected = np.array([times.duration(route, float(depart_s)) for route in routes])
        gain = weighed(expected[0] - expected, driven[0] - driven)
        k = int(np.argmax(gain))
        chosen.append(tuple(map(int, routes[k])))
        gains.append(float(gain[k]))
    return Probed(tuple(chosen), tuple(gains), max(map(len, candidates)) * len(ready.scenario.seeds.training))


def weighed(expected: Floats, driven: Floats) -> Floats:
    """Return the gain of routes over the first one, s, shape (routes,): the expected and the driven gain combined.

    Parameters
    ----------
    expected
        Gain by the turn times, s, shape (routes,), with the standard deviation `DOUBT_S`.
    driven
        Gain as driven, s, shape (routes, seeds).
    """
    count = driven.shape[1]
    if count < 2:  # one seed gives no standard error
        return expected
    weight = count / np.maximum(driven.var(axis=1, ddof=1), 1e-6)
    gain = (expected / DOUBT_S**2 + driven.mean(axis=1) * weight) / (1 / DOUBT_S**2 + weight)
    gain[0] = 0.0
    return np.asarray(gain)


def _candidates(ready: PreparedScenario, demonstrated: Sequence[Route], times: TurnTimes) -> list[list[Route]]:
    """Return each agent's demonstration, then its candidates, quickest by the turn times first."""
    task, found = ready.task, []
    ends = zip(demonstrated, task.origin.tolist(), task.destination.tolist(), task.depart_s.tolist(), strict=True)
    for route, origin, destination, depart_s in ends:
        fastest = partial(times.fastest, origin, destination, depart_s, closed=task.closed)
        duration = partial(times.duration, depart_s=depart_s)
        others = distinct_routes(task.graph, fastest, duration, CANDIDATES + 1, most_shared=MOST_SHARED)
        found.append([route, *[other for other in others if other != list(route)][:CANDIDATES]])
    return found


def _driven(ready: PreparedScenario, candidates: Sequence[Sequence[Route]], rollouts: Rollouts) -> list[Floats]:
    """Return the travel times of each agent's routes, s, shape (routes, seeds).

    An agent without a k-th route drives its first one.
    """
    plans = [
        Policy("fixed", routes={i: routes[k if k < len(routes) else 0] for i, routes in enumerate(candidates)})
        for k in range(max(map(len, candidates)))
    ]
    driven = in_traffic(ready, rollouts, plans, ready.scenario.seeds.training)
    times = np.array([[record.travel_time for record in records] for records in driven])
    return [times[: len(routes), :, i] for i, routes in enumerate(candidates)]
