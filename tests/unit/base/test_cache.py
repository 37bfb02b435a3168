"""Damaged entries of the cache are made again, with one line that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from relid_sumo.base import cache, files
from relid_sumo.base.errors import InputError

MADE = {"b": 1.5}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def _entry(made: list[int]) -> dict[str, float]:
    def make() -> dict[str, float]:
        made.append(1)
        return MADE

    return cache.cached_json("kind", "name", 1, make, dict[str, float])


def _replaced(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _folder(file: Path) -> None:
    file.unlink()
    (file / "x").mkdir(parents=True)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": _replaced(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-4]),
    "text": _replaced(b"\xff\xfe"),
    "deep": _replaced(b"[" * 100_000),
    "kind": _replaced(b"[1]"),
    "value": _replaced(b'{"b": 2.5}'),
    "folder": _folder,
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_made_again(name: str, sealed: bool, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without its checksum, an entry of an earlier version, damage is noticed where the entry cannot be read."""
    made: list[int] = []
    assert _entry(made) == MADE
    (file,) = (folder / "kind").iterdir()
    if not sealed:
        (seal,) = (folder / "checksums").iterdir()
        seal.unlink()
    DAMAGE[name](file)
    found = _entry(made)
    if name == "value" and not sealed:
        assert found == {"b": 2.5}
        return
    assert found == MADE
    assert json.loads(file.read_text()) == MADE
    assert len(made) == 2
    assert [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert caplog.text.count("is deleted and made again") == 1
    assert _entry(made) == MADE
    assert len(made) == 2


def test_a_folder_of_the_cache_is_checked_as_a_whole(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    place, made = folder / "networks" / "x", []

    def make() -> None:
        made.append(1)
        files.write(place / "a", b"a")
        files.write(place / "b", b"b")

    for change in (lambda: (place / "a").write_text("A"), (place / "b").unlink, lambda: (place / "c").write_text("")):
        cache.once(place, make)
        change()
        cache.once(place, make)
        assert sorted(one.name for one in place.iterdir()) == ["a", "b"]
        assert (place / "a").read_bytes() == b"a"
    assert len(made) == 4
    assert caplog.text.count("is deleted and made again") == 3


def test_the_other_files_of_an_entry_are_checked_with_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of them is missing from the start, as an additional file may be."""
    made: list[int] = []
    other, none = folder / "demand" / "other.rou.xml", folder / "demand" / "none.add.xml"

    def make() -> int:
        made.append(1)
        files.write(other, b"vehicles")
        return len(made)

    def entry() -> int:
        return cache.cached_json("kind", "name", 1, make, int, [other, none])

    assert entry() == entry() == 1
    changes: list[Callable[[], object]] = [lambda: other.write_text("vehicle"), other.unlink]
    for number, change in enumerate(changes, start=2):
        change()
        assert entry() == entry() == number
        assert other.read_bytes() == b"vehicles"
    assert caplog.text.count("is deleted and made again") == 2


def test_an_entry_that_cannot_be_made_rightly_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="not a result of this version"):
        cache.cached_json("kind", "name", 1, lambda: "text", int)
