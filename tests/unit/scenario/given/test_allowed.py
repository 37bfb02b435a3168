"""SUMO's options of a scenario: only those that change traffic, with values that are no paths."""

from __future__ import annotations

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import validate
from relid_sumo.scenario.given import allowed, configuration
from relid_sumo.scenario.settings import Demand


def test_sumo_knows_every_option_on_the_list() -> None:
    known = configuration.known_options()[0]
    assert not allowed.ALLOWED - known.keys()


def test_no_option_on_the_list_writes_reads_or_starts_anything() -> None:
    known = configuration.known_options()[0]
    for name in allowed.ALLOWED:
        option = known[name]
        assert option.kind != "FILE", name
        assert option.section not in {"output", "report", "gui_only", "traci_server", "configuration"}, name
        assert not {"output", "file", "files", "script", "port"} & set(name.replace("-", ".").split(".")), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tripinfo-output": "trips.xml"}, "sumo.'tripinfo-output': not one of SUMO's options"),
        ({"remote-port": 8813}, "sumo.'remote-port'"),
        ({"load-state": "state.xml"}, "sumo.'load-state'"),
        ({"device.ssm.file": "ssm.xml"}, "sumo.'device.ssm.file'"),
        ({"device.toc.file": "toc.xml"}, "sumo.'device.toc.file'"),
        ({"default.carfollowmodel": "../own.so"}, "is not a number, a word or a list of words"),
        ({"device.taxi.dispatch-algorithm": "a/b"}, "is not a number, a word or a list of words"),
        ({"pedestrian.model": "jupedsim"}, "'jupedsim' is not supported"),
        ({"scal": 2}, r"did you mean 'scale'"),
    ],
)
def test_other_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate({"route_file": "own.rou.xml", "sumo": options}, Demand, "scenario.toml")


def test_options_need_a_route_file() -> None:
    with pytest.raises(InputError, match="sumo: only with a route_file"):
        validate({"sumo": {"scale": 2}}, Demand, "scenario.toml")


def test_options_are_words_of_sumo() -> None:
    options: dict[str, bool | float | str] = {"scale": 2.0, "eager-insert": True, "default.speeddev": -1.0, "x": "a b"}
    assert allowed.as_words(options) == [
        *("--scale", "2", "--eager-insert", "true", "--default.speeddev", "-1", "--x", "a b"),
    ]
