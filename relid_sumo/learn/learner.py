"""The interface between the training loop and an algorithm: a `Learner`, built from a `LearnerSetup`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relid_sumo.env.policies import Weights
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn.algos.gae import Batch, make_batch
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator


@dataclass(frozen=True, eq=False)
class LearnerSetup:
    """Everything that a learner is built from.

    Attributes
    ----------
    ready : PreparedScenario
        The training scenario.
    settings : TrainSettings
        All settings of the run; ``settings.options`` are those of an algorithm of your own, validated by its
        ``Settings`` where it has one.
    folder : Path
        The run folder.
    workers : int or None
        Simulation processes, for a learner that runs its own.
    """

    ready: PreparedScenario
    settings: TrainSettings
    folder: Path
    workers: int | None = None

    @property
    def shared(self) -> bool:
        """Whether all agents share their networks: by setting, or in a fleet, where no agent has a trip of its own."""
        return self.settings.shared or self.ready.scenario.fleet is not None

    @property
    def agents(self) -> int:
        """Number of agents, N; 1 where all agents share their networks."""
        return 1 if self.shared else self.ready.task.n_agents

    @property
    def m_out(self) -> int:
        """Number of slots: the largest number of successors of an edge."""
        return self.ready.task.graph.m_out

    @property
    def layout(self) -> Layout:
        """Widths of an observation; ``layout.size(m_out)`` is its whole width."""
        return self.ready.task.layout

    @property
    def seed(self) -> int:
        """Seed of the run; `relid_sumo.base.seeding.stream` makes random streams from it."""
        return self.settings.seed


class Learner:
    """Base of algorithms: override `weights`, `update` and `state`; the other methods have a default.

    An algorithm is a function, or a class, that takes a `LearnerSetup` and a checkpoint and returns a learner. The
    checkpoint is None at the start of a run; in a resumed one ``checkpoint["learner"]`` is what `state` returned.

    Examples
    --------
    >>> class Nothing(Learner):
    ...     def __init__(self, setup, checkpoint):
    ...         self.setup = setup
    """

    acts: str = ""
    """Import path of a numpy function of (weights, agent, observation) that returns logits, shape (m_out,); it runs in
    the simulation processes. The built-in actor (`relid_sumo.env.policies.actor_logits`) where empty."""
    shared: bool = False
    """Whether all agents share their networks (`LearnerSetup.shared`); set by `relid_sumo.learn.algorithms.build`."""

    def weights(self) -> Weights:
        """Return the arrays that the policy acts with, by name; for the built-in actor `Actor.weights`."""
        raise NotImplementedError

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch of episodes, driven with the present weights.

        Parameters
        ----------
        batch
            The decisions, agents in front.
        progress
            Finished share of the run, 0 to 1.

        Returns
        -------
        dict
            Finite numbers for metrics.csv and TensorBoard, the same names each time.
        """
        raise NotImplementedError

    def state(self) -> dict[str, object]:
        """Return everything that learning continues from: tensors, numbers and text, in dicts and lists."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, object]:
        """Return the learner's part of a checkpoint."""
        return {"learner": self.state()}

    def enter(self, rollouts: Rollouts, simulator: Simulator) -> None:
        """Prepare for episodes in a simulator; called before each batch is driven. The default does nothing."""

    def batch(
        self, records: Sequence[EpisodeRecord], simulator: Simulator, progress: float
    ) -> tuple[Batch, dict[str, float]]:
        """Return the batch to learn from, and numbers for metrics.csv. The default stacks all decisions."""
        del simulator, progress
        return make_batch(records, len(records[0].status), shared=self.shared), {}

    def after_update(self, rollouts: Rollouts, update: int) -> None:
        """React to an update, counted from 1; not called after the last one. The default does nothing."""
