"""Statistics against their definitions, written out literally, and against scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu, permutation_test

from relid_sumo.base import stats

RNG = np.random.default_rng(7)
OURS = [RNG.normal(1.0, 1.0, 6), RNG.normal(3.0, 2.0, 5)]
THEIRS = [RNG.normal(0.0, 1.0, 6), RNG.normal(2.5, 1.0, 4)]


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_scores() -> None:
    scores = [np.array([9.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, -50.0])]
    assert stats.iqm(scores).mean == np.mean([2.0, 3.0, 4.0, 5.0])
    assert stats.iqm([np.array([1.0, 2.0, 100.0])]).mean == pytest.approx(103 / 3), "a quarter of three is none"


def test_the_interval_of_the_interquartile_mean_resamples_seeds_within_each_scenario() -> None:
    """As rliable's StratifiedBootstrap does, by a loop."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(5000):
        pool = np.sort(np.concatenate([rng.choice(seeds, len(seeds)) for seeds in OURS]))
        cut = len(pool) // 4
        drawn.append(pool[cut : len(pool) - cut].mean())
    found = stats.iqm(OURS)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.08)


def test_probability_of_improvement_is_mann_whitneys_u_over_all_pairs() -> None:
    by_scenario = [mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(OURS, THEIRS, strict=True)]
    assert stats.probability_of_improvement(OURS, THEIRS).mean == pytest.approx(np.mean(by_scenario))
    ties = stats.probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 2.0])])
    assert ties.mean == 0.5
    certain = stats.probability_of_improvement([np.array([3.0, 4.0])], [np.array([1.0, 2.0])])
    assert (certain.mean, certain.low, certain.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_the_probability_draws_both_sides_independently() -> None:
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(4000):
        shares = []
        for x, y in zip(OURS, THEIRS, strict=True):
            a, b = rng.choice(x, len(x)), rng.choice(y, len(y))
            shares.append(np.mean([(p > q) + 0.5 * (p == q) for p, q in product(a, b)]))
        drawn.append(np.mean(shares))
    found = stats.probability_of_improvement(OURS, THEIRS)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)


def test_the_interval_of_a_mean_is_scipys() -> None:
    theirs = bootstrap((OURS[0],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    found = stats.estimate(OURS[0])
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_a_band_is_the_interval_at_each_point() -> None:
    curves = np.stack([OURS[0], OURS[0] * 2 + 1], axis=1)
    mean, low, high = stats.band(curves)
    assert mean == pytest.approx(curves.mean(axis=0))
    assert low is not None
    assert high is not None
    for i in range(2):
        at = stats.estimate(curves[:, i])
        assert (low[i], high[i]) == pytest.approx((at.low, at.high), abs=0.05)


def test_one_seed_gives_a_figure_and_no_interval() -> None:
    one, two = np.array([3.0]), np.array([1.0, 2.0])
    for found in (
        stats.estimate(one),
        stats.iqm([one, two]),
        stats.probability_of_improvement([one], [two]),
        stats.probability_of_improvement([two], [one]),
    ):
        assert (found.low, found.high) == (None, None)
    assert stats.band(one[:, None])[1:] == (None, None)
    assert stats.sign_flip(one) is None


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_sign_flip_test_is_scipys_exact_permutation_test(n: int) -> None:
    differences = RNG.normal(0.7, 1.0, n)
    exact = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip(differences) == pytest.approx(exact.pvalue)


def test_the_sign_flip_test_of_many_seeds_draws_patterns() -> None:
    differences = RNG.normal(0.25, 1.0, 40)
    drawn = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(2)
    )
    assert stats.sign_flip(differences) == pytest.approx(drawn.pvalue, abs=0.02)
    assert stats.sign_flip(np.full(40, 1.0)) == pytest.approx(1 / (2**stats.EXACT_UP_TO + 1))


def test_the_least_p_value_is_two_over_the_number_of_patterns() -> None:
    assert stats.sign_flip(np.array([1.0, 2.0, 3.0])) == 2 / 2**3


def test_holm_steps_down_and_never_falls() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.9, None, 0.8]) == [1.0, None, 1.0]
    assert stats.holm([]) == []
