"""Checking what a program returned against the network: whole routes, or exactly what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

from relid_sumo.errors import did_you_mean
from relid_sumo.task import RoutingTask

Routes = dict[int, tuple[int, ...]]
MOST_FAULTS = 6
SHOWN = 60


def check(plan: object, task: RoutingTask, agents: Sequence[int]) -> tuple[Routes | None, str]:
    """Return the routes of a plan by agent, as edge indices; or None and what is wrong, one line per fault.

    A valid plan is a JSON object with one list of edge names for each of the agents, in which the first is the
    vehicle's origin, the last its destination, every edge a permitted successor of the one before, and none occurs twice.
    """
    if not isinstance(plan, dict):
        return None, f"plan returned {_kind(plan)}; it has to return a dict of vehicle to list of edges"
    names = [task.names[i] for i in agents]
    faults = [f"vehicle '{name}' is missing" for name in names if name not in plan]
    faults += [f"there is no vehicle {_shown(name)} to plan for{did_you_mean(name, names)}" for name in plan if name not in names]
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
    graph = task.graph
    if not isinstance(edges, list) or not edges:
        return (), f"its route is {_kind(edges)}; it has to be a list of edge names"
    route: list[int] = []
    for place, name in enumerate(edges):
        if not isinstance(name, str):
            return (), f"edge {place} of its route is {_kind(name)}, not the name of an edge"
        if name not in graph.index:
            return (), f"edge {place} of its route, {_shown(name)}, is not in the network"
        edge = graph.index[name]
        if edge in route:
            return (), f"its route uses edge '{name}' twice (places {route.index(edge)} and {place})"
        if edge in task.closed:
            return (), f"edge {place} of its route, '{name}', is closed"
        if route and edge not in graph.slots[route[-1]]:
            before = edges[place - 1]
            ways = ", ".join(f"'{graph.edge_ids[way]}'" for way in graph.slots[route[-1]] if way >= 0)
            return (), f"its route goes from '{before}' (place {place - 1}) to '{name}', but from there one can only go to {ways or 'nowhere'}"
        route.append(edge)
    for what, place, wanted in (("starts", 0, int(task.origin[agent])), ("ends", -1, int(task.destination[agent]))):
        if route[place] != wanted:
            return (), f"its route {what} on '{edges[place]}' and not on '{graph.edge_ids[wanted]}'"
    return tuple(route), ""


def _kind(value: object) -> str:
    return f"an empty {type(value).__name__}" if value in ([], {}, "") else f"of type {type(value).__name__}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
