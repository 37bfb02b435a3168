"""The mesoscopic simulation: its difference from the microscopic one, and its calibration.

Mesoscopic vehicles have the same edges and routes, but they queue by road segments instead of following one another,
which is about twenty times faster. Parameters set their delays at signals, at junctions where they yield, and in
queues. Calibration fits these for each scenario, so that the same background trips take as long as in the microscopic
simulation, in light and in loaded traffic.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import cache, seeding, sumo
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Meso, Scenario, Simulator
from relid_sumo.scenario.traffic.calibration import TripTimes, trip_times

log = logging.getLogger(__name__)

# Lowest and highest trial value of each parameter. SUMO's defaults are 1.13, 1.13, 1.73 and 1.4 s for the headways.
SPACE: dict[str, tuple[float, float]] = {
    "minor_penalty_s": (0.0, 9.0),
    "tauff": (1.0, 2.5),
    "taufj": (1.0, 2.5),
    "taujf": (1.2, 4.0),
    "taujj": (1.0, 2.5),
}
PENALTIES = {"tls_penalty": (0.2, 1.0), "tls_flow_penalty": (0.0, 2.0)}
# Models of junctions: whether vehicles wait there, and the parameters to fit. Signals have phases or penalties.
JUNCTIONS: tuple[tuple[bool, dict[str, tuple[float, float]]], ...] = (
    (True, SPACE),
    (True, SPACE | PENALTIES),
    (False, SPACE | PENALTIES),
)
CALIBRATED_ON = 3  # training traffic seeds
SPREAD, REFINED = 16, 40  # trials over the whole space for each model of junctions, then trials around the best
STEP = 0.2  # standard deviation of a refining trial, as a share of the space ...
SHRINK = 0.9  # ... and factor on it after a trial that is not better
FORMAT = 3  # part of the cache key: raise it when the meaning of the cached values changes


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
    """Find the parameters with which mesoscopic trips take as long as microscopic ones, on three training seeds.

    The search samples a Latin hypercube for each model of junctions, then takes random steps from the best point, which
    shrink after each step that is not better. The same scenario gives the same result; it is cached.
    `own` is the checksum of the scenario's own route file, if it has one (`PreparedScenario.demand`).
    """
    seeds = scenario.seeds.training[:CALIBRATED_ON]
    settings = scenario.demand.model_dump(mode="json")
    timing = [scenario.horizon_s, scenario.step_length_s, scenario.teleport_after_s]
    content = [FORMAT, network.key, sumo.version(), settings, timing, own, seeds]
    return cache.cached_json(
        "meso", network.name, content, lambda: _search(scenario, network, seeds).model_dump(mode="json"), Meso
    )


def _search(scenario: Scenario, network: Network, seeds: Sequence[int]) -> Meso:
    from scipy.stats import qmc  # noqa: PLC0415 - a second to import, and only calibration needs it

    log.info(f"calibrating the mesoscopic simulation on {len(seeds)} samples of traffic")
    micro = _times(scenario, network, seeds)
    best, least, trial = Meso(), np.inf, 0

    def tried(settings: Meso) -> bool:
        """Measure a setting; store it and return True where it is the best so far."""
        nonlocal best, least, trial
        trial += 1
        changed = scenario.model_copy(update={"meso": settings})
        gap = _gap(micro, _times(changed, network, seeds, "meso"))
        if gap.badness >= least:
            return False
        best, least = settings, gap.badness
        log.info(f"mesoscopic trial {trial}: {describe(gap)}")
        return True

    model = 0
    for number, (control, space) in enumerate(JUNCTIONS):
        sampler = qmc.LatinHypercube(len(space), rng=seeding.stream(0, "meso", "space", number))
        for point in sampler.random(SPREAD):
            if tried(_settings(control, space, point)):
                model = number
    control, space = JUNCTIONS[model]
    rng, step = seeding.stream(0, "meso", "steps"), STEP
    for _ in range(REFINED):
        here = np.array([(getattr(best, name) - low) / (high - low) for name, (low, high) in space.items()])
        there = np.clip(here + step * rng.standard_normal(len(here)), 0.0, 1.0)
        if not tried(_settings(control, space, there)):
            step *= SHRINK
    return best


def _settings(control: bool, space: dict[str, tuple[float, float]], point: NDArray[np.float64]) -> Meso:
    """Return the setting at a point of the unit cube."""
    numbers = {
        name: round(low + float(x) * (high - low), 3)
        for x, (name, (low, high)) in zip(point, space.items(), strict=True)
    }
    return Meso.model_validate({"junction_control": control, **numbers})


def describe(gap: Gap) -> str:
    """Return a gap in words."""
    return (
        f"mean travel time {gap.light:+.1%} in light and {gap.loaded:+.1%} in loaded traffic, correlation of trips "
        f"{gap.correlation:.2f}"
    )
