"""Print the oldest version of each dependency that pyproject.toml allows, as a constraints file for pip.

    python tools/oldest_versions.py > oldest.txt && pip install -c oldest.txt -e '.[test]'

Continuous integration runs the tests with these versions, so that the ranges are true. Standard library alone: it runs
before anything is installed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[.*?\])?\s*>=\s*([0-9.]+)")


def oldest(project: dict[str, list[str] | dict[str, list[str]]]) -> dict[str, str]:
    """Return the lower bound of each requirement of a [project] table, extras included, by name."""
    extras = project.get("optional-dependencies", {})
    assert isinstance(extras, dict)  # as PEP 621 has it
    every = [*project["dependencies"], *(one for several in extras.values() for one in several)]
    return {found[1]: found[2] for one in every if (found := REQUIREMENT.match(one))}


def main() -> None:
    """Print ``name==version`` lines."""
    for name, version in sorted(oldest(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
