"""Train IPPO and MAPPO on a game that is small enough to be solved exactly, and compare them with its optimum.

    python tools/exact_case.py --vehicles 2 --seeds 3 --out exact.json

Two or four vehicles cross a grid of 4 x 4 junctions in the toy simulation (`relid_sumo.sim.toy`), with the product's
episode, observation and reward. A vehicle delays those behind it on the same edge, and some streets are slow, so that
the free-flow fastest routes are not the best ones. The simulation is deterministic. The largest mean return of all
policies is therefore that of the best joint plan, and `optimum` drives every joint plan that could be the best: total
travel time is at least the sum of the routes' times without other vehicles, so that longer routes cannot win.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from relid_sumo.base import files, seeding
from relid_sumo.base.arrays import Floats
from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.learn.algos.gae import make_batch
from relid_sumo.learn.algos.ippo import Ippo
from relid_sumo.learn.algos.mappo import Mappo
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.scenario.settings import Demand, Place, Scenario, Trip
from relid_sumo.scenario.task import RoutingTask, make_task
from relid_sumo.sim.toy import ToyBridge, grid

ENDS = (("0>1", "14>15"), ("0>4", "11>15"), ("4>5", "14>15"), ("1>5", "11>15"))  # origin and destination of vehicles
SLOW = {"1>5": 3.0, "8>9": 3.0, "9>10": 3.0, "9>13": 2.0, "2>6": 1.5, "0>4": 1.5}  # factors on crossing times
HORIZON_S = 200.0
ALGORITHMS = {"ippo": Ippo, "mappo": Mappo}
Route = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A task and the factors on the crossing times of its edges."""

    task: RoutingTask
    slow: dict[int, float]

    def drive(self, policy: Policy) -> EpisodeRecord:
        """Return an episode in which a policy drives the vehicles."""
        episode = Episode(self.task, ToyBridge(self.task.graph, self.slow), observe=policy.observes)
        choose = policy.start()
        while decisions := episode.advance():
            for decision in decisions:
                episode.act(decision, choose(episode, decision))
        return episode.record()


@dataclass(frozen=True)
class Solution:
    """The exact solution of a case.

    Attributes
    ----------
    plan : tuple
        The best joint plan: a route of each vehicle.
    mean_return : float
        Its mean return, s, which no policy exceeds.
    shortest : float
        Mean return on the free-flow fastest routes, s.
    plans : int
        Number of joint plans that were driven.
    is_equilibrium : bool
        Whether no vehicle gains by changing its route alone.
    """

    plan: tuple[Route, ...]
    mean_return: float
    shortest: float
    plans: int
    is_equilibrium: bool


def case(vehicles: int) -> Case:
    """Return the case of the first vehicles."""
    graph, nowhere = grid(4), Place(lon=0, lat=0, bearing=0)
    scenario = Scenario(
        name="exact",
        network="toy",
        horizon_s=HORIZON_S,
        demand=Demand(warmup_s=0, rate_vph=0),
        trips=tuple(Trip(id=f"a{i}", origin=nowhere, destination=nowhere, depart_s=0.0) for i in range(vehicles)),
    )
    ends = [(graph.index[a], graph.index[b]) for a, b in ENDS[:vehicles]]
    return Case(make_task(scenario, graph, ends), {graph.index[name]: factor for name, factor in SLOW.items()})


def optimum(given: Case) -> Solution:
    """Return the exact solution of a case."""
    task, n = given.task, given.task.n_agents
    alone_s = task.graph.free_flow_s.copy()
    for edge, factor in given.slow.items():
        alone_s[edge] *= factor
    to_go = [task.graph.to_destination(int(goal), alone_s)[0] for goal in task.destination]
    least_s = [float(alone_s[o] + to_go[i][o]) for i, o in enumerate(task.origin.tolist())]
    first = given.drive(Policy("shortest"))
    if set(first.status) != {ARRIVED}:
        raise ValueError("a vehicle does not arrive on its fastest route, so that travel times bound nothing")
    fastest = [_fastest(task, i, alone_s, to_go[i]) for i in range(n)]
    alone = given.drive(Policy("fixed", routes=dict(enumerate(fastest))))
    most_s = float(min(first.travel_time.sum(), alone.travel_time.sum()))
    options = [list(_routes(task, i, alone_s, to_go[i], most_s - (sum(least_s) - least_s[i]))) for i in range(n)]
    returns: dict[tuple[int, ...], Floats] = {}
    for chosen in itertools.product(*(range(len(routes)) for routes in options)):
        plan = tuple(options[i][k] for i, k in enumerate(chosen))
        if sum(float(alone_s[list(route)].sum()) for route in plan) <= most_s:
            returns[chosen] = given.drive(Policy("fixed", routes=dict(enumerate(plan)))).returns
    best = max(returns, key=lambda chosen: float(returns[chosen].mean()))
    others = ((i, (*best[:i], k, *best[i + 1 :])) for i in range(n) for k in range(len(options[i])) if k != best[i])
    stays = all(returns[other][i] <= returns[best][i] for i, other in others if other in returns)
    plan = tuple(options[i][k] for i, k in enumerate(best))
    return Solution(plan, float(returns[best].mean()), float(first.returns.mean()), len(returns), stays)


def _fastest(task: RoutingTask, agent: int, alone_s: Floats, to_go: Floats) -> Route:
    """Return the fastest route of an agent without other vehicles."""
    route = [int(task.origin[agent])]
    while route[-1] != task.destination[agent]:
        after = [edge for edge in task.graph.slots[route[-1]].tolist() if edge >= 0]
        route.append(min(after, key=lambda edge: float(alone_s[edge] + to_go[edge])))
    return tuple(route)


def _routes(
    task: RoutingTask,
    agent: int,
    alone_s: Floats,
    to_go: Floats,
    most_s: float,
) -> list[Route]:
    """Return all routes of an agent that take at most a time without other vehicles."""
    found: list[Route] = []
    goal = int(task.destination[agent])
    open_routes: list[tuple[Route, float]] = [((int(task.origin[agent]),), float(alone_s[task.origin[agent]]))]
    while open_routes:
        route, took_s = open_routes.pop()
        if route[-1] == goal:
            found.append(route)
            continue
        for edge in task.graph.slots[route[-1]].tolist():
            if edge >= 0 and took_s + float(alone_s[edge] + to_go[edge]) <= most_s:
                if edge in route:
                    raise ValueError("the bound allows a route with a loop, which a fixed plan cannot drive")
                open_routes.append(((*route, edge), took_s + float(alone_s[edge])))
    return sorted(found)


def trained(
    given: Case, algorithm: str, settings: IppoSettings, seed: int, updates: int, episodes: int
) -> tuple[list[float], float]:
    """Train an algorithm.

    Parameters
    ----------
    episodes
        Number of episodes of an update.

    Returns
    -------
    list of float
        Mean sampled return of each update, s.
    float
        Return of the greedy policy at the end, s.
    """
    task = given.task
    learner = ALGORITHMS[algorithm](task.n_agents, task.graph.m_out, settings, seed, task.layout)
    curve = []
    for update in range(updates):
        weights = learner.weights()
        seeds = [seeding.derive(seed, "episode", update * episodes + k) for k in range(episodes)]
        records = [given.drive(Policy("learned", seed=one, weights=weights)) for one in seeds]
        learner.update(make_batch(records, task.n_agents, joint=algorithm == "mappo"), update / updates)
        curve.append(float(np.mean([record.returns for record in records])))
    return curve, float(given.drive(Policy("learned", greedy=True, weights=learner.weights())).returns.mean())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", type=int, choices=(2, 4), default=2, help="vehicles (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=60, help="updates of a training (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=8, help="episodes of an update (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of training seeds (default: %(default)s)")
    parser.add_argument(
        "--entropy", type=float, default=0.05, help="weight of the entropy bonus at the start (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=8, help="passes over a batch (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    given, settings = case(chosen.vehicles), IppoSettings(entropy=chosen.entropy, epochs=chosen.epochs)
    exact = optimum(given)
    print(f"optimum {exact.mean_return:.2f} s ({exact.plans} joint plans driven), shortest {exact.shortest:.2f} s")
    print(f"a vehicle gains by leaving the optimum alone: {'no' if exact.is_equilibrium else 'yes'}")
    found: dict[str, list[float]] = {}
    for name in ALGORITHMS:
        runs = (trained(given, name, settings, seed, chosen.updates, chosen.episodes) for seed in range(chosen.seeds))
        found[name] = [greedy for _, greedy in runs]
        print(
            f"{name}: greedy return of each seed, s: {', '.join(f'{value:.2f}' for value in found[name])}", flush=True
        )
    if chosen.out:
        given_settings = {name: value for name, value in vars(chosen).items() if name != "out"}
        result = {"optimum": exact.mean_return, "shortest": exact.shortest, "plans": exact.plans, "learned": found}
        files.write_json(chosen.out, given_settings | result)


if __name__ == "__main__":
    main()
