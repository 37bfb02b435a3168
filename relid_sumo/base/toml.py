"""Read TOML files into typed settings. Errors name the file and the key."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError

from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.safe_paths import read_text

MOST_MIB = 16  # size limit of a TOML file
Model = TypeVar("Model", bound=BaseModel)


def load_toml(file: Path, model: type[Model]) -> Model:
    """Read a TOML file into a pydantic model.

    Parameters
    ----------
    file
        The file.
    model
        Model of the content. Tables are nested models.

    Raises
    ------
    InputError
        The file is missing or not TOML, or its content does not fit: one line per fault, each with the key in
        dotted form, and the nearest known key for an unknown one.
    """
    return validate(read_toml(file), model, str(file))


def read_toml(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    InputError
        The file is missing or not TOML.
    """
    try:
        return tomllib.loads(read_text(file, MOST_MIB))
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not TOML: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or a table in a table in ...
        raise InputError(f"{file}: not usable TOML: {error}") from None


def validate(content: object, model: type[Model], source: str) -> Model:
    """Return `content` as a model.

    Parameters
    ----------
    content
        The content of a file, usually a dict.
    model
        Model of the content.
    source
        Its source, for the message: a file, or ``--set``.

    Raises
    ------
    InputError
        The content does not fit the model.
    """
    own = {info.alias for info in model.model_fields.values() if info.exclude}
    if isinstance(content, dict) and (hidden := own & content.keys()):
        raise InputError(f"{source}: unknown key '{min(map(str, hidden))}'; remove it")
    try:
        return model.model_validate_json(
            json.dumps(content, default=str), strict=True
        )  # strict, as in TOML: 1 is not "1"
    except ValidationError as error:
        faults = [
            _fault(cast(dict[str, object], fault), model)
            for fault in error.errors(include_url=False)
            if fault["type"] != "default_factory_not_called"  # a consequence of other faults
        ]
        raise InputError("\n".join(f"{source}: {fault}" for fault in faults)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: nested too deep, or a number of too many digits: {error}") from None


def changed(content: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return nested settings with some of them replaced.

    Parameters
    ----------
    content
        The settings, which do not change.
    changes
        ``"table.key=value"`` with a TOML value; a bare word is text.

    Raises
    ------
    InputError
        A change is not ``key=value``, or its table is not a table.
    """
    result = copy.deepcopy(content)
    for change in changes:
        key, sign, text = change.partition("=")
        *tables, last = (part.strip() for part in key.split("."))
        if not sign or not last:
            raise InputError(f"--set {change}: write it as key=value, for instance demand.level=0.4")
        place = result
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change}: '{table}' contains no settings")
        try:
            place[last] = tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            place[last] = text.strip()
    return result


def _fault(fault: dict[str, object], model: type[BaseModel]) -> str:
    """Return one pydantic error as ``key: what is wrong``."""
    place = cast(tuple[str | int, ...], fault["loc"])
    kind, value = fault["type"], fault["input"]
    key = _dotted(place)
    if kind == "extra_forbidden":
        known = _keys_at(model, place[:-1])
        where = f" in [{_dotted(place[:-1])}]" if len(place) > 1 else ""
        return f"unknown key '{key}'{where}{did_you_mean(str(place[-1]), known)}; known are {', '.join(sorted(known))}"
    if kind == "missing":
        return f"key '{key}' is missing"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    if not key:
        return message
    return f"{key} = {_shown(value)}: {message}"


def _dotted(place: tuple[str | int, ...]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the (nested) model at a place."""
    here: type[BaseModel] | None = model
    for part in place:
        if here is None:
            break
        if isinstance(part, str) and part in here.model_fields:
            here = _model_in(here.model_fields[part].annotation)
    if here is None:
        return []
    return [name for name, info in here.model_fields.items() if info.alias is None]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model inside an annotation such as ``X``, ``X | None`` or ``list[X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
