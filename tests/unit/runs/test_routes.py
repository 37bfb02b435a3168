"""The stored routes of an evaluation: damaged files are refused with one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.runs.routes import read_routes

WHOLE: dict[str, Any] = {
    "network": "two roads",
    "network_key": "k",
    "attribution": "",
    "roads": [[0, 0, 9, 0], [9, 0, 9, 9]],
    "speed_class": [0, 1],
    "streets": ["High Street"],
    "street": [0, -1],
    "traffic_seed": 200,
    "incidents": [[1, "closed"]],
    "agents": ["a"],
    "origin": [0],
    "destination": [1],
    "routes": {"trained": [[0, 1]]},
}


def test_whole_routes_are_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "routes.json", WHOLE)
    assert read_routes(tmp_path / "routes.json").routes == {"trained": [[0, 1]]}


def test_routes_of_earlier_versions_have_no_streets(tmp_path: Path) -> None:
    older = {name: value for name, value in WHOLE.items() if name not in {"streets", "street", "incidents"}}
    files.write_json(tmp_path / "routes.json", older)
    assert read_routes(tmp_path / "routes.json").streets == ()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        *((name, None, "routes.json") for name in WHOLE),
        ("roads", [[0, 0, 9, 0], [9, 0, 9]], "two points or more"),
        ("roads", [[0, 0, 9, 0]], "speed_class and street"),
        ("street", [0, 1], "not in streets"),
        ("origin", [0, 0], "each of 1 agents"),
        ("routes", {"trained": []}, "each of 1 agents"),
        ("routes", {"trained": [[0, 2]]}, "outside 0 to 1"),
        ("destination", [2], "outside 0 to 1"),
        ("incidents", [[2, "closed"]], "an incident names"),
        ("incidents", [[-1, "closed"]], "incidents"),
        ("routes", {"trained": [[float("nan")]]}, "routes"),
    ],
)
def test_damaged_routes_are_refused(tmp_path: Path, name: str, value: object, told: str) -> None:
    files.write_json(tmp_path / "routes.json", {**WHOLE, name: value})
    with pytest.raises(InputError, match=told):
        read_routes(tmp_path / "routes.json")
