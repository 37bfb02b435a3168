"""Demonstrations as LEED makes them: a model writes a sequence of edges for each agent, once, without feedback.

LEED is by Duan et al. 2025, "LEED: A Highly Efficient and Scalable LLM-Empowered Expert Demonstrations Framework for
Multi-Agent Reinforcement Learning" (arXiv 2509.14680). From its abstract: a language model writes instructions to
interact with the environment, which become demonstrations; training is decentralised; each agent builds an expert
policy loss from them, which is integrated with its own policy loss. From public reviews of it: the model is given
adjacency and the agents' details, and answers with one executable sequence for each agent. The text of the prompt, the
part of the network that it shows, and what happens to a sequence that cannot be driven are this project's:

- A prompt is about one agent. It shows the edges nearest to the straight line of its trip, as many as fit, and always
  those of the free-flow fastest route, so that an answer exists.
- A sequence that cannot be driven is followed to its first fault, and continued on the free-flow fastest route.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.files import ANSWERS, answer_files, placed
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed import demonstrations, run_folder
from relid_sumo.sed.ask import providers
from relid_sumo.sed.ask.provider import Asking, Provider, Question
from relid_sumo.sed.bench import Bench, Present, SedWatch
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.programs import plans
from relid_sumo.sed.programs.answers import blocks, without_thoughts
from relid_sumo.sed.programs.plain import harmless
from relid_sumo.sed.run import Ask
from relid_sumo.sed.run import check as check_sed
from relid_sumo.sed.settings import SedSettings

log = logging.getLogger(__name__)

MOST_CHARACTERS = 12_000  # of a prompt
MOST_OTHERS = 12  # other vehicles that a prompt lists
MOST_ANSWER = 60_000  # characters of an answer that are read
LIST = re.compile(r"\[[^\[\]]*\]")
PROMPT = """\
# Route one vehicle

You route one vehicle through a city in the traffic simulator SUMO. Other cars drive there too. What counts is its
travel time.

- vehicle `{name}`: departs at {depart_s:.0f} s on edge `{origin}`, has to arrive at edge `{destination}`
- {others} other vehicles are routed at the same time:
{listed}

The directed edges around the trip, one per line: name, length [m], time without traffic [s], and the edges that may
follow:

{adjacency}

Answer with one fenced block that contains a JSON list of edge names: the edges from `{origin}` to `{destination}`, both
included, each one among those that may follow the one before, none twice.
"""


def check(ask: Ask, settings: SedSettings, scenario: Scenario) -> str:
    """Return the name of the provider; call it before any simulation.

    An empty name means recorded sequences where the scenario has them, else ``template``, which asks no model and
    answers with the fastest route on the edges that the prompt shows.

    Raises
    ------
    InputError
        As `relid_sumo.sed.run.check`.
    """
    recorded = any(file.name.startswith("agent") for file in answer_files(scenario.folder / ANSWERS))
    name = ask.name or ("recorded" if recorded else "template")
    check_sed(replace(ask, name=name), settings, scenario)
    return name


def plan(
    ready: PreparedScenario,
    folder: Path,
    settings: SedSettings,
    ask: Ask,
    *,
    workers: int | None = None,
    watch: SedWatch | None = None,
) -> Demonstrations:
    """Ask for every agent's sequence, drive all of them in the training traffic, and return the demonstrations.

    Prompts and answers are saved in the folder; no question is asked twice there.

    Raises
    ------
    InputError
        The folder has another run, or the provider gives no answers.
    """
    name, task, watch = check(ask, settings, ready.scenario), ready.task, watch or SedWatch()
    scenario = ready.scenario
    known = {"scenario": placed(scenario).model_dump(mode="json"), "network_key": ready.network.key}
    run_folder.open_run(folder, name, {**known, "sequences": True, "llm": scenario.llm.model_dump(mode="json")})
    asking = Asking(scenario.llm, folder, scenario.folder / ANSWERS, ask.mailbox, ask.wait_s)
    provider: Provider = Fastest(task) if name == "template" else providers.build(name, asking)
    questions = [question(task, i) for i in range(task.n_agents)]
    answers = run_folder.ask(folder, provider, questions, watch.answer)
    read = [route_of(answer.text, task, i) for i, answer in enumerate(answers)]
    faults = {task.names[i]: fault for i, (_, fault) in enumerate(read) if fault}
    log.info(f"{task.n_agents - len(faults)} of {task.n_agents} sequences can be driven")
    for vehicle, fault in faults.items():
        log.info(f"{vehicle}: {fault}; continued on the free-flow fastest route")
    routes = {i: route for i, (route, _) in enumerate(read)}
    with Rollouts(task, workers) as rollouts:
        bench = Bench(ready, rollouts, settings, Present(), watch)
        seeds = scenario.seeds.training
        (records,) = bench.drive([Policy("fixed", routes=routes)], seeds, settings.simulator)
    edges = task.graph.edge_ids
    meta = {
        "scenario": scenario.name,
        "network_key": ready.network.key,
        "simulator": settings.simulator,
        "subsets": [
            {
                "vehicles": [task.names[i]],
                "routes": {task.names[i]: [str(edges[edge]) for edge in routes[i]]},
                "program": None,
                "numbers": None,
                "fault": read[i][1],
            }
            for i in range(task.n_agents)
        ],
        "episodes": len(seeds),
    }
    made = demonstrations.collect(task, records, meta)
    made.save(folder / run_folder.DEMONSTRATIONS)
    return made


def question(task: RoutingTask, agent: int) -> Question:
    """Return the prompt for an agent's sequence."""
    graph, name = task.graph, harmless(task.names[agent])

    def edge_name(edge: int) -> str:
        return harmless(str(graph.edge_ids[edge]))

    ends = [[edge_name(edge) for edge in pair] for pair in zip(task.origin, task.destination, strict=True)]
    others = [i for i in range(task.n_agents) if i != agent]
    listed = [
        f"  - `{harmless(task.names[i])}` at {task.depart_s[i]:.0f} s from `{ends[i][0]}` to `{ends[i][1]}`"
        for i in others[:MOST_OTHERS]
    ]

    def text(adjacency: str) -> str:
        return PROMPT.format(
            name=name,
            depart_s=task.depart_s[agent],
            origin=ends[agent][0],
            destination=ends[agent][1],
            others=len(others),
            listed="\n".join(listed) or "  - none",
            adjacency=adjacency,
        )

    shown, left = [], MOST_CHARACTERS - len(text(""))
    for edge in nearest(task, agent):
        after = " ".join(edge_name(one) for one in graph.slots[edge] if one >= 0)
        line = f"{edge_name(edge)}, {graph.length[edge]:.0f}, {graph.free_flow_s[edge]:.1f}: {after}"
        left -= len(line) + 1
        if left < 0:
            break
        shown.append((edge, line))
    lines = [line for _, line in sorted(shown)]
    facts = {"vehicles": [task.names[agent]], "regime": "sequence", "agent": agent, "edges": [e for e, _ in shown]}
    return Question(f"agent{agent + 1}", text("\n".join(lines)), facts)


def nearest(task: RoutingTask, agent: int) -> list[int]:
    """Return all open edges: those of the free-flow fastest route, then by the detour over their middle."""
    graph, origin, destination = task.graph, int(task.origin[agent]), int(task.destination[agent])
    start, goal = graph.end_xy[origin], graph.end_xy[destination]
    way = np.hypot(*(graph.middle_xy - start).T) + np.hypot(*(graph.middle_xy - goal).T)
    first = task.route(agent, origin)
    rest = (edge for edge in np.argsort(way, kind="stable").tolist() if edge not in task.closed)
    return list(dict.fromkeys([*first, *rest]))


def route_of(answer: str, task: RoutingTask, agent: int) -> tuple[tuple[int, ...], str]:
    """Return the route of an answer, edges, and why its sequence cannot be driven as it is ("" where it can)."""
    edges = sequence_in(answer)
    routes, fault = plans.check({task.names[agent]: edges}, task, [agent])
    if routes is not None:
        return routes[agent], ""
    origin = int(task.origin[agent])
    driven = [origin]
    for name in edges[1:] if edges and task.graph.index.get(edges[0]) == origin else ():
        edge = task.graph.index.get(name, -1)
        if edge in driven or edge not in task.graph.slots[driven[-1]][task.mask(agent, driven[-1])]:
            break
        driven.append(edge)
    route = (*driven, *task.route(agent, driven[-1])[1:])
    return (route if len(set(route)) == len(route) else tuple(task.route(agent, origin))), fault


def sequence_in(answer: str) -> list[str]:
    """Return the last JSON list of texts in an answer, in a fenced block where there is one; [] for none."""
    text = without_thoughts(answer[:MOST_ANSWER])
    for part in [*reversed([block.text for block in blocks(text)]), text]:
        for found in reversed(LIST.findall(part)):
            try:
                edges = json.loads(found)
            except ValueError:
                continue
            if all(isinstance(edge, str) for edge in edges):
                return list(edges)
    return []


class Fastest:
    """The provider that asks no model: the free-flow fastest route on the edges that the prompt shows."""

    def __init__(self, task: RoutingTask) -> None:
        self._task = task

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """See `Provider`."""
        graph = self._task.graph
        for asked in questions:
            agent = int(asked.facts["agent"])
            cost = np.full(graph.n_edges, np.inf)
            shown = list(asked.facts["edges"])
            cost[shown] = graph.free_flow_s[shown]
            route = graph.path(int(self._task.origin[agent]), int(self._task.destination[agent]), cost)
            yield asked, f"```json\n{json.dumps([str(graph.edge_ids[edge]) for edge in route])}\n```"
