"""Report what this machine lacks for `make install`; exit code 1 if anything is missing.

With ``--apt`` it prints only the missing Debian packages. It runs before anything is installed, so it uses only the
standard library.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

MINIMUM = (3, 11)


def main(arguments: list[str]) -> int:
    """Check Python and the libraries that SUMO's wheels need; print the command that installs what is missing."""
    if sys.version_info < MINIMUM:
        needed, found = ".".join(map(str, MINIMUM)), sys.version.split()[0]
        print(f"relid_sumo needs Python {needed} or newer; {sys.executable} is {found}.")
        print("Use another one: make install PYTHON=python3.12")
        return 1
    # Run by path: importing the package would import dependencies that are not installed yet.
    system = runpy.run_path(str(Path(__file__).parents[1] / "relid_sumo" / "base" / "system.py"))
    lacking = {library: system["LIBRARIES"][library] for library in system["missing_libraries"]()}
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu package it separately
        lacking["Python's venv module"] = (f"python3.{sys.version_info.minor}-venv", "python3-pip")
    if arguments == ["--apt"]:
        print(*(apt for apt, _ in lacking.values()))
        return 0
    if not lacking:
        return 0
    print(f"Missing on this machine: {', '.join(lacking)}. SUMO's wheels need these libraries even without a screen.")
    print("Install it with this command, then run make again:\n")
    print(f"    {system['install_line'](lacking.values())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
