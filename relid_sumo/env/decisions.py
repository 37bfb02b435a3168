"""Episodes in a form for learning libraries: the decisions of each agent in order.

Agents decide asynchronously. A policy learns from one row per decision: the observation, the mask, the chosen slot,
and the sum of all rewards until the same agent decides again or ends. An agent has no row for moments in which only
others decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.env.pettingzoo import Observation, RoutingEnv
from relid_sumo.env.records import ARRIVED


@dataclass(frozen=True, eq=False)
class AgentDecisions:
    """The n decisions of one agent in one episode, in time order.

    Attributes
    ----------
    observation : array of float32, shape (n, 2 m_out + 2)
        The agent's observation at each decision.
    action_mask : array of bool, shape (n, m_out)
        Slots that may be chosen.
    action : array of int, shape (n,)
        The chosen slot.
    reward : array of float32, shape (n,)
        Sum of the rewards after each decision and up to the next decision of this agent, or to its end, s.
    return_s : float
        Sum of all rewards, s, including those before the first decision, which no decision can change.
    status : str
        ``arrived``, ``horizon``, ``lost`` or ``never inserted``.
    travel_time_s : float
        As in `EpisodeRecord`, s.
    """

    observation: Float32s
    action_mask: Bools
    action: NDArray[np.int64]
    reward: Float32s
    return_s: float
    status: str
    travel_time_s: float


@dataclass(frozen=True, eq=False)
class CollectedEpisode:
    """One whole episode.

    Attributes
    ----------
    traffic_seed : int
        Traffic seed of the episode.
    agents : dict
        The decisions of each agent, by its name; an agent may have none.
    """

    traffic_seed: int
    agents: dict[str, AgentDecisions]

    @property
    def mean_return_s(self) -> float:
        """Mean over agents of the return, s."""
        return float(np.mean([one.return_s for one in self.agents.values()]))

    @property
    def mean_travel_time_s(self) -> float:
        """Mean over agents of the travel time, s."""
        return float(np.mean([one.travel_time_s for one in self.agents.values()]))

    @property
    def arrival_rate(self) -> float:
        """Share of the agents that arrived."""
        return float(np.mean([one.status == ARRIVED for one in self.agents.values()]))


class _Rows:
    """The rows of one agent during the episode."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.return_s, self.status, self.travel_time_s = 0.0, "", 0.0

    def decide(self, seen: Observation, action: int) -> None:
        self.seen.append(seen)
        self.actions.append(action)
        self.rewards.append(0.0)

    def earn(self, reward: float) -> None:
        self.return_s += reward
        if self.rewards:
            self.rewards[-1] += reward

    def finished(self, observation_size: int, slots: int) -> AgentDecisions:
        observation = np.array([one["observation"] for one in self.seen], dtype=np.float32)
        mask = np.array([one["action_mask"] for one in self.seen], dtype=bool)
        return AgentDecisions(
            observation=observation.reshape(-1, observation_size),  # also if there is no row
            action_mask=mask.reshape(-1, slots),
            action=np.array(self.actions, dtype=np.int64),
            reward=np.array(self.rewards, dtype=np.float32),
            return_s=self.return_s,
            status=self.status,
            travel_time_s=self.travel_time_s,
        )


def collect_episode(
    env: RoutingEnv, choose: Callable[[str, Observation], int], *, traffic_seed: int | None = None
) -> CollectedEpisode:
    """Run one episode to its end and return the decisions of each agent.

    Parameters
    ----------
    env
        From `parallel_env`.
    choose
        Returns the slot for an agent's name and its observation, as `load_policy` does. Called only for decisions.
    traffic_seed
        Traffic seed. Default: a draw of `reset`.

    Raises
    ------
    InputError
        `choose` returns a masked slot, or no integer.
    SimulationError
        SUMO does not start, or died.

    Notes
    -----
    `reset` returns no reward. If an agent decides in the first moment of an episode, its rewards before this moment are
    added to those of its first decision. No decision changes that part.

    Examples
    --------
    >>> episode = collect_episode(env, load_policy("runs/town"))  # doctest: +SKIP
    """
    options = None if traffic_seed is None else {"traffic_seed": traffic_seed}
    seen, infos = env.reset(options=options)
    rows = {name: _Rows() for name in env.task.names}
    while env.agents:
        actions = {name: choose(name, seen[name]) for name in env.agents if infos[name]["decides"]}
        before = seen
        seen, rewards, ended, _, infos = env.step(actions)
        for name, action in actions.items():
            rows[name].decide(before[name], int(action))
        for name, reward in rewards.items():
            rows[name].earn(reward)
            if ended[name]:
                rows[name].status = infos[name]["status"]
                rows[name].travel_time_s = infos[name]["travel_time_s"]
    slots, size = env.task.graph.m_out, env.task.observation_size
    assert env.traffic_seed is not None  # since reset()
    return CollectedEpisode(env.traffic_seed, {name: one.finished(size, slots) for name, one in rows.items()})
