"""The study: its tables are what its stored cells say, and what each figure counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import study

from relid_sumo.errors import InputError

RESULTS = Path(study.HERE)


@pytest.fixture
def results_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(RESULTS, tmp_path / "results")
    monkeypatch.setattr(study, "HERE", tmp_path / "results")
    return tmp_path / "results"


def test_committed_tables_are_those_of_the_committed_cells(results_copy: Path) -> None:
    for name in ("summary.json", "tables.md"):
        (results_copy / name).unlink()
    study.tables()
    for name in ("summary.json", "tables.md"):
        assert (results_copy / name).read_text() == (RESULTS / name).read_text(), "run tools/study.py tables"


def test_returns_of_what_is_not_learned_are_of_one_distance_and_its_times_of_all() -> None:
    summary = json.loads((RESULTS / "summary.json").read_text())
    assert summary["straight"].keys() == set(study.CITIES)
    for distance, cities in summary.items():
        for city in cities.values():
            assert ("shortest" in city["return_s"]) == (distance == "straight")
            assert {"shortest", "rerouting", "hist", "reled"} <= city["travel_time_s"].keys()


def run(returns: list[float], beside: list[float] | None = None) -> Any:  # noqa: ANN401 - stands for a Summary
    metrics = {"mean_return": returns, "episodes": [4.0 * (k + 1) for k in range(len(returns))]}
    return SimpleNamespace(metrics=metrics | ({} if beside is None else {"driven_beside": beside}))


def test_the_ratio_counts_what_was_driven_beside_training() -> None:
    theirs = run([-90.0, -60.0, -60.0, -60.0, -80.0, -80.0])  # best mean of three: -60, budget 24
    ours = run([-70.0, -55.0, -55.0, -55.0], [10.0, 10.0, 10.0, 30.0])
    assert study.level_ratio([ours], [theirs]) == round((12 + 10) / 24, 3), "reached by updates 1 to 3"
    late = run([-90.0, -55.0, -55.0, -55.0], [10.0, 10.0, 10.0, 30.0])
    assert study.level_ratio([late], [theirs]) == round((16 + 30) / 24, 3)
    assert study.level_ratio([run([-90.0] * 4, [0.0] * 4)], [theirs]) is None
    with pytest.raises(ValueError, match="other traffic seeds"):
        study.compared(np.zeros((1, 10)), np.zeros((1, 5)), study.quicker)


def test_training_seeds_are_one_policy_where_they_were_not_trained() -> None:
    def drove(*times: float) -> dict[str, Any]:
        rows = [[time] for time in times]
        status = [["arrived"] if time < 900 else ["horizon"] for time in times]
        nothing = [0] * len(times)
        return {
            "return_s": rows,
            "travel_time_s": rows,
            "status": status,
            "teleports": nothing,
            "background_vehicle_s": nothing,
        }

    policies = {"reled-0": drove(300, 320), "reled-1": drove(340, 360), "hist": drove(350, 900)}
    said = study.elsewhere({"cases": {"a road closed": {"policies": policies, "traffic_seeds": [200, 201]}}})
    row = said["a road closed"]
    assert row.keys() == {"reled", "hist"}
    assert row["reled"]["training_seeds"] == 2
    assert row["reled"]["travel_time_s"]["mean"] == 330
    assert row["hist"]["arrival_rate"]["mean"] == 0.5
    assert "| reled | 330 [300, 360] | 100.0 % |" in study.elsewhere_table(said)


def test_the_road_closed_is_the_busiest_that_can_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(_: object, closed: list[str]) -> None:
        if closed == ["c"]:
            raise InputError("somebody cannot get there")

    monkeypatch.setattr(study, "prepare", prepare)
    task = SimpleNamespace(origin=np.array([0, 0]), destination=np.array([4, 4]))
    graph = SimpleNamespace(edge_ids=np.array(["a", "b", "c", "d", "e"]))
    ready: Any = SimpleNamespace(task=task, network=SimpleNamespace(graph=graph), scenario=None)
    plans = [{0: [0, 2, 4], 1: [0, 2, 3, 4]}, {0: [0, 1, 3, 4], 1: [0, 2, 4]}]
    assert study.busiest(ready, plans) == "d", "c is busier, and the only way for somebody"
    with pytest.raises(InputError, match="only way"):
        study.busiest(ready, [{0: [0, 2, 4]}])
