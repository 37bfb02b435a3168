"""Reads and writes scenario files, and replaces settings."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from relid_sumo.base import files, safe_paths, trusted
from relid_sumo.base.cache import cache_folder
from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import changed, load_toml, validate
from relid_sumo.network import osm, sumo_net
from relid_sumo.network.catalogue import catalogue
from relid_sumo.scenario import kinds
from relid_sumo.scenario.llm import ADDRESS, SERVICE, LlmSettings
from relid_sumo.scenario.settings import Scenario

FILE = "scenario.toml"
ANSWERS = "answers"  # folder of recorded answers of a language model, in the scenario's folder
LONGEST_ANSWER_MIB = 4  # size limit of a recorded answer
OWN_FILES = ("route_file", "additional_file", "counts_file")  # of a scenario's demand
INLINE = {"trips", "incidents"}  # written as short tables: only what is given, without explanations
RECALIBRATE = {"level", "profile", "fringe_factor", "min_distance_m", "max_running"}
# Settings that do not change an episode, with their defaults. They are written where they are set.
NOT_HASHED = {"rough": (), "llm": LlmSettings()}


def read_scenario(file: Path, named_now: Collection[str] = ()) -> Scenario:
    """Return the scenario in a file.

    Parameters
    ----------
    named_now
        Settings that the user replaces; paths in their old values are not checked.

    Raises
    ------
    InputError
        There is no such file, it is not valid, or it names a file outside its folder that the user has not named.
    """
    safe_paths.place(file.parent, file.name, str(file))
    scenario = load_toml(file, Scenario).model_copy(update={"folder": file.parent.resolve()})
    scenario = kinds.located(scenario, scenario.folder)
    check_paths(scenario, str(file), named_now)
    return scenario.model_copy(update={"llm_unnamed": unnamed_service(scenario.llm, str(file), named_now)})


def unnamed_service(llm: LlmSettings, source: str, named_now: Collection[str] = ()) -> str:
    """Return why the language-model service that a file names may not be asked; "" where it may.

    It may where the user names each setting that decides where the key and the prompts go, has named them all together
    before, or has the same address in OPENAI_BASE_URL.

    Parameters
    ----------
    source
        The file, for the message.
    named_now
        Settings that the user gives, such as ``llm.base_url``.
    """
    given = llm.service
    if trusted.is_noted_service(given):
        return ""
    named = {".".join(key.split(".")[:2]).removeprefix("llm.") for key in named_now if key.startswith("llm.")}
    if llm.base_url is not None and llm.base_url == os.environ.get(ADDRESS, "").strip():
        named.add("base_url")
    left = [key for key in SERVICE if key in given and key not in named]
    if not left:
        return ""
    shown = "; ".join(f"llm.{key} = {safe_paths.printable(json.dumps(given[key]))}" for key in left)
    words = " ".join(f"--set llm.{key}=..." for key in left)
    return (
        f"{source}: {shown}: this decides where your key and the prompts go, and you have not named it; read it, and "
        f"then name it yourself: {words}"
    )


def check_paths(scenario: Scenario, source: str, named_now: Collection[str] = ()) -> None:
    """Check that a scenario from a file names only files in its folder, or files that the user has named.

    Parameters
    ----------
    source
        The file, for the message.
    named_now
        As in `read_scenario`.

    Raises
    ------
    InputError
        It names another file.
    """
    for what, part in (("observation", scenario.observation), ("reward", scenario.reward)):
        if f"{what}.kind" not in named_now:
            trusted.check_code({"kind": part.kind}, f"{source}: {what}")
    roads = scenario.network
    for key in OWN_FILES:
        own = getattr(scenario.demand, key)
        if own is not None and f"demand.{key}" not in named_now:
            trusted.allowed(scenario.folder, own, f"{source}: demand.{key}", f"--set demand.{key}=FILE")
    file = own_roads(scenario)
    if "network" not in named_now and file is not None and not _in_catalogue(file):
        trusted.allowed(scenario.folder, roads, f"{source}: network", "relid-sumo network build FILE")


def _in_catalogue(file: Path) -> bool:
    """Return whether a file is part of a scenario of the catalogue, as the town's map is: runs name it by its path."""
    if "\0" in str(file):
        return False
    return file.resolve().parent in {one.parent.resolve() for one in catalogue("scenarios", FILE).values()}


def own_roads(scenario: Scenario) -> Path | None:
    """Return the OSM file or SUMO network that a scenario names; None where it names a network of the catalogue."""
    name = scenario.network
    file = scenario.folder / name
    is_file = name.lower().endswith((*osm.ENDINGS, *sumo_net.ENDINGS)) or not safe_paths.PLAIN.fullmatch(name)
    return file if is_file or file.is_symlink() or file.is_file() else None


def answer_files(answers: Path) -> list[Path]:
    """Return the recorded answers in a folder, in the order of their names; none where it does not exist.

    Raises
    ------
    InputError
        A link leads out of the folder, or an answer is too large or not a file.
    """
    safe_paths.place(answers.parent, answers.name, f"{answers}: recorded answers")
    if not answers.is_dir():
        return []
    safe_paths.check_folder(answers)
    found = sorted(answers.glob("*.md"))
    for file in found:
        if not file.is_file() or file.stat().st_size > LONGEST_ANSWER_MIB * 2**20:
            raise InputError(
                f"{safe_paths.printable(str(file))}: not a recorded answer, a file of at most {LONGEST_ANSWER_MIB} "
                "MiB; remove it"
            )
    return found


def placed(scenario: Scenario) -> Scenario:
    """Return a scenario with absolute paths of its own files, noted as named, so that it can be written anywhere."""
    roads = scenario.folder / scenario.network
    if roads.is_file():
        scenario = scenario.model_copy(update={"network": str(roads.resolve())})
    own = {key: file for key in OWN_FILES if (file := getattr(scenario.demand, key)) is not None}
    if own:
        paths = {key: str((scenario.folder / file).resolve()) for key, file in own.items()}
        scenario = scenario.model_copy(update={"demand": scenario.demand.model_copy(update=paths)})
    note_paths(scenario)
    return scenario


def note_paths(scenario: Scenario) -> None:
    """Note the paths of a scenario before it is written: its user has named these files."""
    for path in (scenario.network, *(getattr(scenario.demand, key) for key in OWN_FILES)):
        if path is not None and Path(path).is_absolute():
            trusted.note(path)
    for part in (scenario.observation, scenario.reward):
        trusted.note_code(part.kind)
    if not scenario.llm_unnamed:
        trusted.note_service(scenario.llm.service)


def override(scenario: Scenario, changes: Sequence[str], source: str = "--set") -> Scenario:
    """Return a scenario with settings replaced; a demand whose level or shape changes is calibrated again.

    `source` is the origin of the changes, for the message. Files in import paths are relative to the working
    directory.

    Raises
    ------
    InputError
        A change is not ``key=value``, names no setting, or has a value that is not valid.
    """
    if not changes:
        return scenario
    keys = {change.partition("=")[0].strip() for change in changes}
    asked = {"llm": scenario.llm.model_dump(mode="json", exclude_defaults=True)}
    content = changed(_without_replaced(scenario.model_dump(mode="json", exclude_none=True) | asked, keys), changes)
    if keys & {f"demand.{name}" for name in RECALIBRATE} and "demand.rate_vph" not in keys:
        content["demand"].pop("rate_vph", None)
    read = {"rough": scenario.rough, "folder": scenario.folder, "llm_unnamed": scenario.llm_unnamed}
    return kinds.located(validate(content, Scenario, source).model_copy(update=read))


def _without_replaced(content: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return settings without those that a change excludes: trips or a fleet, and share or count of a fleet."""
    own = {key.partition(".")[2] for key in keys if key.partition(".")[0] == "fleet"}
    left_out = set[str]()
    if own and "trips" not in keys:
        left_out = {"trips"}
    elif "trips" in keys and not own:
        left_out = {"fleet"}
    content = {key: value for key, value in content.items() if key not in left_out}
    if len(own & {"share", "count"}) == 1 and "fleet" in content:
        content["fleet"] = {k: v for k, v in content["fleet"].items() if k not in {"share", "count"}}
    return content


def with_fleet(scenario: Scenario, size: float | None) -> Scenario:
    """Return a scenario with a fleet instead of its trips; the same scenario where no size is given.

    Parameters
    ----------
    size
        Share of the demand's vehicles, up to 1, or number of agents, from 2.

    Raises
    ------
    InputError
        It is neither.
    """
    if size is None:
        return scenario
    if not 0 < size <= 1 and not (size >= 2 and size == int(size)):
        raise InputError(
            f"--fleet {size:g}: give a share of the vehicles, such as 0.2, or a number of agents, such as 50"
        )
    before = {} if scenario.fleet is None else scenario.fleet.model_dump(exclude={"share", "count"})
    own = {"share": size} if size <= 1 else {"count": int(size)}
    content = scenario.model_dump(mode="json", exclude_none=True, exclude={"trips", "fleet"})
    made = validate(content | {"fleet": before | own}, Scenario, "--fleet")
    same = {
        "rough": scenario.rough,
        "folder": scenario.folder,
        "llm": scenario.llm,
        "llm_unnamed": scenario.llm_unnamed,
    }
    return made.model_copy(update=same)


def to_toml(scenario: Scenario, heading: Sequence[str] = ()) -> str:
    """Return a scenario as TOML with all values and their explanations."""
    lines = [*(f"# {line}" for line in heading), *_table(scenario, ())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(model: BaseModel, place: tuple[str, ...]) -> Iterator[str]:
    tables: list[tuple[str, BaseModel | tuple[BaseModel, ...]]] = []
    unhashed = NOT_HASHED.items() if isinstance(model, Scenario) else ()
    written = model.model_dump().keys() | {name for name, default in unhashed if getattr(model, name) != default}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in written:
            continue
        if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
            tables.append((name, value))
            continue
        if place and place[0] in INLINE:
            yield from [] if value is None or value == info.default else [f"{name} = {_literal(value)}"]
            continue
        yield from textwrap.wrap(info.description or "", 117, initial_indent="# ", subsequent_indent="# ")
        yield f"# {name} =" if value is None else f"{name} = {_literal(value)}"
    for name, value in tables:
        title = ".".join((*place, name))
        if isinstance(value, BaseModel):
            if place and place[0] in INLINE:
                yield f"{name} = {_literal(value)}"
            else:
                yield from ("", f"[{title}]", *_table(value, (*place, name)))
        else:
            for item in value:
                yield from ("", f"[[{title}]]", *_table(item, (*place, name)))


def _literal(value: object) -> str:
    if isinstance(value, BaseModel):
        return "{ " + ", ".join(f"{k} = {_literal(v)}" for k, v in value if v is not None) + " }"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_literal(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def check_new(folder: Path) -> None:
    """Raise InputError where a folder already contains a scenario."""
    if (folder / FILE).exists():
        raise InputError(f"{folder / FILE} exists; choose another name, or delete it first")


def _with_demand(scenario: Scenario, folder: Path) -> Scenario:
    """Copy a demand that was made in the cache into the scenario's folder, so that the cache may be deleted."""
    cached, copied = cache_folder().resolve(), dict[str, str]()
    for key in OWN_FILES:
        file = Path(getattr(scenario.demand, key) or "")
        if file.is_absolute() and file.is_relative_to(cached):
            name = f"demand.{key.removesuffix('_file')}.xml"
            with files.whole(folder / name) as part:
                shutil.copyfile(file, part)
            copied[key] = name
    return scenario.model_copy(update={"demand": scenario.demand.model_copy(update=copied)}) if copied else scenario


def write_scenario(scenario: Scenario, folder: Path, heading: Sequence[str] = ()) -> Path:
    """Write a scenario's file, and its recorded answers where it has some, into a folder; return the file.

    Raises
    ------
    InputError
        The folder already contains a scenario, or cannot be written.
    """
    file = folder / FILE
    check_new(folder)
    if (
        Path(scenario.network).parent == folder.resolve()
    ):  # an OSM file in the same folder: a relative path, so that both can move
        scenario = scenario.model_copy(update={"network": Path(scenario.network).name})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scenario = _with_demand(scenario, folder)
        if (scenario.folder / FILE).is_file():
            for answer in answer_files(scenario.folder / ANSWERS):
                files.write(folder / ANSWERS / answer.name, answer.read_bytes())
        note_paths(scenario)
        files.write(file, to_toml(scenario, heading).encode())
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; choose another folder") from None
    return file
