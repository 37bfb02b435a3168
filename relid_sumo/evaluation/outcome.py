"""The files that an evaluation writes into a run folder: results per agent and traffic seed, and routes."""

from __future__ import annotations

from typing import Any

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation.numbers import MEASURES
from relid_sumo.scenario.prepare import PreparedScenario

SPEEDS_KMH = (35.0, 55.0, 75.0, 95.0)  # limits of the speed classes of maps, as in `network show`


def outcome(ready: PreparedScenario, records: dict[str, list[EpisodeRecord]]) -> dict[str, Any]:
    """Return the content of evaluation.json. Lists are by traffic seed, then by agent. Times and returns are in s.

    A value that SUMO does not measure is null: that of an agent that never departed, or a number that the simulator
    does not have.
    """
    some = next(iter(records.values()))
    has_fleet = ready.scenario.fleet is not None
    day_types = [ready.day_type(record.traffic_seed) for record in some]
    return {
        "scenario": ready.scenario.name,
        "horizon_s": ready.scenario.horizon_s,
        "traffic_seeds": [record.traffic_seed for record in some],
        "agents": max(([*ready.on(record.traffic_seed).task.names] for record in some), key=len),
        "free_flow_s": [_numbers(ready.on(record.traffic_seed).task.free_flow_s) for record in some],
        **({"fleet": True} if has_fleet else {}),
        **({"day_types": day_types} if ready.scenario.events is not None else {}),
        "policies": {
            name: {
                "return_s": [np.round(r.returns, 3).tolist() for r in rows],
                "travel_time_s": [np.round(r.travel_time, 3).tolist() for r in rows],
                "status": [list(r.status) for r in rows],
                "teleports": [int(r.teleports.sum()) for r in rows],
                "background_vehicle_s": [round(r.background_vehicle_s, 1) for r in rows],
                "vehicle_s": [round(r.vehicle_s, 1) for r in rows],
                **{
                    one: [_numbers(getattr(r.measures, one)) for r in rows]
                    for one in MEASURES
                    if all(r.measures is not None for r in rows)
                },
                "digest": [r.digest for r in rows],
            }
            for name, rows in records.items()
        },
    }


def _numbers(values: Floats) -> list[float | None]:
    """Return numbers as JSON, which has no nan."""
    return [None if np.isnan(value) else round(value, 3) for value in values.tolist()]


def routes(ready: PreparedScenario, records: dict[str, list[EpisodeRecord]]) -> dict[str, Any]:
    """Return the content of routes.json: edges as x, y, x, y, ... [m], and the edges driven per policy and agent."""
    seed = next(iter(records.values()))[0].traffic_seed
    graph, task = ready.network.graph, ready.on(seed).task
    names = ready.network.streets
    streets = {name: i for i, name in enumerate(sorted({names[e] for e in map(str, graph.edge_ids) if e in names}))}
    return {
        "network": ready.network.title or ready.network.name,
        "network_key": ready.network.key,
        "attribution": ready.network.attribution,
        "roads": [np.round(graph.shape(edge)).astype(int).ravel().tolist() for edge in range(graph.n_edges)],
        "speed_class": np.searchsorted(SPEEDS_KMH, graph.speed * 3.6).tolist(),
        "streets": list(streets),
        "street": [streets[names[edge]] if edge in names else -1 for edge in map(str, graph.edge_ids)],
        "traffic_seed": seed,
        "incidents": [list(one) for one in ready.events_of(seed)],
        "agents": list(task.names),
        "origin": task.origin.tolist(),
        "destination": task.destination.tolist(),
        "routes": {name: [route.tolist() for route in rows[0].routes] for name, rows in records.items()},
    }
