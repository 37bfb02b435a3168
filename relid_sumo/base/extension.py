"""A user's own code by its import path: ``package.module:NAME`` or ``file.py:NAME``.

Algorithms, observations, rewards, baselines and language-model providers from outside this package are found by such a
path. Built-in ones are found in the same manner.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from relid_sumo.base import interpreter
from relid_sumo.base.errors import InputError, did_you_mean

FORM = "package.module:NAME or file.py:NAME"


def is_path(name: str) -> bool:
    """Return whether a name is an import path, and not the name of a built-in object."""
    return ":" in name


def short(name: str) -> str:
    """Return the last part of an import path, which names the object; other names unchanged."""
    return name.rpartition(":")[2]


def located(name: str, folder: Path | None = None) -> str:
    """Return an import path with an absolute file, if it has a file. Relative files are relative to `folder`."""
    module, _, attribute = name.rpartition(":")
    if not module.endswith(".py"):
        return name
    return f"{((folder or Path.cwd()) / module).resolve()}:{attribute}"


def own_file(name: str) -> Path | None:
    """Return the file of a user's own code, of which nothing is imported.

    None for a module that is installed or that does not exist.
    """
    module = name.rpartition(":")[0]
    return Path(module).resolve() if module.endswith(".py") else _file_here(module)


def load(name: str, what: str) -> Any:  # noqa: ANN401 - any object of the user's module
    """Return the object at an import path.

    Parameters
    ----------
    name
        ``package.module:NAME`` (searched in the working directory if it is not installed) or ``file.py:NAME``.
    what
        Kind of the object, for the message: ``algorithm``, ``reward``, ...

    Raises
    ------
    InputError
        There is no such module, file or name, or importing it raises.
    """
    module, _, attribute = name.rpartition(":")
    if not module or not attribute.isidentifier():
        raise InputError(f"{what} '{name}': not an import path; write it as {FORM}")
    found = _module(module, f"{what} '{name}'")
    if not hasattr(found, attribute):
        near = did_you_mean(attribute, [key for key in vars(found) if not key.startswith("_")])
        raise InputError(f"{what} '{name}': {module} defines no '{attribute}'{near}")
    return getattr(found, attribute)


def source_hash(name: str, what: str) -> str:
    """Return the SHA-256 of the source file that defines the object at an import path."""
    module = name.rpartition(":")[0]
    file = getattr(_module(module, f"{what} '{name}'"), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes() if file else module.encode()).hexdigest()


def failed(name: str, what: str, error: BaseException) -> InputError:
    """Return the error to raise if a user's code raises one."""
    return InputError(f"{what} '{name}' raises {_described(error)}")


@lru_cache(maxsize=64)
def _module(module: str, who: str) -> ModuleType:
    return _from_file(Path(module), who) if module.endswith(".py") else _installed(module, who)


def _installed(module: str, who: str) -> ModuleType:
    try:
        with _working_directory() if _file_here(module) else contextlib.nullcontext():
            return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise InputError(
                f"{who}: there is no module '{error.name}' here; start in the folder that has it, install it, or name "
                "its file: file.py:NAME"
            ) from None
        raise InputError(f"{who}: importing {module} raises {_described(error)}") from None


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Search the working directory too, but last: it may be a stranger's, and must not hide what is installed."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.reverse()
        sys.path.remove(here)
        sys.path.reverse()


def _file_here(module: str) -> Path | None:
    """Return the source file of a module of the working directory; None if it is installed, or nowhere."""
    path = interpreter.search_path()
    if (installed := _spec(module, path)) is not None and installed.origin:
        return None
    found = _spec(module, [*path, str(Path.cwd())])
    return Path(found.origin).resolve() if found is not None and found.has_location and found.origin else None


def _spec(module: str, path: list[str]) -> ModuleSpec | None:
    """Return where a module is found on a path, without importing it or its packages."""
    first, *rest = module.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    found = next((spec for finder in sys.meta_path if (spec := finder.find_spec(first, path))), None)
    for part in rest:
        folders = list(found.submodule_search_locations or []) if found is not None else []
        found = PathFinder.find_spec(part, folders)
    return found


def _from_file(file: Path, who: str) -> ModuleType:
    if not file.is_file():
        raise InputError(f"{who}: there is no file {file}")
    name = f"{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"{who}: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look up modules there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"{who}: importing {file} raises {_described(error)}") from None
    return module


def _described(error: BaseException) -> str:
    """Return an exception in one line: its type, its message and its location."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {text}"  # the message names file and line
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
