"""Trips of the agents: origin-destination pairs with clearly different routes, and departures."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network, match_edge
from relid_sumo.scenario.routes import MOST_DETOUR, MOST_SHARED, alternatives, shared
from relid_sumo.scenario.settings import Place, Trip

log = logging.getLogger(__name__)

MIN_M, MAX_M = 1000.0, 4000.0  # target for the straight-line distance
NEARLY_SAME = 0.8  # trips are nearly the same where their fastest routes share more than this
GAP_S = 8.0  # mean time between two departures
CANDIDATES = 4000
WIDER = 1.5  # factor on the longest straight-line distance where a network has too few trips
MORE_SHARED, MORE_DETOUR = 0.85, 3.0  # limits of second routes where a SUMO network has too few clearly different ones


def choose(
    network: Network,
    n_agents: int,
    seed: int = 0,
    loaded: Floats | None = None,
    *,
    prefix: str = "agent",
    fewer: bool = False,
) -> tuple[Trip, ...]:
    """Choose trips that have at least two clearly different routes, 1-4 km apart where the network allows.

    Trips are chosen greedily: each shares as much length as possible with the earlier ones, so that agents meet.

    Parameters
    ----------
    loaded
        Mean travel time of each edge in traffic, s, shape (E,). Where given, trips are preferred whose fastest
        route in traffic is clearly different from their fastest route at free flow.
    prefix
        Start of the agents' ids.
    fewer
        Choose fewer trips where the network has not enough, instead of raising an error.

    Raises
    ------
    InputError
        The network has too few such trips; the message says how many it has. On a SUMO network with too few of them,
        trips with less different routes are chosen before.
    """
    graph = network.graph
    rng = seeding.stream(seed, "trips")
    edges, middle, (low, high) = _possible(network)
    enough = max(6 * n_agents, 40)
    pool = [] if loaded is None else _candidates(graph, edges, middle, (low, high), enough, rng, loaded)
    if len(pool) < n_agents:
        pool += _candidates(graph, edges, middle, (low, high), enough - len(pool), rng, None)
    if len(pool) < n_agents and network.is_given:
        ends = np.flatnonzero(graph.length >= np.minimum(20.0, np.median(graph.length)))
        known = {(routes[0][0], routes[0][-1]) for routes in pool}
        more = _candidates(graph, ends, middle, (low, WIDER * high), enough, rng, None)
        pool += [routes for routes in more if (routes[0][0], routes[0][-1]) not in known]
        if len(pool) < n_agents:
            pool += _less_different(network, ends, middle, (low, WIDER * high), pool, rng)
    if len(pool) < n_agents and pool and fewer:
        log.warning(
            f"network '{network.name}' has {len(pool)} trips with two different routes, so there are "
            f"{len(pool)} agents instead of {n_agents}"
        )
        n_agents = len(pool)
    if not pool and network.is_given:
        raise InputError(
            f"network '{network.name}' gives no trip of {low:.0f}-{high:.0f} m a choice between two routes: a second "
            f"one shares {MORE_SHARED:.0%} or more of its length with the fastest one, or takes more than "
            f"{MORE_DETOUR:g} times as long. Agents choose routes, so a single junction or corridor has nothing to "
            "learn; give a network whose roads form blocks"
        )
    if len(pool) < n_agents:
        raise InputError(
            f"network '{network.name}' has {len(pool)} trips of {low:.0f}-{high:.0f} m with two clearly different "
            f"routes, fewer than the {n_agents} agents: use a larger or better connected area, or fewer agents "
            "(--agents)"
        )
    chosen = _that_meet(graph, pool, n_agents)
    depart = np.sort(np.round(rng.uniform(0.0, GAP_S * n_agents, n_agents)))
    lon_lat = [(_place(network, routes[0][0]), _place(network, routes[0][-1])) for routes in chosen]
    return tuple(
        Trip(id=f"{prefix}{i}", origin=o, destination=d, depart_s=float(t))
        for i, ((o, d), t) in enumerate(zip(lon_lat, depart, strict=True))
    )


def _less_different(
    network: Network,
    ends: NDArray[np.int64],
    middle: Floats,
    span: tuple[float, float],
    pool: list[list[list[int]]],
    rng: np.random.Generator,
) -> list[list[list[int]]]:
    """Return trips that are not in a pool, with second routes that differ less or take longer, and say so."""
    known = {(routes[0][0], routes[0][-1]) for routes in pool}
    found = _candidates(network.graph, ends, middle, span, 40, rng, None, (MORE_SHARED, MORE_DETOUR))
    found = [routes for routes in found if (routes[0][0], routes[0][-1]) not in known]
    if found:
        log.warning(
            f"network '{network.name}' has {len(pool)} trips with two clearly different routes; trips are added whose "
            f"second route shares up to {MORE_SHARED:.0%} with the fastest one or takes up to {MORE_DETOUR:g} times as "
            "long: their agents have little to choose"
        )
    return found


def possible(network: Network, most: int, seed: int = 0) -> int:
    """Return how many trips with two clearly different routes a network has, counted up to `most`."""
    edges, middle, span = _possible(network)
    return len(_candidates(network.graph, edges, middle, span, most, seeding.stream(seed, "trips"), None))


def _possible(network: Network) -> tuple[NDArray[np.int64], Floats, tuple[float, float]]:
    """Return the edges where trips may start and end, the middles of all edges (m), and the lengths of trips, m."""
    graph = network.graph
    middle = np.array([graph.point_along(e, 0.5)[:2] for e in range(graph.n_edges)])
    longest = float(np.hypot(*np.ptp(graph.junction_xy, axis=0)))
    usable = (graph.n_successors > 0) & (graph.length >= np.minimum(20.0, np.median(graph.length)))
    if network.is_given:
        usable &= graph.strong_component()
    return np.flatnonzero(usable), middle, (min(MIN_M, 0.35 * longest), min(MAX_M, 0.9 * longest))


def _candidates(
    graph: RoadGraph,
    edges: NDArray[np.int64],
    middle: Floats,
    span: tuple[float, float],
    enough: int,
    rng: np.random.Generator,
    loaded: Floats | None,
    limits: tuple[float, float] = (MOST_SHARED, MOST_DETOUR),
) -> list[list[list[int]]]:
    """Return the alternatives of up to `enough` random pairs with distinct origins and destinations.

    With travel times in traffic, only pairs whose fastest route in traffic clearly differs from that at free flow.
    """
    pool: list[list[list[int]]] = []
    starts: set[int] = set()
    ends: set[int] = set()
    for _ in range(CANDIDATES):
        if len(pool) == enough or len(edges) < 2:
            break
        origin, destination = (int(e) for e in rng.choice(edges, 2, replace=False))
        apart = float(np.hypot(*(middle[origin] - middle[destination])))
        if not span[0] <= apart <= span[1] or origin in starts or destination in ends:
            continue
        if loaded is not None:
            free, busy = graph.path(origin, destination), graph.path(origin, destination, loaded)
            if not free or shared(graph, busy, free) >= MOST_SHARED:
                continue
        routes = alternatives(graph, origin, destination, 2, *limits)
        if len(routes) == 2:
            pool.append(routes)
            starts.add(origin)
            ends.add(destination)
    return pool


def _that_meet(graph: RoadGraph, pool: list[list[list[int]]], n: int) -> list[list[list[int]]]:
    """Choose n candidates whose routes share edges, greedily; the first one shares most with all others.

    Trips that are nearly the same as an earlier one come last.
    """
    on_road = np.zeros((len(pool), graph.n_edges))
    for i, routes in enumerate(pool):
        on_road[i, sorted({e for route in routes for e in route})] = 1.0
    meets = (on_road * graph.length) @ on_road.T
    np.fill_diagonal(meets, 0.0)
    same = np.array([[shared(graph, a[0], b[0]) > NEARLY_SAME for b in pool] for a in pool])
    chosen = [int(np.argmax(meets.sum(axis=1)))]
    while len(chosen) < n:
        score = meets[:, chosen].mean(axis=1)
        score[same[:, chosen].any(axis=1)] -= meets.max()
        score[chosen] = -np.inf
        chosen.append(int(np.argmax(score)))
    return [pool[i] for i in chosen]


def _place(network: Network, edge: int) -> Place:
    if not network.has_lonlat:
        return Place(edge=str(network.graph.edge_ids[edge]))
    x, y, bearing = network.graph.point_along(edge, 0.5)
    lon, lat = (round(float(one), 6) for one in network.lonlat(np.array([[x, y]]))[0])
    if network.is_given and match_edge(network, lon, lat, round(bearing) % 360) != edge:  # one road above another
        return Place(edge=str(network.graph.edge_ids[edge]))
    return Place(lon=lon, lat=lat, bearing=round(bearing) % 360)
