"""Episodes of single agents: taken from records and demonstrations, stored in checkpoints, stacked for the learner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from relid_sumo.base import stats
from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import Batch
from relid_sumo.learn.algos.hpo import Expert
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.settings import Simulator
from relid_sumo.sed.demonstrations import Demonstrations

Route = tuple[int, ...]
Where = tuple[Simulator, int]  # a simulator and a traffic seed


@dataclass(frozen=True, eq=False)
class AgentEpisode:
    """One agent's decisions in one episode, n of them, and its return, s."""

    total: float
    edge: np.ndarray[Any, np.dtype[np.int32]]
    observation: Float32s
    mask: Bools
    action: np.ndarray[Any, np.dtype[np.int64]]
    returns: Floats


@dataclass(eq=False)
class KnownRoute:
    """A route and the episodes in which an agent drove it, by simulator and traffic seed."""

    route: Route
    driven: dict[Where, AgentEpisode] = field(default_factory=dict)

    def mean(self, where: Sequence[Where]) -> float:
        """Return the mean return in some of the episodes, s."""
        return float(np.mean([self.driven[w].total for w in where]))


def surely_better(one: KnownRoute, other: KnownRoute, where: Sequence[Where]) -> bool:
    """Return whether the return of `one` is higher by more than the standard error of the difference."""
    return stats.above_zero(np.array([one.driven[w].total - other.driven[w].total for w in where]))


def split(record: EpisodeRecord, labels: np.ndarray[Any, np.dtype[np.int64]] | None = None) -> list[AgentEpisode]:
    """Return each agent's decisions; `labels`, where given, replace the actions."""
    parts = []
    for i in range(len(record.status)):
        mine = np.flatnonzero(record.agent == i)
        parts.append(
            AgentEpisode(
                total=float(record.returns[i]),
                edge=record.edge[mine],
                observation=record.observation[mine],
                mask=record.mask[mine],
                action=np.asarray((record.action if labels is None else labels)[mine], dtype=np.int64),
                returns=_ahead(record.reward[mine]),
            )
        )
    return parts


def by_traffic_seed(demonstrations: Demonstrations) -> Iterator[tuple[int, list[AgentEpisode]]]:
    """Yield each traffic seed of demonstrations with the episode of every agent in it."""
    d = demonstrations
    for k, seed in enumerate(d.traffic_seed.tolist()):
        several = []
        for i in range(d.returns.shape[1]):
            mine = np.flatnonzero((d.episode == k) & (d.agent == i))
            parts = d.edge[mine], d.observation[mine], d.mask[mine], d.action[mine].astype(np.int64)
            several.append(AgentEpisode(float(d.returns[k, i]), *parts, _ahead(d.reward[mine])))
        yield seed, several


def _ahead(reward: Floats) -> Floats:
    """Return the sum of rewards from each decision on."""
    return np.cumsum(reward[::-1])[::-1].copy()


def stack(parts: Sequence[Sequence[AgentEpisode]], valued: Sequence[int], observation_size: int, m_out: int) -> Expert:
    """Return the concatenated episodes of every agent, padded to the longest; the first axis is the agent.

    Parameters
    ----------
    parts
        Each agent's episodes.
    valued
        Number of each agent's episodes, counted from the first, that train the expert's value function.
    """
    counts = [sum(len(d.action) for d in rows) for rows in parts]
    n, s = len(parts), max(1, *counts)
    batch = Batch(
        observation=np.zeros((n, s, observation_size), dtype=np.float32),
        mask=np.ones((n, s, m_out), dtype=bool),
        action=np.zeros((n, s), dtype=np.int64),
        reward=np.zeros((n, s), dtype=np.float32),
        last=np.zeros((n, s), dtype=bool),
        valid=np.zeros((n, s), dtype=bool),
    )
    returns, is_valued = np.zeros((n, s)), np.zeros((n, s), dtype=bool)
    for i, rows in enumerate(parts):
        at = 0
        for place, driven in enumerate(rows):
            to = slice(at, at + len(driven.action))
            batch.observation[i, to], batch.mask[i, to] = driven.observation, driven.mask
            batch.action[i, to], batch.valid[i, to] = driven.action, True
            returns[i, to], is_valued[i, to] = driven.returns, place < valued[i]
            at = to.stop
    return Expert(batch, returns, is_valued)


def tensors(driven: AgentEpisode) -> dict[str, object]:
    """Return an episode as a checkpoint stores it."""
    names = ("edge", "observation", "mask", "action", "returns")
    return {"total": driven.total, **{name: torch.from_numpy(np.array(getattr(driven, name))) for name in names}}


def arrays(content: Mapping[str, Any], graph: RoadGraph) -> AgentEpisode:
    """Return the episode that `tensors` converted.

    Raises
    ------
    ValueError
        It is no episode on this network.
    """
    one = AgentEpisode(**{name: value if name == "total" else value.numpy() for name, value in content.items()})
    n, m_out = len(one.action), graph.m_out
    shapes = {"edge": (n,), "mask": (n, m_out), "action": (n,), "returns": (n,)}
    for name, shape in shapes.items():
        if getattr(one, name).shape != shape:
            raise ValueError(f"an expert's episode has {name} of shape {getattr(one, name).shape}, not {shape}")
    if one.observation.ndim != 2 or len(one.observation) != n:
        raise ValueError(f"an expert's episode has observations of shape {one.observation.shape}, for {n} decisions")
    numbers = np.concatenate([[one.total], one.returns, one.observation.ravel()])
    if not np.isfinite(numbers).all():
        raise ValueError("an expert's episode has a number that is not finite")
    for name, most in (("edge", len(graph.edge_ids)), ("action", m_out)):
        values = getattr(one, name)
        if not np.issubdtype(values.dtype, np.integer) or not ((values >= 0) & (values < most)).all():
            raise ValueError(f"an expert's episode has {name} outside 0 to {most - 1}")
    return one


def packed(known: KnownRoute) -> dict[str, object]:
    """Return a route and its episodes as a checkpoint stores them."""
    driven = [(simulator, seed, tensors(one)) for (simulator, seed), one in known.driven.items()]
    return {"route": list(known.route), "driven": driven}


def unpacked(content: Mapping[str, Any], graph: RoadGraph) -> KnownRoute:
    """Return the route that `packed` converted; see `arrays`."""
    route = tuple(content["route"])
    if not all(isinstance(edge, int) and 0 <= edge < len(graph.edge_ids) for edge in route):
        raise ValueError("an expert's route has an edge that is not in the network")
    return KnownRoute(route, {(sim, seed): arrays(one, graph) for sim, seed, one in content["driven"]})
