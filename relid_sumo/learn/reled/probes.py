"""Probes: a look around each demonstration for a way that is quicker in traffic.

Where queues differ by turn and from time to time, the ways to try are those that are quickest by the turn times of
the training traffic (`relid_sumo.scenario.traffic.turn_times`). All agents try their k-th way at the same time,
beside their demonstrations in the same traffic, microscopically, in every training traffic seed. What a way gains is
then known twice: as the turn times say, give or take `DOUBT_S`, and as it was driven, give or take its standard
error; the two are weighted by their precision. The best way takes the demonstration's place. Every probe counts as an
episode of the budget.
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

WAYS = 3  # of each agent, beside its demonstration
MOST_SHARED = 0.85  # of a way's length with one tried before: a detour around one junction is worth a try
DOUBT_S = 20.0  # standard deviation of what turn times say that a way gains
Route = Sequence[int]


@dataclass(frozen=True)
class Probed:
    """What probes came to: each agent's best way, what it gains over the demonstration [s], episodes driven."""

    routes: tuple[tuple[int, ...], ...]
    gain_s: tuple[float, ...]
    episodes: int


def probe(ready: PreparedScenario, demonstrated: Sequence[Route], rollouts: Rollouts) -> Probed:
    """Return every agent's best way; cached, as nothing that learns has a part in it.

    Parameters
    ----------
    demonstrated
        The demonstrated route of every agent, edges.
    """
    content = [ready.identity("observation", "reward"), [list(map(int, route)) for route in demonstrated]]
    found = cache.cached_json(
        "probes", ready.network.name, content, lambda: asdict(_probed(ready, demonstrated, rollouts))
    )
    return Probed(tuple(map(tuple, found["routes"])), tuple(found["gain_s"]), found["episodes"])


def _probed(ready: PreparedScenario, demonstrated: Sequence[Route], rollouts: Rollouts) -> Probed:
    times = turn_times.measured(ready.scenario, ready.network, ready.demand)
    ways = _ways(ready, demonstrated, times)
    log.info(f"probing {sum(map(len, ways)) - len(ways)} ways beside the demonstrations")
    chosen, gains = [], []
    for routes, driven, depart_s in zip(ways, _driven(ready, ways, rollouts), ready.task.depart_s, strict=True):
        expected = np.array([times.duration(route, float(depart_s)) for route in routes])
        gain = weighed(expected[0] - expected, driven[0] - driven)
        k = int(np.argmax(gain))
        chosen.append(tuple(map(int, routes[k])))
        gains.append(float(gain[k]))
    return Probed(tuple(chosen), tuple(gains), max(map(len, ways)) * len(ready.scenario.seeds.training))


def weighed(expected: Floats, driven: Floats) -> Floats:
    """Return what ways gain over the first, s, shape (ways,), by what is expected and what was driven.

    Parameters
    ----------
    expected
        Shape (ways,), s, with a standard deviation of `DOUBT_S`.
    driven
        Shape (ways, seeds), s.
    """
    count = driven.shape[1]
    if count < 2:  # nothing is known of how far chance goes
        return expected
    weight = count / np.maximum(driven.var(axis=1, ddof=1), 1e-6)
    gain = (expected / DOUBT_S**2 + driven.mean(axis=1) * weight) / (1 / DOUBT_S**2 + weight)
    gain[0] = 0.0
    return np.asarray(gain)


def _ways(ready: PreparedScenario, demonstrated: Sequence[Route], times: TurnTimes) -> list[list[Route]]:
    """Return each agent's demonstration and ways beside it, quickest by the turn times first."""
    task, found = ready.task, []
    ends = zip(demonstrated, task.origin.tolist(), task.destination.tolist(), task.depart_s.tolist(), strict=True)
    for route, origin, destination, depart_s in ends:
        fastest = partial(times.fastest, origin, destination, depart_s, closed=task.closed)
        duration = partial(times.duration, depart_s=depart_s)
        others = distinct_routes(task.graph, fastest, duration, WAYS + 1, most_shared=MOST_SHARED)
        found.append([route, *[way for way in others if way != list(route)][:WAYS]])
    return found


def _driven(ready: PreparedScenario, ways: Sequence[Sequence[Route]], rollouts: Rollouts) -> list[Floats]:
    """Return the travel times of each agent's ways, s, shape (ways, seeds); who has no k-th way drives its first."""
    plans = [
        Policy("fixed", routes={i: routes[k if k < len(routes) else 0] for i, routes in enumerate(ways)})
        for k in range(max(map(len, ways)))
    ]
    driven = in_traffic(ready, rollouts, plans, ready.scenario.seeds.training)
    times = np.array([[record.travel_time for record in records] for records in driven])
    return [times[: len(routes), :, i] for i, routes in enumerate(ways)]
