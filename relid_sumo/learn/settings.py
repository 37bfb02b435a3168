"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.settings import Settings
from relid_sumo.base.toml import changed, validate
from relid_sumo.learn.algos.hpo import HpoSettings
from relid_sumo.learn.algos.ippo import IppoSettings
from relid_sumo.runs import layout
from relid_sumo.scenario.settings import Scenario, Simulator

# Algorithms with experts, and the alpha of each where it is not given.
EXPERT_ALGOS = {"reled": "dtw+gate", "leed": "decay", "bc": "fixed:1", "bc+ippo": "none"}


def _is_whole(data: dict[str, Any]) -> bool:
    """Return whether an algorithm has all of RELED where nothing else is given; others with experts are parts of it."""
    return data.get("algo") not in EXPERT_ALGOS or data["algo"] == "reled"


class TrainSettings(Settings):
    """Settings of a training run."""

    algo: Literal["ippo", "mappo", "reled", "leed", "bc", "bc+ippo"] = "ippo"
    """The algorithm."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of weights, actions and the order of traffic."""
    episodes: Annotated[int, Field(ge=1)] = 100
    """Budget, episodes."""
    episodes_per_update: Annotated[int, Field(ge=1)] = 4
    """Episodes between two updates, each in other traffic."""
    curriculum: tuple[tuple[Simulator, Annotated[float, Field(gt=0, le=1)]], ...] = ()
    """The simulations trained in, one after the other, each with its share of the episodes; the scenario's own where
    empty."""
    ippo: IppoSettings = IppoSettings()
    """Settings of ``ippo`` and ``mappo``."""
    hpo: Annotated[HpoSettings, Field(validate_default=True)] = HpoSettings()
    """Settings of the others, which have experts; where no alpha is given, it is the algorithm's (`EXPERT_ALGOS`)."""
    demonstrations: str = ""
    """File that ``sed run`` made, for algorithms with experts; made before training where not given."""
    llm: Literal["", "recorded", "template", "openai", "mailbox"] = ""
    """Who writes the programs that make demonstrations, as ``sed run --llm``."""
    elite: bool = Field(default_factory=_is_whole)
    """Whether an agent's own better route takes its demonstration's place; where not given, with ``reled`` alone."""
    probes: bool = Field(default_factory=_is_whole)
    """Whether ways beside the demonstrations are tried before the curriculum's last simulation; where not given, with
    ``reled`` alone."""
    feedback: bool = True
    """Whether programs are refined by what came of them; without, those of the first round are all there is."""
    score_seeds: Annotated[int, Field(ge=1)] = 3
    """Training traffic seeds that programs are scored in, to make demonstrations: each of them costs episodes."""
    renew_every: Annotated[int, Field(ge=0)] = 20
    """Updates between two renewals: demonstrations are scored under the present policies, and programs plan again
    (``reled`` without ``demonstrations``); 0 for none."""

    @property
    def expert(self) -> bool:
        """Whether agents have experts."""
        return self.algo not in layout.ALONE

    @property
    def unread(self) -> set[str]:
        """Settings that the algorithm does not look at."""
        return layout.unread(self.algo)

    @field_validator("hpo", mode="before")
    @classmethod
    def _with_its_alpha(cls, hpo: object, info: ValidationInfo) -> object:
        alpha = EXPERT_ALGOS.get(info.data.get("algo", ""))
        given = hpo.model_dump(exclude_unset=True) if isinstance(hpo, HpoSettings) else hpo
        return {"alpha": alpha, **given} if alpha is not None and isinstance(given, dict) else hpo

    @field_validator("curriculum")
    @classmethod
    def _shares_are_whole(cls, curriculum: tuple[tuple[Simulator, float], ...]) -> tuple[tuple[Simulator, float], ...]:
        if curriculum and not math.isclose(sum(share for _, share in curriculum), 1.0, abs_tol=1e-6):
            raise ValueError("the shares must add up to 1, as in meso:0.8,micro:0.2")
        if len({name for name, _ in curriculum}) < len(curriculum):
            raise ValueError("each simulation may be there once, as in meso:0.8,micro:0.2")
        return curriculum

    def stages(self, scenario: Scenario) -> tuple[tuple[Simulator, float], ...]:
        """Return the curriculum of a scenario: (simulation, share of the episodes)."""
        return self.curriculum or ((scenario.simulator, 1.0),)

    def simulators(self, scenario: Scenario) -> tuple[Simulator, ...]:
        """Return what a scenario is trained in."""
        return tuple(dict.fromkeys(name for name, _ in self.stages(scenario)))

    def simulator(self, scenario: Scenario, episode: int) -> Simulator:
        """Return the simulation of the batch that begins with an episode, counted from 0.

        The last simulations have a batch each, however small their share: what comes before gives way.
        """
        stages, reach = self.stages(scenario), 0.0
        batches = math.ceil(self.episodes / self.episodes_per_update)
        for k, (name, share) in enumerate(stages):
            reach += share * self.episodes
            left = batches - (len(stages) - 1 - k)
            if episode < min(reach - 1e-6, left * self.episodes_per_update):
                return name
        return stages[-1][0]


def train_settings(content: dict[str, Any], changes: Sequence[str] = (), source: str = "--set train") -> TrainSettings:
    """Return validated settings; `changes` are ``"ippo.clip=0.1"`` and the like, `source` is for the message.

    Raises
    ------
    InputError
        An algorithm, a setting or a value that does not exist.
    """
    known = get_args(TrainSettings.model_fields["algo"].annotation)
    if content.get("algo") not in known:
        name = str(content.get("algo"))
        raise InputError(f"there is no algorithm '{name}'{did_you_mean(name, known)}; known are {', '.join(known)}")
    settings = validate(changed(content, changes), TrainSettings, source)
    if not settings.expert and (settings.llm or settings.demonstrations):
        raise InputError(f"{settings.algo} has no experts to demonstrate; those that do are {', '.join(EXPERT_ALGOS)}")
    if settings.llm == "mailbox":
        raise InputError(
            "training cannot wait for a mailbox; run: relid-sumo sed run SCENARIO --llm mailbox --mailbox DIR --out s; "
            "then train with --demonstrations s/demonstrations.npz"
        )
    return settings


def parse_curriculum(text: str) -> list[tuple[str, float]]:
    """Return what ``meso:0.8,micro:0.2`` says, as the setting has it; one name alone is the whole run.

    Raises
    ------
    InputError
        It is not of that form.
    """
    parts = []
    for word in text.split(","):
        name, colon, share = word.strip().partition(":")
        if name not in get_args(Simulator):
            raise InputError(
                f"--curriculum {text}: there is no simulation '{name}'{did_you_mean(name, get_args(Simulator))}; write "
                "it as meso:0.8,micro:0.2"
            )
        try:
            parts.append((name, float(share) if colon else 1.0))
        except ValueError:
            raise InputError(f"--curriculum {text}: '{share}' is not a share, as in meso:0.8,micro:0.2") from None
    return parts
