"""What a policy considered at each decision: candidate edges, their probabilities, and the critic's value.

`Chooser` explains decisions while an episode runs, `choices` those of a finished episode. Both compute from the
observations that the policy saw, draw no random number and do not read the simulation, so that the episode and its
digest are the same with and without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Float32s
from relid_sumo.env.observation import times_free_flow
from relid_sumo.env.policies import Policy, Weights, actor, probabilities
from relid_sumo.env.records import Decision, EpisodeRecord
from relid_sumo.scenario.settings import OBSERVATION, REWARD
from relid_sumo.scenario.task import RoutingTask

VALUE_SCALE_S = 100.0  # the critics' unit of returns, s
CRITIC_LAYERS = 3


@dataclass(frozen=True)
class Choice:
    """A decision of an agent, and what its policy considered.

    Attributes
    ----------
    agent, number : int
        Index of the agent, and index of this decision among the agent's decisions of the episode (from 0).
    time_s : float
        Simulation time, s (warm-up included).
    edge : int
        The edge that the agent has just entered.
    edges : tuple of int
        The candidate edges (open successors), left to right in driving direction.
    chosen : int
        Position of the chosen edge in `edges`.
    probabilities : tuple of float or None
        Probability of each candidate under the policy; None for baselines, which have none.
    congestion : tuple of float or None
        Travel time of each candidate relative to free flow (1 is free flow), as the agent observed it; None where the
        policy does not observe, or observes something else than the built-in ``roads``.
    value_s : float or None
        Return from this decision to the end of the trip that the critic expects, s; None without a built-in critic.
    remaining_s : float or None
        Time from this decision to the arrival that corresponds to `value_s`, s; None without a critic, or with a
        reward other than the built-in ``progress``.
    """

    agent: int
    number: int
    time_s: float
    edge: int
    edges: tuple[int, ...]
    chosen: int
    probabilities: tuple[float, ...] | None = None
    congestion: tuple[float, ...] | None = None
    value_s: float | None = None
    remaining_s: float | None = None


class Chooser:
    """Explains the decisions of one episode; call `explain` once for each, in their order.

    Parameters
    ----------
    task
        The task of the episode (of its traffic seed).
    policy
        The policy that drives it.
    """

    def __init__(self, task: RoutingTask, policy: Policy) -> None:
        self._task, self._policy = task, policy
        learned = policy.name == "learned"
        self._logits = actor(policy.path) if learned else None
        self._critic = policy.critic if learned else {}
        self._last = np.zeros((task.n_agents, task.observation_size), dtype=np.float32)
        self._read = policy.observes and task.scenario.observation.kind == OBSERVATION

    def explain(self, decision: Decision, slot: int) -> Choice:
        """Return what the policy considered at a decision, whose chosen slot is given."""
        task, agent, seen = self._task, decision.agent, decision.observation
        slots = np.flatnonzero(decision.mask)
        self._last[agent] = seen
        shares = value = left = None
        if self._logits is not None:
            every = probabilities(self._policy.weights, agent, seen, decision.mask, self._logits)
            shares = tuple(every[slots].tolist())
        if self._critic:
            value = VALUE_SCALE_S * critic_value(self._critic, agent, seen, self._last)
            if task.scenario.reward.kind == REWARD:
                to_go_m = float(task.to_go[task.row[agent], decision.edge])
                left = max(0.0, task.scenario.reward.w_d * to_go_m - value)
        return Choice(
            agent=agent,
            number=decision.number,
            time_s=decision.time,
            edge=decision.edge,
            edges=tuple(task.graph.slots[decision.edge][slots].tolist()),
            chosen=int(np.searchsorted(slots, slot)),
            probabilities=shares,
            congestion=tuple(times_free_flow(seen[2 * slots].astype(np.float64)).tolist()) if self._read else None,
            value_s=value,
            remaining_s=left,
        )


def choices(task: RoutingTask, policy: Policy, record: EpisodeRecord) -> list[Choice]:
    """Return what a policy considered at each decision of an episode that it drove, in the record's order."""
    chooser, numbers = Chooser(task, policy), Counter[int]()
    explained = []
    for k, agent in enumerate(record.agent.tolist()):
        time, edge = float(record.time[k]), int(record.edge[k])
        decision = Decision(agent, numbers[agent], time, edge, record.mask[k], record.observation[k])
        numbers[agent] += 1
        explained.append(chooser.explain(decision, int(record.action[k])))
    return explained


def critic_value(weights: Weights, agent: int, observation: Float32s, last: Float32s) -> float:
    """Return the value of an observation, in the critic's unit.

    The first axis of each array is the agent; all agents may share a single critic. A critic whose input is wider than
    an observation is central, as that of ``mappo``: it reads the observation and then the last one of every agent. The
    same in torch: `relid_sumo.learn.algos.nets.Critic`.

    Parameters
    ----------
    weights
        See `Policy.critic`.
    observation
        Observation of the agent, shape (width,).
    last
        The last observation of every agent, zeros before its first; shape (N, width).
    """
    i = agent if len(weights["layers.0.bias"]) > 1 else 0
    central = weights["layers.0.weight"].shape[1] > len(observation)
    x: NDArray[np.float32] = np.concatenate([observation, last.ravel()]) if central else observation
    for layer in range(CRITIC_LAYERS):
        x = x @ weights[f"layers.{layer}.weight"][i] + weights[f"layers.{layer}.bias"][i]
        x = np.tanh(x) if layer < CRITIC_LAYERS - 1 else x
    return float(x[0])


def fitting_critic(weights: Mapping[str, NDArray[np.float32]], networks: int, width: int) -> bool:
    """Return whether arrays are those of a built-in critic that fits a policy.

    Parameters
    ----------
    networks
        Number of networks: one for each agent, or 1.
    width
        Width of an observation.
    """
    names = {f"layers.{layer}.{part}" for layer in range(CRITIC_LAYERS) for part in ("weight", "bias")}
    if set(weights) != names or not all(array.ndim for array in weights.values()):
        return False
    hidden = weights["layers.0.bias"].shape[-1]
    inputs = {width, (networks + 1) * width}
    sizes = [(n_in, hidden, hidden, 1) for n_in in inputs]
    return any(
        all(
            weights[f"layers.{i}.weight"].shape == (networks, *size[i : i + 2])
            and weights[f"layers.{i}.bias"].shape == (networks, size[i + 1])
            for i in range(CRITIC_LAYERS)
        )
        for size in sizes
    )
