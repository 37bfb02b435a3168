"""Demonstrated routes: check that they fit a scenario, and drive them in the training traffic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from relid_sumo.base import cache
from relid_sumo.base.errors import InputError
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.learn.reled.episodes import Route
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed import demonstrations as sed_demonstrations
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.programs import plans

log = logging.getLogger(__name__)


def planned(demonstrations: Demonstrations, ready: PreparedScenario, source: Path) -> list[Route]:
    """Return the demonstrated route of every agent.

    Raises
    ------
    InputError
        The demonstrations are of another scenario, network or trips, or an agent's plan is missing.
    """
    meta, task = demonstrations.meta, ready.task
    if meta.get("scenario") != ready.scenario.name:
        raise InputError(
            f"{source}: demonstrations of scenario '{meta.get('scenario')}', not '{ready.scenario.name}'; make "
            "some for this scenario: relid-sumo sed run SCENARIO --out DIR"
        )
    if meta.get("network_key") != ready.network.key:
        raise InputError(f"{source}: made on another version of network '{ready.network.name}'; make them again")
    demonstrations.check_meta(source)
    graph = task.graph
    fits = demonstrations.arrived.shape[1] == task.n_agents and demonstrations.mask.shape[1] == graph.m_out
    if not fits or demonstrations.edge.max(initial=0) >= graph.n_edges:
        raise InputError(f"{source}: made for other agents or another network; make them again")
    plan = {name: route for subset in meta["subsets"] for name, route in subset["routes"].items()}
    missing = [name for name in task.names if name not in plan]
    if missing:
        raise InputError(f"{source}: no plan for {', '.join(missing)}; make demonstrations with more rounds")
    never = [name for i, name in enumerate(task.names) if not demonstrations.arrived[:, i].any()]
    if never:
        log.warning(
            f"{source}: on their demonstrated routes {', '.join(never)} arrive in no traffic seed; they learn from "
            "a part of the route, or alone. A longer horizon (horizon_s), less traffic or other trips would help"
        )
    routes, fault = plans.check(plan, task, range(task.n_agents))
    if routes is None:
        raise InputError(f"{source}: made for other trips ({fault}); make them again")
    return [routes[i] for i in range(task.n_agents)]


def driven_routes(
    ready: PreparedScenario, rollouts: Rollouts, routes: Sequence[Route], simulator: Simulator
) -> Demonstrations:
    """Return routes driven in every training traffic seed; cached, as they do not depend on the learner."""
    content = [ready.identity(), simulator, [list(map(int, route)) for route in routes]]

    def make() -> Demonstrations:
        plan = Policy("fixed", routes=dict(enumerate(routes)))
        (records,) = in_traffic(ready, rollouts, [plan], ready.scenario.seeds.training, simulator)
        return sed_demonstrations.collect(ready.task, records, {})

    return cache.cached(
        "driven", ready.network.name, content, ".npz", make, lambda file, made: made.save(file), Demonstrations.load
    )
