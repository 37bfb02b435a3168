"""The numbers of an evaluation: what each is a mean over, and their estimates over traffic seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from relid_sumo.base.arrays import Bools, Floats
from relid_sumo.base.stats import Estimate, estimate
from relid_sumo.env.records import ARRIVED, EpisodeRecord, Measures

EVERY, REACHED, WORST, TRAFFIC = "all trips", "arrived trips", "traffic seeds", "traffic seeds, first 900 s"
KMH = 3.6
MEASURES = tuple(field.name for field in fields(Measures))


@dataclass(frozen=True)
class Number:
    """How a number is shown: its label with its unit, what it is a mean over, and its digits."""

    label: str
    over: str
    digits: int = 0


NUMBERS: Mapping[str, Number] = {
    "mean_delay_s": Number("delay, s", EVERY),
    "worst_delay_s": Number("longest delay of an agent, s", WORST),
    "delay_spread_s": Number("spread of the delay over agents, s", WORST),
    "mean_time_loss_s": Number("time loss, s", REACHED),
    "mean_waiting_s": Number("waiting time, s", REACHED),
    "mean_stops": Number("stops", REACHED, 1),
    "mean_speed_kmh": Number("speed, km/h", REACHED, 1),
    "mean_distance_m": Number("distance, m", REACHED),
    "mean_co2_g": Number("CO2, g", REACHED),
    "mean_fuel_g": Number("fuel, g", REACHED),
}


@dataclass(frozen=True)
class Numbers:
    """The numbers of one policy, each a mean with its interval over traffic seeds; None where nothing is measured.

    Attributes
    ----------
    trips, arrived
        Number of trips, and of those that arrived: the two denominators, over all traffic seeds.
    mean_delay_s
        Travel time minus the time of the fastest route on an empty network, over all trips. A trip that does not arrive
        has the travel time of `EpisodeRecord`.
    worst_delay_s
        The longest delay of an agent in a traffic seed.
    delay_spread_s
        Standard deviation of the delay over the agents of a traffic seed: 0 where all lose the same time.
    mean_time_loss_s, mean_waiting_s, mean_stops, mean_distance_m, mean_co2_g, mean_fuel_g
        As SUMO measures them (`Measures`), over the trips that arrived. A traffic seed in which none arrives is left
        out.
    mean_speed_kmh
        Distance of all trips that arrived divided by their time in the network.
    """

    trips: int
    arrived: int
    mean_delay_s: Estimate
    worst_delay_s: Estimate
    delay_spread_s: Estimate
    mean_time_loss_s: Estimate | None = None
    mean_waiting_s: Estimate | None = None
    mean_stops: Estimate | None = None
    mean_speed_kmh: Estimate | None = None
    mean_distance_m: Estimate | None = None
    mean_co2_g: Estimate | None = None
    mean_fuel_g: Estimate | None = None


def numbers(rows: Sequence[EpisodeRecord], free_flow_s: Sequence[Floats]) -> Numbers:
    """Return the numbers of a policy from its episodes and the free-flow times of their agents, s."""
    delays = [row.travel_time - free_s for row, free_s in zip(rows, free_flow_s, strict=True)]
    statuses = [status for row in rows for status in row.status]
    measured = {f"mean_{name}": _over_arrived(rows, name) for name in MEASURES if name != "duration_s"}
    return Numbers(
        trips=len(statuses),
        arrived=statuses.count(ARRIVED),
        mean_delay_s=_estimate(delays, np.mean),
        worst_delay_s=_estimate(delays, np.max),
        delay_spread_s=_estimate(delays, np.std),
        mean_speed_kmh=_speed(rows),
        **measured,
    )


def _estimate(values: Sequence[Floats], of: Callable[[Floats], np.floating]) -> Estimate:
    return estimate(np.array([float(of(one)) for one in values]))


def _arrived(row: EpisodeRecord) -> Bools:
    return np.array([status == ARRIVED for status in row.status])


def _over_arrived(rows: Sequence[EpisodeRecord], name: str) -> Estimate | None:
    found = [getattr(row.measures, name)[_arrived(row)] for row in rows if row.measures is not None]
    return _known([float(values.mean()) for values in found if values.size])


def _speed(rows: Sequence[EpisodeRecord]) -> Estimate | None:
    found = []
    for measures, here in ((row.measures, _arrived(row)) for row in rows):
        if measures is not None and here.any():
            found.append(KMH * float(measures.distance_m[here].sum() / measures.duration_s[here].sum()))
    return _known(found)


def _known(values: Sequence[float]) -> Estimate | None:
    return estimate(np.array(values)) if values and np.isfinite(values).all() else None
