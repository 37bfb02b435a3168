"""Notes of the code that a user has named: a note is of one file with one content, not of a name alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from relid_sumo.base import extension, trusted
from relid_sumo.base.errors import InputError


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder of the user's and one of a stranger's, with modules of the same names; start in the user's."""
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "cache"))
    for name in ("user", "stranger"):
        package = tmp_path / name / "owned"
        (package / "inner").mkdir(parents=True)
        for file in (package / "__init__.py", package / "rules.py", package / "inner" / "deep.py"):
            file.write_text(f"raise RuntimeError('{name}: imported')\n")
        (tmp_path / name / "json.py").write_text("raise RuntimeError('shadows json')\n")
    monkeypatch.chdir(tmp_path / "user")


def check(name: str) -> None:
    trusted.check_code({"kind": name}, "scenario.toml")


@pytest.mark.parametrize("name", ["owned.rules:first", "owned.inner.deep:first", "owned/rules.py:first"])
def test_a_note_is_of_the_file_of_the_working_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted.note_code(name)
    check(name)
    monkeypatch.chdir(tmp_path / "stranger")
    with pytest.raises(InputError, match="names code, which would run with your rights and which you have not named"):
        check(name)


@pytest.mark.parametrize("name", ["owned.rules:first", "owned/rules.py:first"])
def test_code_that_changes_is_named_again(name: str, tmp_path: Path) -> None:
    trusted.note_code(name)
    file = tmp_path / "user" / "owned" / "rules.py"
    before = file.read_text()
    file.write_text(before + "# edited\n")
    with pytest.raises(InputError, match="names code that has changed since you named it; restore it, or read it"):
        check(name)
    trusted.note_code(name)
    check(name)
    file.write_text(before)
    check(name)


def test_a_name_that_finds_nothing_is_no_note_of_a_later_file(tmp_path: Path) -> None:
    trusted.note_code("later:first")
    (tmp_path / "user" / "later.py").touch()
    with pytest.raises(InputError, match="have not named"):
        check("later:first")


@pytest.mark.parametrize(
    "name", ["\0.py:x", "a\0b:x", f"{'x' * 5000}.py:x", "..:x", "/etc/x:y", ".py:x", ":x", "a..b:x"]
)
def test_a_name_that_no_code_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="have not named"):
        check(name)


def test_what_is_installed_comes_before_the_working_directory() -> None:
    before = list(sys.path)
    assert extension.own_file("json:dumps") is None
    assert extension.own_file("json.decoder:JSONDecoder") is None
    assert extension.load("json:dumps", "reward")([]) == "[]"
    with pytest.raises(InputError, match="user: imported"):
        extension.load("owned.rules:first", "reward")
    assert sys.path == before
