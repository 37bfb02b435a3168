"""Checking what a program returned against the network: whole routes, or exactly what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

from relid_sumo.base.errors import did_you_mean
from relid_sumo.scenario.task import RoutingTask

Routes = dict[int, tuple[int, ...]]
MOST_FAULTS = 6
SHOWN = 60


def check(plan: object, task: RoutingTask, agents: Sequence[int]) -> tuple[Routes | None, str]:
    """Return the routes of a plan by agent, as edge indices; or None and what is wrong, one line per fault.

    A valid plan is a JSON object with one list of edge names for each of the agents: the first is the vehicle's origin,
    the last its destination, every edge a permitted successor of the one before, and none occurs twice.
    """
    if not isinstance(plan, dict):
        return None, f"plan returned {_kind(plan)}; it has to return a dict of vehicle to list of edges"
    names = [task.names[i] for i in agents]
    faults = [f"vehicle '{name}' is missing" for name in names if name not in plan]
    faults += [
        f"there is no vehicle {_shown(name)} to plan for{did_you_mean(name, names)}"
        for name in plan
        if name not in names
    ]
    routes: Routes = {}
    for i in agents:
        if task.names[i] in plan:
            route, fault = _route(plan[task.names[i]], task, i)
            if fault:
                faults.append(f"vehicle '{task.names[i]}': {fault}")
            routes[i] = route
    if faults:
        more = len(faults) - MOST_FAULTS
        return None, "\n".join([*faults[:MOST_FAULTS], *([f"and {more} more faults"] if more > 0 else [])])
    return routes, ""


def _route(edges: object, task: RoutingTask, agent: int) -> tuple[tuple[int, ...], str]:
    """Return a route as edge indices, and the first thing that is wrong with it ("" where nothing is)."""
    if not isinstance(edges, list) or not edges:
        return (), f"its route is {_kind(edges)}; it has to be a list of edge names"
    names, route = task.graph.edge_ids, list[int]()
    for name in edges:
        fault = _step(name, route, task)
        if fault:
            return (), f"edge {len(route)} of its route, {_shown(name)}, {fault}"
        route.append(task.graph.index[name])
    for what, place, wanted in (("starts", 0, task.origin[agent]), ("ends", -1, task.destination[agent])):
        if route[place] != wanted:
            return (), f"its route {what} on '{edges[place]}' and not on '{names[wanted]}'"
    return tuple(route), ""


def _step(name: object, route: Sequence[int], task: RoutingTask) -> str:
    """Return what is wrong with an edge as the next one of a route."""
    graph = task.graph
    if not isinstance(name, str):
        return f"is {_kind(name)}, not the name of an edge"
    edge = graph.index.get(name, -1)
    if edge < 0:
        return "is not in the network"
    if edge in route:
        return f"is in it already (edge {route.index(edge)})"
    if edge in task.closed:
        return "is closed"
    if route and edge not in graph.slots[route[-1]]:
        ways = ", ".join(f"'{graph.edge_ids[way]}'" for way in graph.slots[route[-1]] if way >= 0)
        return f"does not follow on '{graph.edge_ids[route[-1]]}', from where one can only go to {ways or 'nowhere'}"
    return ""


def _kind(value: object) -> str:
    return f"an empty {type(value).__name__}" if value in ([], {}, "") else f"of type {type(value).__name__}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
