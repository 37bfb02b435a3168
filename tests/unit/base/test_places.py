"""Folders that cannot be used give one message with the cause and the variable that sets them."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from relid_sumo.base import cache, sumo, temporary, trusted
from relid_sumo.base.errors import InputError, SimulationError


def test_a_cache_folder_that_cannot_be_made_or_read_by_sumo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\); set RELID_SUMO_CACHE"):
        cache.once(cache.cache_folder() / "x", lambda: None)
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\); set RELID_SUMO_CACHE"):
        trusted.note(tmp_path)
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "a, b"))
    with pytest.raises(InputError, match=r"has a comma in its path, .*; set RELID_SUMO_CACHE to another folder"):
        cache.once(cache.cache_folder() / "x", lambda: None)


def test_a_folder_for_temporary_files_that_sumo_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a,b"))
    with pytest.raises(InputError, match=r"has a comma in its path, .*; set TMPDIR to another folder"):
        temporary.process_folder("x-")


def test_a_program_of_sumo_that_crashes_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "netconvert"
    program.write_text(f"#!/bin/sh\nkill -{int(signal.SIGSEGV)} $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sumo, "binary", lambda name: os.fspath(tmp_path / name))
    with pytest.raises(SimulationError, match=r"netconvert failed \(ended by SIGSEGV\)"):
        sumo.run("netconvert", [])
