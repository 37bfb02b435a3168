"""Measurement of a policy in validation traffic during training, and the rule by which its curve is flat.

The greedy policy drives every validation traffic seed in the simulator of the training: after the first update in this
simulator, and then every `TrainSettings.validate_every` updates. These episodes count in ``driven_beside``. Training
never learns from them; they only decide when a simulator of the curriculum that is ``converged`` ends. The curve is
flat when the mean return of the last `TrainSettings.flat_measurements` measurements is at most
`TrainSettings.flat_gain_s` above the mean of as many before them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.learn.learner import Learner
from relid_sumo.learn.settings import CONVERGED, TrainSettings
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator

log = logging.getLogger(__name__)

MEASURED = ("validation_return", "validation_travel_time_s", "validation_arrival_rate")


def is_flat(returns: Sequence[float], measurements: int, gain_s: float) -> bool:
    """Return whether a curve is flat: its last values are on average at most `gain_s` above as many before them."""
    if len(returns) < 2 * measurements:
        return False
    before, last = returns[-2 * measurements : -measurements], returns[-measurements:]
    return float(np.mean(last)) - float(np.mean(before)) <= gain_s


class Validation:
    """The curve in validation traffic of a run, and the episodes of the budget that are left out as it is flat.

    Parameters
    ----------
    ready, settings
        The scenario and the settings of the run.
    state
        State to continue from, as `state` returns it.

    Attributes
    ----------
    skipped : int
        Episodes of the budget that are left out so far.
    """

    def __init__(
        self, ready: PreparedScenario, settings: TrainSettings, state: Mapping[str, Any] | None = None
    ) -> None:
        self._ready, self._settings = ready, settings
        self._simulator, self._updates, self._driven, self.skipped = "", 0, 0, 0
        self._curve: list[float] = []
        self._last = dict.fromkeys(MEASURED, 0.0)
        if state is not None:
            self._simulator, self._curve = str(state["simulator"]), [float(value) for value in state["curve"]]
            self._updates, self._driven = int(state["updates"]), int(state["driven"])
            self.skipped, self._last = skipped(state), {name: float(state[name]) for name in MEASURED}
            if not all(map(math.isfinite, (*self._curve, *self._last.values()))):
                raise ValueError("the curve in validation traffic has a number that is not finite")

    def after_update(
        self, learner: Learner, rollouts: Rollouts, simulator: Simulator, episodes: int
    ) -> dict[str, float]:
        """Measure the policy where it is time, and end the training in a simulator where the curve is flat.

        Parameters
        ----------
        simulator
            The simulator of the update.
        episodes
            Training episodes so far.

        Returns
        -------
        dict
            The last measurement, ``skipped``, and ``driven_beside``: validation episodes so far.
        """
        if simulator != self._simulator:
            self._simulator, self._updates, self._curve = simulator, 0, []
        if self._updates % self._settings.validate_every == 0:
            self._measure(learner, rollouts, simulator)
            self._end(simulator, episodes)
        self._updates += 1
        return {**self._last, "skipped": self.skipped, "driven_beside": self._driven}

    def _measure(self, learner: Learner, rollouts: Rollouts, simulator: Simulator) -> None:
        policy = Policy("learned", greedy=True, weights=learner.weights(), path=learner.acts)
        seeds = self._ready.scenario.seeds.validation
        (records,) = in_traffic(self._ready, rollouts, [policy], seeds, simulator, what="validation episode")
        values = (
            np.mean(np.concatenate([record.returns for record in records])),
            np.mean(np.concatenate([record.travel_time for record in records])),
            np.mean([record.arrival_rate for record in records]),
        )
        self._last = {name: float(value) for name, value in zip(MEASURED, values, strict=True)}
        self._curve.append(self._last["validation_return"])
        self._driven += len(records)

    def _end(self, simulator: Simulator, episodes: int) -> None:
        """Leave out the rest of a simulator's episodes where its curve is flat and it ends so."""
        settings = self._settings
        if dict(settings.curriculum).get(simulator) != CONVERGED:
            return
        if not is_flat(self._curve, settings.flat_measurements, settings.flat_gain_s):
            return
        rest = dict(settings.ends(self._ready.scenario))[simulator] - (episodes + self.skipped)
        if rest > 0:
            self.skipped += rest
            log.info(f"{simulator}: the curve in validation traffic is flat after {episodes} episodes; {rest} left out")

    def state(self) -> dict[str, object]:
        """Return what a checkpoint saves."""
        return {
            "simulator": self._simulator,
            "curve": self._curve,
            "updates": self._updates,
            "driven": self._driven,
            "skipped": self.skipped,
            **self._last,
        }


def skipped(state: Mapping[str, Any] | None) -> int:
    """Return the episodes that a run has left out, from a checkpoint's part; 0 where it has none.

    Raises
    ------
    ValueError
        The number is not valid.
    """
    number = 0 if state is None else state["skipped"]
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"the number of episodes left out is {number}")
    return number
