"""The loop without SUMO: the best plan never gets worse, a subset without improvement stops, failures are refined."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed import loop, results, run_folder
from relid_sumo.sed.ask.prompt import PromptSettings, Regime
from relid_sumo.sed.ask.provider import Answer, Question
from relid_sumo.sed.ask.template import Template
from relid_sumo.sed.bench import Present, SedWatch
from relid_sumo.sed.loop import Refined
from relid_sumo.sed.partition import PartitionSettings
from relid_sumo.sed.programs.feedback import Reference
from relid_sumo.sed.programs.plans import Routes
from relid_sumo.sed.settings import SedSettings

Drive = Callable[..., EpisodeRecord]
PLAN = "```python\ndef plan(network, trips, traffic):\n    return {{t.id: {route} for t in trips}}\n```"
SHORTEST = PLAN.format(route="network.shortest_path(t.origin, t.destination)")
DETOUR = PLAN.format(route="network.k_shortest_paths(t.origin, t.destination, 30)[-1]")
BROKEN = PLAN.format(route="[t.origin]")
PROSE = "I would rather not."


class Scripted:
    """Answers by round and sample, the last one again and again; notes what it was asked."""

    def __init__(self, *rounds: Sequence[str | Answer]) -> None:
        self.rounds, self.asked = rounds, list[Question]()

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str | Answer]]:
        for question in questions:
            self.asked.append(question)
            answers = self.rounds[min(question.facts["round"], len(self.rounds)) - 1]
            yield question, answers[question.facts["sample"] - 1]


class ToyBench:
    """As `bench.Bench`, over a grid without traffic; the second seed has one slow edge."""

    seeds = (0, 1)

    def __init__(self, task: RoutingTask, drive: Drive, settings: SedSettings, present: Present) -> None:
        self.ready = SimpleNamespace(task=task, network=SimpleNamespace(name="grid"))
        self.settings, self.present = settings, present
        self.watch = SedWatch()
        self._drive, self.driven = drive, 0

    def _episodes(self, policy: Policy, slow: Sequence[int] = (5, 9)) -> list[EpisodeRecord]:
        return [self._drive(self.ready.task, policy, slow={edge: 3.0}) for edge in slow]

    def reference(self) -> Reference:
        shortest = self._episodes(Policy("fixed"))
        return Reference(shortest, shortest, shortest, self._episodes(Policy("fixed"), (5, 11)))

    def try_out(self, plans: Sequence[Routes]) -> list[list[EpisodeRecord]]:
        self.driven += len(plans)
        return [self._episodes(Policy("fixed", routes=plan)) for plan in plans]


Refine = Callable[..., tuple[Refined, ToyBench]]


@pytest.fixture
def refine(crossing: RoutingTask, toy_drive: Drive, tmp_path: Path) -> Refine:
    def refined(provider: Any, present: Present | None = None, **settings: Any) -> tuple[Refined, ToyBench]:  # noqa: ANN401
        chosen = SedSettings.model_validate({"partition": PartitionSettings(max_size=3), **settings})
        bench = ToyBench(crossing, toy_drive, chosen, present or Present())
        run_folder.open_run(tmp_path / "run", "scripted", {"scenario": {}})
        times = np.stack([crossing.graph.free_flow_s] * 2)
        return loop.refine(bench, tmp_path / "run", provider, "limits", times), bench  # type: ignore[arg-type] # a bench

    return refined


def test_a_better_plan_is_held_and_a_worse_one_does_not_replace_it(refine: Refine) -> None:
    provider = Scripted([DETOUR, BROKEN], [SHORTEST, DETOUR], [DETOUR, DETOUR])
    refined, _ = refine(provider, patience=3)
    for subset in refined.subsets:
        assert [one.place.split("-", 1)[1] for one in subset.best_by_round if one] == [
            "round1-sample1",
            "round2-sample1",
            "round2-sample1",
        ]
        scores = [one.numbers.score for one in subset.best_by_round if one is not None and one.numbers is not None]
        assert scores[0] < scores[1] == scores[2]
    assert set(refined.routes) == set(range(6))


def test_the_same_plan_is_driven_once(refine: Refine) -> None:
    refined, bench = refine(Scripted([SHORTEST, SHORTEST], [SHORTEST, DETOUR]), rounds=2)
    assert bench.driven == 2 * len(refined.subsets)
    assert [one.same for one in refined.subsets[0].attempts] == [False, True, True, False]
    first, second, third, _ = refined.subsets[0].attempts
    assert first.numbers == second.numbers == third.numbers


def test_subsets_stop_when_nothing_improves(refine: Refine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relid_sumo")
    provider = Scripted([SHORTEST, SHORTEST])
    refined, _ = refine(provider, rounds=9, patience=2)
    assert {question.facts["round"] for question in provider.asked} == {1, 2, 3}
    assert len(provider.asked) == 2 * 3 * len(refined.subsets)
    assert "no subset improves: stopped after round 3" in caplog.messages


@pytest.mark.parametrize(("regime", "prompts"), [("rich", 1), ("bare", 2)])
def test_all_questions_of_a_round_come_at_once(refine: Refine, regime: Regime, prompts: int) -> None:
    provider = Scripted([SHORTEST, DETOUR])
    refined, _ = refine(provider, rounds=1, samples=2, prompt=PromptSettings(regime=regime))
    assert len({question.place for question in provider.asked}) == len(provider.asked)
    assert len({question.key for question in provider.asked}) == prompts * len(refined.subsets)


def test_what_went_wrong_is_in_the_next_prompt(refine: Refine) -> None:
    provider = Scripted([PROSE, BROKEN], [SHORTEST, SHORTEST])
    refined, _ = refine(provider, rounds=2)
    later = next(question.prompt for question in provider.asked if question.facts["round"] == 2)
    assert "No program has given a valid plan yet." in later
    assert "failed: the answer has no code block" in later
    assert "its route ends on" in later
    assert [one.problem is None for one in refined.subsets[0].attempts] == [False, False, True, True]


def test_what_a_service_says_of_an_answer_is_the_cause(refine: Refine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relid_sumo")
    refused, cut = "the model refused: no (finish reason stop)", "the answer was cut off (finish reason length)"
    refined, _ = refine(Scripted([Answer("", refused), Answer("```python\ndef plan(", cut)]), rounds=1)
    written = results._round(refined.subsets, 1)
    n = len(refined.subsets)
    assert [count for count, _ in written["causes"]] == [n, n]
    causes = [cause for _, cause in written["causes"]]
    assert causes[0].startswith(f"{cut}: ")
    assert causes[1].startswith(f"{refused}: the answer is empty")
    assert any(f"others: {refused}" in line for line in caplog.messages)


def test_routes_tried_reach_the_programs_of_the_next_round(refine: Refine) -> None:
    """A program that takes the slowest route tried so far: in round 2 that is the detour of round 1."""
    slowest = PLAN.format(route="t.tried[-1].route")
    refined, _ = refine(Scripted([DETOUR], [slowest]), rounds=2, samples=1)
    for subset in refined.subsets:
        assert subset.attempts[0].routes == subset.attempts[1].routes
        assert subset.attempts[1].same


def test_agents_of_a_subset_without_a_valid_plan_are_left_out(refine: Refine, crossing: RoutingTask) -> None:
    refined, _ = refine(Scripted([PROSE, BROKEN]), rounds=1)
    assert refined.routes == {}
    assert all(subset.best is None for subset in refined.subsets)
    groups, labels = results.planned(
        {"subsets": [results._subset(subset, refined.partition, crossing) for subset in refined.subsets]},
        crossing.graph,
    )
    assert groups == [[]] * len(refined.subsets)
    assert all("no valid plan" in label for label in labels)


def test_d_in_counts_once_policies_are_trained(refine: Refine) -> None:
    """Present policies that are certain of the shortest way: D_in is 0 on it, and above on a detour."""

    def certain(agent: int, observation: Any, mask: Any) -> Any:  # noqa: ANN401 - arrays
        del agent
        far = np.where(mask, observation[1:-2:2], np.inf)
        return (far == far.min()) / (far == far.min()).sum()

    provider = Scripted([SHORTEST, DETOUR])
    refined, _ = refine(provider, Present(probabilities=certain), rounds=1)
    straight, detour = refined.subsets[0].attempts
    assert straight.numbers is not None
    assert detour.numbers is not None
    assert straight.numbers.d_in is not None
    assert detour.numbers.d_in is not None
    assert straight.numbers.d_in < detour.numbers.d_in
    assert "D_in is how" in provider.asked[0].prompt


def test_the_template_gives_valid_plans_and_the_same_every_time(refine: Refine) -> None:
    first, again = (refine(Template(), rounds=3)[0] for _ in range(2))
    attempts = [one for subset in first.subsets for one in subset.attempts]
    assert all(one.problem is None for one in attempts), [one.problem for one in attempts]
    assert first.routes == again.routes


def test_bare_programs_get_roads_and_trips_alone(refine: Refine) -> None:
    walk = (
        "```python\ndef plan(network, trips):\n"
        "    assert not hasattr(network, 'shortest_path') and not hasattr(trips[0], 'tried')\n"
        "    routes = {}\n"
        "    for trip in trips:\n"
        "        paths = [[trip.origin]]\n"
        "        while paths[0][-1] != trip.destination:\n"
        "            path = paths.pop(0)\n"
        "            paths += [[*path, edge] for edge in network.successors[path[-1]] if edge not in path]\n"
        "        routes[trip.id] = paths[0]\n"
        "    return routes\n```"
    )
    provider = Scripted([SHORTEST, walk])
    refined, _ = refine(provider, rounds=2, prompt=PromptSettings(regime="bare"))
    first, second, *_ = refined.subsets[0].attempts
    assert "TypeError: plan() missing 1 required positional argument: 'traffic'" in (first.problem or "")
    assert second.problem is None
    assert second.numbers is not None
    later = next(question.prompt for question in provider.asked if question.facts["round"] == 2)
    assert "TypeError: plan() missing 1 required" in later
