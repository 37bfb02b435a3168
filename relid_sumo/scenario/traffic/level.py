"""The level of congestion, and the search for the rate of departures that gives a level.

A microscopic measurement costs about twenty mesoscopic ones. So the mesoscopic simulation finds where to begin and how
steeply the level rises with the rate, and few microscopic measurements correct it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from relid_sumo.base.progress import counting

log = logging.getLogger(__name__)

MAX_TELEPORT_SHARE = 0.005
LEVEL_TOLERANCE = 0.03  # about the difference between two samples of traffic
MOST_TRIALS, MOST_CHECKS = 6, 6  # mesoscopic and microscopic measurements
STEEPEST, FLATTEST, USUAL = 6.0, 2.0, 4.0  # exponent of the level as a power of the rate
APART = 1.15  # factor between the lowest and the highest rate from which an exponent is more than noise
LONGEST_STEP = 1.6  # largest factor between the rates of two measurements
BELOW_JAM = 1.1  # factor by which a rate stays below one with gridlock
SAME = 1.01  # a rate within this factor of a measured one would be measured twice
NO_LEVEL = 0.02  # a lower level is within noise


@dataclass(frozen=True)
class TrafficLevel:
    """Level of a scenario's background traffic.

    Attributes
    ----------
    rate_vph : float
        Departures per hour at profile factor 1; for a scenario's own demand, those in the measured time.
    level : float
        Congestion: mean of (loaded travel time) / mean of (light travel time) - 1 over the same trips.
    light_s, loaded_s : float
        Mean travel time, departure delay included, s.
    teleport_share : float
        Jam and yield teleports per vehicle that departed.
    trips : int
        Trips measured.
    note : str
        Why the target level was not reached; empty where it was.
    """

    rate_vph: float
    level: float
    light_s: float
    loaded_s: float
    teleport_share: float
    trips: int
    note: str = ""

    @property
    def flows(self) -> bool:
        """Whether traffic moves without gridlock."""
        return self.teleport_share < MAX_TELEPORT_SHARE


class Curve:
    """The level as a power of the rate, from the measurements so far.

    The level of two samples of traffic differs by chance. So the next rate follows from all measurements, those near
    the target first, and not from the last two.

    Parameters
    ----------
    target
        The wanted level.
    most_vph
        The highest rate to measure.
    exponent
        Exponent of the power. Default: by the measurements.
    """

    def __init__(self, target: float, most_vph: float, exponent: float | None = None) -> None:
        self._target, self._most_vph, self._given = target, most_vph, exponent
        self._found: list[TrafficLevel] = []

    def add(self, measured: TrafficLevel) -> bool:
        """Add a measurement; return whether it has the wanted level."""
        self._found.append(measured)
        return measured.flows and abs(measured.level - self._target) <= LEVEL_TOLERANCE

    @property
    def _flowing(self) -> list[TrafficLevel]:
        return [one for one in self._found if one.flows]

    @property
    def nearest(self) -> TrafficLevel | None:
        """The measurement nearest to the target; None where traffic flowed in none."""
        return min(self._flowing, key=lambda one: abs(one.level - self._target), default=None)

    @property
    def limit_vph(self) -> float:
        """The highest rate to measure, which is below each one that ended in gridlock."""
        jams = [one.rate_vph / BELOW_JAM for one in self._found if not one.flows]
        return min([self._most_vph, *jams])

    @property
    def is_at_limit(self) -> bool:
        """Whether the last measurement is below the target, and no higher rate can be measured."""
        last = self._found[-1]
        return last.flows and last.level < self._target and last.rate_vph * SAME >= self.limit_vph

    def exponent(self) -> float:
        """Return the exponent: the slope of a line through the logarithms of rates and levels."""
        points = [(one.rate_vph, one.level) for one in self._flowing if one.level > NO_LEVEL]
        rates = [rate for rate, _ in points]
        if self._given is not None or not points or max(rates) / min(rates) < APART:
            return USUAL if self._given is None else self._given
        slope = float(np.polyfit(np.log(rates), np.log([level for _, level in points]), 1)[0])
        return min(STEEPEST, max(FLATTEST, slope))

    def next_vph(self) -> float:
        """Return the rate to measure next, departures per hour."""
        last, power = self._found[-1], self.exponent()
        if not self._flowing:
            return last.rate_vph / LONGEST_STEP
        rate = np.array([one.rate_vph for one in self._flowing])
        off = np.log(np.maximum([one.level for one in self._flowing], NO_LEVEL) / self._target)
        wanted = np.log(rate) - off / power  # by each measurement alone
        vph = math.exp(np.average(wanted, weights=np.exp(-2.0 * np.abs(off))))
        vph = min(self.limit_vph, last.rate_vph * LONGEST_STEP, max(last.rate_vph / LONGEST_STEP, vph))
        near = int(np.argmin(np.abs(np.log(rate / vph))))
        if max(rate[near] / vph, vph / rate[near]) < SAME:
            vph = min(self.limit_vph, rate[near] * math.exp(-off[near] / power / 2))
        return float(vph)


def bracket(target: float, first_vph: float, most_vph: float, measure: Callable[[float], TrafficLevel]) -> Curve:
    """Return the curve of the mesoscopic simulation around the target.

    Parameters
    ----------
    target
        The wanted level.
    first_vph, most_vph
        The first rate, and the highest one, departures per hour.
    measure
        Measures a rate mesoscopically.
    """
    curve, rate = Curve(target, most_vph), min(first_vph, most_vph)
    with counting("mesoscopic trials of traffic", MOST_TRIALS) as tick:
        for _ in range(MOST_TRIALS):
            now = measure(rate)
            tick(now)
            log.debug(f"mesoscopic: {rate:.0f} vehicles/h give +{now.level:.0%} travel time")
            if curve.add(now) or curve.is_at_limit:
                break
            rate = curve.next_vph()
    return curve


def reach(
    curve: Curve, first_vph: float, measure: Callable[[float], TrafficLevel], *, target: float, max_running: int
) -> TrafficLevel | str:
    """Return the traffic with the wanted level, or with the nearest one that is possible.

    Where traffic flows at no rate, return why.

    Parameters
    ----------
    curve
        Without measurements.
    first_vph
        The first rate, departures per hour.
    measure
        Measures a rate microscopically.
    target, max_running
        The wanted level and the limit of vehicles at once, for messages.
    """
    rate, jam = first_vph, ""
    for trial in range(1, MOST_CHECKS + 1):
        now = measure(rate)
        log.info(f"calibrating traffic, check {trial}: {rate:.0f} vehicles/h give +{now.level:.0%} travel time")
        if curve.add(now):
            return now
        if not now.flows:
            jam = f"at {rate:.0f} vehicles/h {now.teleport_share:.1%} of them end in gridlock"
        if curve.is_at_limit:
            break
        rate = curve.next_vph()
    best = curve.nearest
    if best is None:
        return jam
    if abs(best.level - target) <= 2 * LEVEL_TOLERANCE:
        return best
    reason = jam or f"more than {max_running} vehicles at once (demand.max_running) would be needed"
    if not curve.is_at_limit:
        reason = jam or f"it differs too much between samples of traffic at rates like {best.rate_vph:.0f} vehicles/h"
    return replace(best, note=f"+{target:.0%} was not reached: {reason}")
