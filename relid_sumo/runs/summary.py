"""Summaries of finished runs, read from files; this module needs neither torch nor SUMO.

In addition to the files of training (`relid_sumo.learn.run_folder`), the run folder of a finished cell contains:

====================  ==============================================================================================
evaluation.json       results of the final policy and the baselines on held-out traffic, agent by agent
routes.json           the network, and the routes of the first held-out traffic seed: map data, which must not be
                      published without its attribution
====================  ==============================================================================================

and, depending on the algorithm (a report draws all of them):

====================  ==============================================================================================
metrics.csv           further columns: ``alpha_0``, ``alpha_1``, ... per agent, and others
rounds.csv            one row per round of demonstrations: ``round``, and columns to draw over it (``d_in``,
                      ``f_out``, ``execution_rate``, ...)
====================  ==============================================================================================

A summary is one file with all of this except the map data: settings, curves and evaluation of a run. It can be copied
to another machine, or replace a deleted run folder, and still counts as a finished cell.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from relid_sumo.base import safe_paths
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.base.files import Columns, read_columns, read_json
from relid_sumo.base.safe_paths import Name
from relid_sumo.base.toml import read_toml, validate
from relid_sumo.runs.layout import EVALUATION, METRICS, ROUNDS, RUN_ADVICE, RUN_FORMAT, SCENARIO, SETTINGS, TIMING
from relid_sumo.scenario.settings import ID

log = logging.getLogger(__name__)

ARRIVED = "arrived"
SUMMARY_FORMAT = 1
ALGORITHM = re.compile(r"[^=+@\x00-\x1f\x7f-\x9f-][^\x00-\x1f\x7f-\x9f]{0,1000}")  # no formula, no control characters


class Read(BaseModel):
    """Base of records in files, possibly of other versions: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


Measured = list[list[float | None]] | None
MEASURED = ("duration_s", "time_loss_s", "distance_m", "waiting_s", "stops", "co2_g", "fuel_g")


class PolicyOutcome(Read):
    """Results of one policy. Lists are by traffic seed, then by agent."""

    return_s: list[list[float]]
    travel_time_s: list[list[float]]
    """s. For a vehicle that does not arrive: the time to the horizon plus the remaining free-flow time."""
    status: list[list[str]]
    teleports: list[int]
    """Total of all agents, by traffic seed."""
    background_vehicle_s: list[float]
    """Vehicle-seconds of the background traffic after the warm-up (for 900 s, or to the horizon), by traffic seed."""
    vehicle_s: list[float] | None = None
    """The same of all vehicles, agents included. This and the following are None in files of earlier versions."""
    duration_s: Measured = None
    """Time in the network, s, to the arrival or the end of the episode. This and the following are SUMO's own
    measurements (`relid_sumo.sim.trip_output.TripMeasures`). A value is None where SUMO does not measure it."""
    time_loss_s: Measured = None
    distance_m: Measured = None
    waiting_s: Measured = None
    stops: Measured = None
    co2_g: Measured = None
    fuel_g: Measured = None

    @property
    def returns(self) -> Floats:
        """Returns of all trips, s."""
        return np.concatenate(self.return_s)

    @property
    def travel_times(self) -> Floats:
        """Travel times of all trips, s."""
        return np.concatenate(self.travel_time_s)

    @property
    def arrived(self) -> float:
        """Share of all trips that arrive."""
        return float((np.concatenate(self.status) == ARRIVED).mean())

    def over_arrived(self, name: str) -> float | None:
        """Return the mean of one of `MEASURED` over the trips that arrive; None where it is not measured.

        Each traffic seed has the same weight, as in `relid_sumo.evaluation.numbers`.
        """
        rows: Measured = getattr(self, name)
        if rows is None:
            return None
        arrived = [[s == ARRIVED for s in statuses] for statuses in self.status]
        picked = [[x for x, here in zip(*pair, strict=True) if here] for pair in zip(rows, arrived, strict=True)]
        means = [np.array(values, dtype=float).mean() for values in picked if values]
        return float(np.mean(means)) if means and np.isfinite(means).all() else None


class StoredEvaluation(Read):
    """Content of evaluation.json. The policy of the run is named ``trained``."""

    horizon_s: float
    traffic_seeds: Annotated[list[int], Field(min_length=1)]
    agents: Annotated[list[Annotated[str, Field(pattern=ID)]], Field(min_length=1)]
    free_flow_s: list[list[float]] | None = None
    """Time of the fastest route on an empty network, s, by traffic seed, then by agent: a delay is the travel time
    minus this. None in files of earlier versions."""
    fleet: bool = False
    """Whether the agents are a fleet, of which each traffic seed has its own first part of `agents`."""
    day_types: list[Literal["ordinary", "incidents", "surge", "surge with incidents"]] = []
    """Type of the day of each traffic seed; empty where all days are alike."""
    policies: dict[Name, PolicyOutcome]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.day_types and len(self.day_types) != len(self.traffic_seeds):
            raise ValueError("day_types: give one for each traffic seed")
        if "trained" not in self.policies:
            raise ValueError("policies: the run's own policy, 'trained', is missing")
        for name, driven in self.policies.items():
            measured = [rows for one in MEASURED if (rows := getattr(driven, one)) is not None]
            for rows in (driven.return_s, driven.travel_time_s, driven.status, *measured):
                if [len(row) for row in rows] != self._counts():
                    raise ValueError(f"policies.{name}: give a value for each traffic seed and agent")
        if self.free_flow_s is not None and [len(row) for row in self.free_flow_s] != self._counts():
            raise ValueError("free_flow_s: give a value for each traffic seed and agent")
        return self

    @property
    def earlier(self) -> list[str]:
        """Policies evaluated by an earlier version, whose `MEASURED` numbers are missing."""
        return [name for name, driven in self.policies.items() if driven.duration_s is None]

    def _counts(self) -> list[int]:
        """Return the number of agents in each traffic seed."""
        if not self.fleet:
            return [len(self.agents)] * len(self.traffic_seeds)
        counts = [len(row) for row in self.policies["trained"].return_s]
        return counts if len(counts) == len(self.traffic_seeds) and max(counts) == len(self.agents) else []


class StoredSettings(Read):
    """The parts of settings.json that are read here."""

    format: int = 1
    """Only runs of one format have comparable returns; see `relid_sumo.runs.layout`."""
    train: dict[str, Any]
    versions: dict[str, str]
    network_key: str
    demand: str | None = None

    @field_validator("train")
    @classmethod
    def _shown(cls, train: dict[str, Any]) -> dict[str, Any]:
        algo, seed = train.get("algo", "none"), train.get("seed", 0)
        if not (isinstance(algo, str) and ALGORITHM.fullmatch(algo)) or not isinstance(seed, int):
            raise ValueError(f"algo = {algo!r}, seed = {seed!r}: not those of a training run")
        return train


class Labels(Read):
    """The name of a cell in a batch, and the command that reproduces it."""

    name: safe_paths.CellName
    scenario: Name
    algorithm: Name
    seed: int
    fingerprint: str
    command: str


class Summary(Read):
    """A run without map data and weights."""

    format: int = SUMMARY_FORMAT
    scenario: Name
    """The scenario's name."""
    problem: str
    """Hash of the scenario's content, its network and the format. Only runs with the same hash are compared."""
    settings: StoredSettings
    metrics: Columns
    """By column, one value per update; at least ``episodes`` and ``mean_return``."""
    seconds: dict[str, float]
    """Wall-clock time of the training, s, by activity."""
    rounds: Columns = {}
    evaluation: StoredEvaluation | None = None
    cell: Labels | None = None

    @model_validator(mode="after")
    def _begun(self) -> Self:
        if not self.metrics.get("episodes") or not self.metrics.get("mean_return"):
            raise ValueError("metrics: the run ended before its first update")
        return self


def summarise(folder: Path) -> Summary:
    """Return the summary of a run folder.

    Raises
    ------
    InputError
        The folder contains no run, an incomplete one, or one of another version.
    """
    safe_paths.check_folder(folder)
    if not folder.is_dir() or not (folder / SETTINGS).is_file():
        raise InputError(f"{folder}: no run folder, because it has no {SETTINGS}; check the path")
    settings = validate(read_json(folder / SETTINGS, RUN_FORMAT, RUN_ADVICE), StoredSettings, str(folder / SETTINGS))
    metrics = read_columns(folder / METRICS) if (folder / METRICS).is_file() else {}
    if not metrics.get("episodes"):
        raise InputError(
            f"{folder}: the run ended before its first update, so {METRICS} has no rows; train it again or delete it"
        )
    scenario = read_toml(folder / SCENARIO)
    try:
        name = safe_paths.check_name(str(scenario.get("name")))
    except ValueError as error:
        raise InputError(f"{folder / SCENARIO}: name: {error}") from None
    problem = {**scenario, "name": "", "network": settings.network_key, "format": settings.format}
    problem |= {"traffic": settings.demand} if settings.demand else {}
    timing = read_columns(folder / TIMING) if (folder / TIMING).is_file() else {}
    return Summary(
        scenario=name,
        problem=hashlib.sha256(json.dumps(problem, sort_keys=True).encode()).hexdigest()[:16],
        settings=settings,
        metrics=metrics,
        seconds={name: round(math.fsum(values), 3) for name, values in timing.items() if name != "update"},
        rounds=read_columns(folder / ROUNDS) if (folder / ROUNDS).is_file() else {},
        evaluation=read_evaluation(folder),
    )


def read_evaluation(folder: Path) -> StoredEvaluation | None:
    """Return the evaluation in a run folder; None if there is none.

    That of an earlier version is read too, and a note says what it lacks.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    file = folder / EVALUATION
    if not file.is_file():
        return None
    found = validate(read_json(file), StoredEvaluation, str(file))
    if found.earlier:
        log.info(
            f"{file}: evaluated by an earlier version, so {', '.join(found.earlier)} without delay, stops, distance, "
            f"CO2 and fuel; add them with: relid-sumo evaluate {folder}"
        )
    return found


def read_summary(file: Path) -> Summary:
    """Return the summary in a file.

    Raises
    ------
    InputError
        The file cannot be read, or is of another version.
    """
    return validate(read_json(file, SUMMARY_FORMAT), Summary, str(file))
