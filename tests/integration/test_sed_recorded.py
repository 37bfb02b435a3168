"""The answers recorded with the cities: they answer today's prompts, and their programs still give valid plans."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relid_sumo import load_scenario, traffic
from relid_sumo.prepare import prepare
from relid_sumo.rollout import Rollouts
from relid_sumo.scenario_files import ANSWERS
from relid_sumo.sed import kept, loop
from relid_sumo.sed.bench import Bench, Present, Watch
from relid_sumo.sed.letters import Recorded, read_record
from relid_sumo.sed.llm import Question
from relid_sumo.sed.settings import SedSettings

pytestmark = [pytest.mark.sumo, pytest.mark.osm, pytest.mark.slow]


class EnoughError(Exception):
    """All rounds that are wanted have been answered."""


class FirstRounds(Recorded):
    """Answers what is recorded, up to a round."""

    last = 3

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        if questions[0].facts["round"] > self.last:
            raise EnoughError
        return super().answer(questions)


@pytest.mark.usefixtures("isolated", "osm_dir")
@pytest.mark.parametrize(("city", "rounds"), [("orlando", 3), ("hong_kong", 1)])  # a round takes minutes
@pytest.mark.timeout(600)  # on a slow machine
def test_recorded_answers_answer_todays_prompts(city: str, rounds: int, tmp_path: Path) -> None:
    """As `sed run CITY --llm recorded`, without the comparison at the end."""
    scenario, settings, told, said = load_scenario(city), SedSettings(), list[str](), list[str]()
    ready = prepare(scenario, simulators=("micro", "meso"))
    kept.open_run(tmp_path / "run", "recorded", {"scenario": {}})
    provider = FirstRounds(scenario.folder / ANSWERS, told.append)
    provider.last = rounds
    with Rollouts(ready.task) as rollouts, contextlib.suppress(EnoughError):
        bench = Bench(ready, rollouts, settings, Present(), Watch(report=said.append))
        times = traffic.edge_times(scenario, ready.network)
        loop.refine(bench, tmp_path / "run", provider, "sandlock", times)
    assert told == []
    records = sorted((scenario.folder / ANSWERS).glob("*.md"))
    assert all(read_record(file)[0]["origin"].startswith("a large language model, 20") for file in records)
    asked = [file.stem.rpartition("-")[0] for file in records]
    asked = [place for place in asked if int(place.split("-")[1].removeprefix("round")) <= rounds]
    programs = {file.stem: file.read_text() for file in (tmp_path / "run" / kept.PROGRAMS).iterdir()}
    assert sorted(programs) == sorted(asked)
    outcomes = [found for line in said if (found := re.match(r"round \d: (\d+) of (\d+) .*; scores held: (.*)", line))]
    assert len(outcomes) == rounds
    valid, written = (sum(int(found[k]) for found in outcomes) for k in (1, 2))
    assert written == len(asked)
    assert valid >= 0.95 * written
    assert all(float(score) > -1.0 for score in outcomes[-1][3].split(", "))
