"""The answers recorded with the cities: they answer today's prompts, and their programs still give valid plans."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from relid_sumo import load_scenario
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.files import ANSWERS
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.sed import loop, run_folder
from relid_sumo.sed.ask.mailbox import Recorded, read_record
from relid_sumo.sed.bench import Bench, Present, SedWatch
from relid_sumo.sed.settings import SedSettings

pytestmark = [pytest.mark.sumo, pytest.mark.osm, pytest.mark.slow]

SAMPLES = {"orlando": 16, "hong_kong": 4}


@pytest.mark.usefixtures("isolated", "osm_dir")
@pytest.mark.parametrize("city", SAMPLES)
@pytest.mark.timeout(600)  # on a slow machine
def test_recorded_answers_answer_todays_prompts(city: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As `sed run CITY --llm recorded`, without the comparison at the end.

    On hong_kong with the travel times of four samples of traffic, as the sixteen of a run take minutes to drive: the
    figures in its prompts are others then than when they were answered, and answers are found by place and vehicles.
    """
    scenario, settings = load_scenario(city), SedSettings()
    caplog.set_level(logging.INFO, "relid_sumo")
    ready = prepare(scenario, simulators=("micro", "meso"))
    run_folder.open_run(tmp_path / "run", "recorded", {"scenario": {}})
    with Rollouts(ready.task) as rollouts:
        bench = Bench(ready, rollouts, settings, Present(), SedWatch())
        provider = Recorded(scenario.folder / ANSWERS)
        seeds = scenario.seeds.training[: SAMPLES[city]]
        times = edge_times.edge_times(scenario, ready.network, None, seeds)
        refined = loop.refine(bench, tmp_path / "run", provider, "sandlock", times)
    others = [said for said in caplog.messages if "prompts with other figures" in said]
    assert not others or seeds != scenario.seeds.training
    attempts = [one for subset in refined.subsets for one in subset.attempts]
    assert len(attempts) == 3 * 2 * len(refined.subsets)
    later = [one for one in attempts if one.round > 1]
    assert sum(one.problem is None for one in later) >= 0.95 * len(later)
    held = [subset.best.numbers for subset in refined.subsets if subset.best is not None]
    assert all(numbers is not None and numbers.score > -1.0 for numbers in held)
    headers = [read_record(file)[0] for file in sorted((scenario.folder / ANSWERS).glob("*.md"))]
    assert len(headers) == len(attempts)
    assert all(header["origin"].startswith("a large language model, 20") for header in headers)
