"""Reads results.json and checks it first, because the run may come from another person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


def read_results(folder: Path) -> dict[str, Any]:
    """Return the content of a run folder's results.json.

    Raises
    ------
    InputError
        The folder has no such file, or its content is not that of a run.
    """
    content = run_folder.read_json(folder / run_folder.RESULTS)
    if content.get("format") != run_folder.RESULTS_FORMAT:
        raise InputError(
            f"{folder / run_folder.RESULTS}: its returns are those of another version of relid_sumo; run the same "
            "command again: it uses the saved answers"
        )
    validate(content, _Results, str(folder / run_folder.RESULTS))
    return content
