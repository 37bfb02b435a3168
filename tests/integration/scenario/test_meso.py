"""The mesoscopic simulation: the same environment, near the microscopic one once calibrated, and trained in."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.baseline.named import baselines
from relid_sumo.env.episode import Episode
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy, Weights
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation.evaluate import evaluate
from relid_sumo.learn import checkpoint
from relid_sumo.learn.settings import TrainSettings, parse_curriculum, train_settings
from relid_sumo.learn.train import resume, train
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Scenario, Simulator
from relid_sumo.scenario.traffic import meso
from relid_sumo.scenario.traffic.priors import PRIORS

pytestmark = pytest.mark.sumo


def driven(ready: PreparedScenario, policy: Policy, simulator: Simulator, seed: int = 0) -> EpisodeRecord:
    return drive(ready.task, Job(seed, ready.options(seed, simulator), policy))


# --- the same environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shortest", "reactive", "random", "rerouting"])
def test_the_environment_behaves_the_same(town_ready: PreparedScenario, name: str) -> None:
    policy = baselines(name)[name]
    inside, again = (driven(town_ready, policy, "meso") for _ in range(2))
    assert inside.digest == again.digest
    assert inside.digest != driven(town_ready, policy, "micro").digest
    assert "lost" not in inside.status
    if name != "random":
        assert set(inside.status) == {"arrived"}
    for i, route in enumerate(inside.routes):  # every road of a trip is entered, in order, and it ends where it should
        for a, b in pairwise(route):
            assert b in town_ready.task.graph.slots[a]
        assert (route[-1] == town_ready.task.destination[i]) == (inside.status[i] == "arrived")
    free = np.array([town_ready.task.graph.free_flow_s[route].sum() for route in inside.routes])
    arrived = np.array([status == "arrived" for status in inside.status])
    assert (inside.travel_time[arrived] > 0.8 * free[arrived]).all()  # nobody is carried over roads


def test_who_chooses_where_to_go_goes_there(town_ready: PreparedScenario) -> None:
    record = driven(town_ready, Policy("random", seed=1), "meso")
    slots = town_ready.task.graph.slots
    for agent in range(town_ready.task.n_agents):
        own = record.agent == agent
        chosen = [(int(e), int(slots[e, a])) for e, a in zip(record.edge[own], record.action[own], strict=True)]
        steps = pairwise(record.routes[agent].tolist())
        # in this order; the last may have been chosen when the horizon came
        assert all(choice in steps for choice in chosen[:-1])


@pytest.mark.parametrize("simulator", ["micro", "meso"])
@pytest.mark.parametrize("name", ["random", "rerouting"])
def test_nothing_is_missed_by_looking_only_when_it_matters(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch, simulator: Simulator, name: str
) -> None:
    seldom = driven(town_ready, baselines(name)[name], simulator)
    monkeypatch.setattr(Episode, "_steps_on", lambda *_: 1)  # look at every vehicle in every step
    always = driven(town_ready, baselines(name)[name], simulator)
    assert seldom.digest == always.digest
    assert seldom.time.tobytes() == always.time.tobytes()
    assert seldom.observation.tobytes() == always.observation.tobytes()
    assert [r.tolist() for r in seldom.routes] == [r.tolist() for r in always.routes]


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_finds_the_best_of_what_it_tries(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(meso, "AIMED", 2)
    monkeypatch.setattr(meso, "REFINED", 2)
    monkeypatch.setattr(meso, "ENOUGH_CORRELATION", 1.1)  # all trials
    monkeypatch.setattr(meso, "CALIBRATED_ON", 1)
    demand = Demand(rate_vph=1500.0, warmup_s=61.0)  # of no other test: nothing is cached
    scenario = town_ready.scenario.model_copy(update={"meso": None, "demand": demand})
    tried: list[float] = []
    gap = meso._gap

    def noted(*times: object) -> meso.Gap:
        found = gap(*times)  # type: ignore[arg-type]
        tried.append(found.badness)
        return found

    monkeypatch.setattr(meso, "_gap", noted)
    caplog.set_level(logging.INFO, "relid_sumo")
    found = meso.calibrated(scenario, town_ready.network, None).meso
    trials = len(tried)
    assert len(PRIORS) + meso.REFINED <= trials <= len(PRIORS) + meso.AIMED + meso.REFINED
    assert any("correlation of trips" in line for line in caplog.messages)
    again = meso.calibrated(scenario, town_ready.network, None).meso
    assert again == found
    assert len(tried) == trials  # cached, and not searched again
    assert len(list((cache_dir / "meso").iterdir())) >= 1
    monkeypatch.undo()
    assert found is not None
    own = scenario.model_copy(update={"meso": found})
    against = meso._gap(meso._times(own, town_ready.network, [0]), meso._times(own, town_ready.network, [0], "meso"))
    assert against.badness == min(tried)


def test_what_is_not_calibrated_is_not_driven(town_ready: PreparedScenario) -> None:
    ready = PreparedScenario(town_ready.scenario.model_copy(update={"meso": None}), town_ready.network, town_ready.task)
    with pytest.raises(InputError, match=r"not calibrated; prepare it with simulators=\(\"meso\",\)"):
        ready.options(0, "meso")


def near(gap: meso.Gap) -> bool:
    return abs(gap.light) < 0.10 and abs(gap.loaded) < 0.15 and gap.correlation > 0.7


@pytest.mark.slow
@pytest.mark.osm
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["orlando", "hong_kong"])
def test_travel_times_agree_on_traffic_that_calibration_has_not_seen(name: str, osm_dir: Path) -> None:
    del osm_dir  # which has to be there
    ready = prepare(load_scenario(name), simulators=("micro", "meso"))
    seeds = ready.scenario.seeds.validation[:2]
    micro = meso._times(ready.scenario, ready.network, seeds)
    gap = meso._gap(micro, meso._times(ready.scenario, ready.network, seeds, "meso"))
    assert near(gap), gap


@pytest.mark.slow
def test_they_agree_nearly_as_well_as_the_microscopic_one_does_with_itself() -> None:
    ready = prepare(load_scenario("town"), simulators=("micro", "meso"))
    gap, floor = meso.compare(ready.scenario, ready.network, ready.scenario.seeds.validation[:3])
    assert near(gap), gap
    assert abs(floor.light) < 0.05
    assert floor.correlation > gap.correlation - 0.05


# --- training ---------------------------------------------------------------------------------------------------------


def column(folder: Path, name: str) -> list[str]:
    with (folder / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_curriculum_is_followed_and_gone_on_with(town_ready: PreparedScenario, tmp_path: Path) -> None:
    content = {
        "algo": "ippo",
        "episodes": 8,
        "episodes_per_update": 2,
        "curriculum": [("meso", 0.5), ("micro", 0.5)],
    }
    settings = train_settings(content)
    train(town_ready, tmp_path / "whole", settings)
    assert column(tmp_path / "whole", "micro") == ["0", "0", "1", "1"]
    assert (
        resume_after_two_updates(town_ready, tmp_path / "halves", settings)
        == (tmp_path / "whole" / "metrics.csv").read_bytes()
    )


def resume_after_two_updates(ready: PreparedScenario, folder: Path, settings: TrainSettings) -> bytes:
    from relid_sumo.learn.train import TrainingWatch  # noqa: PLC0415 - beside its use

    def stop(row: dict[str, float]) -> None:
        if row["update"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(ready, folder, settings, watch=TrainingWatch(update=stop))
    resume(folder, fork=False)
    return (folder / "metrics.csv").read_bytes()


def test_training_in_a_simulator_ends_when_the_validation_curve_is_flat(
    town_ready: PreparedScenario, tmp_path: Path
) -> None:
    seeds = town_ready.scenario.seeds.model_copy(update={"validation": town_ready.scenario.seeds.validation[:2]})
    ready = replace(town_ready, scenario=town_ready.scenario.model_copy(update={"seeds": seeds}))
    settings = train_settings(
        {
            "algo": "ippo",
            "episodes": 16,
            "episodes_per_update": 2,
            "curriculum": parse_curriculum("meso:converged,micro:0.25"),
            "validate_every": 1,
            "flat_measurements": 1,
            "flat_gain_s": 1e6,  # the second measurement is flat
        }
    )
    train(ready, tmp_path / "whole", settings)
    columns = files.read_columns(tmp_path / "whole" / "metrics.csv")
    assert columns["micro"] == [0, 0, 1, 1]
    assert columns["skipped"] == [0, 8, 8, 8], "the micro:0.25 keeps its four episodes"
    assert columns["episodes"] == [2, 4, 6, 8]
    assert columns["driven_beside"] == [2, 4, 6, 8], "two validation seeds in each update"
    assert columns["learning_rate"] == pytest.approx([0.01, 0.00875, 0.0025, 0.00125])
    last = Policy("learned", greedy=True, weights=learned_weights(tmp_path / "whole"))
    again = [driven(ready, last, "micro", seed) for seed in seeds.validation]
    assert columns["validation_return"][-1] == pytest.approx(np.mean([one.returns for one in again]))
    assert columns["validation_arrival_rate"][-1] == pytest.approx(np.mean([one.arrival_rate for one in again]))
    bytes_of_halves = resume_after_two_updates(ready, tmp_path / "halves", settings)
    assert bytes_of_halves == (tmp_path / "whole" / "metrics.csv").read_bytes()
    with pytest.raises(InputError, match="the run is finished"):
        resume(tmp_path / "whole")
    alone = settings.model_copy(update={"curriculum": parse_curriculum("meso:converged"), "flat_gain_s": 0.0})
    assert alone.ends(ready.scenario) == (("meso", 16),)


def learned_weights(folder: Path) -> Weights:
    return {name: value.numpy() for name, value in checkpoint.load(folder)["learner"]["actor"].items()}


def test_the_scenario_says_what_is_trained_in(town_ready: PreparedScenario) -> None:
    settings = TrainSettings(episodes=10)
    assert settings.simulators(town_ready.scenario) == ("micro",)
    meso_scenario = town_ready.scenario.model_copy(update={"simulator": "meso"})
    assert settings.simulators(meso_scenario) == ("meso",)
    mixed = TrainSettings(episodes=10, curriculum=(("meso", 0.8), ("micro", 0.2)))
    assert batches(mixed, meso_scenario) == ["meso", "meso", "micro"]
    thirds = TrainSettings(episodes=12, curriculum=(("meso", 1 / 3), ("micro", 2 / 3)))
    assert batches(thirds, meso_scenario) == ["meso", "micro", "micro"]


def test_the_last_simulation_has_a_batch_however_short_the_run(town_ready: PreparedScenario) -> None:
    two = TrainSettings(episodes=8, curriculum=(("meso", 0.8), ("micro", 0.2)))
    assert batches(two, town_ready.scenario) == ["meso", "micro"]
    assert batches(two.model_copy(update={"episodes": 3}), town_ready.scenario) == ["micro"]
    uneven = two.model_copy(update={"episodes": 9})
    assert batches(uneven, town_ready.scenario) == ["meso", "meso", "micro"]


def batches(settings: TrainSettings, scenario: Scenario) -> list[str]:
    """Return the simulation of each batch of a run."""
    return [settings.simulator(scenario, k) for k in range(0, settings.episodes, settings.episodes_per_update)]


def test_evaluation_is_microscopic_whatever_was_trained_in(town_ready: PreparedScenario) -> None:
    scenario = town_ready.scenario.model_copy(update={"simulator": "meso"})
    ready = PreparedScenario(scenario, town_ready.network, town_ready.task)
    result = evaluate(ready, {"shortest": Policy("shortest")}, n_seeds=1)
    seed = result.seeds[0]
    micro = driven(town_ready, Policy("shortest"), "micro", seed).travel_time.mean()
    assert result.policies["shortest"].mean_travel_time_s.mean == micro
    assert micro != driven(town_ready, Policy("shortest"), "meso", seed).travel_time.mean()
