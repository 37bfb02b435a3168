"""Episodes to arrays with the agents in front, and generalised advantage estimation on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.env.records import EpisodeRecord


@dataclass(frozen=True, eq=False)
class Batch:
    """Decisions of several episodes: N agents, S the largest number of decisions of one agent, padded at the end.

    Where all agents share their networks, as a fleet does, N is 1 and the row contains all decisions, agent by agent.

    Attributes
    ----------
    observation : array, shape (N, S, 2 m_out + 2)
    mask : array of bool, shape (N, S, m_out)
        All open where padded.
    action : array of int, shape (N, S)
    reward : array, shape (N, S)
        Reward after the decision, s.
    last : array of bool, shape (N, S)
        Whether the agent's episode ended after the decision.
    valid : array of bool, shape (N, S)
        Whether there is a decision.
    joint : array, shape (N, S, (N + 1) (2 m_out + 2)), or None
        The agent's own observation, then the last observation of every agent.
    traffic_baseline : array, shape (N, S), or None
        How much more return the present traffic allows at a decision than average traffic, s. Advantages treat it as a
        part of the value that no observation shows.
    """

    observation: Float32s
    mask: Bools
    action: NDArray[np.int64]
    reward: Float32s
    last: Bools
    valid: Bools
    joint: Float32s | None = None
    traffic_baseline: Float32s | None = None


def make_batch(
    records: Sequence[EpisodeRecord],
    n_agents: int,
    *,
    joint: bool = False,
    traffic_baseline: Sequence[Floats] | None = None,
    shared: bool = False,
) -> Batch:
    """Concatenate episodes, agent by agent.

    Parameters
    ----------
    n_agents
        Number of agents; with `shared`, the largest number in an episode.
    shared
        Whether all agents share their networks (see `Batch`).
    joint
        Whether each decision carries the observations of all agents.
    traffic_baseline
        See `Batch`; one array for the decisions of each episode.
    """
    agent = np.concatenate([r.agent for r in records])
    episode = np.concatenate([np.full(len(r.agent), i) for i, r in enumerate(records)])
    order = np.lexsort((np.arange(len(agent)), agent))  # by agent, then in time order
    agent, episode = agent[order], episode[order]
    ends = np.ones(len(agent), dtype=bool)
    ends[:-1] = (agent[1:] != agent[:-1]) | (episode[1:] != episode[:-1])
    if shared:
        agent, n_agents = np.zeros_like(agent), 1
    count = np.bincount(agent, minlength=n_agents)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    at = agent, np.arange(len(agent)) - first[agent]
    shape = (n_agents, max(1, int(count.max(initial=0))))

    def spread(parts: list[NDArray[Any]], fill: float, kind: type) -> NDArray[Any]:
        values = np.concatenate(parts)[order]
        out: NDArray[Any] = np.full(shape + values.shape[1:], fill, dtype=kind)
        out[at] = values
        return out

    last, valid = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    last[at], valid[at] = ends, True
    return Batch(
        observation=spread([r.observation for r in records], 0.0, np.float32),
        mask=spread([r.mask for r in records], 1, np.bool_),
        action=spread([r.action for r in records], 0, np.int64),
        reward=spread([r.reward for r in records], 0.0, np.float32),
        last=last,
        valid=valid,
        traffic_baseline=None if traffic_baseline is None else spread(list(traffic_baseline), 0.0, np.float32),
        joint=spread([_joint(r, n_agents) for r in records], 0.0, np.float32) if joint else None,
    )


def _joint(record: EpisodeRecord, n_agents: int) -> Float32s:
    """Return the last observation of every agent at each decision, the deciding one first, shape (n, (N + 1) width)."""
    n, width = record.observation.shape
    seen = np.zeros((n_agents, width), dtype=np.float32)
    rows = np.empty((n, n_agents + 1, width), dtype=np.float32)
    for k, agent in enumerate(record.agent.tolist()):
        seen[agent] = record.observation[k]
        rows[k, 0], rows[k, 1:] = seen[agent], seen
    return rows.reshape(n, -1)


def advantages(reward: Float32s, value: Float32s, last: Bools, lam: float) -> Float32s:
    """Return generalised advantage estimates, shape (N, S), with discount 1.

    ``A_k = delta_k + lam A_(k+1)``, ``delta_k = r_k + V_(k+1) - V_k``, and nothing follows the end of an episode: its
    last reward charges an agent that has not arrived by the horizon (Schulman et al. 2016, arXiv 1506.02438, equation
    16).

    Parameters
    ----------
    reward, value, last
        Shape (N, S); reward and value in the same unit.
    lam
        Weight of later errors, 0 to 1.
    """
    result = np.zeros_like(reward)
    after = np.zeros(reward.shape[0], dtype=reward.dtype)
    value_after = np.zeros_like(after)
    for k in range(reward.shape[1] - 1, -1, -1):
        goes_on = (~last[:, k]).astype(reward.dtype)
        delta = reward[:, k] + goes_on * value_after - value[:, k]
        after = delta + lam * goes_on * after
        result[:, k] = after
        value_after = value[:, k]
    return result
