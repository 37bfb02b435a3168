"""The cache folder: files that can be made again, named by a hash of what they are made from."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "RELID_SUMO_CACHE"
DECIDE_RESULTS = ("base", "network", "scenario", "sim", "env", "baseline", "sed", "learn")


def cache_folder() -> Path:
    """Return the folder for what can be made again: RELID_SUMO_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("relid_sumo"))


def cache_file(kind: str, name: str, content: object, ending: str) -> Path:
    """Return where a result is cached: a file named by a hash of everything it is computed from."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / kind / f"{name}-{key}{ending}"


@lru_cache(maxsize=1)
def code() -> str:
    """Return a hash of the wings that decide results: a cached file is valid while they are unchanged."""
    package = Path(__file__).parents[1]
    files = (f for wing in DECIDE_RESULTS for f in sorted((package / wing).rglob("*")) if f.suffix in {".py", ".j2"})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def sha256(file: Path) -> str:
    """Return the checksum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
