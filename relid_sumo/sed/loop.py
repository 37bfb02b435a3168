"""The loop: ask for programs, run them, check and drive their plans, give feedback, and ask again.

The questions of all subsets and samples of a round are asked together. The best plan of a subset changes only for a
plan with a higher score. A subset stops after `patience` consecutive rounds without a better plan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relid_sumo.base.arrays import Floats
from relid_sumo.scenario.traffic.edge_times import BIN_S
from relid_sumo.sed import run_folder
from relid_sumo.sed.ask import facts, prompt
from relid_sumo.sed.ask.provider import Provider, Question
from relid_sumo.sed.bench import Bench
from relid_sumo.sed.partition import Partition, partition
from relid_sumo.sed.programs import feedback, material
from relid_sumo.sed.programs.answers import WANTED
from relid_sumo.sed.programs.attempt import Attempt, attempt
from relid_sumo.sed.programs.feedback import Reference
from relid_sumo.sed.programs.plain import last_line
from relid_sumo.sed.programs.plans import Routes
from relid_sumo.sed.programs.sandbox import Isolation

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Subset:
    """Agents that plan together, their attempts so far, and the best of them.

    Attributes
    ----------
    about : dict
        The facts that are the same in all of its prompts.
    best_by_round : list of Attempt or None
        The best attempt after each round.
    """

    number: int
    agents: tuple[int, ...]
    about: dict[str, Any]
    attempts: list[Attempt] = field(default_factory=list)
    best: Attempt | None = None
    idle_rounds: int = 0
    best_by_round: list[Attempt | None] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Refined:
    """Result of the loop: the partition, every subset with its attempts, and the reference episodes."""

    partition: Partition
    subsets: tuple[Subset, ...]
    reference: Reference

    @property
    def routes(self) -> Routes:
        """The best plans of all subsets, edge indices by agent; agents of subsets without a valid plan are missing."""
        best = [subset.best.routes for subset in self.subsets if subset.best is not None]
        return {agent: route for routes in best if routes is not None for agent, route in routes.items()}


def refine(
    bench: Bench,
    folder: Path,
    provider: Provider,
    how: Isolation,
    edge_times: Floats,
    on_round: Callable[[Refined], None] = lambda _: None,
) -> Refined:
    """Run the loop over all subsets of the agents.

    Parameters
    ----------
    folder
        The run folder, opened by `run_folder.open_run`.
    how
        How programs are isolated.
    edge_times
        Mean travel times by bin, s, shape (bins, E).
    on_round
        Called after each round.

    Raises
    ------
    InputError
        The provider gives no more answers, or a template is not valid.
    """
    task, settings = bench.ready.task, bench.settings
    parts = partition(task, settings.partition)
    log.info(f"{len(parts.subsets)} subsets; driving the reference policies")
    reference = bench.reference()
    tried: material.Tried = {}
    for records in (reference.shortest, reference.reactive):
        material.note(tried, records, range(task.n_agents))
    known = _KnownPlan(bench, edge_times, reference, tried)
    subsets = tuple(
        Subset(number, agents, known.about(agents, parts)) for number, agents in enumerate(parts.subsets, 1)
    )
    for number in range(1, settings.rounds + 1):
        active = [subset for subset in subsets if subset.idle_rounds < settings.patience]
        if not active:
            log.info(f"no subset improves: stopped after round {number - 1}")
            break
        asked = [(subset, question) for subset in active for question in known.questions(subset, number)]
        log.info(f"round {number}: {len(asked)} programs")
        answers = run_folder.ask(folder, provider, [question for _, question in asked], bench.watch.answer)
        fresh = []
        for (subset, question), answer in zip(asked, answers, strict=True):
            where = (question.place, number, int(question.facts["sample"]))
            data, sandbox = known.data(subset), settings.sandbox
            one = attempt(answer.text, where, data, task, subset.agents, sandbox, how, answer.note)
            run_folder.write(
                folder / run_folder.PROGRAMS / f"{question.place}.py", one.program or _commented(f"none: {one.problem}")
            )
            fresh.append((subset, one))
        _drive(bench, fresh, reference)
        for subset, one in fresh:
            subset.attempts.append(one)
            if not one.same:
                material.note(tried, one.records, subset.agents)
        for subset in active:
            _update_best(subset, number)
        log.info(_round_line(number, fresh, subsets))
        on_round(Refined(parts, subsets, reference))
    return Refined(parts, subsets, reference)


class _KnownPlan:
    """The data that programs and prompts are made from."""

    def __init__(self, bench: Bench, edge_times: Floats, reference: Reference, tried: material.Tried) -> None:
        self._bench, self._edge_times, self._reference, self._tried = bench, edge_times, reference, tried
        self._task, self._settings = bench.ready.task, bench.settings
        self._network = material.network_data(self._task)
        all_traffic = {"network": self._network, "traffic": self._traffic(())}
        self._expected = facts.Expected(self._task, all_traffic)

    def _traffic(self, agents: Sequence[int]) -> dict[str, Any]:
        others = [i for i in range(self._task.n_agents) if i not in agents]
        return material.traffic_data(self._task, self._edge_times, material.shortest_routes(self._task, others))

    def data(self, subset: Subset) -> dict[str, Any]:
        """Return the input of a subset's programs."""
        if self._settings.prompt.regime == "bare":
            return {"network": self._network, "trips": material.trips_data(self._task, subset.agents)}
        trips = material.trips_data(self._task, subset.agents, self._tried)
        return {"network": self._network, "trips": trips, "traffic": self._traffic(subset.agents)}

    def about(self, agents: Sequence[int], parts: Partition) -> dict[str, Any]:
        """Return the facts of a subset's initial prompt."""
        settings = self._settings
        return {
            "network": facts.of_network(self._bench.ready.network, self._task),
            "limits": facts.of_limits(settings.sandbox, settings.prompt),
            "bin_s": round(BIN_S),
            "bins": len(self._edge_times),
            "weight_out": settings.weight_out,
            "weight_in": settings.weight_in,
            "rounds": settings.rounds,
            "programs": settings.samples,
            "d_in": self._bench.present.probabilities is not None,
            **facts.of_subset(self._expected, agents, parts.routes, self._reference),
        }

    def questions(self, subset: Subset, number: int) -> list[Question]:
        """Return a subset's questions of a round; those of the bare regime differ in one sentence between samples."""
        best, samples = subset.best, self._settings.samples
        so_far = None
        if number > 1:
            means = facts.tried_means(self._tried, len(self._bench.seeds))
            of_best = None if best is None else facts.of_best(best, self._expected, self._reference, means)
            so_far = {**facts.of_attempts(subset.attempts, best), "round": number, "best": of_best}
        shared = {
            "vehicles": [self._task.names[i] for i in subset.agents],
            "round": number,
            "regime": self._settings.prompt.regime,
            "runs": len(self._bench.seeds),
            "numbers": None if best is None else best.numbers,
        }
        questions = []
        for sample in range(1, samples + 1):
            # The rich prompts are those of the recorded answers
            request = facts.request(sample, samples) if self._settings.prompt.regime == "bare" else ""
            about = {**subset.about, "request": request}
            if so_far is None:
                text = prompt.initial(about, self._settings.prompt)
            else:
                text = prompt.feedback({**about, **so_far}, self._settings.prompt)
            place = f"subset{subset.number}-round{number}-sample{sample}"
            questions.append(Question(place, text, {**shared, "sample": sample}))
        return questions


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _drive(bench: Bench, fresh: Sequence[tuple[Subset, Attempt]], reference: Reference) -> None:
    """Drive the valid plans that are new, and store episodes and numbers in their attempts."""
    valid = [(subset, one) for subset, one in fresh if one.routes is not None]
    twins = [
        next(a for a in [*subset.attempts, *(b for s, b in valid if s is subset)] if a.routes == one.routes)
        for subset, one in valid
    ]
    new = [(subset, one) for (subset, one), twin in zip(valid, twins, strict=True) if twin is one]
    driven = bench.try_out([one.routes for _, one in new if one.routes is not None])
    weights = bench.settings.weight_out, bench.settings.weight_in
    for (subset, one), records in zip(new, driven, strict=True):
        one.records = records
        one.numbers = feedback.measure(records, reference, subset.agents, weights, bench.present.probabilities)
    for (_, one), twin in zip(valid, twins, strict=True):
        if twin is not one:
            one.same, one.records, one.numbers = True, twin.records, twin.numbers


def _update_best(subset: Subset, number: int) -> None:
    """Update the best plan of a subset after a round; only a plan with a higher score replaces it."""
    before = subset.best
    for one in subset.attempts:
        if one.round == number and one.numbers is not None:
            best = subset.best.numbers if subset.best is not None else None
            if best is None or one.numbers.score > best.score:
                subset.best = one
    subset.idle_rounds = 0 if subset.best is not before else subset.idle_rounds + 1
    subset.best_by_round.append(subset.best)


def _round_line(number: int, fresh: Sequence[tuple[Subset, Attempt]], subsets: Sequence[Subset]) -> str:
    valid = sum(one.routes is not None for _, one in fresh)
    scores = [subset.best.numbers.score if subset.best and subset.best.numbers else None for subset in subsets]
    best = ", ".join("none" if score is None else f"{score:.3f}" for score in scores)
    causes = dict.fromkeys(
        last_line(one.problem).removesuffix(f"; {WANTED}") for _, one in fresh if one.problem is not None
    )
    others = f"; others: {'; '.join(causes)}" if causes else ""
    return f"round {number}: {valid} of {len(fresh)} programs gave a valid plan; best scores: {best}{others}"
