"""Files whose returns follow the reward of an earlier version are refused with one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.learn import run_folder
from relid_sumo.runs import layout
from relid_sumo.runs.summary import summarise
from relid_sumo.sed import demonstrations
from relid_sumo.sed.run_folder import RESULTS
from relid_sumo.sed.stored import read_results


@pytest.fixture
def earlier(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a run folder of version 0.1.0."""
    folder = write_run(tmp_path / "run")
    content = files.read_json(folder / layout.SETTINGS)
    files.write_json(folder / layout.SETTINGS, {**content, "format": 1})
    return folder


@pytest.mark.parametrize("read", [run_folder.load, summarise])
def test_a_run_folder(earlier: Path, read: Callable[[Path], object]) -> None:
    message = r"settings.json: .*format 1, here \d.*: its observations or rewards have another definition; train again$"
    with pytest.raises(InputError, match=message):
        read(earlier)


def test_runs_of_two_versions_are_not_compared(earlier: Path, write_run: Callable[..., Path], tmp_path: Path) -> None:
    summary = summarise(write_run(tmp_path / "other"))
    assert summary.settings.format == layout.RUN_FORMAT
    content = files.read_json(earlier / layout.SETTINGS)
    files.write_json(earlier / layout.SETTINGS, {**content, "format": layout.RUN_FORMAT})
    (earlier / layout.SCENARIO).write_text((tmp_path / "other" / layout.SCENARIO).read_text())
    assert summarise(earlier).problem == summary.problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relid_sumo.runs.summary.RUN_FORMAT", 1)
        files.write_json(earlier / layout.SETTINGS, {**content, "format": 1})
        assert summarise(earlier).problem != summary.problem


def test_demonstrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "demonstrations.npz"
    one, table = np.zeros(1), np.zeros((1, 1))
    names = {field.name: one for field in fields(demonstrations.Demonstrations)}
    tables = {"position": np.zeros((1, 2)), "observation": np.zeros((1, 4)), "returns": table, "travel_time": table}
    whole = dict.fromkeys(demonstrations.WHOLE, np.zeros(1, dtype=np.int64))
    marks = {"mask": np.ones((1, 1), dtype=bool), "arrived": np.ones((1, 1), dtype=bool)}
    made = demonstrations.Demonstrations(**{**names, **tables, **whole, **marks, "meta": {}})  # type: ignore[arg-type]
    made.save(file)
    assert demonstrations.Demonstrations.load(file).arrived.all()
    with monkeypatch.context() as patch:
        patch.setattr(demonstrations, "FORMAT", 1)
        made.save(file)
    with pytest.raises(InputError, match=r"its observations or rewards have another definition; make it again$"):
        demonstrations.Demonstrations.load(file)


def test_results_of_sed(tmp_path: Path) -> None:
    files.write_json(tmp_path / RESULTS, {"format": 1})
    with pytest.raises(InputError, match=r"results.json: its returns are those of another version.*run the same"):
        read_results(tmp_path)
