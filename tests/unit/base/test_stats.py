"""Statistics against their definitions, written out literally, and against scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu, ttest_1samp
from scipy.stats import f as f_distribution

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


def test_with_one_training_seed_the_comparison_is_the_paired_t_test_over_traffic_and_the_reverse() -> None:
    differences = RNG.normal(0.7, 1.0, 9)
    wanted = ttest_1samp(differences, 0.0)
    low, high = wanted.confidence_interval()
    for shape in ((1, 9), (9, 1)):
        found = stats.paired(differences.reshape(shape))
        assert (found.mean, found.p) == pytest.approx((differences.mean(), wanted.pvalue))
        assert (found.low, found.high) == pytest.approx((low, high))


def test_the_comparison_is_clarks_min_f() -> None:
    d = RNG.normal(0.5, 1.0, (4, 6)) + RNG.normal(0.0, 1.0, (4, 1))
    by_training, by_traffic = (ttest_1samp(d.mean(axis=axis), 0.0).statistic ** 2 for axis in (1, 0))
    min_f = by_training * by_traffic / (by_training + by_traffic)
    freedom = (by_training + by_traffic) ** 2 / (by_training**2 / 5 + by_traffic**2 / 3)
    found = stats.paired(d)
    assert found.p == pytest.approx(f_distribution.sf(min_f, 1, freedom))
    assert found.low is not None
    assert (found.low > 0) is (found.p is not None and found.p < 0.05 and found.mean > 0)


def test_nothing_repeated_is_not_tested_and_equal_policies_do_not_differ() -> None:
    assert stats.paired(np.array([[5.0]])) == stats.Paired(5.0, None, None, None)
    assert stats.paired(np.zeros((3, 4))).p == 1.0
    assert stats.paired(np.full((3, 4), -60.0)) == stats.Paired(-60.0, -60.0, -60.0, 0.0)


@pytest.mark.parametrize("shape", [(1, 5), (2, 10), (3, 5), (5, 5), (5, 20)])
@pytest.mark.parametrize("of_training", [0.0, 1.0, 4.0])
def test_seeds_alone_are_called_a_difference_in_about_one_case_of_twenty(
    shape: tuple[int, int], of_training: float
) -> None:
    """Training seeds, traffic seeds and their combination vary without a true difference; 0.075 allows for chance."""
    rng = np.random.default_rng(3)
    k, t = shape
    of_training *= k > 1  # one training gives a statement about that training
    wrong = 0
    for _ in range(2000):
        a, b, e = of_training * rng.normal(size=(k, 1)), rng.normal(size=(1, t)), rng.normal(size=(k, t))
        wrong += (stats.paired(a + b + e).p or 0.0) < 0.05
    assert wrong / 2000 < 0.075


def test_five_seeds_establish_a_difference_that_is_large_compared_with_noise() -> None:
    rng = np.random.default_rng(4)
    sure = 0
    for _ in range(200):
        noise = 30 * rng.normal(size=(5, 1)) + 30 * rng.normal(size=(1, 5)) + 30 * rng.normal(size=(5, 5))
        found = stats.paired(-100.0 + noise)
        sure += found.p is not None and found.p < 0.05
    assert sure / 200 > 0.8


def test_holm_steps_down_and_never_falls() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.9, None, 0.8]) == [1.0, None, 1.0]
    assert stats.holm([]) == []
