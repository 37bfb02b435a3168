"""The search for mesoscopic parameters, on gaps without SUMO."""

from __future__ import annotations

import numpy as np
import pytest

from relid_sumo.scenario.settings import Meso
from relid_sumo.scenario.traffic import meso
from relid_sumo.scenario.traffic.priors import PRIORS


class Junctions:
    """A network in which penalty and headways decide the travel times; counts its trials."""

    def __init__(self, penalty_s: float, headway_s: float, correlation: float = 0.85) -> None:
        self._penalty_s, self._headway_s, self._correlation = penalty_s, headway_s, correlation
        self.tried: list[meso.Gap] = []

    def gap(self, settings: Meso) -> meso.Gap:
        headway_s = float(np.mean([getattr(settings, name) for name in meso.HEADWAYS]))
        light = 0.03 * (settings.minor_penalty_s - self._penalty_s)
        loaded = 1.2 * light + 0.5 * np.log(headway_s / self._headway_s)
        self.tried.append(meso.Gap(light, loaded, self._correlation, self._correlation, 400))
        return self.tried[-1]


@pytest.mark.parametrize(("penalty_s", "headway_s"), [(6.0, 1.6), (3.0, 2.0), (9.0, 1.4), (6.5, 2.3)])
def test_means_agree_after_few_trials(penalty_s: float, headway_s: float) -> None:
    roads = Junctions(penalty_s, headway_s)
    found = meso.search(roads.gap)
    assert roads.gap(found).means_agree
    assert len(roads.tried) <= len(PRIORS) + meso.AIMED


def test_parameters_that_fit_are_taken_as_they_are() -> None:
    prior = PRIORS[1]
    roads = Junctions(prior.minor_penalty_s, float(np.mean([getattr(prior, name) for name in meso.HEADWAYS])))
    assert meso.search(roads.gap) == prior
    assert len(roads.tried) == len(PRIORS)


def test_a_low_correlation_is_searched_to_the_end_and_the_best_trial_is_returned() -> None:
    roads = Junctions(20.0, 1.6, correlation=0.5)  # beyond the space of trials
    found = meso.search(roads.gap)
    assert len(roads.tried) > len(PRIORS) + meso.REFINED
    best = min(one.badness for one in roads.tried)
    assert roads.gap(found).badness == best
    assert found.minor_penalty_s <= meso.SPACE["minor_penalty_s"][1]
