"""Files outside a scenario's or a run's own folder that the user has named: on the command line, or in a call.

A scenario may lie in one folder and its OSM file in another only because a user said so, and a run folder then names
that path. The cache has a note of each such path, so that the run can be continued; a path in a file that somebody else
wrote has no note, and is refused.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relid_sumo.base import extension, inside
from relid_sumo.base.cache import cache_folder
from relid_sumo.base.errors import InputError

CODE_KEYS = {"algo", "llm", "kind", "baselines", "provider", "acts"}  # what may name code by import path


def note(path: str | Path) -> None:
    """Note that the user has named a path."""
    _mark(f"file {Path(path).resolve()}")


def note_code(name: str) -> None:
    """Note that the user has named code by its import path; the name of something built in needs no note."""
    if extension.is_path(name):
        _mark(f"code {name}")


def _mark(text: str) -> None:
    file = _note(text)
    if file.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as part:
        part.write(f"{text}\n")
    Path(part.name).replace(file)


def is_noted(path: str | Path) -> bool:
    """Return whether the user has named a path."""
    return "\0" not in str(path) and Path(path).is_absolute() and _note(f"file {Path(path).resolve()}").is_file()


def check_code(content: object, source: str) -> None:
    """Check that a file names code only that the user has named: importing it would run it.

    Parameters
    ----------
    content
        What a JSON or TOML file has, before anything else is done with it.
    source
        The file, for the message.

    Raises
    ------
    InputError
        It names other code.
    """
    for key, name in _code(content):
        if not _note(f"code {name}").is_file():
            raise InputError(
                f"{source}: {key} = '{inside.printable(name)}': names code, which would run with your rights and which "
                "you have not named; read it, and then name it yourself: with --set, --algo, --llm or --baselines"
            )


def _code(content: object) -> Iterator[tuple[str, str]]:
    """Yield the keys that name code in nested content, and what they name."""
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
    """Return the path of what a file in a folder names: it lies in the folder, or the user has named it before.

    Parameters
    ----------
    folder, name, what
        As `inside.place`.
    how
        How the user names it, for the message.

    Raises
    ------
    InputError
        Neither.
    """
    if is_noted(folder.resolve() / name):
        return folder.resolve() / name
    try:
        return inside.place(folder, name, what)
    except InputError as error:
        raise InputError(f"{error}, or name it yourself: {how}") from None
