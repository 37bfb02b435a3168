"""Reads results.json and checks it first, because the run may come from another person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import Name
from relid_sumo.base.toml import validate
from relid_sumo.scenario.settings import ID
from relid_sumo.sed import run_folder

Place = Annotated[str, Field(pattern=r"^subset[0-9]{1,6}-round[0-9]{1,6}-sample[0-9]{1,6}$")]
Agent = Annotated[str, Field(pattern=ID)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Count(_Read):
    valid: int
    programs: int
    interval_95: tuple[float, float] | None


class _Counts(_Read):
    initial: _Count
    refined: _Count
    all: _Count


class _Rates(_Read):
    initial: float | None
    refined: float | None
    all: float | None


class _Round(_Read):
    round: int
    valid: int
    programs: int
    score: float | None
    travel_time_s: float | None
    mean_return: float | None
    f_out: float | None
    f_out_signed: float | None
    f_out_floor: float | None
    d_in: float | None
    causes: list[tuple[int, str]] = []


class _Numbers(_Read):
    score: float
    travel_time_s: float
    f_out: float


class _Attempt(_Read):
    place: Place
    round: int
    problem: str | None
    same: bool
    numbers: _Numbers | None
    routes: dict[Agent, Annotated[list[str], Field(min_length=1)]] | None


class _Subset(_Read):
    vehicles: Annotated[list[Agent], Field(min_length=1)]
    best: Place | None
    attempts: list[_Attempt]


class _Compared(_Read):
    traffic: Literal["training", "validation", "evaluation"]
    simulator: Literal["micro", "meso"]
    seeds: list[int]
    mean_return: dict[Name, float]
    mean_travel_time_s: dict[Name, float]
    arrival_rate: dict[Name, float]
    gain: dict[Name, tuple[float, float, float]]

    @model_validator(mode="after")
    def _same_policies(self) -> Self:
        names = self.mean_return.keys()
        if self.mean_travel_time_s.keys() != names or self.arrival_rate.keys() != names or self.gain.keys() - names:
            raise ValueError("mean_return, mean_travel_time_s, arrival_rate and gain: not of the same policies")
        return self


class _Results(_Read):
    format: int
    scenario: Name
    provider: Annotated[str, Field(pattern=r"^[\w./: +-]+$", max_length=500)]
    execution_rate: _Rates
    programs: _Counts
    rounds: list[_Round]
    subsets: list[_Subset]
    compared: list[_Compared]


def find(folder: Path) -> Path:
    """Return a SED run's folder: the given one, or the folder ``sed`` in that of a training run.

    Raises
    ------
    InputError
        It is a training run without a SED run of its own.
    """
    settings = folder / run_folder.SETTINGS
    if not settings.is_file() or "train" not in run_folder.read_json(settings):
        return folder
    inside = folder / "sed"
    if (inside / run_folder.SETTINGS).is_file():
        return inside
    raise InputError(
        f"{folder} is a training run without a folder 'sed': its algorithm has no experts, or its demonstrations were "
        "given or came from the cache; name a folder of: relid-sumo sed run SCENARIO --out DIR"
    )


def read_shown(folder: Path) -> dict[str, Any]:
    """Return the results in a run folder with the key ``finished``: results.json, or those of the rounds up to now.

    Raises
    ------
    InputError
        The folder has neither, or its content is not that of a run.
    """
    if (folder / run_folder.RESULTS).is_file():
        return {**read_results(folder), "finished": True}
    file = folder / run_folder.ROUNDS
    if not file.is_file() and (folder / run_folder.SETTINGS).is_file():
        raise InputError(f"{folder}: {begun(folder)}")
    return {**_checked(run_folder.read_json(file), file), "finished": False}


def is_begun(folder: Path) -> bool:
    """Return whether a folder is that of a run without results yet."""
    names = (run_folder.RESULTS, run_folder.ROUNDS)
    return (folder / run_folder.SETTINGS).is_file() and not any((folder / name).is_file() for name in names)


def begun(folder: Path) -> str:
    """Return how far a run without results has come, in words.

    Raises
    ------
    InputError
        Its settings.json is not that of an SED run.
    """
    settings = run_folder.read_json(folder / run_folder.SETTINGS)
    if not isinstance(settings.get("provider"), str) or not isinstance(settings.get("scenario"), dict):
        raise InputError(f"{folder / run_folder.SETTINGS}: not the settings of an SED run; name the folder of one")
    if settings.get("sequences"):
        return "sequences of `leed`, without rounds and programs; read its prompts and answers"
    if (folder / run_folder.DEMONSTRATIONS).is_file():
        return "the run is finished, by an earlier version that stored no results of its rounds; read its programs"
    prompts, answers = (len(list((folder / part).glob("*.md"))) for part in (run_folder.PROMPTS, run_folder.ANSWERS))
    stopped = folder / run_folder.STOPPED
    why = f"; it stopped: {files.read(stopped).strip()}" if stopped.is_file() else ""
    return (
        f"no round is finished: {prompts} prompts and {answers} answers so far{why}; the command that began the run "
        "resumes it"
    )


def read_usage(folder: Path) -> dict[str, float] | None:
    """Return requests, answers, tokens and cost (USD) of a run folder; None where no service was asked.

    Raises
    ------
    InputError
        The file is not a count.
    """
    file = folder / run_folder.USAGE
    return validate(run_folder.read_json(file), _Usage, str(file)).model_dump() if file.is_file() else None


class _Usage(_Read):
    requests: float = 0
    answers: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    usd: float = 0


def model_of(folder: Path) -> str:
    """Return the model that a run asked, or its provider where it asked no model by name."""
    settings = run_folder.read_json(folder / run_folder.SETTINGS)
    llm = settings.get("llm")
    model = llm.get("model") if isinstance(llm, dict) else None
    return str(model or settings.get("provider"))


def read_results(folder: Path) -> dict[str, Any]:
    """Return the content of a run folder's results.json.

    Raises
    ------
    InputError
        The folder has no such file, or its content is not that of a run.
    """
    file = folder / run_folder.RESULTS
    return _checked(run_folder.read_json(file), file)


def _checked(content: dict[str, Any], file: Path) -> dict[str, Any]:
    if content.get("format") != run_folder.RESULTS_FORMAT:
        raise InputError(
            f"{file}: its returns are those of another version of relid_sumo; run the same command again: it uses the "
            "saved answers"
        )
    validate(content, _Results, str(file))
    return content
