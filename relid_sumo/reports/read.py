"""Find the runs in folders, and the runs that are missing there with the reason."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relid_sumo.base import extension, files
from relid_sumo.base.errors import InputError
from relid_sumo.base.files import Columns
from relid_sumo.base.toml import validate
from relid_sumo.learn import algorithms, presets
from relid_sumo.learn.settings import train_settings
from relid_sumo.runs import layout
from relid_sumo.runs import summary as runs_summary
from relid_sumo.runs.summary import StoredEvaluation, Summary

OPTIONS = ("algo", "seed", "episodes")  # training settings that are options of `relid-sumo train`


@dataclass(frozen=True, eq=False)
class Run:
    """A run as the report uses it.

    Attributes
    ----------
    name, scenario, algorithm, seed
        Name of the run, and its place in the grid.
    problem
        Hash of the scenario's content. Only runs with the same hash are compared.
    settings, versions
        Settings and package versions of the training.
    metrics, rounds
        Tables by column. `rounds` may be empty.
    seconds
        Wall-clock time, s, by activity.
    evaluation
        Content of evaluation.json; None if the run was not evaluated.
    command
        Command that reproduces the run.
    folder
        The run folder; None if only the summary is available.
    """

    name: str
    scenario: str
    algorithm: str
    seed: int
    problem: str
    settings: dict[str, Any]
    versions: dict[str, str]
    metrics: Columns
    rounds: Columns
    seconds: dict[str, float]
    evaluation: StoredEvaluation | None
    command: str
    folder: Path | None

    @property
    def setup(self) -> str:
        """All settings that the training read, except the seed, as text."""
        left_out = {"seed", *algorithms.unread(str(self.settings.get("algo")))}
        return json.dumps({k: v for k, v in self.settings.items() if k not in left_out}, sort_keys=True)


@dataclass(frozen=True)
class Missing:
    """A run that is not in the report, and the reason."""

    name: str
    why: str


def find(folders: Sequence[Path]) -> tuple[list[Run], list[Missing]]:
    """Return the runs in folders (batches, folders of runs or single runs), and the runs missing there.

    Raises
    ------
    InputError
        A folder does not exist, or there is no run to report on.
    """
    found: list[Run | Missing] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; check the path")
        found += _look(folder)
    runs = _distinct([one for one in found if isinstance(one, Run)])
    names = {run.name for run in runs}
    missing = [one for one in found if isinstance(one, Missing) and one.name not in names]
    if not runs:
        reasons = "".join(f"\n{one.name}: {one.why}" for one in missing)
        where = ", ".join(map(str, folders))
        raise InputError(f"{where}: no run to report on; make runs with: relid-sumo batch FILE{reasons}")
    return runs, missing


def _look(folder: Path) -> Iterator[Run | Missing]:
    if (folder / layout.SETTINGS).is_file():
        yield _read_run(folder, None)
        return
    is_batch = any((folder / part).exists() for part in ("batch.json", "runs", "summaries"))
    yield from _look_in_batch(folder) if is_batch else map(_maybe, _subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def _maybe(folder: Path, labels: runs_summary.Labels | None = None) -> Run | Missing:
    """Return the run in a folder, or the reason why it cannot be read."""
    try:
        return _read_run(folder, labels)
    except InputError as error:
        return Missing(folder.name, str(error))


def _look_in_batch(folder: Path) -> Iterator[Run | Missing]:
    planned: dict[str, runs_summary.Labels] = {}
    try:
        planned = {cell.name: cell for cell in _planned(folder / "batch.json")}
    except InputError as error:
        yield Missing("batch.json", f"the grid cannot be read, so missing runs may not be listed: {error}")
    seen: set[str] = set()
    for file in sorted((folder / "summaries").glob("*.json")):
        seen.add(file.stem)
        beside = folder / "runs" / file.stem
        try:
            yield _run(runs_summary.read_summary(file), file.stem, beside if beside.is_dir() else None)
        except InputError as error:
            yield Missing(file.stem, str(error))
    for one in _subfolders(folder / "runs") if (folder / "runs").is_dir() else []:
        name = one.name.removesuffix(".part")
        if name in seen:
            continue
        seen.add(name)
        if one.name.endswith(".part"):
            yield Missing(name, _why(folder, name, one))
        else:
            yield _maybe(one, planned.get(name))
    failed = {file.stem for file in (folder / "failed").glob("*.json")}
    for name in sorted((planned.keys() | failed) - seen):
        yield Missing(name, _why(folder, name, None))


class _Plan(runs_summary.Read):
    cells: list[runs_summary.Labels]


def _planned(file: Path) -> list[runs_summary.Labels]:
    return validate(files.read_json(file).get("plan"), _Plan, str(file)).cells if file.is_file() else []


def _why(folder: Path, name: str, part: Path | None) -> str:
    """Return why a cell of a batch has no result."""
    failure = folder / "failed" / f"{name}.json"
    try:
        if failure.is_file():
            return f"failed: {files.read_json(failure).get('error')}"
        if part is None:
            return "not run yet"
        table = part / layout.METRICS
        episodes = files.read_columns(table).get("episodes") if table.is_file() else None
    except InputError as error:
        return str(error)
    return f"not finished: {int(episodes[-1])} episodes so far" if episodes else "not finished: no update yet"


def _read_run(folder: Path, labels: runs_summary.Labels | None) -> Run:
    return _run(runs_summary.summarise(folder).model_copy(update={"cell": labels}), folder.name, folder)


def _run(summary: Summary, name: str, folder: Path | None) -> Run:
    labels, train = summary.cell, summary.settings.train
    return Run(
        name=name,
        scenario=labels.scenario if labels is not None else summary.scenario,
        algorithm=labels.algorithm if labels is not None else extension.short(str(train.get("algo"))),
        seed=int(train.get("seed", 0)),
        problem=summary.problem,
        settings=train,
        versions=summary.settings.versions,
        metrics=summary.metrics,
        rounds=summary.rounds,
        seconds=summary.seconds,
        evaluation=summary.evaluation,
        command=labels.command if labels is not None else _command(summary, folder),
        folder=folder,
    )


def _command(summary: Summary, folder: Path | None) -> str:
    """Return the command that reproduces a run made without a batch. The run folder contains its scenario.

    Settings that `relid-sumo train` would choose itself are left out.
    """
    train, evaluation = summary.settings.train, summary.evaluation
    words: list[Any] = ["relid-sumo", "train", folder]
    words += [word for key in OPTIONS if key in train for word in (f"--{key}", train[key])]
    words += ["--evaluate", len(evaluation.traffic_seeds) if evaluation is not None else 0]
    plain = _plain(str(train.get("algo")))
    for key, value in train.items():
        if key in OPTIONS or value is None:
            continue
        pairs = [(f"{key}.{k}", v) for k, v in value.items()] if isinstance(value, dict) else [(key, value)]
        changed = [(name, one) for name, one in pairs if plain.get(name) != json.loads(json.dumps(one))]
        words += [word for name, one in changed for word in ("--set", f"train.{name}={json.dumps(one)}")]
    return shlex.join(map(str, words))


@functools.cache
def _plain(algo: str) -> dict[str, Any]:
    """Return the settings of a training without options, by dotted name; nothing for an algorithm of the user's own."""
    if algo not in algorithms.ALGORITHMS:
        return {}
    settings = train_settings(presets.filled(presets.STANDARD, {"algo": algo})).model_dump(mode="json")
    own = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    parts = {name: value for name, value in settings.items() if isinstance(value, dict)}
    return own | {f"{name}.{key}": one for name, part in parts.items() for key, one in part.items()}


def _distinct(runs: list[Run]) -> list[Run]:
    """Return each run once. Runs with the same name but other settings get different names."""
    first: dict[tuple[object, ...], Run] = {}
    for run in runs:
        first.setdefault((run.scenario, run.problem, run.algorithm, run.seed, run.setup), run)
    unique = _numbered(list(first.values()), "scenario", "problem", ())
    return _numbered(unique, "algorithm", "setup", ("scenario",))


def _numbered(runs: list[Run], label: str, content: str, within: tuple[str, ...]) -> list[Run]:
    """Return runs with ``#2``, ``#3``, ... appended to a label that stands for different contents."""
    known: dict[tuple[str, ...], list[str]] = {}
    named = []
    for run in runs:
        kinds = known.setdefault(tuple(getattr(run, name) for name in (*within, label)), [])
        if getattr(run, content) not in kinds:
            kinds.append(getattr(run, content))
        number = kinds.index(getattr(run, content)) + 1
        other: dict[str, Any] = {label: f"{getattr(run, label)} #{number}"}
        named.append(replace(run, **other) if number > 1 else run)
    return named
