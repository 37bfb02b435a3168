"""The results of a run: results.json, and the tables of `sed show`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.demonstrate import PlanComparison, rate
from relid_sumo.sed.loop import Refined, Subset
from relid_sumo.sed.partition import Partition
from relid_sumo.sed.programs.attempt import Attempt
from relid_sumo.sed.run_folder import RESULTS_FORMAT


def results(refined: Refined, compared: Sequence[PlanComparison], task: RoutingTask, provider: str) -> dict[str, Any]:
    """Return the results of a run as JSON."""
    held_out = next(one for one in compared if one.traffic == "evaluation")
    return {
        **so_far(refined, task, provider),
        "mean_return": held_out.mean_return["demonstrations"],
        "baselines": {name: held_out.mean_return[name] for name in ("shortest", "reactive")},
        "compared": [asdict(one) for one in compared],
    }


def so_far(refined: Refined, task: RoutingTask, provider: str) -> dict[str, Any]:
    """Return the results of the rounds up to now as JSON; the best plans have not been driven together yet."""
    attempts = [one for subset in refined.subsets for one in subset.attempts]
    first, later = ([one for one in attempts if (one.round == 1) is begun] for begun in (True, False))
    counts = {name: _counted(group) for name, group in (("initial", first), ("refined", later), ("all", attempts))}
    return {
        "format": RESULTS_FORMAT,
        "scenario": task.scenario.name,
        "provider": provider,
        "execution_rate": {
            name: None if not c["programs"] else c["valid"] / c["programs"] for name, c in counts.items()
        },
        "programs": counts,
        "compared": [],
        "rounds": [_round(refined.subsets, number) for number in sorted({one.round for one in attempts})],
        "subsets": [_subset(subset, refined.partition, task) for subset in refined.subsets],
        "sandbox_s": max((one.sandbox_s for one in attempts), default=0.0),
    }


def _counted(attempts: Sequence[Attempt]) -> dict[str, Any]:
    valid = sum(one.routes is not None for one in attempts)
    share = rate(valid, len(attempts))
    return {"valid": valid, "programs": len(attempts), "interval_95": None if share is None else list(share[1:])}


def _round(subsets: Sequence[Subset], number: int) -> dict[str, Any]:
    """Return a round's programs, and means over the subsets' best plans after it."""
    written = [one for subset in subsets for one in subset.attempts if one.round == number]
    best = [subset.best_by_round[min(number, len(subset.best_by_round)) - 1] for subset in subsets]
    numbers = [one.numbers for one in best if one is not None and one.numbers is not None]

    def mean(name: str) -> float | None:
        values = [getattr(n, name) for n in numbers]
        return None if not values or None in values else float(np.mean(values))

    names = ("f_out", "f_out_signed", "f_out_floor", "d_in", "score", "travel_time_s", "mean_return")
    causes = Counter(one.problem for one in written if one.routes is None and one.problem is not None)
    return {
        "round": number,
        **_counted(written),
        **{name: mean(name) for name in names},
        "causes": [[count, cause] for cause, count in sorted(causes.items())],
    }


def _subset(subset: Subset, partition: Partition, task: RoutingTask) -> dict[str, Any]:
    return {
        "vehicles": [task.names[i] for i in subset.agents],
        "overlap_inside": partition.inside(subset.agents),
        "overlap_outside": partition.outside(subset.agents),
        "best": None if subset.best is None else subset.best.place,
        "attempts": [
            {
                "place": one.place,
                "round": one.round,
                "problem": one.problem,
                "same": one.same,
                "sandbox_s": one.sandbox_s,
                "numbers": None if one.numbers is None else asdict(one.numbers),
                "routes": None
                if one.routes is None
                else {task.names[i]: [str(task.graph.edge_ids[e]) for e in route] for i, route in one.routes.items()},
            }
            for one in subset.attempts
        ],
    }


def planned(content: dict[str, Any], graph: RoadGraph) -> tuple[list[list[list[int]]], list[str]]:
    """Return the routes of every subset's best plan as edge indices, and a label for each.

    Raises
    ------
    InputError
        A route has an edge that the network does not have.
    """
    groups, labels = [], []
    for subset in content["subsets"]:
        routes = next((one["routes"] for one in subset["attempts"] if one["place"] == subset["best"]), None)
        if unknown := {edge for route in (routes or {}).values() for edge in route} - graph.index.keys():
            raise InputError(
                f"results.json: the plan of {subset['best']} has the edge '{min(unknown)}', which is not in the "
                "network; run it again"
            )
        groups.append([[graph.index[edge] for edge in route] for route in (routes or {}).values()])
        source = f"planned by {subset['best']}" if subset["best"] else "no valid plan"
        labels.append(f"{', '.join(subset['vehicles'])}: {source}")
    return groups, labels
