"""The run folder: what a training run leaves behind, and what it goes on from.

====================  ==============================================================================================
settings.json         scenario, algorithm, seed, budget, every setting, the network's hash, versions
scenario.toml         the scenario as it was driven, demand rate included
metrics.csv           one row per update; the same bytes for the same settings
timing.csv            wall-clock seconds of each update
checkpoint.pt         weights, optimiser and counters at the last update
tensorboard/          the same numbers for TensorBoard
====================  ==============================================================================================
"""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field, ValidationInfo, field_validator

from relid_sumo import results
from relid_sumo.algos.hpo import HpoSettings
from relid_sumo.algos.ippo import IppoSettings
from relid_sumo.base import files
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.settings import Settings
from relid_sumo.base.toml import changed, validate
from relid_sumo.demand import own_demand
from relid_sumo.prepare import Ready
from relid_sumo.scenario import Scenario, Simulator
from relid_sumo.scenario_files import FILE, placed, read_scenario, write_scenario

SETTINGS, METRICS, TIMING, CHECKPOINT = results.SETTINGS, results.METRICS, results.TIMING, "checkpoint.pt"
PACKAGES = ("relid_sumo", "eclipse-sumo", "torch", "numpy", "scipy", "pettingzoo")
FORMAT, CHECKPOINT_FORMAT = results.RUN_FORMAT, 2
HEADING = "The scenario as this run drives it."


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
        return self.algo not in results.ALONE

    @property
    def unread(self) -> set[str]:
        """Settings that the algorithm does not look at."""
        return results.unread(self.algo)

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


class RunSettings(Settings):
    """What settings.json holds."""

    format: int = FORMAT
    train: TrainSettings
    network_key: str
    demand: str | None = None
    """Checksum of the scenario's own route file, where it has one."""
    m_out: int
    versions: dict[str, str]


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


def check_free(folder: Path) -> None:
    """Raise InputError where a run folder exists already and is not empty, or cannot be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists; choose another --out, go on with --resume {folder}, or delete it")
    above = files.nearest(folder)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(
            f"{folder} cannot be made: {above} is not a folder that you may write to; choose another --out"
        )


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def create(folder: Path, ready: Ready, train: TrainSettings) -> None:
    """Make a new run folder with its settings and its scenario.

    Raises
    ------
    InputError
        It exists and is not empty, or cannot be written.
    """
    check_free(folder)
    settings = RunSettings(
        train=train,
        network_key=ready.network.key,
        demand=own_demand(ready.scenario, ready.network),
        m_out=ready.task.graph.m_out,
        versions=versions(),
    )
    write_scenario(placed(ready.scenario), folder, [HEADING])
    text = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
    files.write(folder / SETTINGS, text.encode())


def load(folder: Path) -> tuple[RunSettings, Scenario]:
    """Return a run's settings and its scenario.

    Raises
    ------
    InputError
        The folder holds no run, or one of another version.
    """
    file = folder / SETTINGS
    if not file.is_file():
        raise InputError(
            f"{folder} is not a run folder: it has no {SETTINGS}; make one with: relid-sumo train SCENARIO --out"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    if content.get("format") != FORMAT:
        raise InputError(
            f"{file}: written by another version of relid_sumo (format {content.get('format')}, here {FORMAT})"
        )
    return validate(content, RunSettings, str(file)), read_scenario(folder / FILE)


def check_same(settings: RunSettings, ready: Ready, folder: Path) -> None:
    """Raise InputError where a run's network is not the one it was trained on."""
    if ready.task.graph.m_out != settings.m_out:
        raise InputError(
            f"{folder}: trained on a network with {settings.m_out} ways per junction; '{ready.network.name}' has "
            f"{ready.task.graph.m_out}, so the policy does not fit it"
        )
    if ready.network.key != settings.network_key:
        raise InputError(
            f"{folder}: its network '{ready.network.name}' has changed since (another OSM file, other "
            "options or another SUMO); train again, or bring back what it was built from"
        )


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole."""
    part = folder / f"{CHECKPOINT}.part"
    torch.save({"format": CHECKPOINT_FORMAT, **state}, part)
    part.replace(folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint.

    Raises
    ------
    InputError
        There is none yet, or it cannot be read.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        raise InputError(f"{folder} holds no {CHECKPOINT}: the run ended before its first update; train again")
    try:
        return dict(torch.load(file, weights_only=True))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


class Table:
    """A CSV file that grows by a row per update.

    Parameters
    ----------
    file
        The file.
    keep
        Rows to keep of what it holds: those up to the checkpoint.
    """

    def __init__(self, file: Path, keep: int = 0) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[: keep + 1] if keep else []
        files.write(file, "".join(lines).encode())
        self._empty = not lines

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; the first gives the header."""
        with self._file.open("a", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            if self._empty:
                writer.writerow(row)
                self._empty = False
            writer.writerow([value if isinstance(value, int) else f"{value:.9g}" for value in row.values()])
