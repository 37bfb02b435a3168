"""RELED: SED makes demonstrations, HPO weighs them in each update, and renewal replaces them during training.

The demonstrations are driven in each simulator of the curriculum before training there, and imitated in the first one.
Before the last one, other routes are probed; quicker routes replace demonstrations and are imitated.

Every `renew_every` updates, programs plan again with the policies at that time (`relid_sumo.learn.reled.renewal`), so
that D_in (distance of a plan from its agents' policies) and F_out (effect on the other agents) describe the learners.
rounds.csv stores both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from relid_sumo.base import files, trusted
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.env import policies
from relid_sumo.env.policies import Policy, Weights
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn import closing, run_folder
from relid_sumo.learn.algos.gae import Batch, make_batch
from relid_sumo.learn.algos.hpo import Hpo
from relid_sumo.learn.learner import Learner, LearnerSetup
from relid_sumo.learn.reled import probes, renewal
from relid_sumo.learn.reled.demonstrated import driven_routes, planned
from relid_sumo.learn.reled.experts import Experts
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.sed import run as sed
from relid_sumo.sed import sequences
from relid_sumo.sed.bench import Bench, Present, SedWatch
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.settings import SedSettings

log = logging.getLogger(__name__)


def check(ready: PreparedScenario, settings: TrainSettings) -> None:
    """Raise InputError where given demonstrations do not fit, or none can be made for this scenario."""
    if settings.algorithm.sequences and not settings.demonstrations:
        sequences.check(sed.Ask(settings.llm), _how(settings), ready.scenario)
    elif settings.demonstrations:
        planned(Demonstrations.load(Path(settings.demonstrations)), ready, Path(settings.demonstrations))
    else:
        sed.check(sed.Ask(settings.llm), _how(settings), ready.scenario)


def _how(settings: TrainSettings) -> SedSettings:
    return SedSettings(rounds=3 if settings.feedback else 1, seeds=settings.score_seeds)


class Reled(Learner):
    """A learner with experts: HPO, with demonstrations, probes and renewal between its updates.

    Parameters
    ----------
    setup
        Settings, scenario and run folder of the learner.
    checkpoint
        Checkpoint to continue from; None at the start.

    Raises
    ------
    InputError
        The demonstrations do not fit, or cannot be made.
    """

    def __init__(self, setup: LearnerSetup, checkpoint: Mapping[str, Any] | None) -> None:
        self._ready, self._folder, self._settings = setup.ready, setup.folder, setup.settings
        self._how = _how(setup.settings)
        self.hpo = Hpo(setup.agents, setup.m_out, setup.settings.hpo, setup.seed, setup.layout)
        self._demonstrations = self._made(setup.workers)
        self._routes = planned(self._demonstrations, setup.ready, setup.folder / layout.DEMONSTRATIONS)
        state = None if checkpoint is None else checkpoint["experts"]
        self.experts = Experts(setup.ready.task, self._routes, state, self._times())
        self._driven, self._n_rounds = int(self._demonstrations.meta.get("episodes", 0)), 0
        self._shown: set[Simulator] = set()
        if checkpoint is not None and state is not None:
            self.hpo.restore(checkpoint["learner"])
            self._driven, self._n_rounds, self._shown = int(state["driven"]), int(state["rounds"]), set(state["shown"])
            if not self._shown <= {"micro", "meso"}:
                raise ValueError(f"the experts' simulators are {state['shown']}")
            self.hpo.expert = self.experts.stacked()
        self._rounds = run_folder.Table(setup.folder / layout.ROUNDS, keep=self._n_rounds)

    def weights(self) -> Weights:
        """See `Learner.weights`."""
        return self.hpo.weights()

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """See `Hpo.update`."""
        return self.hpo.update(batch, progress)

    def state(self) -> dict[str, object]:
        """See `Hpo.state`."""
        return self.hpo.state()

    def checkpoint(self) -> dict[str, object]:
        """Return what a checkpoint saves: the learner, and the experts."""
        own = {"rounds": self._n_rounds, "driven": self._driven, "shown": sorted(self._shown)}
        return {"learner": self.hpo.state(), "experts": {**self.experts.state(), **own}}

    @cached_property
    def _planning(self) -> PreparedScenario:
        """The scenario, prepared for the simulator that scores plans; computed at first use."""
        scenario = self._ready.scenario
        return prepare(scenario, simulators=sed.simulators(self._how, scenario))

    def _made(self, workers: int | None) -> Demonstrations:
        """Return the run's demonstrations; make them where the run folder has none."""
        file, given = self._folder / layout.DEMONSTRATIONS, self._settings.demonstrations
        if file.is_file():
            return Demonstrations.load(file)
        if given:
            if not trusted.is_noted(Path(given).absolute()):
                raise InputError(
                    f"{self._folder / layout.SETTINGS}: train.demonstrations = '{given}' is outside the run folder, "
                    f"and you did not name it in this command; copy the file to {file}"
                )
            made = Demonstrations.load(Path(given))
        else:
            ask = sed.Ask(self._settings.llm)
            plan = sequences.plan if self._settings.algorithm.sequences else sed.plan
            made = plan(self._planning, self._folder / layout.SED, self._how, ask, workers=workers)
        planned(made, self._ready, Path(given or self._folder / layout.SED))
        made.save(file)
        return made

    def _times(self) -> Floats | None:
        """Return the mean travel times on which experts plan off their routes, s, shape (bins, E)."""
        if self._settings.labels == "free-flow":
            return None
        return edge_times.edge_times(self._ready.scenario, self._ready.network, self._ready.demand)

    @property
    def _last(self) -> Simulator:
        return self._settings.simulators(self._ready.scenario)[-1]

    def enter(self, rollouts: Rollouts, simulator: Simulator) -> None:
        """Before training in a simulator: drive the demonstrations there, and imitate the new ones."""
        if simulator in self._shown:
            return
        settings, is_last = self._settings, simulator == self._last
        new = self._probe(rollouts) if is_last and settings.probes else []
        log.info("driving the demonstrations")
        if not self._shown:
            new = list(range(self._ready.task.n_agents))
            batch = settings.episodes_per_update
            task = self._ready.task
            closings = closing.of_routes(task, self.experts.routes) if settings.closed_share else []
            slips = not settings.algorithm.sequences
            self._driven += self.experts.start(
                self._planning, rollouts, simulator, settings.seed, batch, closings, slips=slips
            )
        shown: list[Simulator] = [simulator, "micro"] if is_last else [simulator]
        driven = sum(self._show(rollouts, name) for name in dict.fromkeys(shown))
        self._driven += driven
        self._shown.update(shown)
        self.hpo.expert = self.experts.stacked()
        imitation = {"steps": 0.0}
        if new:
            imitation = self.hpo.imitate(new)
            steps, probability = imitation["steps"], imitation["imitated"]
            log.info(f"imitation: {steps:.0f} steps; probability of the experts' actions {probability:.2f}")
        file = self._folder / layout.EXPERTS
        before = files.read_json(file) if file.is_file() else {}
        files.write_json(file, {**before, simulator: {"episodes_driven": driven, **imitation}})

    def _probe(self, rollouts: Rollouts) -> list[int]:
        """Replace demonstrations with better probed routes; return the agents concerned."""
        found = probes.probe(self._planning, self.experts.routes, rollouts)
        better = self.experts.exchange(found.routes)
        gains = {name: round(gain, 1) for name, gain in zip(self._ready.task.names, found.gain_s, strict=True)}
        files.write_json(self._folder / layout.PROBES, {"episodes_driven": found.episodes, "gain_s": gains})
        log.info(f"probes: {len(better)} agents have a better route than their demonstration")
        self._driven += found.episodes
        return better

    def _show(self, rollouts: Rollouts, simulator: Simulator) -> int:
        """Give the experts the demonstrations in a simulator; return the number of episodes driven for it."""
        routes, made = self.experts.routes, self._demonstrations
        if not self._settings.demonstrations and made.meta["simulator"] == simulator and routes == self._routes:
            self.experts.show(made, simulator)  # driven when they were made
            return 0
        self.experts.show(driven_routes(self._planning, rollouts, routes, simulator), simulator)
        return len(self._ready.scenario.seeds.training)

    def batch(
        self, records: Sequence[EpisodeRecord], simulator: Simulator, progress: float
    ) -> tuple[Batch, dict[str, float]]:
        """Compute alpha and the traffic baseline from the episodes of a batch, and give these episodes to the experts.

        Returns
        -------
        batch
            With `Batch.traffic_baseline` where the learner uses it.
        dict
            Alpha of each agent, the number of replaced plans, and ``driven_beside``: the number of episodes so far that
            count in the budget but are not trained on.
        """
        how = self._settings.hpo
        # A route that is better mesoscopically may be worse microscopically
        elite = self._settings.elite and simulator == self._last
        gap = self.experts.route_gap(records, simulator)
        # Before the experts store these episodes, so that the baseline does not depend on them
        traffic_baseline = (
            self.experts.traffic_baseline(records, simulator) if how.paired and how.alpha != "none" else None
        )
        self.experts.note(records, simulator, elite=elite, advised=not self._settings.algorithm.sequences)
        self.hpo.expert = self.experts.stacked()
        alpha = self.hpo.follow(gap, progress)
        numbers: dict[str, float] = {
            "driven_beside": self._driven,
            "replaced": int(self.experts.replaced.sum()),
            **{f"alpha_{i}": float(value) for i, value in enumerate(alpha)},
        }
        return make_batch(records, self._ready.task.n_agents, traffic_baseline=traffic_baseline), numbers

    def after_update(self, rollouts: Rollouts, update: int) -> None:
        """Every `renew_every` updates, score the demonstrations again; `reled` alone replaces some."""
        every = self._settings.renew_every
        if not every or update % every or self._settings.algorithm.sequences:
            return
        weights, number = self.hpo.weights(), update // every
        present = Present(Policy("learned", weights=weights), partial(policies.probabilities, weights))
        bench = Bench(self._planning, rollouts, self._how, present, SedWatch(episode=self._count))
        own = self._settings.algo == "reled" and not self._settings.demonstrations
        ask = sed.Ask(self._settings.llm) if own else None
        index = {name: i for i, name in enumerate(self._ready.task.names)}
        subsets = [[index[name] for name in subset["vehicles"]] for subset in self._demonstrations.meta["subsets"]]
        folder = self._folder / layout.RENEWED / str(number)
        found = renewal.renew(bench, self.experts.routes, subsets, ask, folder, self._last)
        new = self.experts.exchange(found.routes)
        if new:
            for simulator in sorted(self._shown):
                self._driven += self._show(rollouts, simulator)
            self.hpo.expert = self.experts.stacked()
            self.hpo.imitate(new)
        log.info(f"renewal {number}: {len(new)} agents have a better demonstration")
        self._rounds.add({"round": number, "update": update, **found.numbers, "renewed": len(new)})
        self._n_rounds += 1

    def _count(self, _: EpisodeRecord) -> None:
        self._driven += 1


build = Reled
