"""RELED = SED and HPO: demonstrations before training, alpha before each update, and now and then a look at both.

Every `renew_every` updates the demonstrated plans are driven again, subset by subset, with everybody else on the
policies as they are then: only now do D_in (how far a plan is from what its agents would do) and F_out (what the others
feel) say something about the learners. They go to rounds.csv.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo import policies, probes, results, runs
from relid_sumo.algos.hpo import Hpo
from relid_sumo.demos import Demonstrations
from relid_sumo.env import EpisodeRecord
from relid_sumo.experts import Experts, planned
from relid_sumo.graph import Floats
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready, prepare
from relid_sumo.rollout import Rollouts
from relid_sumo.runs import TrainSettings
from relid_sumo.scenario import Simulator
from relid_sumo.sed import feedback
from relid_sumo.sed import run as sed
from relid_sumo.sed.bench import Bench, Present, Watch
from relid_sumo.sed.settings import SedSettings

DEMONSTRATIONS, PROBES, EXPERTS = "demonstrations.npz", "probes.json", "experts.json"
Report = Callable[[str], None]


class Reled:
    """The experts' side of one training run.

    Parameters
    ----------
    ready, folder, settings
        As `relid_sumo.train.train`.
    learner
        Who has the experts.
    workers, report
        Simulation processes while demonstrations are made; told what is being done.

    Raises
    ------
    InputError
        The demonstrations do not fit, or cannot be made.
    """

    def __init__(
        self, ready: Ready, folder: Path, settings: TrainSettings, learner: Hpo, workers: int | None, report: Report
    ) -> None:
        self._ready, self._folder, self._settings, self._learner = ready, folder, settings, learner
        self._report, self._how = report, SedSettings(rounds=3 if settings.feedback else 1)
        self._demonstrations = self._made(workers)
        self._routes = planned(self._demonstrations, ready, folder / DEMONSTRATIONS)
        self.experts = Experts(ready.task, self._routes, elite=settings.elite)

    @cached_property
    def _on_trial(self) -> Ready:
        """The scenario ready for what plans are tried in; not worked out before it is needed."""
        scenario = self._ready.scenario
        return prepare(scenario, simulators=sed.simulators(self._how, scenario), report=self._report)

    def _made(self, workers: int | None) -> Demonstrations:
        """Return the run's demonstrations; made where it has none yet."""
        file, given = self._folder / DEMONSTRATIONS, self._settings.demonstrations
        if file.is_file():
            return Demonstrations.load(file)
        if given:
            made = Demonstrations.load(Path(given))
        else:
            ask, watch = sed.Ask(self._settings.llm), Watch(report=self._report)
            made = sed.plan(self._on_trial, self._folder / "sed", self._how, ask, workers=workers, watch=watch)
        planned(made, self._ready, Path(given or self._folder / "sed"))
        made.save(file)
        return made

    def begin(self, rollouts: Rollouts, state: Mapping[str, Any] | None) -> None:
        """Drive the demonstrations and imitate them; with the state of a checkpoint go on from that instead."""
        settings, learner = self._settings, self._learner
        if state is not None:
            self._before = self._driven_before()
            self.experts.restore(state)
            learner.expert = self.experts.stacked()
            self._rounds = runs.Table(self._folder / results.ROUNDS, keep=int(state["rounds"]))
            self._n_rounds = int(state["rounds"])
            return
        if settings.probes:
            found = probes.probe(self._on_trial, self._routes, rollouts, self._how.simulator, self._report)
            self.experts = Experts(self._ready.task, found.routes, elite=settings.elite)
            gains = {name: round(gain, 1) for name, gain in zip(self._ready.task.names, found.gain_s, strict=True)}
            results.write_json(self._folder / PROBES, {"episodes_driven": found.episodes, "gain_s": gains})
            self._report(f"probes: {np.count_nonzero(found.gain_s)} agents have a better way than their demonstration")
        self._report("driving the demonstrations")
        simulators: list[Simulator] = list(dict.fromkeys([*settings.simulators(self._ready.scenario), "micro"]))
        driven = self.experts.start(self._on_trial, rollouts, simulators, settings.seed, settings.episodes_per_update)
        learner.expert = self.experts.stacked()
        told = learner.imitate()
        self._report(
            f"imitation: {told['steps']:.0f} steps; probability of the experts' actions {told['imitated']:.2f}"
        )
        results.write_json(self._folder / EXPERTS, {"episodes_driven": driven, **told})
        self._before = self._driven_before()
        self._rounds, self._n_rounds = runs.Table(self._folder / results.ROUNDS), 0

    def _driven_before(self) -> int:
        """Return how many episodes went before the first update: to make demonstrations, to probe, to show."""
        files = [file for name in (PROBES, EXPERTS) if (file := self._folder / name).is_file()]
        driven = [int(results.read_json(file)["episodes_driven"]) for file in files]
        return int(self._demonstrations.meta.get("episodes", 0)) + sum(driven)

    def before_update(
        self, records: Sequence[EpisodeRecord], simulator: Simulator, progress: float
    ) -> dict[str, float]:
        """Work out alpha from the episodes of a batch; return it agent by agent, and how many plans were replaced.

        ``driven_before`` goes with it: the episodes before the first update, which count in a budget.
        """
        self.experts.note(records, simulator)
        self._learner.expert = self.experts.stacked()
        alpha = self._learner.follow(self.experts.ways(records, simulator), progress)
        return {
            "driven_before": self._before,
            "replaced": int(self.experts.replaced.sum()),
            **{f"alpha_{i}": float(value) for i, value in enumerate(alpha)},
        }

    def luck(self, records: Sequence[EpisodeRecord], simulator: Simulator) -> list[Floats] | None:
        """Return what `Batch.luck` is made of; None where the learner is not to know it."""
        how = self._settings.hpo
        return self.experts.luck(records, simulator) if how.paired and how.alpha != "none" else None

    def after_update(self, rollouts: Rollouts, update: int) -> None:
        """Now and then, score the plans against the policies as they are."""
        every = self._settings.renew_every
        if not every or update % every:
            return
        weights, how = self._learner.weights(), SedSettings()
        shares = partial(policies.probabilities, weights)
        bench = Bench(self._on_trial, rollouts, how, Present(Policy("learned", weights=weights), shares), Watch())
        index = {name: i for i, name in enumerate(self._ready.task.names)}
        subsets = [[index[name] for name in subset["vehicles"]] for subset in self._demonstrations.meta["subsets"]]
        reference = bench.reference()
        tried = bench.try_out([{i: self.experts.demos[i].route for i in agents} for agents in subsets])
        numbers = [
            feedback.measure(records, reference, agents, (how.weight_out, how.weight_in), shares)
            for records, agents in zip(tried, subsets, strict=True)
        ]
        row: dict[str, float] = {"round": update // every, "update": update}
        for name in ("d_in", "f_out", "f_out_floor", "score", "travel_time_s"):
            values = [float(getattr(one, name) or 0.0) for one in numbers]
            row[name] = sum(values) / len(values)
        self._rounds.add(row)
        self._n_rounds += 1

    def state(self) -> dict[str, object]:
        """Return all that training goes on from."""
        return {**self.experts.state(), "rounds": self._n_rounds}
