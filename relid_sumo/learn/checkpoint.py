"""The checkpoint of a run: weights, optimiser and counters, all that training continues from."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.base.settings import MOST_COUNT
from relid_sumo.learn.run_folder import CHECKPOINT

FORMAT = 2
FIX = "put back a copy, or train again"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole."""
    content = io.BytesIO()  # given a file, torch.save writes the file's name into it, here that of a temporary one
    torch.save({"format": FORMAT, **state}, content)
    files.write(folder / CHECKPOINT, content.getvalue(), binary=True)


def load(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint.

    Raises
    ------
    InputError
        There is none yet, or it cannot be read.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        raise InputError(f"{folder} has no {CHECKPOINT}: the run ended before its first update; train again")
    try:
        with zipfile.ZipFile(file) as packed:
            if damaged := packed.testzip():  # torch does not compare the checksums in the file
                raise ValueError(f"it is damaged: the checksum of {damaged} differs")
        state = torch.load(file, weights_only=True)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}; {FIX}") from None
    except Exception as error:  # torch's unpickler may raise any exception on another file
        raise InputError(f"{file} cannot be read: {str(error)[:300] or type(error).__name__}; {FIX}") from None
    if not isinstance(state, dict) or not all(_is_count(state.get(name)) for name in ("update", "episodes")):
        raise InputError(f"{file}: no checkpoint of a run; {FIX}")
    return state


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 < value <= MOST_COUNT


def position(state: Mapping[str, Any]) -> int:
    """Return how many episodes of the budget are behind a checkpoint, with those left out as a curve was flat."""
    validation = state.get("validation")
    left_out = validation.get("skipped") if isinstance(validation, dict) else 0
    return int(state["episodes"]) + (left_out if isinstance(left_out, int) else 0)


def episodes(folder: Path) -> int:
    """Return how many episodes of the budget are behind the last checkpoint of a run; 0 where it has none."""
    return position(load(folder)) if (folder / CHECKPOINT).exists() else 0
