"""Drives plans: a prepared scenario, its simulation processes, and the policies of all other agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relid_sumo.base import temporary
from relid_sumo.env.play import Job
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed.ask.provider import Question
from relid_sumo.sed.programs.feedback import Probabilities, Reference, without_one_vehicle
from relid_sumo.sed.programs.plans import Routes
from relid_sumo.sed.settings import SedSettings


@dataclass(frozen=True)
class SedWatch:
    """Functions that a run calls: after each answer and after each episode."""

    answer: Callable[[Question], None] = lambda _: None
    episode: Callable[[EpisodeRecord], None] = lambda _: None


@dataclass(frozen=True, eq=False)
class Present:
    """The present policies: agents without a plan follow them. Trained policies also give action probabilities."""

    policy: Policy = field(default_factory=lambda: Policy("shortest"))
    probabilities: Probabilities | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """Scenario, processes, settings and policies to drive plans with.

    Attributes
    ----------
    ready : PreparedScenario
        The scenario, prepared for `SedSettings.simulator` and ``micro``.
    rollouts : Rollouts
        Simulation processes.
    """

    ready: PreparedScenario
    rollouts: Rollouts
    settings: SedSettings
    present: Present
    watch: SedWatch

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training traffic seeds on which plans are refined."""
        return self.ready.scenario.seeds.training[: self.settings.seeds]

    def drive(
        self, policies: Sequence[Policy], seeds: Sequence[int], simulator: Simulator
    ) -> list[list[EpisodeRecord]]:
        """Return the episodes of each policy, one for each traffic seed."""
        return in_traffic(self.ready, self.rollouts, policies, seeds, simulator, on_done=self.watch.episode)

    def try_out(self, plans: Sequence[Routes]) -> list[list[EpisodeRecord]]:
        """Return the episodes of each plan over the training seeds; all other agents follow the present policies."""
        policies = [Policy("fixed", routes=plan, otherwise=self.present.policy) for plan in plans]
        return self.drive(policies, self.seeds, self.settings.simulator)

    def reference(self) -> Reference:
        """Drive the policies that plans are compared with."""
        simulator, policy = self.settings.simulator, self.present.policy
        others = [] if policy.name == "shortest" else [policy]
        shortest, reactive, *rest = self.drive([Policy("shortest"), Policy("reactive"), *others], self.seeds, simulator)
        present = rest[0] if rest else shortest
        with temporary.folder("relid-sumo-placebo-") as name:
            jobs = []
            for seed in self.seeds:
                folder = Path(name) / str(seed)
                folder.mkdir()
                options = self.ready.options(seed, simulator)
                jobs.append(Job(seed, without_one_vehicle(options, folder, self.ready.scenario.start_s), policy))
            placebo = self.rollouts.run(jobs, self.watch.episode)
        return Reference(shortest, reactive, present, placebo)
