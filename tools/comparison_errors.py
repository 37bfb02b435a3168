"""Measure how often three tests of a difference between two policies are wrong, on synthetic studies.

A study is a table of differences, training seeds x traffic seeds. Without a true difference, a test should find one in
5 % of studies; with one of four standard errors, in nearly all.

    python tools/comparison_errors.py --studies 4000
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import stats

Floats = NDArray[np.float64]

SIZES = ((3, 5), (5, 5), (5, 20), (10, 20))
SPREADS = ((1.0, 0.0, 0.3), (0.0, 1.0, 0.3), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0))
SHAPES = ("normal", "skewed")
RESAMPLES = 400
LEVEL = 0.05


def noise(rng: np.random.Generator, size: tuple[int, ...], shape: str) -> Floats:
    """Return noise of mean 0 and standard deviation 1; skewed noise is lognormal."""
    if shape == "normal":
        return rng.standard_normal(size)
    drawn = rng.lognormal(0.0, 0.8, size)
    variance = (np.exp(0.64) - 1) * np.exp(0.64)
    return np.asarray((drawn - np.exp(0.32)) / np.sqrt(variance))


def study(
    rng: np.random.Generator, size: tuple[int, int], spread: tuple[float, float, float], shape: str, gap: float = 0.0
) -> Floats:
    """Return the differences of a study. `gap` is the true difference in standard errors of the mean."""
    (k, t), (a, b, e) = size, spread
    error = np.sqrt(a**2 / k + b**2 / t + e**2 / (k * t))
    parts = (a * noise(rng, (k, 1), shape), b * noise(rng, (1, t), shape), e * noise(rng, (k, t), shape))
    return np.asarray(gap * error + parts[0] + parts[1] + parts[2])


def sign_flip(differences: Floats, _: np.random.Generator) -> float:
    """Return p of the sign-flip test over training seeds (Fisher 1935)."""
    means = differences.mean(axis=1)
    signs = np.array(list(product([-1.0, 1.0], repeat=len(means))))
    return float((np.abs(signs @ means) >= abs(means.sum()) - 1e-12).mean())


def bootstrap(differences: Floats, rng: np.random.Generator) -> float:
    """Return p of the percentile bootstrap that resamples training seeds and traffic seeds (Owen 2007)."""
    k, t = differences.shape
    rows, columns = (rng.multinomial(n, [1 / n] * n, RESAMPLES) / n for n in (k, t))
    below = float((((rows @ differences) * columns).sum(axis=1) <= 0).mean())
    return 2 * min(below, 1 - below)


def min_f(differences: Floats, _: np.random.Generator) -> float:
    """Return p of the test that the report uses."""
    return stats.paired(differences).p or 0.0


TESTS = {"sign flips": sign_flip, "bootstrap": bootstrap, "min F'": min_f}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    number = parser.parse_args().studies
    names = [*(f"{name}: false" for name in TESTS), *(f"{name}: found" for name in TESTS)]
    print(f"| training x traffic seeds | spread | {' | '.join(names)} |")
    print("| --- | --- |" + " ---: |" * len(names))
    for size, shape, spread in product(SIZES, SHAPES, SPREADS):
        shares = []
        for gap in (0.0, 4.0):
            rng = np.random.default_rng(0)
            studies = [study(rng, size, spread, shape, gap) for _ in range(number)]
            shares += [np.mean([test(one, rng) < LEVEL for one in studies]) for test in TESTS.values()]
        cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
        print(f"| {size[0]} x {size[1]} | {shape} {spread[0]:g}, {spread[1]:g}, {spread[2]:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
