"""Baselines by name or import path, with their routes planned where they need it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, RelidSumoError, did_you_mean
from relid_sumo.baseline.table import BASELINES, BY_DEFAULT
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic import history

Plan = Callable[[PreparedScenario], Sequence[Sequence[Any]]]


def planner(function: Plan) -> Plan:
    """Declare that a baseline plans whole routes before the simulation, instead of choosing at each junction.

    Parameters
    ----------
    function
        Takes a `PreparedScenario` and returns a route for every agent in order: edges from its origin to its
        destination, as indices or as SUMO's names.

    Examples
    --------
    >>> @planner
    ... def shortest_in_metres(ready):
    ...     task, length = ready.task, ready.task.graph.length
    ...     return [task.graph.path(o, d, length) for o, d in zip(task.origin.tolist(), task.destination.tolist())]
    """
    function.plans = True  # type: ignore[attr-defined]
    return function


def baselines(names: str = ",".join(BY_DEFAULT), *, folder: Path | None = None) -> dict[str, Policy]:
    """Return policies that need no learning.

    Parameters
    ----------
    names
        Names, or import paths of your own, with commas between. Known are random, shortest, reactive, rerouting, hist,
        turns, bestroute, due, blend, antic, ebksp and nrr; oracle and so are bounds.
    folder
        Folder of relative files in import paths. Default: the working directory.

    Returns
    -------
    dict
        Policies by name; for `relid_sumo.evaluate`, which plans the routes of those that need it.

    Raises
    ------
    InputError
        No baseline has that name, or your own cannot be imported.

    Examples
    --------
    >>> list(baselines("hist,shortest"))
    ['hist', 'shortest']
    """
    chosen: dict[str, Policy] = {}
    for word in filter(None, (part.strip() for part in names.split(","))):
        if extension.is_path(word):
            name = extension.short(word)
            path = extension.located(word, folder)
            chosen[word if name in chosen or name in BASELINES else name] = _own(path)
        elif word in BASELINES:
            chosen[word] = Policy(word)
        else:
            known = ", ".join(BASELINES)
            near = did_you_mean(word, BASELINES)
            raise InputError(
                f"there is no baseline '{word}'{near}; known are {known}, and your own as {extension.FORM}"
            )
    return chosen


def single(text: str, option: str) -> dict[str, Policy]:
    """Return the one baseline that an option names, as `baselines` does.

    Raises
    ------
    InputError
        It does not name exactly one, or there is none of that name.
    """
    found = baselines(text)
    if len(found) != 1:
        raise InputError(f"{option} {text}: name one baseline")
    return found


def plan_baselines(
    policies: Mapping[str, Policy],
    ready: PreparedScenario,
    workers: int | None = None,
    *,
    traffic_seed: int | None = None,
) -> dict[str, Policy]:
    """Return policies that can run in the scenario.

    Baselines that plan routes become fixed routes, online planners get the training traffic, others stay the same.

    Raises
    ------
    InputError
        A baseline cannot plan for this scenario, or it is a bound and no traffic seed is given.
    """
    return {name: _planned(policy, ready, workers, traffic_seed) for name, policy in policies.items()}


def planned_by_seed(
    policies: Mapping[str, Policy], ready: PreparedScenario, seeds: Sequence[int], workers: int | None = None
) -> dict[int, list[Policy]]:
    """Return the policies of each traffic seed, in order.

    Routes of a fleet are planned for its trips in that seed, and bounds for the traffic of that seed.
    """

    def planned(seed: int | None) -> list[Policy]:
        own = ready if seed is None else ready.on(seed)
        return list(plan_baselines(policies, own, workers, traffic_seed=seed).values())

    if ready.scenario.fleet is None and not any(_is_bound(policy) for policy in policies.values()):
        return dict.fromkeys(seeds, planned(None))
    return {seed: planned(seed) for seed in seeds}


def _is_bound(policy: Policy) -> bool:
    return policy.name in BASELINES and bool(BASELINES[policy.name].bound)


def sources(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the source of each baseline that is not built in, by import path."""
    return {name: extension.source_hash(name, "baseline") for name in names if extension.is_path(name)}


def _own(path: str) -> Policy:
    """Return a user's baseline: one that chooses at junctions, or one that plans routes later."""
    found = extension.load(path, "baseline")
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise InputError(
            f"baseline '{path}': a baseline is a function of a relid_sumo.Junction that returns a slot, or, with "
            f"@relid_sumo.planner, of a PreparedScenario; this is a {type(found).__name__} ({error})"
        ) from None
    return Policy(path) if getattr(found, "plans", False) else Policy("own", path=path)


def _planned(policy: Policy, ready: PreparedScenario, workers: int | None, traffic_seed: int | None) -> Policy:
    if extension.is_path(policy.name):
        routes = _own_routes(policy.name, ready)
    elif policy.name in BASELINES and BASELINES[policy.name].plan:
        routes = extension.load(BASELINES[policy.name].plan, "baseline")(ready, workers)
    elif _is_bound(policy):
        if traffic_seed is None:
            raise InputError(
                f"baseline '{policy.name}': it plans for the traffic of one seed, and none is given; use it in "
                "evaluate, view, export or route"
            )
        routes = extension.load(BASELINES[policy.name].bound, "baseline")(ready, traffic_seed)
    elif policy.name in BASELINES and BASELINES[policy.name].online:
        known = history.measured(ready.scenario, ready.network, ready.demand)
        return Policy("online", path=BASELINES[policy.name].online, history=known)
    else:
        return policy
    return Policy("fixed", routes=dict(enumerate(routes)))


def _own_routes(path: str, ready: PreparedScenario) -> list[list[int]]:
    task = ready.task
    try:
        planned = [list(route) for route in extension.load(path, "baseline")(ready)]
    except RelidSumoError:
        raise
    except Exception as error:
        raise extension.failed(path, "baseline", error) from error
    if len(planned) != task.n_agents:
        raise InputError(
            f"baseline '{path}': it plans {len(planned)} routes for {task.n_agents} agents; return one for each"
        )
    return [_checked(route, task, agent, path) for agent, route in enumerate(planned)]


def _checked(route: list[Any], task: RoutingTask, agent: int, path: str) -> list[int]:
    """Return a planned route as edge indices; it has to lead from the agent's origin to its destination."""
    graph, what = task.graph, f"baseline '{path}': the route of '{task.names[agent]}'"
    unknown = [edge for edge in route if isinstance(edge, str) and edge not in graph.index]
    if unknown:
        raise InputError(f"{what} has edge '{unknown[0]}', which is not in the network; return edges of the network")
    edges = [graph.index[edge] if isinstance(edge, str) else int(edge) for edge in route]
    ends = [int(task.origin[agent]), int(task.destination[agent])]
    if [edges[:1], edges[-1:]] != [ends[:1], ends[1:]]:
        names = [str(graph.edge_ids[end]) for end in ends]
        raise InputError(f"{what} does not lead from its origin '{names[0]}' to its destination '{names[1]}'")
    for here, there in pairwise(edges):
        if there not in graph.slots[here] or there in task.closed:
            one, other = graph.edge_ids[here], graph.edge_ids[there]
            raise InputError(f"{what} goes from '{one}' to '{other}', which does not follow it or is closed")
    return edges
