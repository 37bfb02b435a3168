"""Types of days: ordinary, with incidents, with a surge of demand, or with both, by the traffic seed.

The day types follow the weights of the scenario in every run of consecutive traffic seeds, and not only on average: the
seed times the golden ratio, without its whole part, is spread evenly over 0 to 1 (a Weyl sequence), and the weights
divide this range. Incidents are drawn by `relid_sumo.scenario.incidents`, surges here. A draw depends on the scenario
and the traffic seed only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Bools, Floats
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.settings import Events, Surge

ORDINARY, INCIDENTS, SURGE, BOTH = DAY_TYPES = ("ordinary", "incidents", "surge", "surge with incidents")
GOLDEN = 0x9E3779B97F4A7C15  # the golden ratio, without its whole part, times 2^64
INNER = (15.0, 85.0)  # percentiles of the junctions' coordinates between which a surge begins
FEWEST_ORIGINS = 4  # edges from which a surge departs, where fewer are within its radius
SHORTEST_M = 15.0  # edges on which vehicles of a surge depart or arrive


def day_type(events: Events, traffic_seed: int) -> str:
    """Return the type of a traffic seed's day, one of `DAY_TYPES`."""
    weights = np.array([events.ordinary, events.with_incidents, events.with_surge, events.with_both])
    reach = np.cumsum(weights) / weights.sum()
    share = (traffic_seed * GOLDEN % 2**64) / 2**64
    possible = np.flatnonzero(weights > 0)
    return DAY_TYPES[int(possible[min(int((reach[possible] <= share).sum()), len(possible) - 1)])]


def counts(events: Events, traffic_seeds: Sequence[int]) -> dict[str, int]:
    """Return the number of days of each type among traffic seeds, without types that do not occur."""
    found = Counter(day_type(events, seed) for seed in traffic_seeds)
    return {name: found[name] for name in DAY_TYPES if found[name]}


@dataclass(frozen=True, eq=False)
class PlacedSurge:
    """The surge of a traffic seed; n vehicles.

    Attributes
    ----------
    edge : int
        The edge in the middle of the place that they leave.
    name : str
        SUMO's name of this edge.
    begin_s, end_s : float
        All departures are between these times, s after the warm-up.
    depart_s : array, shape (n,)
        Departures, rising.
    origin, destination : array of int, shape (n,)
        Edge indices.
    """

    edge: int
    name: str
    begin_s: float
    end_s: float
    depart_s: Floats
    origin: NDArray[np.int32]
    destination: NDArray[np.int32]

    def describe(self) -> str:
        """Return the surge as one line."""
        return (
            f"{len(self.depart_s)} vehicles leave the surroundings of edge '{self.name}' from {self.begin_s:g} to "
            f"{self.end_s:g} s"
        )


def drawn(surge: Surge, graph: RoadGraph, traffic_seed: int, middle: int | None = None) -> PlacedSurge:
    """Draw the surge of a traffic seed.

    Parameters
    ----------
    middle
        The edge in the middle of the place that the vehicles leave. If absent, it is drawn.

    Raises
    ------
    InputError
        The network has no edges that are far enough from the place.
    """
    rng = seeding.stream(traffic_seed, "events", "surge")
    usable = graph.strong_component() & (graph.length >= SHORTEST_M)
    begin_s = round(float(rng.uniform(*surge.begin_s)), 2)
    depart_s = np.sort(np.round(begin_s + rng.uniform(0.0, surge.duration_s, surge.vehicles), 2))
    centres = np.flatnonzero(usable & _inner(graph))
    if not len(centres):
        centres = np.flatnonzero(usable)
    if not len(centres):
        raise _too_small()
    drawn_middle = int(rng.choice(centres))
    centre = drawn_middle if middle is None else middle
    away_m = np.hypot(*(graph.middle_xy - graph.middle_xy[centre]).T)
    nearest = np.argsort(np.where(usable, away_m, np.inf), kind="stable")[:FEWEST_ORIGINS]
    near = np.union1d(np.flatnonzero(usable & (away_m <= surge.radius_m)), nearest[usable[nearest]])
    apart_m = min(surge.min_distance_m, float(away_m[usable].max()) / 2)
    far = np.setdiff1d(np.flatnonzero(usable & (away_m >= apart_m)), near)
    if not len(far):
        raise _too_small()
    size = (graph.length * graph.lanes * graph.speed)[far]
    targets = rng.choice(far, min(surge.destinations, len(far)), replace=False, p=size / size.sum())
    lanes = graph.lanes[near] / graph.lanes[near].sum()
    return PlacedSurge(
        edge=centre,
        name=str(graph.edge_ids[centre]),
        begin_s=begin_s,
        end_s=round(begin_s + surge.duration_s, 2),
        depart_s=depart_s,
        origin=rng.choice(near, surge.vehicles, p=lanes).astype(np.int32),
        destination=rng.choice(targets, surge.vehicles).astype(np.int32),
    )


def _inner(graph: RoadGraph) -> Bools:
    """Return which edges are away from the rim of the network, shape (E,)."""
    low, high = np.percentile(graph.junction_xy, INNER, axis=0)
    return np.asarray(((graph.middle_xy > low) & (graph.middle_xy < high)).all(axis=1))


def _too_small() -> InputError:
    return InputError(
        "events.surge: the network has no edges apart from the place that the vehicles leave; set "
        "events.surge.radius_m lower, or use a larger network"
    )
