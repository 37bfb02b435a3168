"""The loop: ask, run, check, drive, tell what came of it, ask again; the best plan of every subset is held.

All subsets and samples of a round are asked for at once. A subset stops when `patience` rounds in a row bring nothing
better; what is held is never exchanged for something worse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from relid_sumo.env import EpisodeRecord
from relid_sumo.graph import Floats
from relid_sumo.policies import Policy
from relid_sumo.prepare import Ready
from relid_sumo.rollout import Job, Rollouts
from relid_sumo.scenario import Settings, Simulator
from relid_sumo.sed import facts, feedback, kept, material, prompt
from relid_sumo.sed.attempt import Attempt, attempt
from relid_sumo.sed.feedback import Probabilities, Reference
from relid_sumo.sed.llm import LlmSettings, Provider, Question
from relid_sumo.sed.partition import Partition, PartitionSettings, partition
from relid_sumo.sed.plans import Routes
from relid_sumo.sed.prompt import PromptSettings
from relid_sumo.sed.sandbox import Isolation, SandboxSettings


class SedSettings(Settings):
    """Settings of SED."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """Rounds: the first writes programs, each later one refines them."""
    samples: Annotated[int, Field(ge=1)] = 2
    """Programs of a subset in each round."""
    patience: Annotated[int, Field(ge=1)] = 2
    """A subset stops after so many rounds in a row without a better plan."""
    seeds: Annotated[int, Field(ge=1)] = 8
    """Training traffic seeds that each plan is driven in; below 8, F_out is little more than chance."""
    held_out: Annotated[int, Field(ge=1)] = 10
    """Evaluation traffic seeds that the held plans are compared on at the end, microscopically."""
    simulator: Simulator = "meso"
    """What plans are driven in while they are refined."""
    weight_out: Annotated[float, Field(ge=0)] = 0.2
    """Weight of F_out in the score."""
    weight_in: Annotated[float, Field(ge=0)] = 0.2
    """Weight of D_in in the score."""
    partition: PartitionSettings = PartitionSettings()
    """Who plans together."""
    prompt: PromptSettings = PromptSettings()
    """What is asked."""
    llm: LlmSettings = LlmSettings()
    """Who is asked, with --llm openai."""
    sandbox: SandboxSettings = SandboxSettings()
    """What programs may use."""

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of F_out and D_in."""
        return self.weight_out, self.weight_in


@dataclass(frozen=True)
class Watch:
    """Who is told what while the loop goes on: an answer, an episode, a round, what is being done."""

    answer: Callable[[Question], None] = lambda _: None
    episode: Callable[[EpisodeRecord], None] = lambda _: None
    report: Callable[[str], None] = lambda _: None


@dataclass(eq=False)
class Subset:
    """Agents that plan together, their attempts so far, and the best of them."""

    number: int
    agents: tuple[int, ...]
    attempts: list[Attempt] = field(default_factory=list)
    best: Attempt | None = None
    idle_rounds: int = 0
    held: list[Attempt | None] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Refined:
    """What the loop leaves: the partition, every subset with its attempts, and what they were compared with."""

    partition: Partition
    subsets: tuple[Subset, ...]
    reference: Reference

    @property
    def routes(self) -> Routes:
        """The held plans of all subsets, edge indices by agent; agents of subsets without a valid plan are missing."""
        held = [subset.best.routes for subset in self.subsets if subset.best is not None]
        return {agent: route for routes in held if routes is not None for agent, route in routes.items()}


@dataclass(frozen=True, eq=False)
class Present:
    """The present policies: what agents follow who have no plan, and their action probabilities where trained."""

    policy: Policy = Policy("shortest")
    probabilities: Probabilities | None = None


def refine(
    ready: Ready,
    rollouts: Rollouts,
    folder: Path,
    settings: SedSettings,
    provider: Provider,
    how: Isolation,
    edge_times: Floats,
    *,
    present: Present = Present(),
    watch: Watch = Watch(),
) -> Refined:
    """Run the loop over all subsets of the agents.

    Parameters
    ----------
    ready
        The scenario, prepared for `settings.simulator`.
    rollouts
        Processes to drive in.
    folder
        The run folder, opened (`kept.open_run`).
    how
        How programs are isolated.
    edge_times
        Mean travel times by bin, s, shape (bins, E).
    present
        The present policies.

    Raises
    ------
    InputError
        No more answers are to be had, or a template is not valid.
    """
    task = ready.task
    parts = partition(task, settings.partition)
    watch.report(f"{len(parts.subsets)} subsets; driving the policies to compare with")
    reference = _reference(ready, rollouts, settings, present, watch)
    tried: material.Tried = {}
    for records in (reference.shortest, reference.reactive):
        material.note(tried, records, range(task.n_agents))
    network = material.network_data(task)
    everybody = material.shortest_routes(task, range(task.n_agents))
    traffic = {
        agents: material.traffic_data(task, edge_times, {i: r for i, r in everybody.items() if i not in agents})
        for agents in parts.subsets
    }
    expected = facts.Expected(task, {"network": network, "traffic": traffic[parts.subsets[0]]})
    common = {
        "network": facts.of_network(ready.network, task),
        "limits": facts.of_limits(settings.sandbox, settings.prompt),
        "bin_s": round(material.BIN_S),
        "bins": len(edge_times),
        "weight_out": settings.weight_out,
        "weight_in": settings.weight_in,
        "d_in": present.probabilities is not None,
    }
    subsets = tuple(Subset(number, agents) for number, agents in enumerate(parts.subsets, 1))
    for number in range(1, settings.rounds + 1):
        active = [subset for subset in subsets if subset.idle_rounds < settings.patience]
        if not active:
            watch.report(f"nothing improves any more: stopped after round {number - 1}")
            break
        asked: list[tuple[Subset, Question, int]] = []
        for subset in active:
            about = {**common, **facts.of_subset(expected, subset.agents, parts.routes, reference)}
            asked += _questions(subset, number, about, expected, reference, tried, settings)
        watch.report(f"round {number}: {len(asked)} programs")
        answers = kept.ask(folder, provider, [question for _, question, _ in asked], watch.answer)
        fresh: list[tuple[Subset, Attempt]] = []
        for (subset, question, sample), answer in zip(asked, answers, strict=True):
            data = {
                "network": network,
                "trips": material.trips_data(task, subset.agents, tried),
                "traffic": traffic[subset.agents],
            }
            where = (question.place, number, sample)
            fresh.append((subset, attempt(answer, where, data, task, subset.agents, settings.sandbox, how)))
            if fresh[-1][1].program is not None:
                kept.write(folder / kept.PROGRAMS / f"{question.place}.py", fresh[-1][1].program or "")
        _drive(ready, rollouts, fresh, settings, present, reference, watch)
        for subset, one in fresh:
            subset.attempts.append(one)
            if not one.same:
                material.note(tried, one.records, subset.agents)
        for subset in active:
            _hold(subset, number)
    return Refined(parts, subsets, reference)


def _reference(
    ready: Ready, rollouts: Rollouts, settings: SedSettings, present: Present, watch: Watch
) -> Reference:
    """Drive what plans are compared with."""
    seeds = training_seeds(ready, settings)
    with tempfile.TemporaryDirectory(prefix="relid-sumo-placebo-") as name:
        jobs = [
            Job(seed, ready.options(seed, settings.simulator), policy)
            for policy in (Policy("shortest"), Policy("reactive"), present.policy)
            for seed in seeds
        ]
        for seed in seeds:
            changed = Path(name) / str(seed)
            changed.mkdir()
            options = ready.options(seed, settings.simulator)
            without = feedback.without_one_vehicle(options, changed, ready.scenario.start_s)
            jobs.append(Job(seed, without, present.policy))
        records = rollouts.run(jobs, watch.episode)
    k = len(seeds)
    return Reference(*(records[i * k : (i + 1) * k] for i in range(4)))


def training_seeds(ready: Ready, settings: SedSettings) -> tuple[int, ...]:
    """Return the traffic seeds that plans are refined on."""
    return ready.scenario.seeds.training[: settings.seeds]


def _questions(
    subset: Subset,
    number: int,
    about: dict[str, Any],
    expected: facts.Expected,
    reference: Reference,
    tried: material.Tried,
    settings: SedSettings,
) -> list[tuple[Subset, Question, int]]:
    """Return a subset's questions of a round: one prompt, as many times as there are samples."""
    text = prompt.initial(about, settings.prompt)
    numbers = None if subset.best is None else subset.best.numbers
    if number > 1:
        best = subset.best
        known = facts.best_tried(tried, len(reference.shortest))
        story = None if best is None else facts.of_best(best, expected, reference, settings.weights, known)
        after = {**about, **facts.of_attempts(subset.attempts, best), "initial": text, "round": number, "best": story}
        text = prompt.feedback(after, settings.prompt)
    told = {
        "vehicles": [expected.task.names[i] for i in subset.agents],
        "round": number,
        "samples": len(reference.shortest),
        "f_out": None if numbers is None else numbers.f_out,
        "f_out_floor": None if numbers is None else numbers.f_out_floor,
    }
    return [
        (subset, Question(f"subset{subset.number}-round{number}-sample{sample}", text, {**told, "sample": sample}), sample)
        for sample in range(1, settings.samples + 1)
    ]


def _drive(
    ready: Ready,
    rollouts: Rollouts,
    fresh: Sequence[tuple[Subset, Attempt]],
    settings: SedSettings,
    present: Present,
    reference: Reference,
    watch: Watch,
) -> None:
    """Drive the valid plans that were not driven before, and write episodes and numbers into their attempts."""
    valid = [(subset, one) for subset, one in fresh if one.routes is not None]
    twins = [
        next(a for a in [*subset.attempts, *(b for s, b in valid if s is subset)] if a.routes == one.routes)
        for subset, one in valid
    ]
    new = [(subset, one) for (subset, one), twin in zip(valid, twins, strict=True) if twin is one]
    seeds = training_seeds(ready, settings)
    jobs = [
        Job(seed, ready.options(seed, settings.simulator), Policy("fixed", routes=one.routes or {}, otherwise=present.policy))
        for _, one in new
        for seed in seeds
    ]
    records = rollouts.run(jobs, watch.episode)
    for i, (subset, one) in enumerate(new):
        one.records = records[i * len(seeds) : (i + 1) * len(seeds)]
        one.numbers = feedback.measure(one.records, reference, subset.agents, settings.weights, present.probabilities)
    for (_, one), twin in zip(valid, twins, strict=True):
        if twin is not one:
            one.same, one.records, one.numbers = True, twin.records, twin.numbers


def _hold(subset: Subset, number: int) -> None:
    """Hold the best plan so far; a plan that is no better does not replace what is held."""
    before = subset.best
    for one in subset.attempts:
        if one.round == number and one.numbers is not None:
            best = subset.best.numbers if subset.best is not None else None
            if best is None or one.numbers.score > best.score:
                subset.best = one
    subset.idle_rounds = 0 if subset.best is not before else subset.idle_rounds + 1
    subset.held.append(subset.best)
