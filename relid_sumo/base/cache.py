"""The cache folder: files that can be recomputed, named by a hash of their inputs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from pydantic import TypeAdapter

from relid_sumo.base import files, safe_paths
from relid_sumo.base.errors import InputError

log = logging.getLogger(__name__)

Made = TypeVar("Made")
Result = TypeVar("Result")

CACHE_VARIABLE = "RELID_SUMO_CACHE"
LOCKS, CHECKSUMS = "locks", "checksums"  # folders: locks of entries being made, checksums of entries
DECIDE_RESULTS = ("base", "network", "scenario", "sim", "env", "baseline", "sed", "learn")


def cache_folder() -> Path:
    """Return the cache folder: RELID_SUMO_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("relid_sumo"))


def make_folder() -> None:
    """Make the cache folder.

    Raises
    ------
    InputError
        It cannot be written, or SUMO cannot read its files.
    """
    folder = cache_folder()
    check_for_sumo(folder, "the cache folder", CACHE_VARIABLE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        allowed, reason = os.access(folder, os.W_OK | os.X_OK), "no permission"
    except OSError as error:
        allowed, reason = False, error.strerror or str(error)
    if not allowed:
        raise InputError(
            f"the cache folder {folder} cannot be written ({reason}); set {CACHE_VARIABLE} to a folder that you may "
            "write to"
        )


def check_for_sumo(folder: Path, what: str, variable: str) -> None:
    """Check that SUMO can read files in a folder: it takes a comma for the end of a file's name.

    Raises
    ------
    InputError
        The path has a comma.
    """
    if "," in str(folder):
        raise InputError(
            f"{what} {folder} has a comma in its path, which SUMO reads as the end of a file's name; set {variable} to "
            "another folder"
        )


def cache_file(kind: str, name: str, content: object, ending: str) -> Path:
    """Return the file in which a result is cached. Its name contains a hash of the result's inputs."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / kind / f"{name}-{key}{ending}"


def once(path: Path, make: Callable[[], None], also: Sequence[Path] = ()) -> None:
    """Make a file or folder of the cache if it is missing or damaged. Only one process makes it; others wait.

    Its checksum is stored, so that damage is noticed; a damaged entry is deleted first.

    Parameters
    ----------
    also
        Other files that `make` writes, or leaves out. The checksum covers them.
    """
    if path.exists() and not _differs(path, also):
        return
    make_folder()
    lock = cache_folder() / LOCKS / f"{_joined(path)}.lock"
    with files.locked(lock, wait=True):
        if path.exists() and not _differs(path, also):
            return
        if path.exists():
            _delete(path, "its checksum differs")
        make()
        files.write(_seal(path), f"{_checksum(path, also)}\n".encode())


def sound(path: Path, make: Callable[[], None], load: Callable[[Path], Result], also: Sequence[Path] = ()) -> Result:
    """Return the content of an entry of the cache, as `once` makes it; an entry that cannot be read is made again.

    An entry of an earlier version has no checksum, so that only its reader notices the damage.
    """
    once(path, make, also)
    try:
        return load(path)
    except (InputError, OSError) as error:
        with files.locked(cache_folder() / LOCKS / f"{_joined(path)}.lock", wait=True):
            if path.exists():
                _delete(path, str(error))
    once(path, make, also)
    return load(path)


def cached(
    kind: str,
    name: str,
    content: object,
    ending: str,
    make: Callable[[], Made],
    save: Callable[[Path, Made], None],
    load: Callable[[Path], Result],
    also: Sequence[Path] = (),
) -> Result:
    """Return a result from the cache. A missing or damaged result is computed and saved first.

    Parameters
    ----------
    kind, name, ending
        The folder, and the start and the end of the file's name.
    content
        All inputs of the result, as JSON. Their hash is in the file's name.
    make
        Computes the result.
    save, load
        Write the result as a complete file (`relid_sumo.base.files`), and read it; `load` raises InputError where the
        file is damaged. The returned result is always read.
    also
        As in `once`: other files that `make` writes.
    """
    return sound(file := cache_file(kind, name, content, ending), lambda: save(file, make()), load, also)


def cached_json(
    kind: str, name: str, content: object, make: Callable[[], Any], shape: type[Result], also: Sequence[Path] = ()
) -> Result:
    """Return a JSON result of a type from the cache; see `cached`."""
    adapter = TypeAdapter(shape)

    def load(file: Path) -> Result:
        try:
            return adapter.validate_json(safe_paths.read_text(file))
        except ValueError as error:
            raise InputError(f"{file}: not a result of this version: {error}") from None

    return cached(kind, name, content, ".json", make, files.write_json, load, also)


def _joined(path: Path) -> str:
    """Return the name of an entry's lock and checksum."""
    return "-".join(path.relative_to(cache_folder()).parts)


def _seal(path: Path) -> Path:
    return cache_folder() / CHECKSUMS / f"{_joined(path)}.sha256"


def _differs(path: Path, also: Sequence[Path]) -> bool:
    """Return whether an entry differs from its checksum. An entry without one, of an earlier version, does not."""
    try:
        return _seal(path).read_bytes().decode("ascii", "replace").strip() != _checksum(path, also)
    except FileNotFoundError:
        return False


def _checksum(path: Path, also: Sequence[Path]) -> str:
    """Return the checksum of a file, or of a folder with the names of its files; with that of other files, if any."""
    if also:
        one = [_checksum(path, ()), *(_file_checksum(file) if file.is_file() else "no file" for file in also)]
        return hashlib.sha256("\n".join(one).encode()).hexdigest()
    if path.is_file():
        return _file_checksum(path)
    found = sorted(file for file in path.rglob("*") if file.is_file())
    lines = (f"{file.relative_to(path)} {_file_checksum(file)}\n" for file in found)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_checksum(file: Path) -> str:
    about = file.stat()
    return _read_checksum(file, about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=4096)
def _read_checksum(file: Path, *_: int) -> str:
    return sha256(file)


def _delete(path: Path, why: str) -> None:
    log.warning(f"{path} is damaged ({why}); it is deleted and made again")
    _seal(path).unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@lru_cache(maxsize=1)
def code() -> str:
    """Return a hash of the wings that determine results. A cached file is valid while they do not change."""
    package = Path(__file__).parents[1]
    sources = (f for wing in DECIDE_RESULTS for f in sorted((package / wing).rglob("*")) if f.suffix in {".py", ".j2"})
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def sha256(file: Path) -> str:
    """Return the checksum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
