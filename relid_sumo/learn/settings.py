"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.settings import MOST_COUNT, Seed, Settings
from relid_sumo.base.toml import changed, validate
from relid_sumo.learn import algorithms
from relid_sumo.learn.algorithms import Algorithm
from relid_sumo.learn.algos.settings import HpoSettings, IppoSettings
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.sed.ask import providers
from relid_sumo.sed.ask.service import check_service


def _is_whole(data: dict[str, Any]) -> bool:
    """Return whether an algorithm has all parts of RELED by default; other algorithms with experts have some."""
    known = algorithms.ALGORITHMS.get(data.get("algo", ""))
    return known is None or known.whole


class TrainSettings(Settings):
    """Settings of a training run."""

    algo: str = "ippo"
    """The algorithm: a name (`relid_sumo.learn.algorithms.ALGORITHMS`), or the import path of your own."""
    seed: Seed = 0
    """Seed of weights, actions and the order of traffic."""
    episodes: Annotated[int, Field(ge=1, le=MOST_COUNT)] = 100
    """Budget: number of episodes."""
    episodes_per_update: Annotated[int, Field(ge=1, le=10**6)] = 4
    """Episodes between two updates, each with another traffic seed."""
    curriculum: tuple[tuple[Simulator, Annotated[float, Field(gt=0, le=1)]], ...] = ()
    """Simulators to train in, one after the other, each with its share of episodes; the scenario's own where empty."""
    ippo: IppoSettings = IppoSettings()
    """Settings of ``ippo`` and ``mappo``."""
    hpo: Annotated[HpoSettings, Field(validate_default=True)] = HpoSettings()
    """Settings of algorithms with experts; the default of alpha depends on the algorithm."""
    demonstrations: str = ""
    """Demonstrations from ``sed run``, for algorithms with experts; made before training where not given."""
    llm: str = ""
    """Provider of the programs that make demonstrations, as in ``sed run --llm``: a name, or the import path of your
    own."""
    elite: bool = Field(default_factory=_is_whole)
    """Whether an agent's own better route replaces its demonstration; the default is true for ``reled`` only."""
    probes: bool = Field(default_factory=_is_whole)
    """Whether routes near the demonstrations are driven before the curriculum's last simulator; the default is true for
    ``reled`` only."""
    feedback: bool = True
    """Whether programs are refined with feedback from the simulator; without it, SED has one round."""
    score_seeds: Annotated[int, Field(ge=1, le=10**6)] = 3
    """Number of training traffic seeds in which programs are scored; each costs episodes."""
    renew_every: Annotated[int, Field(ge=0, le=MOST_COUNT)] = 20
    """Updates between two renewals: demonstrations are scored under the present policies, and programs plan again
    (``reled`` without ``demonstrations``); 0 for none."""

    shared: bool = False
    """Whether all agents share one actor and one value function (``ippo``); those of a fleet always do. Not written
    where false."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of your own algorithm; not written where empty."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        for name in ("options", "shared"):
            if not content.get(name, True):
                del content[name]
        return content

    @property
    def algorithm(self) -> Algorithm:
        """Properties of the algorithm."""
        return algorithms.find(self.algo)

    @property
    def asks(self) -> bool:
        """Whether a run asks the provider `llm` for programs."""
        return bool(self.llm) and self.algorithm.experts and not self.demonstrations

    @property
    def unread(self) -> frozenset[str]:
        """Settings that the algorithm does not read."""
        return algorithms.unread(self.algo)

    @field_validator("algo")
    @classmethod
    def _is_known(cls, algo: str) -> str:
        try:
            algorithms.find(algo)
        except InputError as error:
            raise ValueError(str(error)) from None
        return algo

    @field_validator("hpo", mode="before")
    @classmethod
    def _with_its_alpha(cls, hpo: object, info: ValidationInfo) -> object:
        known = algorithms.ALGORITHMS.get(info.data.get("algo", ""))
        alpha = None if known is None else known.alpha
        given = hpo.model_dump(exclude_unset=True) if isinstance(hpo, HpoSettings) else hpo
        return {"alpha": alpha, **given} if alpha is not None and isinstance(given, dict) else hpo

    @field_validator("shared")
    @classmethod
    def _can_share(cls, shared: bool, info: ValidationInfo) -> bool:
        algo = info.data.get("algo", "")
        if shared and algo != "ippo" and not extension.is_path(algo):
            raise ValueError(f"the agents of {algo} cannot share a policy; use ippo, or remove shared")
        return shared

    @field_validator("curriculum")
    @classmethod
    def _shares_are_whole(cls, curriculum: tuple[tuple[Simulator, float], ...]) -> tuple[tuple[Simulator, float], ...]:
        if curriculum and not math.isclose(sum(share for _, share in curriculum), 1.0, abs_tol=1e-6):
            raise ValueError("the shares must add up to 1, as in meso:0.8,micro:0.2")
        if len({name for name, _ in curriculum}) < len(curriculum):
            raise ValueError("each simulator may occur once, as in meso:0.8,micro:0.2")
        return curriculum

    def check_agents(self, scenario: Scenario) -> None:
        """Raise InputError where the algorithm cannot train the agents of a scenario."""
        why = self.algorithm.not_a_fleet
        if scenario.fleet is not None and why:
            raise InputError(
                f"{self.algo} cannot train a fleet: it {why}, and a fleet has other trips in each traffic seed; use "
                "--algo ippo, in which all agents share one policy, or a scenario with trips"
            )

    def stages(self, scenario: Scenario) -> tuple[tuple[Simulator, float], ...]:
        """Return the curriculum of a scenario: (simulator, share of the episodes)."""
        return self.curriculum or ((scenario.simulator, 1.0),)

    def simulators(self, scenario: Scenario) -> tuple[Simulator, ...]:
        """Return the simulators that a scenario is trained in."""
        return tuple(dict.fromkeys(name for name, _ in self.stages(scenario)))

    def simulator(self, scenario: Scenario, episode: int) -> Simulator:
        """Return the simulator of the batch that begins with an episode, counted from 0.

        Each of the last simulators has at least one batch, however small its share; earlier ones have fewer.
        """
        stages, reach = self.stages(scenario), 0.0
        batches = math.ceil(self.episodes / self.episodes_per_update)
        for k, (name, share) in enumerate(stages):
            reach += share * self.episodes
            left = batches - (len(stages) - 1 - k)
            if episode < min(reach - 1e-6, left * self.episodes_per_update):
                return name
        return stages[-1][0]


def train_settings(
    content: dict[str, Any], changes: Sequence[str] = (), source: str = "--set train", folder: Path | None = None
) -> TrainSettings:
    """Return validated settings; an algorithm or a provider of the user's own is imported.

    Parameters
    ----------
    content, changes
        Settings, and ``"ippo.clip=0.1"`` and the like to replace some.
    source
        Where they come from, for the message.
    folder
        Folder to which files in import paths are relative; the current folder where not given.

    Raises
    ------
    InputError
        An algorithm, a setting or a value does not exist.
    """
    algorithms.find(str(content.get("algo")))
    settings = validate(changed(content, changes), TrainSettings, source)
    if algorithms.unread(settings.algo) >= {"llm", "demonstrations"} and (settings.llm or settings.demonstrations):
        known = ", ".join(algorithms.WITH_EXPERTS)
        raise InputError(
            f"{settings.algo} has no experts, so it takes no demonstrations; algorithms with experts are {known}"
        )
    if settings.llm and providers.find(settings.llm).waits:
        raise InputError(
            "training cannot wait for a mailbox; run: relid-sumo sed run SCENARIO --llm mailbox --mailbox DIR --out s; "
            "then train with --demonstrations s/demonstrations.npz"
        )
    settings = settings.model_copy(
        update={
            "algo": extension.located(settings.algo, folder),
            "llm": extension.located(settings.llm, folder),
        }
    )
    if settings.algo in algorithms.ALGORITHMS:
        if settings.options:
            raise InputError(f"{source}: options: {settings.algo} has none; they are for an algorithm of your own")
        return settings
    return settings.model_copy(update={"options": _options(settings, source)})


def check_provider(settings: TrainSettings, scenario: Scenario) -> None:
    """Check the service that a run would ask for programs, before the scenario is prepared. Nothing is sent.

    Raises
    ------
    InputError
        The service lacks a setting or a key, or a file names it and the user has not.
    """
    if settings.asks:
        check_service(settings.llm, scenario)


def _options(settings: TrainSettings, source: str) -> dict[str, Any]:
    """Return the options of a user's algorithm, validated and completed by its ``Settings`` where it has one."""
    model = getattr(algorithms.own(settings.algo), "Settings", None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return validate(settings.options, model, f"{source}.options").model_dump(mode="json")
    return settings.options


def parse_curriculum(text: str) -> list[tuple[str, float]]:
    """Return ``meso:0.8,micro:0.2`` as the setting's value; one name alone is the whole run.

    Raises
    ------
    InputError
        The text does not have this form.
    """
    parts = []
    for word in text.split(","):
        name, colon, share = word.strip().partition(":")
        if name not in get_args(Simulator):
            raise InputError(
                f"--curriculum {text}: there is no simulator '{name}'{did_you_mean(name, get_args(Simulator))}; write "
                "it as meso:0.8,micro:0.2"
            )
        try:
            parts.append((name, float(share) if colon else 1.0))
        except ValueError:
            raise InputError(f"--curriculum {text}: '{share}' is not a share, as in meso:0.8,micro:0.2") from None
    return parts
