"""The rounded facts of a prompt: a subset's vehicles, its traffic, and its programs so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relid_sumo.env.records import EpisodeRecord
from relid_sumo.network.network import Network
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.ask.prompt import PromptSettings
from relid_sumo.sed.programs import feedback, material, program
from relid_sumo.sed.programs.attempt import Attempt
from relid_sumo.sed.programs.feedback import Reference
from relid_sumo.sed.programs.plans import Routes
from relid_sumo.sed.programs.sandbox import SandboxSettings

# Number of places of lost time, of other vehicles, and of tried routes of a vehicle in a prompt
PLACES, OTHERS, SHOWN_TRIED = 8, 4, 4


def of_network(network: Network, task: RoutingTask) -> dict[str, Any]:
    """Return the facts about the network and the scenario."""
    graph, scenario = task.graph, task.scenario
    return {
        "name": network.name,
        "edges": graph.n_edges,
        "km": round(float(graph.length.sum()) / 1000),
        "signals": int(graph.junction_signal[graph.to_junction].sum()),
        "vehicles_per_hour": f"{round(scenario.demand.rate_vph / 100) * 100:d}" if scenario.demand.rate_vph else "some",
        "warm_min": round(scenario.demand.warmup_s / 60),
        "agents": task.n_agents,
        "horizon_s": round(scenario.horizon_s),
    }


def of_limits(sandbox: SandboxSettings, prompt: PromptSettings) -> dict[str, Any]:
    """Return the limits of a program."""
    return {
        "cpu_s": sandbox.cpu_s,
        "wall_s": round(sandbox.wall_s),
        "memory_mib": sandbox.memory_mib,
        "output_kib": sandbox.output_bytes // 1024,
        "program_characters": prompt.max_program,
    }


class Expected:
    """Expected travel times from the mean traffic, as the programs compute them."""

    def __init__(self, task: RoutingTask, data: dict[str, Any]) -> None:
        self.task = task
        self.network = program.Network(data["network"])
        self.traffic = program.Traffic(self.network, data["traffic"])

    def arrivals(self, agent: int, route: Sequence[int]) -> list[float]:
        """Return the expected time at which the agent leaves each edge of a route, s since time 0."""
        return self.traffic.arrival_times(self.names(route), float(self.task.depart_s[agent]))

    def seconds(self, agent: int, route: Sequence[int]) -> float:
        """Return the expected travel time of a route, s."""
        return self.arrivals(agent, route)[-1] - float(self.task.depart_s[agent])

    def best(self, agent: int) -> float:
        """Return the expected travel time of the best route, s."""
        ends = [str(self.task.graph.edge_ids[ends[agent]]) for ends in (self.task.origin, self.task.destination)]
        depart = float(self.task.depart_s[agent])
        route = self.traffic.fastest_path(ends[0], ends[1], depart)
        return self.traffic.arrival_times(route, depart)[-1] - depart

    def names(self, route: Sequence[int]) -> list[str]:
        """Return the names of edges."""
        return [str(self.task.graph.edge_ids[edge]) for edge in route]


def of_subset(
    expected: Expected, subset: Sequence[int], routes: Sequence[list[list[int]]], reference: Reference
) -> dict[str, Any]:
    """Return the facts about a subset's vehicles.

    Parameters
    ----------
    routes
        Each agent's plausible routes, as the partition found them.
    """
    task, graph = expected.task, expected.task.graph
    shortest, reactive = (feedback.times(r).mean(axis=0) for r in (reference.shortest, reference.reactive))
    vehicles = []
    for i in subset:
        free = task.route(i, int(task.origin[i]))
        gap = graph.end_xy[task.destination[i]] - graph.shape(int(task.origin[i]))[0]
        vehicles.append(
            {
                "id": task.names[i],
                "departs": round(float(task.depart_s[i])),
                "km": f"{math.hypot(*gap) / 1000:.1f}",
                "alternatives": len(routes[i]),
                "free": round(float(graph.free_flow_s[free].sum())),
                "busy": round(expected.seconds(i, free)),
                "best": round(expected.best(i)),
                "shortest": round(float(shortest[i])),
                "reactive": round(float(reactive[i])),
            }
        )
    mine = list(subset)
    return {
        "vehicles": vehicles,
        "mean_shortest": round(float(shortest[mine].mean())),
        "mean_reactive": round(float(reactive[mine].mean())),
        "samples": len(reference.shortest),
    }


def of_best(
    best: Attempt, expected: Expected, reference: Reference, tried: Mapping[int, Sequence[float]]
) -> dict[str, Any]:
    """Return the facts about the best program so far and its driven plan."""
    task, numbers = expected.task, best.numbers
    assert numbers is not None
    assert best.routes is not None
    measured = feedback.times(best.records)
    shortest, reactive = (feedback.times(r) for r in (reference.shortest, reference.reactive))
    mine = sorted(best.routes)
    vehicles = [
        {
            "id": task.names[i],
            "expected": round(expected.seconds(i, best.routes[i])),
            "measured": round(float(measured[:, i].mean())),
            "lowest": round(float(measured[:, i].min())),
            "highest": round(float(measured[:, i].max())),
            "shortest": round(float(shortest[:, i].mean())),
            "reactive": round(float(reactive[:, i].mean())),
            "gained": f"{float(shortest[:, i].mean() - measured[:, i].mean()):+.0f}",
            "tried": [round(mean) for mean in tried.get(i, [])[:SHOWN_TRIED]],
            "tried_routes": len(tried.get(i, [])),
        }
        for i in mine
    ]
    change = feedback.changes(best.records, reference.present)
    others = sorted(
        (i for i in range(task.n_agents) if i not in mine), key=lambda i: (-abs(round(float(change[i]), 1)), i)
    )
    return {
        "round": best.round,
        "program": best.program,
        "score": f"{numbers.score:.3f}",
        "samples": len(best.records),
        "mine": round(numbers.travel_time_s),
        "all": round(numbers.all_travel_time_s),
        "all_shortest": round(float(shortest.mean())),
        "arrived": round(100 * numbers.arrival_rate),
        "f_out": f"{numbers.f_out:.3f}",
        "f_out_signed": f"{numbers.f_out_signed:+.3f}",
        "floor": f"{numbers.f_out_floor:.3f}",
        "f_out_word": "above" if numbers.f_out > 1.5 * numbers.f_out_floor else "within the",
        "d_in": None if numbers.d_in is None else f"{numbers.d_in:.3f}",
        "vehicles": vehicles,
        "lost": _lost(best.records, best.routes, expected),
        "others": [{"id": task.names[i], "change": f"{change[i]:+.0f}"} for i in others[:OTHERS]],
    }


def _lost(records: Sequence[EpisodeRecord], routes: Routes, expected: Expected) -> list[dict[str, Any]]:
    task = expected.task
    places = []
    for part in feedback.lost(records, task, routes)[:PLACES]:
        route = routes[part.agent]
        left = [float(task.depart_s[part.agent]), *expected.arrivals(part.agent, route)]
        foreseen = left[part.last + 1] - left[part.first]
        places.append(
            {
                "vehicle": task.names[part.agent],
                "first": part.first,
                "last": part.last,
                "edge": str(task.graph.edge_ids[route[part.first]]),
                "lost": round(part.lost_s),
                "unexpected": f"{part.measured_s - foreseen:+.0f}",
            }
        )
    return places


def of_attempts(attempts: Sequence[Attempt], best: Attempt | None) -> dict[str, Any]:
    """Return the facts about the other programs, and about those of the last round that failed."""
    others = [
        {
            "round": attempt.round,
            "problem": attempt.problem,
            "same": attempt.same,
            "score": None if attempt.numbers is None else f"{attempt.numbers.score:.3f}",
            "mine": None if attempt.numbers is None else round(attempt.numbers.travel_time_s),
            "f_out": None if attempt.numbers is None else f"{attempt.numbers.f_out:.3f}",
        }
        for attempt in attempts
        if attempt is not best
    ]
    last = max((attempt.round for attempt in attempts), default=0)
    failed = [
        {"round": attempt.round, "program": attempt.program or "(none)", "problem": attempt.problem}
        for attempt in attempts
        if attempt.problem is not None and attempt.round == last
    ]
    return {"others": others, "failed": failed}


def request(sample: int, samples: int) -> str:
    """Return the sentences that make the prompts of a round's samples differ; "" where there is one sample."""
    if samples == 1:
        return ""
    text = f"This is request {sample} of {samples} for these vehicles; each is answered without a look at the others."
    return text if sample == 1 else f"{text} Take another approach than the most obvious one."


def tried_means(tried: material.Tried, least_runs: int) -> dict[int, list[float]]:
    """Return the mean travel times of each agent's routes with enough runs, fastest first, s."""
    return {
        i: sorted(float(np.mean(times)) for times in routes.values() if len(times) >= least_runs)
        for i, routes in tried.items()
    }
