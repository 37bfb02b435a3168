"""Measures of a driven plan: travel times, its effect on other agents (F_out), distance to present policies (D_in).

Estimates are paired: the same traffic seeds with subset S on its plan, and with all agents on the present policies.
With T_i the travel time of agent i, K seeds, and the mean travel time under `shortest`:

``F_out(S) = mean over agents i outside S of |mean over seeds of (T_i on the plan - T_i at present)| / mean shortest``

``D_in(S) = mean of 1 - pi_j(expert's action | o)`` over the decisions of S's agents j with more than one action.

Traffic is chaotic: one background vehicle less changes travel times too. So F_out is compared with a floor: the same
measure for a pair in which one background vehicle is left out and all policies stay. docs/theory.md derives the bounds
of both. The paper (arXiv 2511.19368) gives both to a subset; the formulas are this project's reading.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.given.times import seconds as time_of
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.programs.plans import Routes

# (agent, observation, mask) to action probabilities, shape (m_out,)
Probabilities = Callable[[int, Float32s, Bools], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Reference:
    """Episodes that plans are compared with, over the same traffic seeds in the same order.

    Attributes
    ----------
    shortest, reactive : list of EpisodeRecord
        All agents on that policy.
    present : list of EpisodeRecord
        All agents on the present policies.
    placebo : list of EpisodeRecord
        The same, with one background vehicle less.
    """

    shortest: Sequence[EpisodeRecord]
    reactive: Sequence[EpisodeRecord]
    present: Sequence[EpisodeRecord]
    placebo: Sequence[EpisodeRecord]

    @property
    def unit_s(self) -> float:
        """Mean travel time under `shortest`, over all agents, s."""
        return float(times(self.shortest).mean())


@dataclass(frozen=True)
class Numbers:
    """Measures of a subset's plan, over the traffic seeds.

    Attributes
    ----------
    score : float
        ``- mean travel time of all agents / shortest - w_out F_out - w_in D_in``.
    travel_time_s, mean_return, arrival_rate : float
        Means over the subset's agents; s, s, share.
    all_travel_time_s : float
        Mean over all agents, s.
    f_out, f_out_signed, f_out_floor : float
        See the module's text; signed is without the absolute value, above 0 where the others lose time.
    d_in : float or None
        None where there are no trained policies.
    diverted : int
        Number of closed edges that the subset's vehicles met on their plans, which they then drove around.
    """

    score: float
    travel_time_s: float
    mean_return: float
    arrival_rate: float
    all_travel_time_s: float
    f_out: float
    f_out_signed: float
    f_out_floor: float
    d_in: float | None
    diverted: int = 0


@dataclass(frozen=True)
class Lost:
    """Time lost on a part of a planned route: places of its first and last edge, and mean s beyond free flow."""

    agent: int
    first: int
    last: int
    measured_s: float
    lost_s: float


def times(records: Sequence[EpisodeRecord]) -> Floats:
    """Return travel times, s, shape (episodes, N)."""
    return np.array([record.travel_time for record in records])


def changes(records: Sequence[EpisodeRecord], present: Sequence[EpisodeRecord]) -> Floats:
    """Return the mean change of each agent's travel time over paired episodes, s, shape (N,)."""
    return np.asarray((times(records) - times(present)).mean(axis=0))


def measure(
    records: Sequence[EpisodeRecord],
    reference: Reference,
    subset: Sequence[int],
    weights: tuple[float, float],
    probabilities: Probabilities | None = None,
) -> Numbers:
    """Return the numbers of a plan from the episodes in which the subset drove it.

    Parameters
    ----------
    records
        Episodes over the reference's traffic seeds.
    weights
        Of F_out and of D_in in the score.
    probabilities
        The present policies, where they are trained.
    """
    mine = list(subset)
    others = [i for i in range(times(records).shape[1]) if i not in mine]
    unit = reference.unit_s
    felt, floor = (changes(r, reference.present)[others] / unit for r in (records, reference.placebo))
    f_out = float(np.abs(felt).mean()) if others else 0.0
    d_in = None if probabilities is None else divergence(records, mine, probabilities)
    mean_all = float(times(records).mean())
    return Numbers(
        score=-mean_all / unit - weights[0] * f_out - weights[1] * (d_in or 0.0),
        travel_time_s=float(times(records)[:, mine].mean()),
        mean_return=float(np.mean([record.returns[mine] for record in records])),
        arrival_rate=float(np.mean([[record.status[i] == "arrived" for i in mine] for record in records])),
        all_travel_time_s=mean_all,
        f_out=f_out,
        f_out_signed=float(felt.mean()) if others else 0.0,
        f_out_floor=float(np.abs(floor).mean()) if others else 0.0,
        d_in=d_in,
        diverted=int(sum(record.diverted[mine].sum() for record in records)),
    )


def divergence(records: Sequence[EpisodeRecord], subset: Sequence[int], probabilities: Probabilities) -> float:
    """Return D_in; 0 where there was nothing to choose."""
    far = [
        1.0 - float(probabilities(int(r.agent[n]), r.observation[n], r.mask[n])[r.action[n]])
        for r in records
        for n in np.flatnonzero(np.isin(r.agent, list(subset)) & (r.mask.sum(axis=1) > 1))
    ]
    return float(np.mean(far)) if far else 0.0


def lost(records: Sequence[EpisodeRecord], task: RoutingTask, routes: Routes) -> list[Lost]:
    """Return where planned routes lost time, most first: between one decision and the next, means over episodes."""
    spent: dict[tuple[int, int, int], list[float]] = {}
    for record in records:
        for agent, route in routes.items():
            place = {edge: i for i, edge in enumerate(route)}
            wished = task.scenario.start_s + float(task.depart_s[agent])
            mine = np.flatnonzero(record.agent == agent)
            stops = [(0, wished)]
            stops += [(place[e], float(record.time[n])) for n in mine if (e := int(record.edge[n])) in place]
            if record.status[agent] == "arrived":
                stops.append((len(route), wished + float(record.travel_time[agent])))
            for (first, begin), (nxt, end) in pairwise(stops):
                if nxt > first:
                    spent.setdefault((agent, first, nxt - 1), []).append(end - begin)
    found = []
    for (agent, first, last), seconds in spent.items():
        free = float(task.graph.free_flow_s[list(routes[agent][first : last + 1])].sum())
        mean = float(np.mean(seconds))
        found.append(Lost(agent, first, last, mean, mean - free))
    return sorted(found, key=lambda part: (-round(part.lost_s, 3), part.agent, part.first))


def without_one_vehicle(options: Sequence[str], folder: Path, start_s: float) -> tuple[str, ...]:
    """Return SUMO's options for the same traffic without the first background vehicle after the agents' time 0.

    The changed route file is written into a folder. Without such a vehicle the options are returned as they are.
    """
    source = Path(options[options.index("-r") + 1])
    tree = ET.parse(source)
    root = tree.getroot()
    vehicles = [one for one in root if one.tag in ("vehicle", "trip")]
    later = [v for v in vehicles if time_of(v.get("depart", "")) >= start_s]
    if not later:
        return tuple(options)
    root.remove(later[0])
    file = folder / source.name
    tree.write(file, encoding="utf-8")
    return tuple(str(file) if option == str(source) else option for option in options)
