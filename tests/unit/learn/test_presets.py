"""Presets of a training run."""

from __future__ import annotations

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.learn import presets
from relid_sumo.learn.settings import train_settings


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("algo", ["reled", "bc", "ippo", "mappo"])
def test_each_preset_gives_valid_settings_of_each_algorithm(name: str, algo: str) -> None:
    settings = train_settings(presets.filled(name, {"algo": algo}))
    assert settings.algo == algo
    assert [simulator for simulator, _ in settings.curriculum] == ["meso", "micro"]


def test_a_run_without_options_is_the_recommended_one() -> None:
    settings = train_settings(presets.filled("standard", {"algo": None, "episodes": None, "curriculum": None}))
    assert (settings.algo, settings.episodes, settings.probes, settings.feedback) == ("reled", 64, True, True)
    assert train_settings(presets.filled("quick", {})).episodes < settings.episodes
    assert presets.filled("standard", {}, fleet=True)["algo"] == "ippo"
    assert presets.filled("standard", {"algo": "bc"}, fleet=True)["algo"] == "bc"
    assert presets.filled("standard", {"algo": "ippo"})["episodes"] > settings.episodes, (
        "it has no experts to begin with"
    )


def test_what_is_given_replaces_the_preset() -> None:
    given = {"episodes": 3, "curriculum": (), "probes": True, "seed": 7}
    content = presets.filled("quick", given)
    assert {name: content[name] for name in given} == given
    assert content["algo"] == "reled"


def test_unknown_presets_and_algorithms_are_refused() -> None:
    with pytest.raises(InputError, match=r"--preset quik: .*did you mean 'quick'.*standard \(recommended\)"):
        presets.filled("quik", {})
    with pytest.raises(InputError, match="no algorithm 'reeled'"):
        presets.filled("quick", {"algo": "reeled"})
