"""The trips of an evaluation as a CSV file, one row per trip."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from relid_sumo.base import files
from relid_sumo.env.records import EpisodeRecord, Measures
from relid_sumo.evaluation.numbers import MEASURES
from relid_sumo.scenario.prepare import PreparedScenario

COLUMNS = (
    "policy",
    "traffic_seed",
    "agent",
    "origin",
    "destination",
    "departure_s",
    "travel_time_s",
    "free_flow_time_s",
    "delay_s",
    "distance_m",
    "status",
    *(f"driven_{name}" for name in MEASURES),
    "route",
)


def write_trips(file: Path, ready: PreparedScenario, records: Mapping[str, Sequence[EpisodeRecord]]) -> None:
    """Write one row per policy, traffic seed and agent.

    ``departure_s`` is the scheduled departure after the warm-up, and ``travel_time_s`` is counted from it.
    ``free_flow_time_s`` is the time of the fastest route on an empty network, ``delay_s`` the additional travel time.
    ``route`` is the edges driven, separated by spaces, and ``distance_m`` is their total length; the first and
    the last edge count in full. A vehicle that did not arrive (`status`) has the travel time of `EpisodeRecord`.
    ``driven_...`` is what SUMO measures from the departure to the arrival, or to the end of the episode
    (`relid_sumo.sim.trip_output.TripMeasures`); empty where it measures nothing.
    """
    graph, text = ready.network.graph, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for policy, rows in records.items():
        for record in rows:
            task = ready.on(record.traffic_seed).task
            free_s = task.free_flow_s
            for i, agent in enumerate(task.names):
                ends = (str(graph.edge_ids[task.origin[i]]), str(graph.edge_ids[task.destination[i]]))
                took_s, route = float(record.travel_time[i]), record.routes[i]
                numbers = (task.depart_s[i], took_s, free_s[i], took_s - free_s[i], graph.length[route].sum())
                writer.writerow(
                    [
                        *(policy, record.traffic_seed, agent, *ends),
                        *(f"{number:.3f}" for number in numbers),
                        record.status[i],
                        *(_measured(record.measures, name, i) for name in MEASURES),
                        " ".join(str(edge) for edge in graph.edge_ids[route]),
                    ]
                )
    files.write(file, text.getvalue().encode())


def _measured(measures: Measures | None, name: str, agent: int) -> str:
    value = np.nan if measures is None else float(getattr(measures, name)[agent])
    return "" if np.isnan(value) else f"{value:.3f}"
