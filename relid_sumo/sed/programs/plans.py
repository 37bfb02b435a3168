"""Checks a program's plan against the network: complete routes, or the faults of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relid_sumo.base.errors import did_you_mean
from relid_sumo.base.redact import redact
from relid_sumo.scenario.task import RoutingTask

Routes = dict[int, tuple[int, ...]]
MOST_FAULTS = 6
SHOWN = 60


def check(plan: object, task: RoutingTask, agents: Sequence[int]) -> tuple[Routes | None, str]:
    """Return the routes of a plan by agent, as edge indices; or None and its faults, one per line.

    A valid plan is a JSON object with one list of edge names for each of the agents: the first is the vehicle's origin,
    the last its destination, every edge a permitted successor of the one before, and none occurs twice.
    """
    if not isinstance(plan, dict):
        return None, f"plan returned {_kind(plan)}; it has to return a dict of vehicle to list of edges"
    names = [task.names[i] for i in agents]
    wanted = set(names)
    missing, unknown = [name for name in names if name not in plan], [name for name in plan if name not in wanted]
    # Only the faults that are shown become text: a program may name any number of vehicles.
    faults = [f"vehicle '{name}' is missing" for name in missing[:MOST_FAULTS]]
    faults += [
        f"there is no vehicle {_shown(name)} to plan for{did_you_mean(name[:SHOWN], names)}"
        for name in unknown[:MOST_FAULTS]
    ]
    more = len(missing) + len(unknown) - len(faults)
    routes: Routes = {}
    slots = task.graph.slots.tolist()
    for i in agents:
        if task.names[i] in plan:
            route, fault = _route(plan[task.names[i]], task, i, slots)
            if fault:
                faults.append(f"vehicle '{task.names[i]}': {fault}")
            routes[i] = route
    if faults:
        more += max(0, len(faults) - MOST_FAULTS)
        return None, "\n".join([*faults[:MOST_FAULTS], *([f"and {more} more faults"] if more > 0 else [])])
    return routes, ""


def _route(edges: object, task: RoutingTask, agent: int, slots: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], str]:
    """Return a route as edge indices, and its first fault ("" for none)."""
    if not isinstance(edges, list) or not edges:
        return (), f"its route is {_kind(edges)}; it has to be a list of edge names"
    names, route = task.graph.edge_ids, dict[int, int]()  # index of an edge in the route
    before: int | None = None
    for place, name in enumerate(edges):
        edge = task.graph.index.get(name, -1) if isinstance(name, str) else -1
        if edge < 0 or edge in route or edge in task.closed or not (before is None or edge in slots[before]):
            return (), f"edge {place} of its route, {_shown(name)}, {_fault(name, edge, before, route, task)}"
        route[edge], before = place, edge
    found = tuple(route)
    for what, place, wanted in (("starts", 0, task.origin[agent]), ("ends", -1, task.destination[agent])):
        if found[place] != wanted:
            return (), f"its route {what} on '{edges[place]}' and not on '{names[wanted]}'"
    return found, ""


def _fault(name: object, edge: int, before: int | None, route: Mapping[int, int], task: RoutingTask) -> str:
    """Return why an edge cannot be the next one of a route."""
    graph = task.graph
    if not isinstance(name, str):
        return f"is {_kind(name)}, not the name of an edge"
    if edge < 0:
        return "is not in the network"
    if edge in route:
        return f"is in it already (edge {route[edge]})"
    if edge in task.closed or before is None:
        return "is closed"
    onward = ", ".join(f"'{graph.edge_ids[after]}'" for after in graph.slots[before] if after >= 0)
    return f"does not follow on '{graph.edge_ids[before]}', from where one can only go to {onward or 'nowhere'}"


def _kind(value: object) -> str:
    return f"an empty {type(value).__name__}" if value in ([], {}, "") else f"of type {type(value).__name__}"


def _shown(value: object) -> str:
    text = redact(value) if isinstance(value, str) else type(value).__name__
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
