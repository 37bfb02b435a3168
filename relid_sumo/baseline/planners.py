"""Routes that a traffic engineer would plan from training traffic, one per vehicle, without learning a policy.

``hist``: the fastest path on mean travel times of the training traffic. ``turns``: the same on times by turn and by
five-minute bin (see `relid_sumo.scenario.traffic.turn_times`). ``bestroute``: of up to eight clearly
different routes the one with the lowest mean travel time, each driven in every training traffic seed (all vehicles on
their k-th route at the same time); the simple baseline that learning has to exceed. ``due``: user equilibrium (see
`relid_sumo.baseline.due`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from relid_sumo.base import cache
from relid_sumo.base.errors import InputError
from relid_sumo.baseline import due
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.traffic import edge_times, meso, turn_times

log = logging.getLogger(__name__)

K_ROUTES = 8
FORMAT = 1
Route = Sequence[int]


def hist(ready: PreparedScenario, workers: int | None = None) -> list[list[int]]:
    """Return every agent's fastest path on the mean travel times of the training traffic (see `traffic.edge_times`)."""
    del workers
    task = ready.task
    cost = edge_times.edge_times(ready.scenario, ready.network, ready.demand).mean(axis=0)
    cost[sorted(task.closed)] = np.inf
    pairs = zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    return [task.graph.path(origin, destination, cost) for origin, destination in pairs]


def by_turns(ready: PreparedScenario, workers: int | None = None) -> list[list[int]]:
    """Return every agent's fastest path on the turn times of the training traffic, by its departure."""
    del workers
    task, times = ready.task, turn_times.measured(ready.scenario, ready.network, ready.demand)
    trips = zip(task.origin.tolist(), task.destination.tolist(), task.depart_s.tolist(), strict=True)
    return [times.fastest(o, d, depart_s, closed=task.closed) for o, d, depart_s in trips]


def by_equilibrium(ready: PreparedScenario, workers: int | None = None) -> list[list[int]]:
    """Return every agent's route in user equilibrium, on the calibrated mesoscopic simulation."""
    del workers
    _check_trips(ready, "due")
    calibrated = meso.calibrated(ready.scenario, ready.network, ready.demand)
    return due.equilibrium(replace(ready, scenario=calibrated))


def _check_trips(ready: PreparedScenario, name: str) -> None:
    if ready.scenario.fleet is not None:
        raise InputError(
            f"baseline '{name}' drives the same trips in all training traffic seeds, and a fleet has other trips in "
            "each; leave it out, or use hist or turns"
        )


def options(ready: PreparedScenario) -> list[list[list[int]]]:
    """Return up to `K_ROUTES` clearly different routes of every agent, only open ones where there is one."""
    task = ready.task
    every = [
        [list(route) for route in alternatives(task.graph, origin, destination, K_ROUTES)]
        for origin, destination in zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    ]
    return [[route for route in routes if not task.closed & set(route)] or routes[:1] for routes in every]


def in_turn(routes: Sequence[Sequence[Route]]) -> list[Policy]:
    """Return plans; in the k-th one every agent drives its k-th route, or its last one where it has fewer."""
    return [
        Policy("fixed", routes={i: own[min(k, len(own) - 1)] for i, own in enumerate(routes)})
        for k in range(max(map(len, routes)))
    ]


def bestroute(ready: PreparedScenario, workers: int | None = None) -> list[list[int]]:
    """Return every agent's best of `K_ROUTES` routes by mean travel time in training traffic, microscopic; cached."""
    _check_trips(ready, "bestroute")
    task, scenario, candidates = ready.task, ready.scenario, options(ready)
    own = scenario.model_dump(mode="json", exclude={"name", "meso", "observation", "reward"})
    content = [FORMAT, ready.network.key, own, ready.demand, sorted(task.closed), candidates]

    def make() -> list[int]:
        plans, seeds = in_turn(candidates), scenario.seeds.training
        log.info(f"driving up to {len(plans)} routes of every vehicle in {len(seeds)} samples of traffic")
        with Rollouts(task, workers) as rollouts:
            driven = in_traffic(ready, rollouts, plans, seeds)
        times = np.array([[record.travel_time for record in records] for records in driven]).mean(axis=1)
        return [int(np.argmin(times[: len(routes), i])) for i, routes in enumerate(candidates)]

    chosen = cache.cached_json("bestroute", ready.network.name, content, make, list[int])
    return [routes[k] for routes, k in zip(candidates, chosen, strict=True)]
