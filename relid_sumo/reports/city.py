"""The map of a report: the network, and each policy's routes for the same agents in the same traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relid_sumo.base.errors import InputError
from relid_sumo.reports.read import Run
from relid_sumo.runs import layout
from relid_sumo.runs.routes import StoredRoutes, read_routes
from relid_sumo.runs.summary import ARRIVED

AGENTS = 30  # at most, on the map


@dataclass(frozen=True, eq=False)
class Layer:
    """One policy's trips: for each agent a route of edge indices, its travel time, s, and whether it arrived.

    `seed` is None for a baseline.
    """

    policy: str
    seed: int | None
    routes: list[list[int]]
    travel_time_s: list[float]
    arrived: list[bool]


@dataclass(frozen=True, eq=False)
class City:
    """The map of a scenario.

    Attributes
    ----------
    roads
        Centre line of each edge as x, y, x, y, ..., in m.
    speed_class
        Speed class of each edge, from 0 (slow) to 4.
    agents, origin, destination
        Agents' names; edge indices of their origins and destinations.
    incidents
        Edge index and description of each incident of the traffic seed.
    streets, street
        Names of streets, and the index of each edge's name in them, -1 for none; empty in files of earlier versions.
    """

    scenario: str
    network: str
    attribution: str
    roads: list[list[int]]
    speed_class: list[int]
    traffic_seed: int
    agents: list[str]
    origin: list[int]
    destination: list[int]
    incidents: list[tuple[int, str]]
    layers: list[Layer]
    note: str
    streets: list[str]
    street: list[int]


def city(runs: Sequence[Run], scenario: str) -> tuple[City | None, list[str]]:
    """Return a scenario's map (None if no run folder has its routes), and messages about unreadable files."""
    layers: dict[tuple[str, int | None], Layer] = {}
    base: StoredRoutes | None = None
    wrong: list[str] = []
    without = 0
    for run in (run for run in runs if run.scenario == scenario):
        file = run.folder / layout.ROUTES if run.folder is not None else None
        if file is None or not file.is_file():
            without += run.evaluation is not None
            continue
        if run.evaluation is None:
            continue
        try:
            content = read_routes(file)
            base = base or content
            if _place(content) != _place(base):
                wrong.append(
                    f"{file}: its routes are not on the map: network, traffic seed or incidents differ from the first "
                    "run"
                )
                continue
            for policy, routes in content.routes.items():
                name, seed = (run.algorithm, run.seed) if policy == "trained" else (policy, None)
                layers.setdefault((name, seed), _layer(run, policy, name, seed, routes))
        except (InputError, KeyError, ValueError) as error:
            wrong.append(f"{file}: its routes are not on the map: {error}; evaluate the run again")
    if base is None or not layers:
        return None, wrong
    notes = [f"The first {AGENTS} of {len(base.agents)} agents."] if len(base.agents) > AGENTS else []
    if base.incidents:
        notes.append(f"Red: events of the traffic seed: {'; '.join(said for _, said in base.incidents)}.")
    if without:
        notes.append(f"{without} run{'s' if without > 1 else ''} without routes (only the summary is available).")
    return City(
        scenario=scenario,
        network=base.network,
        attribution=base.attribution,
        roads=base.roads,
        speed_class=base.speed_class,
        traffic_seed=base.traffic_seed,
        agents=base.agents[:AGENTS],
        origin=base.origin[:AGENTS],
        destination=base.destination[:AGENTS],
        incidents=list(base.incidents),
        layers=sorted(layers.values(), key=lambda layer: (layer.seed is None, layer.policy, layer.seed or 0)),
        note=" ".join(notes),
        streets=list(base.streets) if base.street else [],
        street=list(base.street),
    ), wrong


def _place(drawn: StoredRoutes) -> tuple[object, ...]:
    return drawn.network_key, drawn.traffic_seed, list(drawn.incidents)


def _layer(run: Run, policy: str, name: str, seed: int | None, routes: list[list[int]]) -> Layer:
    assert run.evaluation is not None
    driven = run.evaluation.policies[policy]
    seconds, status = driven.travel_time_s[0][:AGENTS], driven.status[0][:AGENTS]
    return Layer(name, seed, routes[:AGENTS], seconds, [one == ARRIVED for one in status])
