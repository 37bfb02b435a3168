"""The translation of mesoscopic readings into microscopic ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relid_sumo.scenario.traffic.readings import LEVELS, Readings, octaves

QUANTILES = st.lists(st.floats(0, 8), min_size=len(LEVELS), max_size=len(LEVELS)).map(sorted)


@given(micro=QUANTILES, meso=QUANTILES, one=st.floats(0, 12), other=st.floats(0, 12))
def test_it_keeps_the_order_and_stays_finite(micro: list[float], meso: list[float], one: float, other: float) -> None:
    readings = Readings(np.array([micro]), np.array([meso]))
    low, high = (readings.translate(0, value) for value in sorted((one, other)))
    assert 0 <= low <= high + 1e-9
    assert np.isfinite(high)


@given(micro=QUANTILES)
def test_quantiles_become_those_of_the_other_simulator(micro: list[float]) -> None:
    meso = np.linspace(1, 3, len(LEVELS))
    readings = Readings(np.array([micro]), meso[None])
    assert [readings.translate(0, float(value)) for value in meso] == pytest.approx(micro)
    assert readings.translate(0, 3.5) == pytest.approx(micro[-1] + 0.5)
    assert readings.translate(0, 0.0) == pytest.approx(micro[0])


def test_a_value_of_several_quantiles_becomes_their_median() -> None:
    half = len(LEVELS) // 2
    readings = Readings(LEVELS[None], np.concatenate([np.zeros(half + 1), np.linspace(1, 2, half)])[None])
    assert readings.translate(0, 0.0) == pytest.approx((LEVELS[0] + LEVELS[half]) / 2)


def test_translated_samples_are_distributed_as_the_others() -> None:
    rng = np.random.default_rng(0)
    micro, meso = rng.gamma(0.5, 0.3, (2, 4000)), 0.4 + rng.gamma(2.0, 0.5, (2, 4000))
    readings = Readings(*(np.quantile(values[0], LEVELS)[None] for values in (micro, meso)))
    translated = [readings.translate(0, float(value)) for value in meso[1]]
    assert stats.ks_2samp(micro[1], meso[1]).statistic > 0.5
    assert stats.ks_2samp(micro[1], translated).statistic < 0.04


def test_octaves_are_not_negative() -> None:
    assert octaves(np.array([5.0, 10.0, 80.0]), np.array(10.0)).tolist() == [0, 0, 3]
