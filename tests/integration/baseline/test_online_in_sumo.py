"""Online planners in SUMO: with trips and with a fleet, by name, the same bytes however they run."""

from __future__ import annotations

import pytest

from relid_sumo.baseline.named import baselines, planned_by_seed
from relid_sumo.env.play import job
from relid_sumo.env.workers import Rollouts
from relid_sumo.evaluation import evaluate as evaluation
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Fleet, Seeds

pytestmark = pytest.mark.sumo
NAMES = "blend,antic,ebksp,nrr"


@pytest.fixture(scope="module")
def few(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the small town with two training seeds."""
    seeds = Seeds(training=(0, 1), validation=(100,), evaluation=(200,))
    return prepare(town_ready.scenario.model_copy(update={"seeds": seeds}), simulators=("micro", "meso"))


@pytest.fixture(scope="module")
def fleet(few: PreparedScenario) -> PreparedScenario:
    """Return the same traffic with a fifth of the demand as a fleet."""
    return prepare(
        few.scenario.model_copy(update={"trips": (), "fleet": Fleet(share=0.2)}), simulators=("micro", "meso")
    )


def test_they_bring_the_agents_of_fixed_trips(few: PreparedScenario) -> None:
    table = evaluation.episodes(few, baselines(NAMES), [200], workers=2)
    assert all(records[0].arrival_rate == 1.0 for records in table.values()), table
    assert all(len(records[0].agent) > 0 for records in table.values())


def test_a_fleet_has_the_same_bytes_with_forks_and_without(fleet: PreparedScenario) -> None:
    by_seed = planned_by_seed(baselines(NAMES), fleet, [200])
    jobs = [job(fleet, 200, policy, "meso") for policy in by_seed[200]]
    with Rollouts(fleet.task, 2) as rollouts, Rollouts(fleet.task, 1, fork=False) as slow:
        forked, loaded = rollouts.run(jobs), slow.run(jobs)
    assert [record.digest for record in forked] == [record.digest for record in loaded]
    assert all(record.arrival_rate > 0.9 for record in forked)
