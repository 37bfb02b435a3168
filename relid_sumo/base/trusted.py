"""Files outside the folder of a scenario or a run that the user has named, on the command line or in a call.

A scenario and its OSM file are in different folders only if a user has named them so, and a run folder then contains
that path. The cache has a note of each such path, so that the run can be resumed. A path in a file of another person
has no note and is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from relid_sumo.base import cache, extension, safe_paths
from relid_sumo.base.cache import cache_folder
from relid_sumo.base.errors import InputError

CODE_KEYS = {"algo", "llm", "kind", "baselines", "provider", "acts"}  # keys whose values may name code by import path


def note(path: str | Path) -> None:
    """Note that the user has named a path."""
    _mark(f"file {Path(path).resolve()}")


def note_code(name: str) -> None:
    """Note that the user has named code by its import path. Names of built-in objects need no note.

    The note of a file, or of a module of the working directory, is of that file with its present content.
    """
    if extension.is_path(name):
        for text in _code_notes(name):
            _mark(text)


def note_service(service: Mapping[str, object]) -> None:
    """Note that the user has named a language-model service, by all settings that decide where key and prompts go."""
    if service:
        _mark(_service(service))


def is_noted_service(service: Mapping[str, object]) -> bool:
    """Return whether the user has named a service with these settings, all of them together."""
    return not service or _note(_service(service)).is_file()


def _service(service: Mapping[str, object]) -> str:
    return f"service {json.dumps(service, sort_keys=True)}"


def _mark(text: str) -> None:
    file = _note(text)
    if file.is_file():
        return
    cache.make_folder()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as part:
        part.write(f"{text}\n")
    Path(part.name).replace(file)


def is_noted(path: str | Path) -> bool:
    """Return whether the user has named a path."""
    return "\0" not in str(path) and Path(path).is_absolute() and _note(f"file {Path(path).resolve()}").is_file()


def check_code(content: object, source: str) -> None:
    """Check that a file names only code that the user has named, because importing code runs it.

    Parameters
    ----------
    content
        The content of a JSON or TOML file, before any other use of it.
    source
        The file, for the message.

    Raises
    ------
    InputError
        The file names other code, or code that has changed since.
    """
    for key, name in _code(content):
        *earlier, now = (_note(text).is_file() for text in _code_notes(name))
        where = f"{source}: {key} = '{safe_paths.printable(name)}'"
        if any(earlier) and not now:
            raise InputError(
                f"{where}: names code that has changed since you named it; restore it, or read it and name it again: "
                "with --set, --algo, --llm or --baselines"
            )
        if not now:
            raise InputError(
                f"{where}: names code, which would run with your rights and which you have not named; read it, and "
                "then name it yourself: with --set, --algo, --llm or --baselines"
            )


def _code_notes(name: str) -> list[str]:
    """Return the notes of code: of the user's own file in any version, if it is one, and of what would run now."""
    try:
        file = extension.own_file(name)
        if file is None:
            return [f"code {name}"]
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "absent"
        return [f"code {extension.located(name)} {file}", f"code {extension.located(name)} {file} {content}"]
    except (OSError, ValueError, RuntimeError):  # no file can have that name
        return [f"code {name}"]


def _code(content: object) -> Iterator[tuple[str, str]]:
    """Yield the keys that name code in nested content, with their values."""
    if isinstance(content, list):
        for part in content:
            yield from _code(part)
    if isinstance(content, dict):
        for key, value in content.items():
            names = value if isinstance(value, list) else [value]
            if key in CODE_KEYS:
                yield from ((key, name) for name in names if isinstance(name, str) and extension.is_path(name))
            yield from _code(value)


def _note(text: str) -> Path:
    return cache_folder() / "named" / hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def allowed(folder: Path, name: str, what: str, how: str) -> Path:
    """Return the path named by a file in a folder, if it is in the folder or the user has named it before.

    Parameters
    ----------
    folder, name, what
        As in `safe_paths.place`.
    how
        How the user can name it, for the message.

    Raises
    ------
    InputError
        The path is neither.
    """
    if is_noted(folder.resolve() / name):
        return folder.resolve() / name
    try:
        return safe_paths.place(folder, name, what)
    except InputError as error:
        raise InputError(f"{error}, or name it yourself: {how}") from None
