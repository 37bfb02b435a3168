"""The cache folder: files that can be recomputed, named by a hash of their inputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import platformdirs

from relid_sumo.base import files

Made = TypeVar("Made")
Result = TypeVar("Result")

CACHE_VARIABLE = "RELID_SUMO_CACHE"
LOCKS = "locks"  # folder of the locks of files being made
DECIDE_RESULTS = ("base", "network", "scenario", "sim", "env", "baseline", "sed", "learn")


def cache_folder() -> Path:
    """Return the cache folder: RELID_SUMO_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("relid_sumo"))


def cache_file(kind: str, name: str, content: object, ending: str) -> Path:
    """Return the file in which a result is cached. Its name contains a hash of the result's inputs."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / kind / f"{name}-{key}{ending}"


def once(path: Path, make: Callable[[], None]) -> None:
    """Make a file or folder of the cache if it is missing. Only one process makes it; others wait."""
    if path.exists():
        return
    lock = cache_folder() / LOCKS / f"{'-'.join(path.relative_to(cache_folder()).parts)}.lock"
    with files.locked(lock, wait=True):
        if not path.exists():
            make()


def cached(
    kind: str,
    name: str,
    content: object,
    ending: str,
    make: Callable[[], Made],
    save: Callable[[Path, Made], None],
    load: Callable[[Path], Result],
) -> Result:
    """Return a result from the cache. A missing result is computed and saved first.

    Parameters
    ----------
    kind, name, ending
        The folder, and the start and the end of the file's name.
    content
        All inputs of the result, as JSON. Their hash is in the file's name.
    make
        Computes the result.
    save, load
        Write the result as a complete file (`relid_sumo.base.files`), and read it. The returned result is always read.
    """
    file = cache_file(kind, name, content, ending)
    once(file, lambda: save(file, make()))
    return load(file)


def cached_json(kind: str, name: str, content: object, make: Callable[[], Result]) -> Result:
    """Return a JSON result from the cache; see `cached`."""

    def save(file: Path, made: Result) -> None:
        files.write_json(file, made)

    def load(file: Path) -> Result:
        found: Result = json.loads(file.read_text(encoding="utf-8"))
        return found

    return cached(kind, name, content, ".json", make, save, load)


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
