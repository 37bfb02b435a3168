"""The evaluation in a run folder: evaluation.json and routes.json, which reports read.

The rule for a run that is evaluated again:

- the same policy on the same traffic seeds: new policies are added, and those of the same name are replaced;
- the same policy on fewer traffic seeds: the stored evaluation stays;
- another policy (the run was trained further), or other traffic seeds: the stored evaluation is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation.outcome import outcome, routes
from relid_sumo.runs import layout
from relid_sumo.runs.routes import read_routes
from relid_sumo.runs.summary import PolicyOutcome, StoredEvaluation
from relid_sumo.scenario.prepare import PreparedScenario

TRAINED = "trained"
Stored = Literal["new", "added", "replaced", "unchanged"]


def store(folder: Path, ready: PreparedScenario, records: Mapping[str, Sequence[EpisodeRecord]]) -> Stored:
    """Store an evaluation of a run on its own scenario, and return how it changed the stored one.

    Parameters
    ----------
    records
        Episodes of each policy in the order of the traffic seeds; the run's own policy is named ``trained``.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    new = outcome(ready, {name: list(rows) for name, rows in records.items()})
    drawn = routes(ready, {name: list(rows) for name, rows in records.items()})
    before = _read(folder / layout.EVALUATION)
    done: Stored = "new"
    if before is not None:
        done = _compared(before, new)
        if done == "unchanged":
            return done
        if done == "added":
            new["policies"] = {**before["policies"], **new["policies"]}
            drawn["routes"] = {**_driven_before(folder, drawn), **drawn["routes"]}
    write(folder, new, drawn)
    return done


def write(folder: Path, evaluation: dict[str, Any], drawn: dict[str, Any]) -> None:
    """Write the evaluation of a run and its routes, replacing the stored ones."""
    files.write_json(folder / layout.ROUTES, drawn)
    files.write_json(folder / layout.EVALUATION, evaluation)


def _read(file: Path) -> dict[str, Any] | None:
    """Return a stored file; None if it is missing or unreadable, so that the new one replaces it."""
    try:
        return files.read_json(file)
    except InputError:
        return None


def _compared(before: dict[str, Any], new: dict[str, Any]) -> Stored:
    try:
        old = StoredEvaluation.model_validate(before)
    except ValueError:
        return "replaced"
    seeds, old_seeds = list(new["traffic_seeds"]), old.traffic_seeds
    fewer = len(seeds) < len(old_seeds) and old_seeds[: len(seeds)] == seeds
    if old.agents != new["agents"] or not (fewer or seeds == old_seeds):
        return "replaced"
    one, other = old.policies[TRAINED], PolicyOutcome.model_validate(new["policies"][TRAINED])
    same = one.return_s[: len(seeds)] == other.return_s and one.travel_time_s[: len(seeds)] == other.travel_time_s
    if not same:
        return "replaced"
    return "unchanged" if fewer else "added"


def _driven_before(folder: Path, drawn: dict[str, Any]) -> dict[str, list[list[int]]]:
    """Return the stored routes of all policies; none where the file is damaged or of other traffic."""
    try:
        before = read_routes(folder / layout.ROUTES)
    except InputError:
        return {}
    same = all(getattr(before, name) == drawn[name] for name in ("network_key", "traffic_seed", "agents"))
    return before.routes if same else {}
