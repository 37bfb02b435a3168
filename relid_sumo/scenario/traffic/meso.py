"""The mesoscopic simulation: its difference from the microscopic one, and its calibration.

Mesoscopic vehicles have the same edges and routes, but they queue by road segments instead of following one another,
which is about twenty times faster. Parameters set their delays at signals, at junctions where they yield, and in
queues. Calibration fits these for each scenario, so that the same background trips take as long as in the microscopic
simulation, in light and in loaded traffic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relid_sumo.base import cache, seeding, sumo
from relid_sumo.base.progress import counting, phase
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Meso, Scenario, Simulator
from relid_sumo.scenario.traffic.calibration import TripTimes, trip_times
from relid_sumo.scenario.traffic.priors import PRIORS

log = logging.getLogger(__name__)

# Lowest and highest trial value of each parameter. SUMO's defaults are 1.13, 1.13, 1.73 and 1.4 s for the headways.
HEADWAYS: dict[str, tuple[float, float]] = {
    "tauff": (1.0, 2.5),
    "taufj": (1.0, 2.5),
    "taujf": (1.2, 4.0),
    "taujj": (1.0, 2.5),
}
SPACE = {"minor_penalty_s": (0.0, 12.0), **HEADWAYS}
CALIBRATED_ON = 2  # training traffic seeds
AIMED, REFINED = 8, 12  # most trials that correct the two mean travel times, then those around the best
STEP = 0.2  # standard deviation of a refining trial, as a share of the space ...
SHRINK = 0.9  # ... and factor on it after a trial that is not better
# The search ends at a gap that is as small as the difference between two samples of traffic. Without a good correlation
# it goes on to the refining trials.
LIGHT_ENOUGH, LOADED_ENOUGH, ENOUGH_CORRELATION = 0.025, 0.04, 0.75
# Change of the travel times, light and loaded, by a second of minor_penalty_s and by a factor e on all headways: the
# first guess, which trials correct.
FIRST_SLOPES = ((0.015, 0.0), (0.015, 0.3))
LARGEST_MOVE = (2.0, 0.25)  # of a correcting trial, in the same units
FORMAT = 4  # part of the cache key: raise it when the meaning of the cached values changes


@dataclass(frozen=True)
class Gap:
    """Difference of the mesoscopic simulation from the microscopic one, over the same background trips.

    Attributes
    ----------
    light, loaded : float
        Mean travel time over the microscopic one, minus 1, in light traffic and in the scenario's own.
    correlation, correlation_light : float
        Correlation of the trips' travel times, in the scenario's own and in light traffic.
    trips : int
        Number of compared trips.
    """

    light: float
    loaded: float
    correlation: float
    correlation_light: float
    trips: int

    @property
    def badness(self) -> float:
        """Objective that calibration minimises; 5 % in light and 7 % in loaded traffic count as 0.1 of correlation."""
        return float((self.light / 0.05) ** 2 + (self.loaded / 0.07) ** 2 + ((1.0 - self.correlation) / 0.1) ** 2)

    @property
    def means_agree(self) -> bool:
        """Whether the mean travel times differ no more than those of two samples of traffic."""
        return abs(self.light) <= LIGHT_ENOUGH and abs(self.loaded) <= LOADED_ENOUGH


def compare(scenario: Scenario, network: Network, traffic_seeds: Sequence[int]) -> tuple[Gap, Gap]:
    """Compare the simulations over some traffic seeds.

    Returns
    -------
    gap
        Difference of the mesoscopic simulation from the microscopic one.
    floor
        Difference of the microscopic simulation from itself under another SUMO seed: the smallest possible gap.
    """
    micro = _times(scenario, network, traffic_seeds)
    return (
        _gap(micro, _times(scenario, network, traffic_seeds, "meso")),
        _gap(micro, _times(scenario, network, traffic_seeds, again=1)),
    )


def _times(
    scenario: Scenario,
    network: Network,
    traffic_seeds: Sequence[int],
    simulator: Simulator = "micro",
    *,
    again: int = 0,
) -> list[TripTimes]:
    return sumo.each(lambda seed: trip_times(scenario, network, seed, simulator, again=again), traffic_seeds)


def _gap(micro: Sequence[TripTimes], other: Sequence[TripTimes]) -> Gap:
    pairs = {"light": ([], []), "loaded": ([], [])}  # type: dict[str, tuple[list[float], list[float]]]
    for one, two in zip(micro, other, strict=True):
        for name, (a, b) in pairs.items():
            mine, theirs = getattr(one, name), getattr(two, name)
            both = [vehicle for vehicle in mine if vehicle in theirs]
            a += [mine[vehicle] for vehicle in both]
            b += [theirs[vehicle] for vehicle in both]

    def figures(name: str) -> tuple[float, float]:
        a, b = (np.array(part) for part in pairs[name])
        if len(a) < 2 or not a.std() or not b.std():
            return 0.0, 1.0
        return float(b.mean() / a.mean() - 1.0), float(np.corrcoef(a, b)[0, 1])

    (light, correlation_light), (loaded, correlation) = figures("light"), figures("loaded")
    return Gap(light, loaded, correlation, correlation_light, len(pairs["loaded"][0]))


def calibrated(scenario: Scenario, network: Network, own: str | None) -> Scenario:
    """Return the scenario with mesoscopic parameters: unchanged where it has them, else calibrated (and cached)."""
    if scenario.meso is not None:
        return scenario
    return scenario.model_copy(update={"meso": calibrate(scenario, network, own)})


def calibrate(scenario: Scenario, network: Network, own: str | None) -> Meso:
    """Find the parameters with which mesoscopic trips take as long as microscopic ones, on two training seeds.

    The search begins with the parameters of other networks (`relid_sumo.scenario.traffic.priors`). From the best, it
    corrects the penalty at junctions and the headways by Broyden's method until the mean travel times agree. Where the
    trips' correlation is low, it then takes random steps, which shrink after each step that is not better. The same
    scenario gives the same result; it is cached.
    `own` is the checksum of the scenario's own route file, if it has one (`PreparedScenario.demand`).
    """
    seeds = scenario.seeds.training[:CALIBRATED_ON]
    settings = scenario.demand.model_dump(mode="json")
    timing = [scenario.horizon_s, scenario.step_length_s, scenario.teleport_after_s]
    content = [FORMAT, network.key, sumo.version(), settings, timing, own, seeds]

    def make() -> dict[str, Any]:
        with phase("mesoscopic simulation fitted"):
            return _search(scenario, network, seeds).model_dump(mode="json")

    return cache.cached_json("meso", network.name, content, make, Meso)


def _search(scenario: Scenario, network: Network, seeds: Sequence[int]) -> Meso:
    log.info(f"calibrating the mesoscopic simulation on {len(seeds)} samples of traffic")
    micro = _times(scenario, network, seeds)
    tried: list[tuple[Gap, Meso]] = []

    def measure(settings: Meso) -> Gap:
        changed = scenario.model_copy(update={"meso": settings})
        gap = _gap(micro, _times(changed, network, seeds, "meso"))
        if not tried or gap.badness < min(one.badness for one, _ in tried):
            log.info(f"mesoscopic trial {len(tried) + 1}: {describe(gap)}")
        tried.append((gap, settings))
        tick(gap)
        return gap

    with counting("mesoscopic trials", len(PRIORS) + AIMED + REFINED) as tick:
        return search(measure)


def search(measure: Callable[[Meso], Gap]) -> Meso:
    """Return the best parameters that the search tries; see `calibrate`.

    Parameters
    ----------
    measure
        Returns the gap with some parameters.
    """
    tried = [(measure(prior), prior) for prior in PRIORS]

    def best() -> tuple[Gap, Meso]:
        return min(tried, key=lambda one: one[0].badness)

    _correct(measure, tried)
    rng, step = seeding.stream(0, "meso", "steps"), STEP
    for _ in range(REFINED):
        gap, settings = best()
        if gap.means_agree and gap.correlation >= ENOUGH_CORRELATION:
            break
        here = np.array([(getattr(settings, name) - low) / (high - low) for name, (low, high) in SPACE.items()])
        there = np.clip(here + step * rng.standard_normal(len(here)), 0.0, 1.0)
        values = {name: low + x * (high - low) for x, (name, (low, high)) in zip(there, SPACE.items(), strict=True)}
        moved = _with(settings, values)
        tried.append((measure(moved), moved))
        if tried[-1][0].badness >= gap.badness:
            step *= SHRINK
    return best()[1]


def _correct(measure: Callable[[Meso], Gap], tried: list[tuple[Gap, Meso]]) -> None:
    """Correct the best tried parameters until the mean travel times agree, by Broyden's method in two directions.

    The directions are the penalty at junctions, and one factor on all headways. Trials are added to `tried`.
    """
    gap, settings = min(tried, key=lambda one: one[0].badness)
    slopes, most = np.array(FIRST_SLOPES), np.array(LARGEST_MOVE)
    for _ in range(AIMED):
        if gap.means_agree:
            return
        missing = np.array([gap.light, gap.loaded])
        wanted = np.clip(-np.linalg.lstsq(slopes, missing, rcond=None)[0], -most, most)
        values = {name: getattr(settings, name) * np.exp(wanted[1]) for name in HEADWAYS}
        moved = _with(settings, {**values, "minor_penalty_s": settings.minor_penalty_s + wanted[0]})
        if moved == settings:
            return
        now = measure(moved)
        tried.append((now, moved))
        move = np.array([moved.minor_penalty_s - settings.minor_penalty_s, wanted[1]])
        change = np.array([now.light, now.loaded]) - missing
        slopes = slopes + np.outer(change - slopes @ move, move) / (move @ move)
        gap, settings = now, moved


def _with(settings: Meso, values: Mapping[str, float]) -> Meso:
    """Return settings with other values, within the space of trials."""
    inside = {name: round(float(np.clip(value, *SPACE[name])), 3) for name, value in values.items()}
    return Meso.model_validate({**settings.model_dump(), **inside})


def describe(gap: Gap) -> str:
    """Return a gap in words."""
    return (
        f"mean travel time {gap.light:+.1%} in light and {gap.loaded:+.1%} in loaded traffic, correlation of trips "
        f"{gap.correlation:.2f}"
    )
