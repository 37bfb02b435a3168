"""The run folder: the files that a training run writes and resumes from.

====================  ==============================================================================================
settings.json         scenario, algorithm, seed, budget, every setting, the network's hash, versions
scenario.toml         the scenario of the run, with its demand rate
metrics.csv           one row per update; the same bytes for the same settings
timing.csv            wall-clock seconds of each update
digests.csv           traffic seeds and hashes of the episodes of each update, for `relid-sumo verify`
checkpoint.pt         weights, optimiser and counters at the last update
run.lock              locked by the process that trains
tensorboard/          the same numbers for TensorBoard
====================  ==============================================================================================
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from relid_sumo.base import cache, extension, files, safe_paths, trusted
from relid_sumo.base.errors import InputError
from relid_sumo.base.settings import Settings
from relid_sumo.base.toml import validate
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.runs import layout
from relid_sumo.scenario import kinds
from relid_sumo.scenario.files import FILE, placed, read_scenario, write_scenario
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import CONNECTED, Scenario

SETTINGS, METRICS, TIMING, CHECKPOINT = layout.SETTINGS, layout.METRICS, layout.TIMING, layout.CHECKPOINT
PACKAGES = ("relid_sumo", "eclipse-sumo", "torch", "numpy", "scipy", "pettingzoo")
FORMAT = layout.RUN_FORMAT
HEADING = "The scenario of this run."


class RunSettings(Settings):
    """Content of settings.json."""

    format: int = FORMAT
    train: TrainSettings
    network_key: str
    demand: str | None = None
    """Checksum of the scenario's own route file, where it has one."""
    m_out: int
    versions: dict[str, str]
    observation_size: int | None = None
    """Width of an observation; not written where it is that of ``roads`` and everything is built in."""
    code: str = ""
    """Hash of the parts of relid_sumo that decide results."""
    sources: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the source files of parts that are not built in, by import path."""

    @model_serializer(mode="wrap")
    def _without_built_in(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if not self.sources:
            del content["sources"]
            if self.observation_size in {None, Layout().size(self.m_out)}:
                del content["observation_size"]
        return content


def check_free(folder: Path) -> None:
    """Raise InputError where a run folder exists and is not empty, or cannot be made."""
    if folder.exists() and (not folder.is_dir() or not all(_is_early(one) for one in folder.iterdir())):
        raise InputError(f"{folder} exists; choose another --out, continue with --resume {folder}, or delete it")
    above = files.nearest(folder)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"cannot make {folder}: {above} is not a folder that you may write to; choose another --out")


def _is_early(one: Path) -> bool:
    """Return whether a run that was killed before it had its settings leaves this."""
    ours = one.name == FILE and one.read_bytes().startswith(f"# {HEADING}".encode())
    return ours or one.name == layout.LOCK or files.is_part(one)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder during training; the operating system releases the lock when the process ends.

    Raises
    ------
    InputError
        Another process trains this run, or the folder cannot be written.
    """
    with files.locked_folder(folder, layout.LOCK, "it is being trained by {holder}", "folder"):
        yield


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def sources(scenario: Scenario | None, train: TrainSettings) -> dict[str, str]:
    """Return the SHA-256 of the source of each part of a run that is not built in, by import path."""
    own = {"algorithm": train.algo, "provider": train.llm}
    hashes = {path: extension.source_hash(path, what) for what, path in own.items() if extension.is_path(path)}
    return hashes if scenario is None else kinds.sources(scenario) | hashes


def create(folder: Path, ready: PreparedScenario, train: TrainSettings) -> None:
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
        demand=ready.demand,
        m_out=ready.task.graph.m_out,
        versions=versions(),
        code=cache.code(),
        observation_size=ready.task.observation_size,
        sources=sources(ready.scenario, train),
    )
    if train.demonstrations:
        trusted.note(train.demonstrations)
    for name in (train.algo, train.llm):
        trusted.note_code(name)
    write_scenario(placed(ready.scenario), folder, [HEADING])
    text = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
    files.write(folder / SETTINGS, text.encode())


def load(folder: Path) -> tuple[RunSettings, Scenario]:
    """Return a run's settings and its scenario.

    Raises
    ------
    InputError
        The folder has no run, or its format is another version.
    """
    file = folder / SETTINGS
    safe_paths.check_folder(folder)
    if not file.is_file():
        raise InputError(
            f"{folder} is not a run folder: it has no {SETTINGS}; make one with: relid-sumo train SCENARIO --out"
        )
    content = files.read_json(file, FORMAT, layout.RUN_ADVICE)
    trusted.check_code(content, str(file))
    return validate(content, RunSettings, str(file)), read_scenario(folder / FILE)


def check_same(settings: RunSettings, ready: PreparedScenario, folder: Path) -> None:
    """Raise InputError where the network, the observation or own code differs from that of the run."""
    check_fits(settings, ready, folder)
    if ready.network.key != settings.network_key:
        raise InputError(
            f"{folder}: its network '{ready.network.name}' has changed since (another OSM file, other "
            "options or another SUMO); train again, or restore the files it was built from"
        )


def check_fits(settings: RunSettings, ready: PreparedScenario, folder: Path) -> None:
    """Raise InputError where the number of slots, the observation or own code differs from that of the run."""
    scores_slots = settings.train.algo == "ippo" and ready.scenario.observation.kind == CONNECTED
    m_out = ready.task.graph.m_out if scores_slots else settings.m_out  # a slot scorer takes any number of slots
    if ready.task.graph.m_out != m_out:
        raise InputError(
            f"{folder}: trained on a network with up to {settings.m_out} successors of an edge; '{ready.network.name}' "
            f"has up to {ready.task.graph.m_out}, so the policy does not fit; train again"
        )
    size = settings.observation_size or Layout().size(settings.m_out)
    size += (m_out - settings.m_out) * ready.task.layout.per_slot
    if ready.task.observation_size != size:
        raise InputError(
            f"{folder}: trained on observations of width {size}; '{ready.scenario.observation.kind}' has "
            f"{ready.task.observation_size}, so the policy does not fit; train again"
        )
    for kind, now in kinds.sources(ready.scenario).items():
        if settings.sources.get(kind, now) != now:
            raise InputError(f"{folder}: the source of '{kind}' has changed since; train again, or restore it")


class Table:
    """A CSV file with one row per update.

    Parameters
    ----------
    file
        The file.
    keep
        Number of existing rows to keep: those up to the checkpoint.

    Raises
    ------
    InputError
        The file has fewer rows, or cannot be read.
    """

    def __init__(self, file: Path, keep: int = 0) -> None:
        self._file = file
        lines = files.read(file).splitlines(keepends=True)[: keep + 1] if keep else []
        if keep and (len(lines) <= keep or not lines[-1].endswith("\n")):
            raise InputError(
                f"{file}: has {max(len(lines) - 1, 0)} complete rows, and the checkpoint is after row {keep}; put back "
                "a copy, or train again"
            )
        files.write(file, "".join(lines).encode())
        self._empty = not lines

    def add(self, row: Mapping[str, float | str]) -> None:
        """Append a row; the first gives the header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._empty:
            writer.writerow(row)
            self._empty = False
        writer.writerow([value if isinstance(value, int | str) else f"{value:.9g}" for value in row.values()])
        files.append(self._file, text.getvalue().encode())
