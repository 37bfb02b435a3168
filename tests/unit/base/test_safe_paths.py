"""Reading a file of a stranger ends: pipes, devices and folders are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import read_text
from relid_sumo.base.toml import read_toml


def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for file in (tmp_path / "pipe.toml", Path(os.devnull)):
        for read in (read_text, read_toml):
            with pytest.raises(InputError, match=f"{file}: a pipe or a device"):
                read(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)
