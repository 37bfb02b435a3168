"""The experiment file: scenarios x algorithms x seeds. All of it is checked before anything runs.

::

    scenarios = ["town", "city.osm"]          # or tables: [scenarios.LABEL], see `ScenarioEntry`
    seeds = [0, 1, 2]
    episodes = 200

    [evaluation]
    seeds = 10
    baselines = ["shortest", "reactive"]

    [algorithms.ippo]

    [algorithms.reled]
    llm = "openai"                            # asks the service in [llm]

    [llm]
    model = "NAME"

    [algorithms.ippo-slow]                    # another name needs the key algo
    algo = "ippo"
    ippo.learning_rate = 0.003                # any setting of a training run
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, model_validator

from relid_sumo.base import cache, extension
from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import CellName, Name
from relid_sumo.base.settings import MOST_COUNT, Seed, Settings
from relid_sumo.base.toml import changed, read_toml, validate
from relid_sumo.baseline import named as baselines_named
from relid_sumo.baseline.table import BY_DEFAULT
from relid_sumo.learn import presets, run_folder
from relid_sumo.learn.settings import TrainSettings, check_provider, parse_curriculum, train_settings
from relid_sumo.network import catalogue, osm
from relid_sumo.scenario import files, kinds
from relid_sumo.scenario import make as scenario_make
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.scenario.settings import Place, Scenario, Seeds, Trip
from relid_sumo.sed.ask import providers

Found = TypeVar("Found")
ANSWERED = {"model", "base_url", "query", "temperature", "top_p", "seed", "reasoning_effort", "max_tokens"}
"""Settings of a language-model service that its answers, and so the results of a cell, depend on."""


class ScenarioEntry(Settings):
    """One scenario of the grid."""

    source: str = ""
    """Scenario's name or folder, or an OSM file; paths are relative to the experiment file. Default: the
    label."""
    agents: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Number of agents, for an OSM file. Default: 10."""
    bbox: osm.Box | None = None
    """West, south, east, north in degrees, for an OSM file. Default: the whole file."""
    episodes: Annotated[int, Field(ge=1, le=MOST_COUNT)] | None = None
    """Number of training episodes on this scenario. Default: the experiment's."""
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Replaced settings of the scenario, for instance ``demand.level = 0.4``."""

    @property
    def changes(self) -> list[str]:
        """The replaced settings in the form of ``--set``."""
        return list(_flat(self.settings))


class EvaluationSettings(Settings):
    """The evaluation of the final policy of each cell."""

    seeds: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Number of evaluation traffic seeds. Default: all of the scenario's."""
    baselines: tuple[str, ...] = BY_DEFAULT
    """Baselines to evaluate in the same traffic."""


class Experiment(Settings):
    """The content of an experiment file."""

    scenarios: Annotated[dict[Name, ScenarioEntry], Field(min_length=1)]
    """Scenarios by label. A list of names and OSM files is also allowed."""
    algorithms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Settings of runs by label (`relid_sumo.learn.settings.TrainSettings`), if they differ from the defaults."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Training seeds, one run per seed."""
    episodes: Annotated[int, Field(ge=1, le=MOST_COUNT)] = 100
    """Training episodes of a run. A scenario's or an algorithm's own value has priority."""
    curriculum: str | None = None
    """Simulators of the training, such as ``meso:0.8,micro:0.2``. An algorithm's own value has priority."""
    evaluation: EvaluationSettings = EvaluationSettings()
    llm: LlmSettings = LlmSettings()
    """The language-model service of runs with ``llm = "openai"``. A scenario's own settings have priority."""


class Cell(Settings):
    """One run of the grid: its labels, all settings, and a hash of all that determines its result."""

    name: CellName
    scenario: Name
    algorithm: Name
    seed: Seed
    train: TrainSettings
    evaluation: EvaluationSettings
    fingerprint: str
    command: str


class Plan(Settings):
    """The expanded grid. `sources` are the scenarios by label, with absolute paths."""

    sources: dict[Name, ScenarioEntry]
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [cell.name for cell in self.cells]
        if len(set(names)) != len(names):
            raise ValueError("cells: two have the same name")
        if unknown := {cell.scenario for cell in self.cells} - self.sources.keys():
            raise ValueError(f"cells: the scenario '{min(unknown)}' has no source")
        return self


def read(file: Path, changes: Sequence[str] = ()) -> Plan:
    """Return the grid in an experiment file.

    Parameters
    ----------
    changes
        Replaced settings of the language-model service, such as ``"llm.model=NAME"``.

    Raises
    ------
    InputError
        The file has faults. The message lists all of them, one per line.
    """
    named_now = {change.partition("=")[0].strip() for change in changes}
    if other := sorted(key for key in named_now if not key.startswith("llm.")):
        raise InputError(f"--set {other[0]}: here --set replaces settings of [llm] only; put others into {file}")
    experiment = validate(changed(_labelled(read_toml(file), file), changes), Experiment, str(file))
    baselines = tuple(extension.located(name, file.parent) for name in experiment.evaluation.baselines)
    evaluation = experiment.evaluation.model_copy(update={"baselines": baselines})
    faults: list[str] = []
    sources, scenarios = {}, {}
    for label, entry in experiment.scenarios.items():
        where = f"{file}: scenarios.{label}"
        source, placed = _source(entry.source or label, file.parent), _located(entry.settings, file.parent)
        asked = _with_service(placed, experiment.llm, named_now)
        sources[label] = entry.model_copy(update={"source": source, "settings": asked})
        scenarios[label] = _or_fault(
            faults,
            where,
            lambda e=sources[label], w=where: _scenario(e, w, named_now),  # type: ignore[misc]
        )
    _or_fault(faults, f"{file}: evaluation", lambda: baselines_named.baselines(",".join(baselines)))
    problems = {label: _problem(sources[label], one) for label, one in scenarios.items() if one is not None}
    cells = []
    for (label, scenario), name in product(scenarios.items(), experiment.algorithms):
        own = experiment.scenarios[label].episodes or experiment.episodes
        where = f"{file}: algorithms.{name}"
        train = _or_fault(
            faults,
            where,
            lambda n=name, e=own, w=where: _train(experiment, n, e, w, file.parent),  # type: ignore[misc]
        )
        if scenario is not None and train is not None:
            _or_fault(faults, where, lambda t=train, s=scenario: t.check_agents(s))  # type: ignore[misc]
            _or_fault(faults, where, lambda t=train, s=scenario: check_provider(t, s))  # type: ignore[misc]
            for seed in experiment.seeds:
                settings = train.model_copy(update={"seed": seed})
                cells.append(_cell((label, name), sources[label], problems[label], settings, evaluation, scenario.llm))
        wanted = experiment.evaluation.seeds
        if scenario is not None and wanted is not None and wanted > len(scenario.seeds.evaluation):
            have = len(scenario.seeds.evaluation)
            faults.append(f"{file}: evaluation.seeds = {wanted}: scenario '{label}' has {have} evaluation seeds")
    faults += [f"{file}: {text}" for text in _duplicates(cells)]
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))
    return Plan(sources=sources, cells=tuple(cells))


def _labelled(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the content of an experiment file, with a list of scenarios converted into tables."""
    names = content.get("scenarios")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return content
    labels = [_label(name) for name in names]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(f"{file}: scenarios: '{twice[0]}' is named twice; give each a label: [scenarios.LABEL]")
    return {**content, "scenarios": {label: {"source": name} for label, name in zip(labels, names, strict=True)}}


def _or_fault(faults: list[str], where: str, make: Callable[[], Found]) -> Found | None:
    """Return the result of `make`; if it fails, add the reason to the faults and return None."""
    try:
        return make()
    except InputError as error:
        lines = str(error).splitlines()
        faults += [line if line.startswith(where) else f"{where}: {line}" for line in lines]
        return None


def _label(name: str) -> str:
    return catalogue.plain_name(Path(name)) if is_made(name) else Path(name).name


def _source(name: str, folder: Path) -> str:
    """Return a name of the catalogue unchanged, and a path as an absolute path."""
    if name in catalogue.catalogue("scenarios", files.FILE):
        return name
    beside = folder / name
    return str(beside.resolve()) if beside.exists() or is_made(name) else name


def is_made(source: str) -> bool:
    """Return whether a scenario must be made from its source: an OSM file, a SUMO network or configuration."""
    return scenario_make.makes(Path(source))


def _with_service(settings: dict[str, Any], llm: LlmSettings, named_now: Collection[str]) -> dict[str, Any]:
    """Return settings of a scenario with those of the experiment's service that they do not set themselves."""
    shared = llm.model_dump(mode="json", exclude_defaults=True)
    own = settings.get("llm", {})
    if not isinstance(own, dict) or not (shared or own):
        return settings
    named = {key.split(".")[1] for key in named_now}
    return {**settings, "llm": shared | {key: value for key, value in own.items() if key not in named}}


def _scenario(entry: ScenarioEntry, where: str, named_now: Collection[str]) -> Scenario:
    """Return the scenario with replaced settings; a placeholder for a scenario that is to be made."""
    scenario = _read(entry, where)
    return scenario.model_copy(update={"llm_unnamed": files.unnamed_service(scenario.llm, where, named_now)})


def _read(entry: ScenarioEntry, where: str) -> Scenario:
    if not is_made(entry.source):
        made = scenario_make.load_scenario(entry.source, bbox=entry.bbox, agents=entry.agents)
        return _importable(files.override(made, entry.changes, where))
    osm.check_file(Path(entry.source))
    nowhere = Place(lon=0, lat=0, bearing=0)
    trip = Trip(id="agent0", origin=nowhere, destination=nowhere, depart_s=0)
    plain = Scenario(name="area", network="area", seeds=Seeds.default(), trips=(trip,))
    return _importable(files.override(plain, entry.changes, where))


def _located(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return settings of a scenario in which files in import paths are absolute; a relative one starts at a folder."""
    made = dict(settings)
    for part in ("observation", "reward"):
        own = settings.get(part)
        if isinstance(own, dict) and isinstance(own.get("kind"), str):
            made[part] = {**own, "kind": extension.located(own["kind"], folder)}
    return made


def _importable(scenario: Scenario) -> Scenario:
    """Return the scenario if its observation and reward can be imported."""
    kinds.layout(scenario)
    kinds.reward(scenario.reward.kind)
    return scenario


def _train(experiment: Experiment, label: str, episodes: int, where: str, folder: Path) -> TrainSettings:
    entry = experiment.algorithms[label]
    if "seed" in entry:
        raise InputError("seed: give the seeds at the top of the file, for all algorithms: seeds = [0, 1]")
    content = {"algo": label, "episodes": episodes, "curriculum": experiment.curriculum or [], **entry}
    if isinstance(content["curriculum"], str):
        content["curriculum"] = parse_curriculum(content["curriculum"])
    settings = train_settings(content, source=where, folder=folder)
    if not settings.demonstrations:
        return settings
    given = folder / settings.demonstrations
    if not given.is_file():
        raise InputError(
            f"demonstrations: there is no file {given}; make it with: relid-sumo sed run SCENARIO --out DIR"
        )
    return settings.model_copy(update={"demonstrations": str(given.resolve())})


def _problem(entry: ScenarioEntry, scenario: Scenario) -> dict[str, Any]:
    """Return the content of a scenario without names and paths; an OSM file is represented by its checksum."""
    file = Path(entry.source) if is_made(entry.source) else scenario.folder / scenario.network
    roads = [cache.sha256(file), entry.bbox, entry.agents] if file.is_file() else scenario.network
    content = {"roads": roads, **scenario.model_dump(mode="json", exclude={"name", "network"})}
    own = scenario.folder / (scenario.demand.route_file or "")
    sources = kinds.sources(scenario)
    return content | ({"traffic": cache.sha256(own)} if own.is_file() else {}) | ({"code": sources} if sources else {})


def _cell(
    labels: tuple[str, str],
    entry: ScenarioEntry,
    problem: dict[str, Any],
    train: TrainSettings,
    evaluation: EvaluationSettings,
    llm: LlmSettings,
) -> Cell:
    content = [problem, train.model_dump(mode="json", exclude=set(train.unread)), evaluation.model_dump(mode="json")]
    code = run_folder.sources(None, train) | baselines_named.sources(evaluation.baselines)
    content += [{"code": code}] if code else []
    content += [{"demonstrations": cache.sha256(Path(train.demonstrations))}] if train.demonstrations else []
    if train.llm and "llm" not in train.unread and not providers.find(train.llm).repeats:
        asked = llm.model_dump(mode="json", include=ANSWERED, exclude_defaults=True)
        content += [{"llm": asked}] if asked else []
    return Cell(
        name=f"{'-'.join(labels)}-{train.seed}",
        scenario=labels[0],
        algorithm=labels[1],
        seed=train.seed,
        train=train,
        evaluation=evaluation,
        fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        command=_command(entry, train),
    )


def _command(entry: ScenarioEntry, train: TrainSettings) -> str:
    """Return the command that reproduces a cell's training."""
    words = ["relid-sumo", "train", entry.source, "--algo", train.algo, "--seed", str(train.seed)]
    words += ["--episodes", str(train.episodes)]
    words += ["--agents", str(entry.agents)] if entry.agents else []
    words += [f"--bbox={','.join(map(str, entry.bbox))}"] if entry.bbox else []
    preset = train_settings(presets.filled(presets.STANDARD, {"algo": train.algo}))
    plain = dict(_pairs(preset.model_dump(mode="json")))
    named = {"algo", "seed", "episodes"}
    own = [(k, v) for k, v in _pairs(train.model_dump(mode="json")) if k not in named and plain.get(k) != v]
    words += [word for change in entry.changes for word in ("--set", change)]
    words += [word for key, value in own for word in ("--set", f"train.{key}={json.dumps(value)}")]
    return shlex.join(words)


def _flat(settings: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in _pairs(settings))


def _pairs(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as (dotted key, value)."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{before}{key}.")
        else:
            yield before + key, value


def _duplicates(cells: list[Cell]) -> Iterator[str]:
    """Yield a line for each pair of cells with the same name, or with the same content."""
    names: dict[str, Cell] = {}
    same: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            yield f"the cell '{cell.name}' is in the grid twice; check seeds, scenarios and algorithms"
            continue
        names[cell.name] = cell
        other = same.setdefault(cell.fingerprint, cell)
        if other is not cell:
            yield f"the cells '{other.name}' and '{cell.name}' are the same run under two names; remove one"
