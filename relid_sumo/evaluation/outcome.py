"""What an evaluation leaves in a run folder: every agent in every traffic seed, and routes."""

from __future__ import annotations

import numpy as np

from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario

SPEEDS_KMH = (35.0, 55.0, 75.0, 95.0)  # the classes in which roads are drawn, as on `network show`'s map


def outcome(ready: PreparedScenario, records: dict[str, list[EpisodeRecord]]) -> dict[str, object]:
    """Return what evaluation.json holds; lists are by traffic seed, then by agent. Times and returns in s."""
    some = next(iter(records.values()))
    return {
        "scenario": ready.scenario.name,
        "horizon_s": ready.scenario.horizon_s,
        "traffic_seeds": [record.traffic_seed for record in some],
        "agents": list(ready.task.names),
        "policies": {
            name: {
                "return_s": [np.round(r.returns, 3).tolist() for r in rows],
                "travel_time_s": [np.round(r.travel_time, 3).tolist() for r in rows],
                "status": [list(r.status) for r in rows],
                "teleports": [int(r.teleports.sum()) for r in rows],
                "background_vehicle_s": [round(r.background_vehicle_s, 1) for r in rows],
            }
            for name, rows in records.items()
        },
    }


def routes(ready: PreparedScenario, records: dict[str, list[EpisodeRecord]]) -> dict[str, object]:
    """Return what routes.json holds: roads as x, y, x, y, ... [m], and per policy and agent the edges driven."""
    graph, task = ready.network.graph, ready.task
    return {
        "network": ready.network.title or ready.network.name,
        "network_key": ready.network.key,
        "attribution": ready.network.attribution,
        "roads": [np.round(graph.shape(edge)).astype(int).ravel().tolist() for edge in range(graph.n_edges)],
        "speed_class": np.searchsorted(SPEEDS_KMH, graph.speed * 3.6).tolist(),
        "traffic_seed": next(iter(records.values()))[0].traffic_seed,
        "agents": list(task.names),
        "origin": task.origin.tolist(),
        "destination": task.destination.tolist(),
        "routes": {name: [route.tolist() for route in rows[0].routes] for name, rows in records.items()},
    }
