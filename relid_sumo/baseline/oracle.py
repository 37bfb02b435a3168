"""Bounds that no planner can reach in service: routes planned with knowledge of the very day that is driven.

``oracle``: iterated best response. All agents drive the day, then a share of them takes the fastest path on the turn
times of that drive, incidents, surges and the other agents included; `STEPS` times, from the routes of ``turns``. The
routes of the drive with the lowest mean travel time of the agents are the plan. ``so`` (system optimum): the same, but
paths are fastest on marginal costs, times plus the part above free flow, and the best drive is that with the lowest
time of all vehicles. Both are heuristics: they bound planners from below as far as their search gets.

A plan is for the microscopic simulation of one traffic seed, and cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from relid_sumo.base import cache, seeding, temporary
from relid_sumo.base.arrays import Floats
from relid_sumo.env.play import job
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic import edge_times, turn_times
from relid_sumo.scenario.traffic.turn_times import TurnTimes, leaning

STEPS = 6
FORMAT = 1  # part of the cache key: raise it when the search changes
LEAST_SHARE = 0.25  # of the agents that plan again after a drive


def oracle(ready: PreparedScenario, traffic_seed: int) -> list[list[int]]:
    """Return every agent's route by iterated best response in a traffic seed; cached."""
    return _searched(ready, traffic_seed, marginal=False)


def system_optimum(ready: PreparedScenario, traffic_seed: int) -> list[list[int]]:
    """Return every agent's route by iterated best response on marginal costs in a traffic seed; cached."""
    return _searched(ready, traffic_seed, marginal=True)


def _searched(ready: PreparedScenario, traffic_seed: int, *, marginal: bool) -> list[list[int]]:
    kind = "so" if marginal else "oracle"
    content = [FORMAT, STEPS, marginal, traffic_seed, ready.identity("observation", "reward")]

    def make() -> list[list[int]]:
        return _search(ready, traffic_seed, marginal=marginal)

    return cache.cached_json(kind, ready.network.name, content, make, list[list[int]])


def _search(ready: PreparedScenario, traffic_seed: int, *, marginal: bool) -> list[list[int]]:
    task = ready.task
    known = turn_times.measured(ready.scenario, ready.network, ready.demand)
    routes = [_fastest(task, known, agent, None) for agent in range(task.n_agents)]
    times, best, best_s = known, routes, np.inf
    for step in range(STEPS):
        record, day = _driven(ready, traffic_seed, routes, known)
        spent_s = float(record.travel_time.sum()) + (record.background_vehicle_s if marginal else 0.0)
        if spent_s < best_s:
            best, best_s = routes, spent_s
        part = max(0.4, 1.0 / (step + 1))
        times = replace(day, seconds=times.seconds + part * (day.seconds - times.seconds))
        share, weight = max(LEAST_SHARE, 1.0 / (step + 1.5)), marginal_weight(times) if marginal else None
        routes = [
            _fastest(task, times, agent, weight)
            if seeding.stream(traffic_seed, "best response", step, agent).random() < share
            else route
            for agent, route in enumerate(routes)
        ]
    return best


def _fastest(task: RoutingTask, times: TurnTimes, agent: int, weight: Floats | None) -> list[int]:
    origin, destination = int(task.origin[agent]), int(task.destination[agent])
    return times.fastest(origin, destination, float(task.depart_s[agent]), weight, task.closed)


def marginal_weight(times: TurnTimes) -> Floats:
    """Return the marginal cost of each edge over its time, shape (E,): 1 at free flow, almost 2 far above it.

    The cost of one more vehicle is its own time plus what it costs the others, for which the part above free flow is
    taken: exact where delays grow in proportion to the flow.
    """
    mean = times.seconds.mean(axis=(0, 2))
    return np.asarray(1.0 + np.maximum(0.0, mean - times.graph.free_flow_s) / mean)


def _driven(
    ready: PreparedScenario, traffic_seed: int, routes: Sequence[Sequence[int]], known: TurnTimes
) -> tuple[EpisodeRecord, TurnTimes]:
    """Drive the agents' routes; return the episode, and the turn times of all vehicles in it.

    Turns that no vehicle took have their time on ordinary days plus what the other turns of their edge took longer.
    """
    policy = Policy("fixed", routes=dict(enumerate(routes)))
    with temporary.folder("relid-sumo-") as folder:
        file = folder / "driven.xml"
        one = job(ready, traffic_seed, policy, background=True)
        output = ("--vehroute-output", str(file), "--vehroute-output.exit-times", "--vehroute-output.write-unfinished")
        with Rollouts(ready.task, 1, fork=False) as rollouts:  # no forks: two processes would write the file
            (record,) = rollouts.run([replace(one, options=(*one.options, *output))])
        seconds, vehicles = edge_times.turns_of(file, ready.scenario, ready.network.graph)
    return record, day_times(known, seconds, vehicles)


def day_times(known: TurnTimes, seconds: Floats, vehicles: Floats) -> TurnTimes:
    """Return the turn times of a day from summed seconds and vehicles, both of shape (bins, E, m_out)."""
    longer = (seconds - vehicles * known.seconds).sum(axis=2) / np.maximum(vehicles.sum(axis=2), 1.0)
    ordinary = np.maximum(known.seconds + longer[:, :, None], known.graph.free_flow_s[:, None])
    return replace(known, seconds=leaning(seconds, vehicles, ordinary))
