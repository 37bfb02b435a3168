"""Scenarios by name, from files, and made anew from an OSM file."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import changed, load_toml, validate
from relid_sumo.scenario import kinds
from relid_sumo.scenario.settings import Scenario

FILE = "scenario.toml"
ANSWERS = "answers"  # folder of recorded answers of a language model, beside it
RECALIBRATE = {"level", "profile", "fringe_factor", "min_distance_m", "max_running"}


def read_scenario(file: Path) -> Scenario:
    """Return the scenario that a file holds.

    Raises
    ------
    InputError
        There is no such file, or it is not valid.
    """
    scenario = load_toml(file, Scenario).model_copy(update={"folder": file.parent.resolve()})
    return kinds.located(scenario, scenario.folder)


def placed(scenario: Scenario) -> Scenario:
    """Return a scenario that can be written anywhere: the paths of its own files made absolute."""
    beside = scenario.folder / scenario.network
    if beside.is_file():
        scenario = scenario.model_copy(update={"network": str(beside.resolve())})
    if scenario.demand.route_file is not None:
        own = scenario.demand.model_copy(
            update={"route_file": str((scenario.folder / scenario.demand.route_file).resolve())}
        )
        scenario = scenario.model_copy(update={"demand": own})
    return scenario


def override(scenario: Scenario, changes: Sequence[str], source: str = "--set", folder: Path | None = None) -> Scenario:
    """Return a scenario with settings replaced; a demand whose level or shape changes is calibrated again.

    `source` says, for the message, where the changes come from; `folder` is what files in import paths are relative
    to, the present one where not given.

    Raises
    ------
    InputError
        A change is not ``key=value``, or names no setting, or gives it a value it cannot have.
    """
    if not changes:
        return scenario
    content = changed(scenario.model_dump(mode="json", exclude_none=True), changes)
    keys = {change.partition("=")[0].strip() for change in changes}
    if keys & {f"demand.{name}" for name in RECALIBRATE} and "demand.rate_vph" not in keys:
        content["demand"].pop("rate_vph", None)
    return kinds.located(validate(content, Scenario, source).model_copy(update={"folder": scenario.folder}), folder)


def to_toml(scenario: Scenario, heading: Sequence[str] = ()) -> str:
    """Return a scenario as TOML, every value visible and explained."""
    lines = [*(f"# {line}" for line in heading), *_table(scenario, ())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(model: BaseModel, place: tuple[str, ...]) -> Iterator[str]:
    tables: list[tuple[str, BaseModel | tuple[BaseModel, ...]]] = []
    written = model.model_dump()
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in written:
            continue
        if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
            tables.append((name, value))
            continue
        if info.description and not (place and place[0] == "trips"):
            yield from textwrap.wrap(info.description, 117, initial_indent="# ", subsequent_indent="# ")
        yield f"# {name} =" if value is None else f"{name} = {_literal(value)}"
    for name, value in tables:
        title = ".".join((*place, name))
        if isinstance(value, BaseModel):
            if place and place[0] == "trips":
                yield f"{name} = {_literal(value)}"
            else:
                yield from ("", f"[{title}]", *_table(value, (*place, name)))
        else:
            for item in value:
                yield from ("", f"[[{title}]]", *_table(item, (*place, name)))


def _literal(value: object) -> str:
    if isinstance(value, BaseModel):
        return "{ " + ", ".join(f"{k} = {_literal(v)}" for k, v in value) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def check_new(folder: Path) -> None:
    """Raise InputError where a folder holds a scenario already."""
    if (folder / FILE).exists():
        raise InputError(f"{folder / FILE} exists; choose another name, or delete it first")


def write_scenario(scenario: Scenario, folder: Path, heading: Sequence[str] = ()) -> Path:
    """Write a scenario's file into a folder, whole, and its recorded answers if it has some; return the file.

    Raises
    ------
    InputError
        The folder holds one already, or cannot be written.
    """
    file = folder / FILE
    check_new(folder)
    if Path(scenario.network).parent == folder.resolve():  # an OSM file of its own: the two may move together
        scenario = scenario.model_copy(update={"network": Path(scenario.network).name})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (scenario.folder / FILE).is_file() and (scenario.folder / ANSWERS).is_dir():
            shutil.copytree(scenario.folder / ANSWERS, folder / ANSWERS, dirs_exist_ok=True)
        files.write(file, to_toml(scenario, heading).encode())
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None
    return file
