"""Every number of a settings file has a lower and an upper bound."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import validate
from relid_sumo.batch.experiment import Experiment
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.scenario.settings import Demand, Meso, Place, Scenario, Trip
from relid_sumo.sed.settings import SedSettings

HERE = Place(lon=0, lat=0, bearing=0)
SCENARIO = Scenario(
    name="a",
    network="a",
    demand=Demand(rate_vph=100),
    meso=Meso(),
    trips=(Trip(id="a", origin=HERE, destination=HERE, depart_s=0),),
)
LLM = LlmSettings(temperature=1.0, top_p=1.0, seed=1, budget_usd=1.0, budget_tokens=1, budget_requests=1)
ENTRY = {"agents": 1, "episodes": 1}  # a box is checked where the network is built
CONTENTS: dict[type[BaseModel], dict[str, Any]] = {
    Scenario: SCENARIO.model_dump(mode="json"),
    TrainSettings: TrainSettings().model_dump(mode="json") | {"curriculum": [["micro", 1.0]]},
    SedSettings: SedSettings().model_dump(mode="json"),
    LlmSettings: LLM.model_dump(mode="json"),
    Experiment: {
        **{"scenarios": {"a": ENTRY}, "algorithms": {"a": {}}, "seeds": [1], "episodes": 1},
        "evaluation": {"seeds": 1},
    },
}


def numbers(content: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from numbers(value, (*path, key))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield path


@pytest.mark.parametrize(
    ("model", "path"),
    [
        pytest.param(model, path, id=f"{model.__name__}-{'.'.join(map(str, path))}")
        for model, content in CONTENTS.items()
        for path in numbers(content)
        if path not in {("seeds", "training", i) for i in range(1, 16)}
    ],
)
def test_a_number_beyond_its_bounds_is_refused(model: type[BaseModel], path: tuple[str | int, ...]) -> None:
    validate(CONTENTS[model], model, "here")
    for value in (10**30, -(10**30), 1e308, -1e308):
        content = copy.deepcopy(CONTENTS[model])
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(InputError, match="here: "):
            validate(content, model, "here")
