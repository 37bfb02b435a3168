"""The condition of a scenario's traffic, as an engineer judges it: level, teleports, queues, alternatives of trips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from relid_sumo.base import sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.traffic import calibration, edge_times
from relid_sumo.scenario.traffic.edge_times import Measured
from relid_sumo.scenario.traffic.level import LEVEL_TOLERANCE, TrafficLevel

SEEDS = 2  # training traffic seeds, those of the calibration
STANDING_FACTOR, STANDING_S = (
    5.0,
    60.0,
)  # vehicles stand where they need this many times the free-flow time, and so much
FEW = 3.0  # vehicles on an edge in five minutes, below which its time is chance
ONE_PLACE = 0.25  # share of all delay on one edge that makes it a fault of the network or of its signals
FEW_ALTERNATIVES = 0.5  # share of trips with alternatives below which routing cannot matter much
SHOWN = 5


@dataclass(frozen=True)
class Standing:
    """An edge on which vehicles stand.

    Attributes
    ----------
    edge : int
        Its index.
    seconds, free_s : float
        Mean travel time in its slowest five minutes, and at free flow, s.
    delay_share : float
        Share of the delay of all vehicles in the network.
    """

    edge: int
    seconds: float
    free_s: float
    delay_share: float


@dataclass(frozen=True)
class Condition:
    """The condition of a scenario's traffic.

    Attributes
    ----------
    level : TrafficLevel
        Travel times in light and in loaded traffic.
    teleports : Counter
        Number of teleports by cause and edge.
    standing : tuple of Standing
        The edges on which vehicles stand, the largest delay first.
    queues : tuple
        Junctions with signals, with their mean number of delayed vehicles, the longest queue first.
    with_alternatives : float or None
        Share of the agents' trips with at least two clearly different routes; None for a fleet.
    faults : tuple of str
        What is wrong, with what to do; empty where the scenario simulates well.
    """

    level: TrafficLevel
    teleports: Counter[tuple[str, str]]
    standing: tuple[Standing, ...]
    queues: tuple[tuple[int, float], ...]
    with_alternatives: float | None
    faults: tuple[str, ...]


def condition(ready: PreparedScenario) -> Condition:
    """Measure the condition of a scenario's traffic, microscopically, on the seeds of its calibration."""
    scenario, network, task = ready.scenario, ready.network, ready.task
    seeds = scenario.seeds.training[:SEEDS]
    level = calibration.measure(scenario, network, samples=SEEDS)
    samples = sumo.each(lambda seed: edge_times.sample(scenario, network, ready.demand, seed), seeds)
    times = Measured(
        *(np.sum([getattr(one.times, name) for one in samples], axis=0) for name in vars(samples[0].times))
    )
    teleports = Counter[tuple[str, str]]()
    for one in samples:
        teleports.update(one.teleported)
    share = None
    if scenario.fleet is None:
        found = [
            len(alternatives(task.graph, int(o), int(d), k=2)) > 1
            for o, d in zip(task.origin, task.destination, strict=True)
        ]
        share = float(np.mean(found))
    stands = standing(task.graph, times)
    wanted = scenario.demand.level if scenario.demand.route_file is None else None
    return Condition(
        level,
        teleports,
        stands,
        queues(task.graph, times, scenario.horizon_s * len(seeds)),
        share,
        faults(level, wanted, [str(task.graph.edge_ids[one.edge]) for one in stands], stands, share),
    )


def _delay_s(graph: RoadGraph, times: Measured) -> Floats:
    """Return the summed delay on each edge, s, shape (bins, E)."""
    return np.maximum(0.0, times.edge_s - times.edge_vehicles * graph.free_flow_s)


def standing(graph: RoadGraph, times: Measured) -> tuple[Standing, ...]:
    """Return the edges on which vehicles stand in some five minutes, the largest delay first."""
    enough = times.edge_vehicles >= FEW
    mean = np.where(enough, times.edge_s / np.maximum(times.edge_vehicles, 1e-9), 0.0).max(axis=0)
    free, delay = graph.free_flow_s, _delay_s(graph, times).sum(axis=0)
    stands = np.flatnonzero((mean >= STANDING_FACTOR * free) & (mean - free >= STANDING_S))
    ranked = stands[np.argsort(-delay[stands], kind="stable")]
    return tuple(
        Standing(int(e), float(mean[e]), float(free[e]), float(delay[e] / delay.sum())) for e in ranked.tolist()
    )


def queues(graph: RoadGraph, times: Measured, duration_s: float) -> tuple[tuple[int, float], ...]:
    """Return junctions with signals and their mean number of delayed vehicles, the longest queue first.

    The number is the summed delay on the edges that end there over the time (Little's law).

    Parameters
    ----------
    duration_s
        Time over which `times` are summed.
    """
    mean = np.zeros(len(graph.junction_xy))
    np.add.at(mean, graph.to_junction, _delay_s(graph, times).sum(axis=0) / duration_s)
    mean[~graph.junction_signal] = 0.0
    ranked = np.argsort(-mean, kind="stable")
    return tuple((int(j), float(mean[j])) for j in ranked.tolist() if mean[j] > 0)


def faults(
    level: TrafficLevel,
    wanted: float | None,
    names: list[str],
    stands: tuple[Standing, ...],
    with_alternatives: float | None,
) -> tuple[str, ...]:
    """Return what is wrong with a scenario's traffic, with what to do.

    Parameters
    ----------
    level, wanted
        The measured traffic, and the level that it should have; None where the demand is given.
    names, stands
        The edges on which vehicles stand: SUMO's names, and measurements.
    with_alternatives
        As in `Condition`.
    """
    found = []
    if not level.flows:
        found.append(f"gridlock: {level.teleport_share:.1%} of the vehicles are teleported; lower demand.level")
    if wanted is not None and level.trips and abs(level.level - wanted) > 2 * LEVEL_TOLERANCE:
        found.append(
            f"the level is {level.level:+.0%}, and demand.level is {wanted:+.0%}; remove demand.rate_vph, so that it "
            "is calibrated again, or set the level that the area can carry"
        )
    found += [
        f"{one.delay_share:.0%} of all delay is on edge {name}; look at its lanes and its signal in netedit"
        for name, one in zip(names, stands, strict=True)
        if one.delay_share >= ONE_PLACE
    ]
    if with_alternatives is not None and with_alternatives < FEW_ALTERNATIVES:
        found.append(
            f"only {with_alternatives:.0%} of the trips have two clearly different routes; choose other trips, or a "
            "larger area"
        )
    return tuple(found)
