"""Statistics over seeds: bootstrap intervals, interquartile mean, probability of improvement, paired comparison.

In figures of one policy, the training seed is the unit: the mean of one training seed over agents and traffic seeds is
one number. Definitions are those of rliable (Agarwal et al. 2021, arXiv 2108.13264): percentile bootstrap intervals,
resampled in each scenario ("stratified"); the mean of the middle half of all scores; the share of pairs of seeds in
which one is better. With one seed there is no interval. Two policies are compared seed by seed, over training seeds and
traffic seeds (`paired`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding

RESAMPLES = 10_000

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


@dataclass(frozen=True)
class Paired:
    """A mean difference with its 95 % interval, and the p value of "no difference"; None where nothing is repeated."""

    mean: float
    low: float | None
    high: float | None
    p: float | None


def paired(differences: Floats) -> Paired:
    """Return the mean of differences between two policies, and whether seeds alone explain it.

    A difference of training seed i in traffic seed j is modelled as ``mean + a_i + b_j + e_ij``, so the result is about
    other trainings and other traffic. ``t = mean / sqrt((A + B) / (K T))``, where A and B are the mean squares of the K
    training seeds and the T traffic seeds; its degrees of freedom are ``(A + B)^2 / (A^2 / (K - 1) + B^2 / (T - 1))``
    (min F' of Clark 1973; Satterthwaite 1946), and 1 with two seeds of a kind. With one training seed this is the
    paired t test over traffic seeds, and with one traffic seed that over training seeds. Any number of seeds can give a
    small p. ``tools/comparison_errors.py`` measures the errors; a bootstrap over both kinds of seeds has several times
    as many false positives with three or five training seeds.

    Parameters
    ----------
    differences
        One value per pair of seeds, shape (K training seeds, T traffic seeds).
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - half a second to import, and only reports need it

    mean, (k, t) = float(differences.mean()), differences.shape
    if k * t < 2:
        return Paired(mean, None, None, None)
    parts = [
        (float(count * means.var(ddof=1)), len(means) - 1)
        for means, count in ((differences.mean(axis=1), t), (differences.mean(axis=0), k))
        if len(means) > 1
    ]
    square = sum(part for part, _ in parts)
    if square <= (1e-12 * max(abs(mean), 1.0)) ** 2:
        return Paired(mean, mean, mean, 0.0 if mean else 1.0)
    freedom = square**2 / sum(part**2 / n for part, n in parts)
    freedom = min([freedom, *(1.0 for _, n in parts if n == 1)])
    error = (square / (k * t)) ** 0.5
    half = float(stdtrit(freedom, 0.975)) * error
    return Paired(mean, mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number by Holm's step-down method (1979); None stays None."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[i] = highest
    return corrected
