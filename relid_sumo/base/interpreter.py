"""Python processes of this package: they import nothing from the working directory, which may be a stranger's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def search_path() -> list[str]:
    """Return the folders that modules are imported from, without the working directory.

    The working directory stays if the user names it in PYTHONPATH.
    """
    named = {os.path.realpath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part}
    try:
        here = os.path.realpath(Path.cwd())
    except FileNotFoundError:  # deleted
        return [part for part in sys.path if part]
    return [part for part in sys.path if part and (os.path.realpath(part) != here or here in named)]


def command(code: str, *words: str) -> list[str]:
    """Return the command that runs code in a new process; `words` are its arguments. Start it with `environment`."""
    return [sys.executable, "-P", "-c", code, *words]


def environment() -> dict[str, str]:
    """Return the environment of a new Python process, which imports what this one can import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search_path()), "PYTHONSAFEPATH": "1"}


def script_environment() -> dict[str, str]:
    """Return the environment of a script that imports modules from its own folder."""
    return {name: value for name, value in environment().items() if name != "PYTHONSAFEPATH"}


def run_script(script: Path, words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of SUMO in a folder, and return its exit code and its texts."""
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=script_environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
