"""The environment for libraries that step all agents together: every agent acts in every step of the episode.

Many libraries (TorchRL's PettingZooWrapper, BenchMARL, vectorised environments) stack the agents into one array. They
need an action of every agent in every step, and the same keys in every info. `LockstepEnv` provides this:

- An agent without a decision, because it drives or has ended, gets a mask in which only slot 0 is open. A masked
  policy then takes slot 0 with probability 1: its log-probability is 0 and has no gradient, so nothing is learned.
- An agent that drives has the observation of its last decision. It gets its reward at its next decision or its end,
  so the value of that observation is still the expected future return. Before its first decision an agent
  observes zeros, after its end -1 everywhere.
- All agents terminate together, with the last one. The reward of an agent after its own end is 0.
- Infos are numbers: ``decides``, ``arrived`` and ``travel_time_s`` (0 until the trip ends).

A library sees many steps between two decisions of an agent. So use discount 1 and lambda 1 in generalised advantage
estimation: the advantage of a decision is then the sum of all later rewards of the agent minus the critic's value, and
the steps in between have no effect. With a smaller lambda or discount they have one. `collect_episode` returns rows
of decisions only, for which any lambda is valid.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from relid_sumo.base.arrays import Float32s
from relid_sumo.base.errors import InputError
from relid_sumo.env.pettingzoo import Observation, RoutingEnv, parallel_env
from relid_sumo.env.records import ARRIVED
from relid_sumo.scenario.settings import Scenario


def lockstep_env(
    scenario: Scenario | str, *, traffic: Literal["training", "validation", "evaluation"] = "training"
) -> LockstepEnv:
    """Return the environment of a scenario for libraries that step all agents together.

    Parameters
    ----------
    scenario, traffic
        As in `parallel_env`.

    Raises
    ------
    InputError
        There is no such scenario, or it cannot be prepared.

    Examples
    --------
    >>> env = lockstep_env("town")  # doctest: +SKIP
    """
    return LockstepEnv(parallel_env(scenario, traffic=traffic))


class LockstepEnv(ParallelEnv[str, Observation, Any]):
    """A `RoutingEnv` in which every agent acts in every step; see the module's docstring.

    Parameters
    ----------
    env
        The wrapped environment. Closing this one closes it.
    """

    metadata = {"name": "relid_sumo_lockstep_v0", "render_modes": []}  # noqa: RUF012 - PettingZoo's interface

    def __init__(self, env: RoutingEnv) -> None:
        self.routing = env
        self.possible_agents = list(env.possible_agents)
        self.agents: list[str] = []
        self.render_mode = None
        self._infos: dict[str, dict[str, Any]] = {}
        self._shown: dict[str, Float32s] = {}

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the space of `RoutingEnv`."""
        return self.routing.observation_space(agent)

    def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
        """Return the space of `RoutingEnv`."""
        return self.routing.action_space(agent)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode, as `RoutingEnv.reset` does."""
        seen, infos = self.routing.reset(seed, options)
        self.agents = list(self.possible_agents)
        self._infos = {name: {"decides": False, "arrived": False, "travel_time_s": 0.0} for name in self.agents}
        self._shown = {name: np.zeros(self.routing.task.observation_size, np.float32) for name in self.agents}
        return self._moment(seen, infos)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Answer the open decisions and continue to the next; actions of agents that do not decide are ignored.

        Raises
        ------
        InputError
            An agent that must decide has no action, or a masked one; the state is unchanged then.
        SimulationError
            SUMO died.
        """
        if not self.agents:
            raise InputError("step: the episode is over; call reset()")
        before = self.agents
        seen, earned, _, _, infos = self.routing.step(actions)
        over = not self.routing.agents
        self.agents = [] if over else before
        observations, noted = self._moment(seen, infos)
        rewards = dict.fromkeys(before, 0.0) | earned
        return observations, rewards, dict.fromkeys(before, over), dict.fromkeys(before, False), noted

    def _moment(
        self, seen: dict[str, Observation], infos: dict[str, dict[str, Any]]
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Return the observations and infos of all agents, from those of the agents that have not ended before."""
        idle = np.zeros(self.routing.task.graph.m_out, np.int8)
        idle[0] = 1
        masks = {}
        for name, noted in self._infos.items():
            info = infos.get(name, {})
            noted["decides"] = info.get("decides", False)
            masks[name] = seen[name]["action_mask"] if noted["decides"] else idle.copy()
            if noted["decides"]:
                self._shown[name] = seen[name]["observation"]
            if "status" in info:
                noted["arrived"], noted["travel_time_s"] = info["status"] == ARRIVED, info["travel_time_s"]
                self._shown[name] = np.full_like(self._shown[name], -1.0)
        shown = {name: {"observation": self._shown[name].copy(), "action_mask": masks[name]} for name in masks}
        return shown, {name: dict(noted) for name, noted in self._infos.items()}

    def render(self) -> None:
        """Draw nothing: ``relid-sumo view`` shows episodes in sumo-gui."""

    def close(self) -> None:
        """End the simulation process."""
        self.routing.close()
        self.agents = []
