"""The algorithms: one table, which everything that names an algorithm reads. No torch here.

Another one is trained by its import path, ``--algo package.module:NAME`` (docs/extend/algorithm.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from relid_sumo.learn.learner import Learner, LearnerSetup

# Settings of a training run that only algorithms with experts read.
OF_EXPERTS = frozenset(
    {"hpo", "demonstrations", "llm", "elite", "probes", "feedback", "score_seeds", "renew_every", "labels"}
)


@dataclass(frozen=True)
class Algorithm:
    """Properties of an algorithm.

    Attributes
    ----------
    build : str
        Import path of a function of (`LearnerSetup`, checkpoint or None) that returns a `Learner`.
    alpha : str or None
        Default of `HpoSettings.alpha`: how agents follow their experts; None for an algorithm without experts.
    whole : bool
        Default of `TrainSettings.elite` and `probes`: whether better routes replace demonstrations.
    unread : frozenset of str
        Settings of a training run that the algorithm does not read.
    sequences : bool
        Whether a model writes a sequence of edges for each agent (`relid_sumo.sed.sequences`) instead of programs; the
        experts then give no advice off their demonstrations, and nothing is renewed.
    hpo : mapping
        Defaults of `HpoSettings` that differ.
    not_a_fleet : str
        Why the algorithm cannot train a fleet; empty where it can.
    """

    build: str
    alpha: str | None = None
    whole: bool = True
    unread: frozenset[str] = frozenset({"ippo"})
    sequences: bool = False
    hpo: Mapping[str, Any] = field(default_factory=dict)
    not_a_fleet: str = "follows one demonstration for each agent, made before training"

    @property
    def experts(self) -> bool:
        """Whether agents have experts."""
        return self.alpha is not None


RELED = "relid_sumo.learn.reled.reled:build"
ALGORITHMS: Mapping[str, Algorithm] = {
    "ippo": Algorithm("relid_sumo.learn.algos.ippo:build", unread=OF_EXPERTS, not_a_fleet=""),
    "mappo": Algorithm(
        "relid_sumo.learn.algos.mappo:build",
        unread=OF_EXPERTS,
        not_a_fleet="has a value function of a fixed number of agents, each with its own trip",
    ),
    "reled": Algorithm(RELED, alpha="dtw+gate"),
    "leed": Algorithm(
        RELED,
        alpha="dtw",
        whole=False,
        unread=frozenset({"ippo", "feedback", "score_seeds", "renew_every", "labels"}),
        sequences=True,
        hpo={"alpha_min": 0.0, "imitation_steps": 0, "paired": False},
    ),
    "decaying-imitation": Algorithm(RELED, alpha="decay", whole=False),
    "bc": Algorithm(RELED, alpha="fixed:1", whole=False),
    "bc+ippo": Algorithm(RELED, alpha="none", whole=False),
}
WITH_EXPERTS = tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.experts)


def find(name: str) -> Algorithm:
    """Return an algorithm by name or import path; one of the user's own is not imported.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if extension.is_path(name):
        return Algorithm(name, unread=frozenset(), not_a_fleet="")
    if name not in ALGORITHMS:
        raise InputError(
            f"there is no algorithm '{name}'{did_you_mean(name, ALGORITHMS)}; known are {', '.join(ALGORITHMS)}, and "
            f"your own as {extension.FORM}"
        )
    return ALGORITHMS[name]


def unread(name: str) -> frozenset[str]:
    """Return settings of a training run that an algorithm, known or not, does not read."""
    return ALGORITHMS[name].unread if name in ALGORITHMS else frozenset()


def own(name: str) -> Callable[..., Any]:
    """Return a user's algorithm, imported.

    Raises
    ------
    InputError
        It cannot be imported, or is not a function of (setup, checkpoint).
    """
    found: Callable[..., Any] = extension.load(name, "algorithm")
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise InputError(
            f"algorithm '{name}': an algorithm is a class or function that is called with (setup, checkpoint) and "
            f"returns a relid_sumo.Learner; this is a {type(found).__name__} ({error})"
        ) from None
    if isinstance(found, type) and (missing := _missing(found)):
        raise InputError(f"algorithm '{name}': {_lacks(missing)}")
    return found


def build(setup: LearnerSetup, checkpoint: Mapping[str, Any] | None) -> Learner:
    """Return the learner of a run, at its start or as of a checkpoint.

    Raises
    ------
    InputError
        The user's own algorithm is not valid, or a file or package that it needs is missing.
    """
    name = setup.settings.algo
    learner: Learner = extension.load(find(name).build, "algorithm")(setup, checkpoint)
    if missing := _missing(type(learner)):
        raise InputError(f"algorithm '{name}': it returns a {type(learner).__name__}; {_lacks(missing)}")
    learner.shared = setup.shared
    return learner


def _missing(kind: type) -> list[str]:
    methods = ("weights", "update", "state", "checkpoint", "enter", "batch", "after_update")
    return [name for name in methods if not callable(getattr(kind, name, None))]


def _lacks(missing: list[str]) -> str:
    return f"it has no {', '.join(missing)}; derive it from relid_sumo.Learner"
