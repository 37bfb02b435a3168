"""When a curve in validation traffic is flat, and the settings of a curriculum that waits for it."""

from __future__ import annotations

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.learn.settings import TrainSettings, parse_curriculum, train_settings
from relid_sumo.learn.validation import is_flat
from relid_sumo.scenario.settings import Demand, Place, Scenario, Trip

HERE = Place(lon=0, lat=0, bearing=0)
SCENARIO = Scenario(
    name="a", network="a", demand=Demand(rate_vph=1), trips=(Trip(id="a", origin=HERE, destination=HERE, depart_s=0),)
)


def test_a_curve_is_flat_when_its_last_values_gain_little_on_those_before() -> None:
    rising = [-900.0, -700.0, -500.0, -400.0, -399.0, -398.0]
    assert not is_flat(rising[:4], 2, 5.0)
    assert not is_flat(rising, 2, 5.0), "from -450 to -398.5"
    assert is_flat([*rising, -397.0, -396.0], 2, 5.0), "from -398.5 to -396.5"
    assert not is_flat([*rising, -397.0, -396.0], 2, 1.9)
    assert not is_flat(rising[-3:], 2, 5.0), "too few measurements"
    assert is_flat([-300.0, -500.0], 1, 0.0), "a curve that falls does not rise"


def test_a_curriculum_with_converged_has_shares_and_defaults() -> None:
    settings = train_settings(
        {"algo": "ippo", "episodes": 100, "curriculum": parse_curriculum("meso:converged,micro:0.2")}
    )
    assert settings.ends(SCENARIO) == (("meso", 80), ("micro", 100))
    assert (settings.validate_every, settings.flat_measurements, settings.flat_gain_s) == (10, 5, 5.0)
    both = train_settings(
        {"algo": "ippo", "episodes": 100, "curriculum": parse_curriculum("meso:converged,micro:converged")}
    )
    assert both.ends(SCENARIO) == (("meso", 50), ("micro", 100))
    written = settings.model_dump(mode="json")
    assert TrainSettings.model_validate(written) == settings
    assert written["curriculum"] == [["meso", "converged"], ["micro", 0.2]]
    plain = TrainSettings().model_dump(mode="json")
    assert not {"validate_every", "flat_measurements", "flat_gain_s"} & plain.keys()
    assert TrainSettings(validate_every=3).model_dump(mode="json")["validate_every"] == 3


@pytest.mark.parametrize(
    ("curriculum", "more", "said"),
    [
        ("meso:converged,micro:1", {}, "the shares leave no episodes to converge in"),
        ("meso:converged,meso:0.2", {}, "each simulator may occur once"),
        ("meso:converged,micro:0.2", {"validate_every": 0}, "needs validation; set validate_every"),
        ("meso:convergd,micro:0.2", {}, "'convergd' is neither a share nor 'converged'"),
    ],
)
def test_a_curriculum_that_cannot_converge_is_refused(curriculum: str, more: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train_settings({"algo": "ippo", "curriculum": parse_curriculum(curriculum), **more})
