"""The study: its tables agree with its stored cells, and each figure counts what it should."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import study
import study_tables

from relid_sumo.base.errors import InputError

RESULTS = Path(study_tables.HERE)


@pytest.fixture
def results_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(RESULTS, tmp_path / "results")
    monkeypatch.setattr(study_tables, "HERE", tmp_path / "results")
    return tmp_path / "results"


def test_the_committed_tables_agree_with_the_committed_cells(results_copy: Path) -> None:
    for name in ("summary.json", "tables.md"):
        (results_copy / name).unlink()
    study_tables.tables()
    for name in ("summary.json", "tables.md"):
        assert (results_copy / name).read_text() == (RESULTS / name).read_text(), "run tools/study.py tables"


def test_baselines_have_returns_for_one_distance_and_times_for_all() -> None:
    summary = json.loads((RESULTS / "summary.json").read_text())
    assert summary["straight"].keys() == set(study_tables.CITIES)
    for distance in ("straight", "time"):
        for city in summary[distance].values():
            assert ("shortest" in city["return_s"]) == (distance == "straight")
            assert {"shortest", "rerouting", "hist", "reled"} <= city["travel_time_s"].keys()


def run(returns: list[float], beside: list[float] | None = None) -> Any:  # noqa: ANN401 - stands for a Summary
    metrics = {"mean_return": returns, "episodes": [4.0 * (k + 1) for k in range(len(returns))]}
    return SimpleNamespace(metrics=metrics | ({} if beside is None else {"driven_beside": beside}))


def test_the_ratio_counts_episodes_outside_training() -> None:
    theirs = run([-90.0, -60.0, -60.0, -60.0, -80.0, -80.0])  # best mean of three: -60, budget 24
    ours = run([-70.0, -55.0, -55.0, -55.0], [10.0, 10.0, 10.0, 30.0])
    assert study_tables.level_ratio([ours], [theirs]) == round((12 + 10) / 24, 3), "reached by updates 1 to 3"
    late = run([-90.0, -55.0, -55.0, -55.0], [10.0, 10.0, 10.0, 30.0])
    assert study_tables.level_ratio([late], [theirs]) == round((16 + 30) / 24, 3)
    assert study_tables.level_ratio([run([-90.0] * 4, [0.0] * 4)], [theirs]) is None


def test_results_from_other_traffic_seeds_are_not_compared(results_copy: Path) -> None:
    file = results_copy / "baselines" / "orlando.json"
    file.write_text(file.read_text().replace('"traffic_seeds":[200,201', '"traffic_seeds":[201,200'))
    with pytest.raises(ValueError, match="orlando: some results are not from traffic seeds"):
        study_tables.tables()


def test_hindsight_is_the_best_route_of_each_vehicle_in_each_traffic() -> None:
    some = {"return_s": [[-9, -8]], "travel_time_s": [[90, 80]], "status": [["horizon", "arrived"]]}
    again = {"return_s": [[-5, -4]], "travel_time_s": [[50, 40]], "status": [["arrived", "arrived"]]}
    other = {"return_s": [[-8, -9]], "travel_time_s": [[80, 90]], "status": [["arrived", "lost"]]}
    best = study.best_of([({0: [1, 2], 1: [5]}, some), ({0: [1, 2], 1: [5]}, again), ({0: [1, 3, 2], 1: [6]}, other)])
    assert best["travel_time_s"] == [[70, 60]], "a route driven twice counts with its mean"
    assert best["return_s"] == [[-7, -6]]
    assert best["status"] == [["horizon", "arrived"]], "a route that failed once counts as not arrived"


def test_costs_separate_training_from_other_episodes() -> None:
    metrics = {"episodes": [4.0, 8.0], "decisions": [10.0, 12.0], "simulated_s": [3600.0, 1800.0]}
    alone = SimpleNamespace(metrics=metrics, seconds={"rollout_s": 50.0, "learner_s": 10.0})
    helped = SimpleNamespace(metrics=metrics | {"driven_beside": [5.0, 9.0]}, seconds={"rollout_s": 180.0})
    said = study_tables.costs([alone, helped])  # type: ignore[list-item]
    expected = {"episodes_beside": 4, "episodes": 8, "decisions": 22, "simulated_h": 1.5, "training_min": 2.0}
    assert said == expected
    assert study_tables.costs_table({"reled": said})[-2] == "| reled | 4 | 8 | 22 | 1.5 | 2 |"


def test_unseen_cases_pool_the_training_seeds_of_a_policy() -> None:
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
    said = study_tables.elsewhere({"cases": {"a road closed": {"policies": policies, "traffic_seeds": [200, 201]}}})
    row = said["a road closed"]
    assert row.keys() == {"reled", "hist"}
    assert row["reled"]["training_seeds"] == 2
    assert row["reled"]["travel_time_s"]["mean"] == 330
    assert row["hist"]["arrival_rate"]["mean"] == 0.5
    assert "| reled | 330 [300, 360] | 100.0 % |" in study_tables.elsewhere_table(said)


def test_the_closed_edge_is_the_busiest_that_leaves_all_destinations_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(_: object, closed: list[str]) -> None:
        if closed == ["c"]:
            raise InputError("somebody cannot get there")

    monkeypatch.setattr(study, "prepare", prepare)
    task = SimpleNamespace(origin=np.array([0, 0]), destination=np.array([4, 4]))
    graph = SimpleNamespace(edge_ids=np.array(["a", "b", "c", "d", "e"]))
    ready: Any = SimpleNamespace(task=task, network=SimpleNamespace(graph=graph), scenario=None)
    plans = [{0: [0, 2, 4], 1: [0, 2, 3, 4]}, {0: [0, 1, 3, 4], 1: [0, 2, 4]}]
    assert study.busiest(ready, plans) == "d", "c is busier, but the only connection of a vehicle"
    with pytest.raises(InputError, match="only connection"):
        study.busiest(ready, [{0: [0, 2, 4]}])
