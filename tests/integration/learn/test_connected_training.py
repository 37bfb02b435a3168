"""IPPO on a fleet that observes `connected`: trained, resumed, evaluated, and used in other networks."""

from __future__ import annotations

from pathlib import Path

import bench_connected
import numpy as np
import pytest

import relid_sumo
from relid_sumo.base import sumo
from relid_sumo.env.connected import LAYOUT
from relid_sumo.env.policies import GAIN
from relid_sumo.evaluation import evaluate
from relid_sumo.evaluation.trained import load_policy, load_trained
from relid_sumo.learn import train as training
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Fleet, Observation, Seeds

pytestmark = pytest.mark.sumo

SETTINGS = TrainSettings(algo="ippo", episodes=4, episodes_per_update=2, curriculum=(("meso", 1.0),))


@pytest.fixture(scope="module")
def run(town_ready: PreparedScenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder: two updates on a small fleet in the small town."""
    folder = tmp_path_factory.mktemp("connected") / "run"
    changes = {
        "trips": (),
        "fleet": Fleet(share=0.2),
        "observation": Observation(kind="connected"),
        "seeds": Seeds(training=(0, 1), validation=(100,), evaluation=(200,)),
    }
    ready = prepare(town_ready.scenario.model_copy(update=changes), simulators=("meso",))
    training.train(ready, folder, SETTINGS, workers=2)
    return folder


def test_it_learns_from_the_planner_and_is_evaluated_greedy_and_sampled(run: Path) -> None:
    ready, greedy = load_trained(run)
    _, sampled = load_trained(run, greedy=False)
    assert GAIN in greedy.weights
    assert np.abs(greedy.weights["scorer.2.weight"]).max() > 0, "the scorer has learnt"
    result = evaluate.evaluate(ready, {"greedy": greedy, "sampled": sampled}, n_seeds=1)
    for records in result.records.values():
        assert records[0].arrival_rate == 1.0
        assert np.isfinite(records[0].observation).all()


def test_it_routes_in_a_network_with_fewer_slots(run: Path, town_ready: PreparedScenario, tmp_path: Path) -> None:
    file = tmp_path / "crossroads.net.xml"
    shape = ["--grid.number", "4", "--grid.length", "150", "--no-turnarounds", "-o", str(file)]
    sumo.run("netgenerate", ["--grid", *shape])
    seeds = Seeds(training=(0,), validation=(100,), evaluation=(200,))
    own = {"name": "crossroads", "network": str(file), "trips": (), "fleet": Fleet(count=10), "seeds": seeds}
    other = town_ready.scenario.model_copy(update=own)
    result = relid_sumo.evaluate(run, {}, scenario=other)
    ready, _ = load_trained(run, scenario=other)
    assert ready.task.graph.m_out < load_trained(run)[0].task.graph.m_out
    assert ready.scenario.observation.kind == "connected"
    assert result.policies["trained"].arrival_rate.mean == 1.0


def test_the_cost_of_a_decision_is_measured(run: Path) -> None:
    ready, _ = load_trained(run)
    spent_s, decisions = bench_connected.cost(ready, "connected", 200, "micro")
    assert spent_s > 0
    assert decisions > 20


def test_its_policy_takes_junctions_with_any_number_of_slots(run: Path) -> None:
    act = load_policy(run)
    for slots in (2, 9):
        seen = np.zeros(LAYOUT.size(slots), dtype=np.float32)
        mask = np.ones(slots, dtype=bool)
        seen[: slots * LAYOUT.per_slot : LAYOUT.per_slot] = np.arange(slots)[::-1]  # the last one is the fastest
        assert act("any", {"observation": seen, "action_mask": mask}) == slots - 1
