"""What a user reads whose optional packages are missing or of the wrong version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.base.extras import require_extra


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put packages before those of the environment: relid_sumo with an extra `toys`, and some of what that needs."""
    needed = ["Requires-Dist: toy-cars>=2,<3; extra == 'toys'", "Requires-Dist: toy-roads>=1; extra == 'more-toys'"]
    elsewhere = "Requires-Dist: toy-trains>=1; sys_platform == 'amiga' and extra == 'toys'"
    packages = {"relid_sumo": ("9", [*needed, elsewhere]), "toy_cars": ("2.4", []), "numpy": ("2.0", [])}
    for name, (version, lines) in packages.items():
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        metadata = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]
        (folder / "METADATA").write_text("\n".join(metadata) + "\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_extra_that_is_installed() -> None:
    require_extra("toys")


@pytest.mark.usefixtures("installed")
def test_a_missing_package_is_named_with_what_to_install() -> None:
    message = 'toy-roads is not installed; install it with: pip install "relid_sumo[more-toys]"'
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        require_extra("more-toys")


@pytest.mark.usefixtures("installed")
def test_a_wrong_version_is_named_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "toy_cars-2.4.dist-info").rename(tmp_path / "toy_cars-1.9.dist-info")
    metadata = tmp_path / "toy_cars-1.9.dist-info" / "METADATA"
    metadata.write_text(
        metadata.read_text().replace("2.4\n", "1.9\n").replace("Metadata-Version: 1.9", "Metadata-Version: 2.4")
    )
    with pytest.raises(
        InputError, match=r"toy-cars 1\.9 is installed, but relid_sumo needs <3,>=2; install it with: pip "
    ):
        require_extra("toys")


@pytest.mark.usefixtures("installed")
def test_an_unknown_extra() -> None:
    with pytest.raises(InputError, match="no extra 'toyz'; check the name, or install relid_sumo again"):
        require_extra("toyz")
