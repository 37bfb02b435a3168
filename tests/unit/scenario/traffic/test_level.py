"""The search for the rate of departures that gives a level of congestion, on curves without SUMO."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from relid_sumo.scenario.traffic.level import (
    LEVEL_TOLERANCE,
    MOST_CHECKS,
    MOST_TRIALS,
    Curve,
    TrafficLevel,
    bracket,
    reach,
)

Measure = Callable[[float], TrafficLevel]


def traffic(
    power: float, *, at_vph: float = 6000.0, noise: float = 0.0, jam_vph: float = np.inf, seed: int = 0
) -> Measure:
    """Return traffic whose level is 0.3 at a rate and rises as a power of it, with noise, up to gridlock."""
    rng = np.random.default_rng(seed)

    def measure(rate_vph: float) -> TrafficLevel:
        level = 0.3 * (rate_vph / at_vph) ** power
        level = max(0.0, level * (1.0 + noise * rng.standard_normal()))
        return TrafficLevel(rate_vph, level, 100.0, 100.0 * (1.0 + level), 0.02 if rate_vph > jam_vph else 0.0, 500)

    return measure


def found(micro: Measure, meso: Measure, *, most_vph: float = 1e6) -> tuple[TrafficLevel | str, int]:
    """Return the result of the search and its number of microscopic measurements."""
    rates: list[float] = []

    def noted(rate_vph: float) -> TrafficLevel:
        rates.append(rate_vph)
        return micro(rate_vph)

    near = bracket(0.3, 3000.0, most_vph, meso)
    curve = Curve(0.3, most_vph, near.exponent())
    return reach(curve, near.next_vph(), noted, target=0.3, max_running=2000), len(rates)


@pytest.mark.parametrize("power", [2.5, 4.0, 6.0])
@pytest.mark.parametrize("bias", [0.9, 1.1])
def test_two_checks_correct_a_mesoscopic_simulation_that_is_wrong(power: float, bias: float) -> None:
    level, checks = found(traffic(power), traffic(power, at_vph=6000.0 * bias))
    assert isinstance(level, TrafficLevel)
    assert abs(level.level - 0.3) <= LEVEL_TOLERANCE
    assert checks <= 3
    assert not level.note


def test_noise_of_the_samples_costs_checks_but_not_the_level() -> None:
    results = [found(traffic(4.0, noise=0.15, seed=seed), traffic(4.0, noise=0.15)) for seed in range(50)]
    levels = [level.level for level, _ in results if isinstance(level, TrafficLevel)]
    assert len(levels) == len(results)
    assert np.mean([abs(level - 0.3) <= LEVEL_TOLERANCE for level in levels]) >= 0.9
    assert np.mean([checks for _, checks in results]) <= MOST_CHECKS / 2


def test_the_mesoscopic_search_ends() -> None:
    rates: list[float] = []

    def never(rate_vph: float) -> TrafficLevel:
        rates.append(rate_vph)
        return TrafficLevel(rate_vph, 0.0, 100.0, 100.0, 0.0, 500)

    bracket(0.3, 3000.0, 1e6, never)
    assert len(rates) == MOST_TRIALS
    assert rates == sorted(rates)


def test_the_limit_of_vehicles_is_said_where_it_bounds_the_level() -> None:
    level, checks = found(traffic(4.0), traffic(4.0), most_vph=4000.0)
    assert isinstance(level, TrafficLevel)
    assert level.rate_vph == 4000.0
    assert checks == 1
    assert level.note == "+30% was not reached: more than 2000 vehicles at once (demand.max_running) would be needed"


def test_gridlock_bounds_the_rate() -> None:
    level, _ = found(traffic(4.0, jam_vph=5000.0), traffic(4.0))
    assert isinstance(level, TrafficLevel)
    assert level.flows
    assert 4000.0 < level.rate_vph <= 5000.0
    assert "end in gridlock" in level.note


def test_traffic_that_flows_at_no_rate_gives_the_reason() -> None:
    reason, checks = found(traffic(4.0, jam_vph=0.0), traffic(4.0))
    assert isinstance(reason, str)
    assert checks == MOST_CHECKS
    assert "2.0% of them end in gridlock" in reason
