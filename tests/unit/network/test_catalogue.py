"""Networks by name: notes of networks that are built from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.network import catalogue


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the note of a network `small`, whose source is there."""
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path))
    (tmp_path / "small.osm").write_text("<osm/>")
    catalogue.remember("small", tmp_path / "small.osm", catalogue.NetworkSettings())
    return tmp_path / "names" / "small.json"


def test_a_network_is_found_by_its_name(note: Path, tmp_path: Path) -> None:
    assert note.is_file()
    assert catalogue.locate("small").source == tmp_path / "small.osm"


@pytest.mark.parametrize(
    ("source", "told"), [("/no/such.osm", "No such file or directory"), ("/tmp/" + 400 * "9", "File name too long")]
)
def test_a_note_whose_source_is_not_there_is_named(note: Path, source: str, told: str) -> None:
    files.write_json(note, {**files.read_json(note), "source": source})
    with pytest.raises(InputError, match=f"{note}: its source {source[:300]}.*{told}; delete it, and build"):
        catalogue.locate("small")


def test_a_folder_in_place_of_a_note_is_named(note: Path) -> None:
    note.unlink()
    note.mkdir()
    with pytest.raises(InputError, match=f"{note}.*delete it, and build the network again"):
        catalogue.locate("small")
