"""What the page of a replay shows, as JSON: the streets, and each episode's vehicles, trips and decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from relid_sumo.env.choices import Choice
from relid_sumo.env.records import Branch
from relid_sumo.network.network import Network
from relid_sumo.network.streets import read_names
from relid_sumo.replay.packing import Grid, packed, second_differences
from relid_sumo.replay.recording import Recording, Tracks
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask

JSON = dict[str, Any]


def content(
    ready: PreparedScenario, recordings: Mapping[str, Recording], traffic_seed: int, *, title: str
) -> tuple[JSON, JSON]:
    """Return what is readable, and the packed arrays, each as one JSON object.

    Parameters
    ----------
    recordings
        Recordings by the name of their policy, in the same traffic.
    """
    ready = ready.on(traffic_seed)
    task, graph = ready.task, ready.task.graph
    grid = Grid.around(graph.shape_xy, *(one.tracks.xy for one in recordings.values()))
    said = {
        "title": title,
        "scenario": ready.scenario.name,
        "network": ready.network.name,
        "attribution": ready.network.attribution,
        "trafficSeed": traffic_seed,
        "day": ready.describe_day(traffic_seed),
        "horizon": ready.scenario.horizon_s,
        "grid": {"x": grid.x, "y": grid.y, "quantum": grid.quantum},
        "agents": [_agent(task, i) for i in range(task.n_agents)],
        "events": _events(ready, traffic_seed),
        "episodes": [_episode(task, name, one) for name, one in recordings.items()],
    }
    arrays = {
        "streets": _streets(ready.network, grid),
        "episodes": [_tracks(one.tracks, task, grid) for one in recordings.values()],
    }
    return said, arrays


def _agent(task: RoutingTask, i: int) -> JSON:
    ends = {"origin": int(task.origin[i]), "destination": int(task.destination[i])}
    return {"name": task.names[i], "depart": float(task.depart_s[i]), **ends}


def _events(ready: PreparedScenario, traffic_seed: int) -> list[JSON]:
    """Return incidents, the surge and closed edges: the edges, when, and one line of text."""
    found: list[JSON] = []
    for one in ready.task.incidents.of(traffic_seed):
        edges = sorted({one.edge, *one.shut})
        found.append({"edges": edges, "begin": one.begin_s, "end": one.end_s, "text": one.describe()})
    crowd = ready.surge(traffic_seed)
    if crowd is not None:
        found.append({"edges": [crowd.edge], "begin": crowd.begin_s, "end": crowd.end_s, "text": crowd.describe()})
    for edge in sorted(ready.task.closed):
        text = f"'{ready.task.graph.edge_ids[edge]}' closed for the whole episode"
        found.append({"edges": [edge], "begin": 0.0, "end": ready.scenario.horizon_s, "text": text})
    return found


def _episode(task: RoutingTask, name: str, recording: Recording) -> JSON:
    episode, start_s = recording.episode, task.scenario.start_s
    tried = {branch.decision: branch for branch in episode.branches}
    decisions: list[list[JSON]] = [[] for _ in task.names]
    for k, choice in enumerate(recording.choices):
        decisions[choice.agent].append(_decision(choice, tried.get(k), start_s))
    return {
        "name": name,
        "frame": recording.tracks.frame_s,
        "status": list(episode.status),
        "travelTime": [round(seconds, 1) for seconds in episode.travel_time.tolist()],
        "decisions": decisions,
    }


def _decision(choice: Choice, branch: Branch | None, start_s: float) -> JSON:
    said: JSON = {"at": choice.time_s - start_s, "edge": choice.edge, "edges": choice.edges, "chosen": choice.chosen}
    if choice.probabilities is not None:
        said["shares"] = [round(share, 4) for share in choice.probabilities]
    if choice.congestion is not None:
        said["congestion"] = [round(factor, 2) for factor in choice.congestion]
    if choice.remaining_s is not None:
        said["remaining"] = round(choice.remaining_s)
    if branch is not None:
        said["tried"] = [round(seconds) for seconds in branch.travel_time[:, choice.agent].tolist()]
    return said


def _streets(network: Network, grid: Grid) -> JSON:
    graph, names = network.graph, read_names(network.net_file)
    known = sorted({names[edge] for edge in graph.names if edge in names})
    number = {name: i + 1 for i, name in enumerate(known)}
    street = np.array([number.get(names.get(edge, ""), 0) for edge in graph.names], np.uint32)
    points = grid.rounded(graph.shape_xy)
    starts = graph.shape_start[:-1].astype(np.int64)
    edge, slot = np.nonzero(graph.slots >= 0)
    turns = np.column_stack([edge, graph.slots[edge, slot]]).astype(np.uint32)
    return {
        "ids": packed("\n".join(graph.names)),
        "names": packed("\n".join(["", *known])),
        "street": packed(street),
        "turns": packed(turns),
        "lanes": packed(graph.lanes.astype(np.uint8)),
        "speed": packed(graph.speed.astype(np.float32)),
        "start": packed(graph.shape_start.astype(np.uint32)),
        "x": packed(second_differences(points[:, 0], starts)),
        "y": packed(second_differences(points[:, 1], starts)),
    }


def _tracks(tracks: Tracks, task: RoutingTask, grid: Grid) -> JSON:
    agents = {name: i for i, name in enumerate(task.names)}
    agent = np.array([agents.get(tracks.names[vehicle], -1) for vehicle in tracks.vehicle.tolist()], np.int32)
    xy = grid.rounded(tracks.xy)
    starts = np.concatenate([[0], np.cumsum(tracks.length)[:-1]]).astype(np.int64)[: len(tracks.length)]
    return {
        "first": packed(tracks.first.astype(np.uint32)),
        "length": packed(tracks.length.astype(np.uint32)),
        "agent": packed(agent),
        "x": packed(second_differences(xy[:, 0], starts)),
        "y": packed(second_differences(xy[:, 1], starts)),
    }
