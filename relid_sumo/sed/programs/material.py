"""The input of a planning program as JSON: network, trips, traffic. See `relid_sumo.sed.programs.program`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.edge_times import BIN_S
from relid_sumo.sed.programs.plans import Routes

MOST_TRIED = 30  # routes of a vehicle, the fastest ones

Tried = dict[int, dict[tuple[int, ...], list[float]]]


def note(tried: Tried, records: Iterable[EpisodeRecord], agents: Iterable[int]) -> None:
    """Add the driven routes of some agents to the routes tried so far; vehicles that do not arrive add none."""
    chosen = list(agents)
    for record in records:
        for i in chosen:
            if record.status[i] == "arrived":
                route = tuple(int(edge) for edge in record.routes[i])
                tried.setdefault(i, {}).setdefault(route, []).append(float(record.travel_time[i]))


def network_data(task: RoutingTask) -> dict[str, Any]:
    """Return the data of `program.Network`; closed edges are not listed as successors."""
    graph, shut = task.graph, task.closed
    starts = graph.shape_xy[graph.shape_start[:-1]]
    return {
        "edges": [str(name) for name in graph.edge_ids],
        "length": _rounded(graph.length),
        "speed": _rounded(graph.speed),
        "lanes": graph.lanes.tolist(),
        "signal": graph.junction_signal[graph.to_junction].tolist(),
        "start": np.round(starts, 1).tolist(),
        "end": np.round(graph.end_xy, 1).tolist(),
        "successors": [[int(edge) for edge in row if edge >= 0 and int(edge) not in shut] for row in graph.slots],
    }


def trips_data(task: RoutingTask, subset: Sequence[int], tried: Tried | None = None) -> list[dict[str, Any]]:
    """Return the data of `program.Trip`, with the routes tried so far (fastest first) where these are given."""
    names = task.graph.edge_ids
    trips = []
    for i in subset:
        trip = {
            "id": task.names[i],
            "origin": str(names[task.origin[i]]),
            "destination": str(names[task.destination[i]]),
            "depart": float(task.depart_s[i]),
        }
        if tried is not None:
            known = sorted((float(np.mean(times)), len(times), route) for route, times in tried.get(i, {}).items())
            trip["tried"] = [
                {"route": _named(task, route), "travel_time": round(mean, 2), "runs": runs}
                for mean, runs, route in known[:MOST_TRIED]
            ]
        trips.append(trip)
    return trips


def traffic_data(task: RoutingTask, edge_times: Floats, others: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """Return the data of `program.Traffic`.

    Parameters
    ----------
    edge_times
        Mean travel times by bin, s, shape (bins, E).
    others
        Expected routes of the other agents.
    """
    return {
        "bin_s": BIN_S,
        "travel_time": np.round(edge_times.T, 2).tolist(),
        "others": [
            {"id": task.names[i], "depart": float(task.depart_s[i]), "route": _named(task, route)}
            for i, route in others.items()
        ],
    }


def shortest_routes(task: RoutingTask, agents: Iterable[int]) -> Routes:
    """Return the free-flow fastest routes of some agents."""
    return {i: tuple(task.route(i, int(task.origin[i]))) for i in agents}


def _named(task: RoutingTask, route: Sequence[int]) -> list[str]:
    return [str(task.graph.edge_ids[edge]) for edge in route]


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]
