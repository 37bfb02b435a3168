"""The agents' experts during training: demonstrations of planned routes, replaced by better routes of the agents.

A demonstration is one route, driven in every training traffic seed: in each simulator of the curriculum, and in the
microscopic simulator, in which policies are evaluated. In half of the seeds of the first simulator it is driven again
with slips: 15 % of the actions are random, and each decision is labelled with the expert's action at that edge.
Off its route, and before a closed road, the expert plans again (`relid_sumo.learn.reled.advice`).
An agent's last own episodes get the same labels (DAgger, Ross et al. 2011, arXiv 1011.0686), so that an agent that
leaves its plan learns how to continue. Elite: an agent's own route replaces its demonstration where it is better in
three or more common traffic seeds, by more than the standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Floats
from relid_sumo.env.play import job
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.learn.algos.hpo import Expert, RouteGap
from relid_sumo.learn.reled import dtw
from relid_sumo.learn.reled.advice import Advice
from relid_sumo.learn.reled.episodes import (
    AgentEpisode,
    KnownRoute,
    Route,
    Where,
    arrays,
    by_traffic_seed,
    packed,
    split,
    stack,
    surely_better,
    tensors,
    unpacked,
)
from relid_sumo.scenario.incidents import Placed
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.demonstrations import Demonstrations

SLIP = 0.15  # share of random actions in an episode with slips
ELITE_SEEDS = 3  # least number of traffic seeds in which an own route has to be better
ADVISED = 16  # last own episodes of an agent that are labelled with its expert's actions
MOST_ROUTES = 24  # own routes of an agent that are stored


class Experts:
    """Demonstrations of N agents, and the routes that the agents drove themselves.

    Parameters
    ----------
    task
        The task of these agents.
    routes
        The demonstrated route of every agent, edges.
    state
        State to continue from, as `state` returns it.
    times
        Mean travel times on which labels are planned, s, shape (bins, E); see `Advice`.
    """

    def __init__(
        self,
        task: RoutingTask,
        routes: Sequence[Route],
        state: Mapping[str, Any] | None = None,
        times: Floats | None = None,
    ) -> None:
        self.task, self._advice = task, Advice(task, times)
        self.demos = [KnownRoute(tuple(route)) for route in routes]
        self.own: list[dict[Route, KnownRoute]] = [{} for _ in routes]
        self.slips: list[list[AgentEpisode]] = [[] for _ in routes]
        self.advised: list[list[AgentEpisode]] = [[] for _ in routes]
        self.scale = np.full(len(routes), 1.0)
        self.replaced = np.zeros(len(routes), dtype=np.int64)
        if state is not None:
            self._restore(state)
        self._points = {i: self._line(demo.route) for i, demo in enumerate(self.demos)}

    def start(
        self,
        ready: PreparedScenario,
        rollouts: Rollouts,
        simulator: Simulator,
        seed: int,
        batch: int,
        closings: Sequence[Placed] = (),
        *,
        slips: bool = True,
    ) -> int:
        """Drive the plans with slips, and an untrained policy for alpha's scale; return the number of episodes.

        Parameters
        ----------
        batch
            Number of episodes of the untrained policy.
        closings
            Closed roads, with each of which the plans are driven once; traffic seeds take turns.
        slips
            Whether the plans are driven with slips, and past closed roads.
        """
        seeds = ready.scenario.seeds.training
        plan = dict(enumerate(self.routes))
        jobs = [
            job(ready, s, Policy("fixed", routes=plan, slip=SLIP, seed=seeding.derive(seed, "slip", s)), simulator)
            for s in (seeds[: max(1, len(seeds) // 2)] if slips else ())
        ]
        for number, closing in enumerate(closings if slips else ()):
            drawn = seeding.derive(seed, "slip past a closed road", number)
            policy = Policy("fixed", routes=plan, slip=SLIP, seed=drawn)
            jobs.append(job(ready, seeds[number % len(seeds)], policy, simulator, closing=closing))
        jobs += [
            job(ready, s, Policy("random", seed=seeding.derive(seed, "untrained", s)), simulator) for s in seeds[:batch]
        ]
        records = rollouts.run(jobs)
        slipped, untrained = records[: -len(seeds[:batch])], records[-len(seeds[:batch]) :]
        for record in slipped:
            for i, driven in enumerate(split(record, self._advice.labels(record, self.routes))):
                self.slips[i].append(driven)
        self.scale = self._distances(untrained) / 3.0
        return len(jobs)

    def show(self, demonstrations: Demonstrations, simulator: Simulator) -> None:
        """Store the episodes that agents drove on their demonstrated routes in a simulator."""
        for s, several in by_traffic_seed(demonstrations):
            for demo, driven in zip(self.demos, several, strict=True):
                demo.driven[simulator, s] = driven

    @property
    def routes(self) -> list[Route]:
        """The demonstrated route of every agent, edges."""
        return [demo.route for demo in self.demos]

    def exchange(self, routes: Sequence[Route]) -> list[int]:
        """Replace demonstrations; return the agents with a new one, whose episodes `show` has to store."""
        new = [i for i, (old, route) in enumerate(zip(self.routes, routes, strict=True)) if old != route]
        for i in new:
            self._replace(i, KnownRoute(routes[i]))
        return new

    def note(
        self, records: Sequence[EpisodeRecord], simulator: Simulator, *, elite: bool, advised: bool = True
    ) -> None:
        """Store the agents' episodes, labelled with the experts' actions.

        Parameters
        ----------
        elite
            Whether a better own route of an agent replaces its demonstration.
        advised
            Whether the experts label the episodes; otherwise agents learn from the demonstrations alone.
        """
        for record in records if advised else ():
            for i, driven in enumerate(split(record, self._advice.labels(record, self.routes))):
                self.advised[i] = [*self.advised[i], driven][-ADVISED:]
        for record in _open(records) if elite else ():  # a closed road changes the returns of this traffic seed
            where = simulator, record.traffic_seed
            for i, driven in enumerate(split(record)):
                route = tuple(record.routes[i].tolist())
                if record.status[i] == ARRIVED:
                    self._arrived(i, route, where, driven)
                elif route:  # counts as an episode of every known route that starts like this
                    begun = self._begun(route, driven)
                    for known in (self.demos[i], *self.own[i].values()):
                        if known.route[: len(begun)] == begun:
                            known.driven.setdefault(where, driven)

    def _arrived(self, agent: int, route: Route, where: Where, driven: AgentEpisode) -> None:
        """Store a complete route, and replace the demonstration where the route is better."""
        demo, own = self.demos[agent], self.own[agent]
        if route == demo.route:  # an elite route is known in a few traffic seeds only
            demo.driven.setdefault(where, driven)
            return
        known = own.setdefault(route, KnownRoute(route))
        known.driven[where] = driven
        common = [w for w in known.driven if w[0] == where[0] and w in demo.driven]
        if len(common) >= ELITE_SEEDS and surely_better(known, demo, common):
            self._replace(agent, known)
        elif len(own) > MOST_ROUTES:
            worst = min((k for k in own.values() if k.driven), key=lambda k: k.mean(list(k.driven)))
            del own[worst.route]

    def _begun(self, route: Route, driven: AgentEpisode) -> Route:
        """Return the edges of a vehicle that is still driving, and the next edge it has chosen."""
        if not len(driven.edge) or driven.edge[-1] != route[-1]:
            return route
        return (*route, int(self.task.graph.slots[route[-1], driven.action[-1]]))

    def _replace(self, agent: int, better: KnownRoute) -> None:
        self.own[agent].pop(better.route, None)
        self.own[agent][self.demos[agent].route] = self.demos[agent]
        self.demos[agent] = better
        self.slips[agent], self.advised[agent] = [], []  # their labels follow the old plan
        self.replaced[agent] += 1
        self._points[agent] = self._line(better.route)

    def route_gap(self, records: Sequence[EpisodeRecord], simulator: Simulator) -> RouteGap:
        """Return the distance and the difference in return of the agents' episodes from their demonstrations."""
        lead, records = np.zeros(len(self.demos)), _open(records) or records
        for i, demo in enumerate(self.demos):
            pairs = [
                demo.driven[simulator, r.traffic_seed].total - float(r.returns[i])
                for r in records
                if (simulator, r.traffic_seed) in demo.driven
            ]
            here = [driven.total for where, driven in demo.driven.items() if where[0] == simulator]
            if pairs:
                lead[i] = float(np.mean(pairs))
            elif here:
                lead[i] = float(np.mean(here) - np.mean([r.returns[i] for r in records]))
        return RouteGap(self._distances(records), self.scale, lead)

    def traffic_baseline(self, records: Sequence[EpisodeRecord], simulator: Simulator) -> list[Floats]:
        """Return for each episode how much its traffic changes the return of the demonstrations, s, shape (n,).

        At each decision: return of the agent's demonstration in this traffic from this edge on, minus its mean over
        all traffic seeds. Off the demonstrated route it stays at the value of the last decision on the route.
        """
        traffic_baseline = [np.zeros(len(record.agent)) for record in records]
        for i, demo in enumerate(self.demos):
            ahead = {
                seed: dict(zip(driven.edge.tolist(), driven.returns.tolist(), strict=True))
                for (where, seed), driven in demo.driven.items()
                if where == simulator
            }
            usual = {
                edge: float(np.mean([left[edge] for left in ahead.values() if edge in left]))
                for edge in set().union(*ahead.values())
            }
            for record, values in zip(records, traffic_baseline, strict=True):
                here, now = ahead.get(record.traffic_seed, {}), 0.0
                for n in np.flatnonzero(record.agent == i).tolist() if record.closed < 0 else ():
                    edge = int(record.edge[n])
                    now = here[edge] - usual[edge] if edge in here else now
                    values[n] = now
        return traffic_baseline

    def stacked(self) -> Expert:
        """Return all demonstrated and labelled episodes; the first axis is the agent."""
        several = zip(self.demos, self.slips, self.advised, strict=True)
        parts = [[*demo.driven.values(), *slips, *advised] for demo, slips, advised in several]
        valued = [len(demo.driven) for demo in self.demos]
        return stack(parts, valued, self.task.observation_size, self.task.graph.m_out)

    def _line(self, route: Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]) -> Floats:
        return np.ascontiguousarray(self.task.graph.end_xy[list(route)], dtype=np.float64)

    def _distances(self, records: Sequence[EpisodeRecord]) -> Floats:
        return np.array(
            [
                np.mean(
                    [
                        dtw.distance(self._line(r.routes[i]), self._points[i]) if len(r.routes[i]) else 0.0
                        for r in records
                    ]
                )
                for i in range(len(self.demos))
            ]
        )

    def state(self) -> dict[str, object]:
        """Return the state that training continues from."""
        return {
            "demos": [packed(demo) for demo in self.demos],
            "own": [[packed(known) for known in routes.values()] for routes in self.own],
            "slips": [[tensors(driven) for driven in rows] for rows in self.slips],
            "advised": [[tensors(driven) for driven in rows] for rows in self.advised],
            "scale": torch.from_numpy(self.scale),
            "replaced": torch.from_numpy(self.replaced),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        graph = self.task.graph
        self.demos = [unpacked(content, graph) for content in state["demos"]]
        self.own = [{k.route: k for k in (unpacked(one, graph) for one in routes)} for routes in state["own"]]
        self.slips, self.advised = (
            [[arrays(content, graph) for content in rows] for rows in state[name]] for name in ("slips", "advised")
        )
        self.scale, self.replaced = state["scale"].numpy(), state["replaced"].numpy()
        if not np.isfinite(self.scale).all():
            raise ValueError("the experts' distances have a number that is not finite")


def _open(records: Sequence[EpisodeRecord]) -> list[EpisodeRecord]:
    """Return the episodes without a closing of their own."""
    return [record for record in records if record.closed < 0]
