"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.settings import MOST_COUNT, MOST_FACTOR, Seed, Settings
from relid_sumo.base.toml import changed, validate
from relid_sumo.learn import algorithms
from relid_sumo.learn.algorithms import Algorithm
from relid_sumo.learn.algos.settings import HpoSettings, IppoSettings
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.sed.ask import providers
from relid_sumo.sed.ask.service import check_service

CONVERGED: Literal["converged"] = "converged"
MEASURED_EVERY = 10  # updates between two measurements in validation traffic, where training waits for a flat curve
Share = Annotated[float, Field(gt=0, le=1)]


def _is_whole(data: dict[str, Any]) -> bool:
    """Return whether an algorithm has all parts of RELED by default; other algorithms with experts have some."""
    known = algorithms.ALGORITHMS.get(data.get("algo", ""))
    return known is None or known.whole


def _measured_every(data: dict[str, Any]) -> int:
    """Return the default of `TrainSettings.validate_every`."""
    return MEASURED_EVERY if _converges(data.get("curriculum", ())) else 0


def _converges(curriculum: Sequence[tuple[Simulator, float | str]]) -> bool:
    return any(share == CONVERGED for _, share in curriculum)


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
    curriculum: tuple[tuple[Simulator, Share | Literal["converged"]], ...] = ()
    """Simulators to train in, one after the other, each with its share of episodes; the scenario's own where empty.
    ``converged`` in place of a share ends the training in a simulator when the curve in validation traffic is flat, at
    the latest after an equal part of the episodes that the shares leave."""
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
    closed_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training episodes in which a road on the agents' routes is closed; for agents with trips. Not
    written where 0."""
    labels: Literal["traffic", "free-flow"] = "traffic"
    """How experts continue off their demonstrations: on the mean travel times of the training traffic, or on free-flow
    times."""
    validate_every: Annotated[int, Field(ge=0, le=MOST_COUNT)] = Field(default_factory=_measured_every)
    """Updates between two measurements of the greedy policy in all validation traffic seeds; 0 for none. The default is
    10 where the curriculum has ``converged``, otherwise 0. Not written where 0."""
    flat_measurements: Annotated[int, Field(ge=1, le=10**6)] = 5
    """The curve is flat when the mean return of this many last measurements is at most `flat_gain_s` above that of as
    many before them. Written only where the curriculum has ``converged``, as is `flat_gain_s`."""
    flat_gain_s: Annotated[float, Field(ge=0, le=MOST_FACTOR)] = 5.0
    """See `flat_measurements`; s."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        for name in ("options", "shared", "validate_every", "closed_share"):
            if not content.get(name, True):
                del content[name]
        if not self.converges:
            for name in ("flat_measurements", "flat_gain_s"):
                content.pop(name, None)
        return content

    @property
    def converges(self) -> bool:
        """Whether training in a simulator ends when the curve in validation traffic is flat."""
        return _converges(self.curriculum)

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
        if known is None or alpha is None or not isinstance(given, dict):
            return hpo
        return {"alpha": alpha, **known.hpo, **given}

    @field_validator("shared")
    @classmethod
    def _can_share(cls, shared: bool, info: ValidationInfo) -> bool:
        algo = info.data.get("algo", "")
        if shared and algo != "ippo" and not extension.is_path(algo):
            raise ValueError(f"the agents of {algo} cannot share a policy; use ippo, or remove shared")
        return shared

    @field_validator("curriculum")
    @classmethod
    def _shares_are_whole(cls, curriculum: tuple[tuple[Simulator, float | str], ...]) -> object:
        total, ends = sum(share for _, share in curriculum if not isinstance(share, str)), _converges(curriculum)
        if curriculum and not ends and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError("the shares must add up to 1, as in meso:0.8,micro:0.2")
        if ends and total > 1.0 - 1e-6:
            raise ValueError("the shares leave no episodes to converge in; lower them, as in meso:converged,micro:0.2")
        if len({name for name, _ in curriculum}) < len(curriculum):
            raise ValueError("each simulator may occur once, as in meso:0.8,micro:0.2")
        return curriculum

    @model_validator(mode="after")
    def _can_converge(self) -> Self:
        if self.converges and not self.validate_every:
            raise ValueError("a curriculum with 'converged' needs validation; set validate_every to 1 or more")
        return self

    def check_agents(self, scenario: Scenario) -> None:
        """Raise InputError where the algorithm cannot train the agents of a scenario."""
        if scenario.fleet is not None and self.closed_share:
            raise InputError(
                "train.closed_share closes roads on the routes of agents with trips, and a fleet has other trips in "
                "each traffic seed; remove it, and give the scenario [[incidents]]"
            )
        why = self.algorithm.not_a_fleet
        if scenario.fleet is not None and why:
            raise InputError(
                f"{self.algo} cannot train a fleet: it {why}, and a fleet has other trips in each traffic seed; use "
                "--algo ippo, in which all agents share one policy, or a scenario with trips"
            )

    def stages(self, scenario: Scenario) -> tuple[tuple[Simulator, float], ...]:
        """Return the curriculum of a scenario: (simulator, largest share of the episodes)."""
        stages = self.curriculum or ((scenario.simulator, 1.0),)
        shares = [share for _, share in stages if not isinstance(share, str)]
        left = (1.0 - sum(shares)) / max(1, len(stages) - len(shares))
        return tuple((name, left if isinstance(share, str) else share) for name, share in stages)

    def simulators(self, scenario: Scenario) -> tuple[Simulator, ...]:
        """Return the simulators that a scenario is trained in."""
        return tuple(dict.fromkeys(name for name, _ in self.stages(scenario)))

    def ends(self, scenario: Scenario) -> tuple[tuple[Simulator, int], ...]:
        """Return the simulators in turn, each with the episode, counted from 0, at which the next one begins.

        Each of the last simulators has at least one batch, however small its share; earlier ones have fewer.
        """
        stages, reach, found = self.stages(scenario), 0.0, []
        batches = math.ceil(self.episodes / self.episodes_per_update)
        for k, (name, share) in enumerate(stages):
            reach += share * self.episodes
            left = batches - (len(stages) - 1 - k)
            found.append((name, math.ceil(min(reach - 1e-6, left * self.episodes_per_update))))
        return (*found[:-1], (stages[-1][0], self.episodes))

    def simulator(self, scenario: Scenario, episode: int) -> Simulator:
        """Return the simulator of the batch that begins with an episode of the budget, counted from 0."""
        return next(name for name, end in self.ends(scenario) if episode < end)


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


def parse_curriculum(text: str) -> list[tuple[str, float | str]]:
    """Return ``meso:0.8,micro:0.2`` as the setting's value; one name alone is the whole run.

    Raises
    ------
    InputError
        The text does not have this form.
    """
    parts: list[tuple[str, float | str]] = []
    for word in text.split(","):
        name, colon, share = word.strip().partition(":")
        if name not in get_args(Simulator):
            raise InputError(
                f"--curriculum {text}: there is no simulator '{name}'{did_you_mean(name, get_args(Simulator))}; write "
                "it as meso:0.8,micro:0.2"
            )
        try:
            parts.append((name, CONVERGED if share == CONVERGED else float(share) if colon else 1.0))
        except ValueError:
            raise InputError(
                f"--curriculum {text}: '{share}' is neither a share nor '{CONVERGED}', as in meso:0.8,micro:0.2 and "
                f"meso:{CONVERGED},micro:0.2"
            ) from None
    return parts
