"""A user's own code by import path: what is wrong with it is said in one error that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError
from relid_sumo.baseline.named import baselines
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.settings import TrainSettings, train_settings
from relid_sumo.scenario import kinds
from relid_sumo.scenario.files import override, to_toml
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.settings import Observation
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.ask import providers

SOURCE = """
from relid_sumo import Learner, observation, planner
NUMBER = 3
class NoLearner:
    def __init__(self, setup, checkpoint): ...
class OneArgument:
    def __init__(self, setup): ...
class Fine(Learner):
    def __init__(self, setup, checkpoint): ...
def unmarked(junction): return [0], [0]
@observation(per_slot=1, own=1)
def narrow(junction): return [[0.0]], [0.0]
@observation(per_slot=1, own=1)
def broken(junction): return 1 / 0
def masked(junction): return next(s for s in range(len(junction.mask)) if s not in junction.open_slots)
def endless(leg): return float("inf")
def two(a, b): ...
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "mine.py"
    made.write_text(SOURCE)
    return made


def algorithm(name: str) -> object:
    return train_settings({"algo": name})


def observation(name: str) -> object:
    return kinds.observation(name)


@pytest.mark.parametrize(
    ("door", "name", "message"),
    [
        (algorithm, "ipo", "there is no algorithm 'ipo' (did you mean 'ippo'?); known are ippo, mappo"),
        (algorithm, "FILE:Fin", "defines no 'Fin' (did you mean 'Fine'?)"),
        (algorithm, "FILE:NoLearner", "it has no weights, update, state"),
        (algorithm, "FILE:OneArgument", "is called with (setup, checkpoint)"),
        (algorithm, "FILE:NUMBER", "this is a int"),
        (algorithm, "no.such.package:X", "there is no module 'no' here"),
        (algorithm, "nowhere.py:X", "there is no file"),
        (algorithm, "FILE:not a name", "not an import path; write it as package.module:NAME or file.py:NAME"),
        (observation, "raods", "there is no observation 'raods' (did you mean 'roads'?)"),
        (observation, "FILE:unmarked", "decorate the function with @relid_sumo.observation"),
        (kinds.reward, "FILE:NUMBER", "it is a int, not a function"),
        (baselines, "FILE:two", "a baseline is a function of a relid_sumo.Junction"),
        (baselines, "shortst", "there is no baseline 'shortst' (did you mean 'shortest'?)"),
        (providers.find, "opnai", "no such provider (did you mean 'openai'?)"),
        (providers.own, "FILE:two", "is called with one relid_sumo.Asking"),
    ],
)
def test_what_is_wrong_is_said(file: Path, door: Callable[[str], object], name: str, message: str) -> None:
    with pytest.raises(InputError) as told:
        door(name.replace("FILE", str(file)))
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere", "raises ModuleNotFoundError: No module named 'nowhere'"),
        ("def f(:", "raises SyntaxError"),
        ("\n\n1 / 0", "raises ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "raises SystemExit: 3"),
    ],
)
def test_code_that_raises_on_import_is_named(tmp_path: Path, source: str, message: str) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(source)
    with pytest.raises(InputError) as told:
        extension.load(f"{broken}:f", "reward")
    assert f"reward '{broken}:f': importing {broken} {message}" in str(told.value)
    assert "broken.py" in str(told.value) and "line " in str(told.value)


@pytest.mark.parametrize(
    ("table", "name", "message"),
    [
        ("observation", "narrow", "it returns shapes (1, 1) and (1,), but declares (3, 1) and (1,)"),
        ("observation", "broken", "raises ZeroDivisionError: division by zero"),
        ("reward", "endless", "it returns inf, which is not finite"),
        ("policy", "masked", "which is masked; return one of ["),
    ],
)
def test_what_is_wrong_while_driving_is_said(
    file: Path, crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord], table: str, name: str, message: str
) -> None:
    path, policy = f"{file}:{name}", Policy("fixed")
    scenario = crossing.scenario
    if table == "policy":
        (policy,) = baselines(path).values()
    else:
        part = getattr(scenario, table).model_copy(update={"kind": path})
        scenario = scenario.model_copy(update={table: part})
    task = replace(crossing, scenario=scenario, layout=kinds.layout(scenario))
    with pytest.raises(InputError) as told:
        toy_drive(task, policy)
    assert path in str(told.value) and message in str(told.value)


def test_built_in_kinds_are_not_written() -> None:
    assert "kind" not in Observation().model_dump()
    assert "options" not in TrainSettings().model_dump(mode="json")
    assert "kind" not in to_toml(load_scenario("town"))


def test_own_kinds_are_part_of_a_scenario(file: Path) -> None:
    scenario = override(load_scenario("town"), [f"observation.kind={file}:narrow"])
    assert f'kind = "{file}:narrow"' in to_toml(scenario)
    before = kinds.sources(scenario)
    assert list(before) == [f"{file}:narrow"]
    file.write_text(SOURCE + "# changed\n")
    assert kinds.sources(scenario) != before


def test_a_package_in_the_present_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownpackage").mkdir()
    (tmp_path / "ownpackage" / "__init__.py").touch()
    (tmp_path / "ownpackage" / "rules.py").write_text("def first(junction): return junction.open_slots[0]\n")
    monkeypatch.chdir(tmp_path)
    assert baselines("ownpackage.rules:first,shortest")["first"].path == "ownpackage.rules:first"


def test_options_need_an_algorithm_of_ones_own() -> None:
    with pytest.raises(InputError, match="options: ippo has none"):
        train_settings({"algo": "ippo"}, ["options.rate=1"])


def test_an_observation_of_another_width_fits_the_networks(crossing: RoutingTask) -> None:
    import torch  # noqa: PLC0415 - the other tests of this file do without

    from relid_sumo.env.policies import probabilities  # noqa: PLC0415
    from relid_sumo.learn.algos.nets import Actor  # noqa: PLC0415

    for layout in (kinds.Layout(1, 1), kinds.Layout(4, 3)):
        actor = Actor(2, 3, hidden=8, scorer=5, octaves=2, seed=0, layout=layout)
        seen = np.random.default_rng(0).uniform(-1, 1, (2, 1, layout.size(3))).astype(np.float32)
        mask = np.array([[[True, False, True]]] * 2)
        expected = actor(torch.from_numpy(seen), torch.from_numpy(mask)).exp().detach().numpy()
        for agent in range(2):
            shares = probabilities(actor.weights(), agent, seen[agent, 0], mask[agent, 0])
            np.testing.assert_allclose(shares, expected[agent, 0], atol=1e-5)


def test_a_network_of_ones_own_acts_in_numpy(
    tmp_path: Path, crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord]
) -> None:
    import torch  # noqa: PLC0415 - the other tests of this file do without

    from relid_sumo.evaluation.trained import _actor  # noqa: PLC0415
    from relid_sumo.learn.learner import Learner  # noqa: PLC0415
    from relid_sumo.learn.train import _policy  # noqa: PLC0415

    (tmp_path / "net.py").write_text("def last(weights, agent, observation): return weights['w'][agent]\n")

    class Last(Learner):
        acts = f"{tmp_path}/net.py:last"

        def weights(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
            return {"w": np.tile(np.arange(3, dtype=np.float32) * 50, (crossing.n_agents, 1))}

        def state(self) -> dict[str, object]:
            return {"w": torch.zeros(1)}

    state: dict[str, Any] = {"learner": Last().state(), **_policy(Last())}
    weights, acts = _actor(state, tmp_path, crossing.n_agents, 3)
    assert acts == Last.acts
    record = toy_drive(crossing, Policy("learned", greedy=True, weights=weights, path=acts))
    assert len(record.agent)
    for mask, slot in zip(record.mask, record.action, strict=True):
        assert slot == np.flatnonzero(mask)[-1]
