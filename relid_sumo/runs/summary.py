"""What a finished run leaves for those who read it: files alone, no torch, no simulation.

Beside what training writes (`relid_sumo.learn.run_folder`), the run folder of a finished cell holds:

====================  ==============================================================================================
evaluation.json       what the final policy and the baselines did on held-out traffic, agent by agent
routes.json           the roads, and the routes of the first held-out traffic seed: map data, never to be published
                      without its attribution
====================  ==============================================================================================

and these where the algorithm has them; a report draws whatever it finds:

====================  ==============================================================================================
metrics.csv           further columns: ``alpha_0``, ``alpha_1``, ... of the agents in turn; any other is kept as it is
rounds.csv            one row per round of demonstrations: ``round``, and what is to be drawn over it (``d_in``,
                      ``f_out``, ``execution_rate``, ...)
====================  ==============================================================================================

A summary is all of that but the map data, in one file: a run's settings, curves and evaluation. It can be copied to
another machine, or kept when the run folder is gone, and still counts as a finished cell.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relid_sumo.base.errors import InputError
from relid_sumo.base.files import Columns, read_columns, read_json
from relid_sumo.base.toml import read_toml, validate
from relid_sumo.runs.layout import EVALUATION, METRICS, ROUNDS, RUN_FORMAT, SCENARIO, SETTINGS, TIMING

SUMMARY_FORMAT = 1


class Read(BaseModel):
    """Base of what is read from files of other versions too: keys that are not known here are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class PolicyOutcome(Read):
    """What one policy did; lists are by traffic seed, then by agent."""

    return_s: list[list[float]]
    travel_time_s: list[list[float]]
    """s; who does not arrive counts to the horizon, and the free-flow time that then remains."""
    status: list[list[str]]
    teleports: list[int]
    """By traffic seed, all agents together."""
    background_vehicle_s: list[float]
    """By traffic seed: vehicle-seconds of the background traffic from the agents' time 0 (900 s, or to the horizon)."""


class StoredEvaluation(Read):
    """What evaluation.json holds; the policy of the run is called ``trained``."""

    horizon_s: float
    traffic_seeds: Annotated[list[int], Field(min_length=1)]
    agents: Annotated[list[str], Field(min_length=1)]
    policies: dict[str, PolicyOutcome]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if "trained" not in self.policies:
            raise ValueError("policies: the run's own, 'trained', is missing")
        for name, driven in self.policies.items():
            for rows in (driven.return_s, driven.travel_time_s, driven.status):
                if [len(row) for row in rows] != [len(self.agents)] * len(self.traffic_seeds):
                    raise ValueError(f"policies.{name}: give a value for each traffic seed and agent")
        return self


class StoredSettings(Read):
    """What of settings.json is read here."""

    train: dict[str, Any]
    versions: dict[str, str]
    network_key: str
    demand: str | None = None


class Labels(Read):
    """What a batch calls a cell, and what makes it again."""

    name: str
    scenario: str
    algorithm: str
    seed: int
    fingerprint: str
    command: str


class Summary(Read):
    """A run without its map data and its weights."""

    format: int = SUMMARY_FORMAT
    scenario: str
    """The scenario's name."""
    problem: str
    """Hash of what the scenario holds and of its roads: runs are compared where it is the same."""
    settings: StoredSettings
    metrics: Columns
    """By column, a value per update; ``episodes`` and ``mean_return`` at least."""
    seconds: dict[str, float]
    """Wall-clock time of the training, by what it was spent on."""
    rounds: Columns = {}
    evaluation: StoredEvaluation | None = None
    cell: Labels | None = None

    @model_validator(mode="after")
    def _begun(self) -> Self:
        if not self.metrics.get("episodes") or not self.metrics.get("mean_return"):
            raise ValueError("metrics: the run ended before its first update")
        return self


def summarise(folder: Path) -> Summary:
    """Return the summary of a run folder: what a report reads, map data apart.

    Raises
    ------
    InputError
        The folder holds no run, an empty or half-written one, or one of another version.
    """
    if not folder.is_dir() or not (folder / SETTINGS).is_file():
        raise InputError(f"{folder}: no run folder: it has no {SETTINGS}")
    settings = validate(read_json(folder / SETTINGS, RUN_FORMAT), StoredSettings, str(folder / SETTINGS))
    metrics = read_columns(folder / METRICS) if (folder / METRICS).is_file() else {}
    if not metrics.get("episodes"):
        raise InputError(f"{folder}: the run ended before its first update: {METRICS} is empty or missing")
    scenario = read_toml(folder / SCENARIO)
    problem = {**scenario, "name": "", "network": settings.network_key}
    problem |= {"traffic": settings.demand} if settings.demand else {}
    timing = read_columns(folder / TIMING) if (folder / TIMING).is_file() else {}
    evaluation = folder / EVALUATION
    return Summary(
        scenario=str(scenario.get("name")),
        problem=hashlib.sha256(json.dumps(problem, sort_keys=True).encode()).hexdigest()[:16],
        settings=settings,
        metrics=metrics,
        seconds={name: round(math.fsum(values), 3) for name, values in timing.items() if name != "update"},
        rounds=read_columns(folder / ROUNDS) if (folder / ROUNDS).is_file() else {},
        evaluation=validate(read_json(evaluation), StoredEvaluation, str(evaluation)) if evaluation.is_file() else None,
    )


def read_summary(file: Path) -> Summary:
    """Return the summary that a file holds.

    Raises
    ------
    InputError
        It cannot be read, or is of another version.
    """
    return validate(read_json(file, SUMMARY_FORMAT), Summary, str(file))
