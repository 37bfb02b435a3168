"""Statistics over training seeds: bootstrap intervals, interquartile mean, probability of improvement, paired tests.

The seed is the unit: the mean of one training seed over agents and traffic seeds is one number. Definitions are those
of rliable (Agarwal et al. 2021, arXiv 2108.13264): percentile bootstrap intervals, resampled in each scenario
("stratified"); the mean of the middle half of all scores; the share of pairs of seeds in which one is better. With
one seed there is no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding

RESAMPLES = 10_000
EXACT_UP_TO = 14  # seeds: 2 ** 14 sign patterns; for more seeds, as many random patterns

Floats = NDArray[np.float64]
Scores = Sequence[Floats]  # one array of seeds per scenario


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % bootstrap interval; no interval with one seed."""

    mean: float
    low: float | None
    high: float | None


def above_zero(differences: Floats) -> bool:
    """Return whether two or more paired differences are above 0 by more than the standard error of their mean."""
    return len(differences) > 1 and bool(differences.mean() > differences.std(ddof=1) / np.sqrt(len(differences)))


def estimate(values: Floats) -> Estimate:
    """Return the mean of one value per seed with its 95 % percentile bootstrap interval (Efron 1979)."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, None, None)
    rng = seeding.stream(0, "bootstrap")
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(mean, float(low), float(high))


def band(values: Floats) -> tuple[Floats, Floats | None, Floats | None]:
    """Return the mean and the low and high end of the interval at each point of curves, shape (seeds, points)."""
    mean = values.mean(axis=0)
    if len(values) < 2:
        return mean, None, None
    low, high = np.percentile(_weights(len(values)) @ values, [2.5, 97.5], axis=0)
    return mean, low, high


def iqm(scores: Scores) -> Estimate:
    """Return the mean of the middle half of all scores, over seeds and scenarios together, and its interval."""
    from scipy.stats import trim_mean  # noqa: PLC0415 - takes a second to import, and only reports need it

    whole = float(trim_mean(np.concatenate(scores), 0.25))
    if any(len(seeds) < 2 for seeds in scores):
        return Estimate(whole, None, None)
    rng = seeding.stream(0, "stratified bootstrap")
    drawn = [seeds[rng.integers(0, len(seeds), (RESAMPLES, len(seeds)))] for seeds in scores]
    low, high = np.percentile(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1), [2.5, 97.5])
    return Estimate(whole, float(low), float(high))


def probability_of_improvement(ours: Scores, theirs: Scores) -> Estimate:
    """Return the probability that one of our seeds scores higher than one of theirs, and its interval.

    ``P(X > Y) + P(X = Y) / 2`` over all pairs of seeds, averaged over scenarios; seeds are drawn independently.
    """
    wins = [(x[:, None] > y) + 0.5 * (x[:, None] == y) for x, y in zip(ours, theirs, strict=True)]
    whole = float(np.mean([won.mean() for won in wins]))
    if any(min(won.shape) < 2 for won in wins):
        return Estimate(whole, None, None)
    drawn = [
        ((_weights(len(won), "ours", i) @ won) * _weights(won.shape[1], "theirs", i)).sum(axis=1)
        for i, won in enumerate(wins)
    ]
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Estimate(whole, float(low), float(high))


def _weights(seeds: int, *stream: str | int) -> Floats:
    """Return the share of each seed in each bootstrap sample, shape (resamples, seeds)."""
    rng = seeding.stream(0, "bootstrap", *stream)
    picks = rng.integers(0, seeds, (RESAMPLES, seeds))
    return np.asarray((picks[:, :, None] == np.arange(seeds)).mean(axis=1))


def sign_flip(differences: Floats) -> float | None:
    """Return the two-sided p value of paired differences under random signs; None with one pair.

    Exact up to 14 pairs (Fisher 1935): the share of all sign patterns whose mean is as far from 0. With n pairs it is
    at least ``2 / 2 ** n``.
    """
    n = len(differences)
    if n < 2:
        return None
    observed = abs(float(differences.mean()))
    if n <= EXACT_UP_TO:
        signs = np.array(list(product([-1.0, 1.0], repeat=n)))
        hits = np.abs(signs @ differences) / n >= observed - 1e-12 * max(observed, 1.0)
        return float(hits.mean())
    signs = seeding.stream(0, "sign flips").choice([-1.0, 1.0], (2**EXACT_UP_TO, n))
    hits = np.abs(signs @ differences) / n >= observed - 1e-12 * max(observed, 1.0)
    return float((hits.sum() + 1) / (len(hits) + 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number by Holm's step-down method (1979); None stays None."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[i] = highest
    return corrected
