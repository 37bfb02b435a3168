"""The Dec-POMDP as a PettingZoo ParallelEnv. The simulation runs in a separate process.

`agents` lists every unfinished vehicle. A step answers all decisions of one moment and advances to the next moment with
decisions. An agent without a decision gets a mask with one open slot, its action is ignored, and
``infos[agent]["decides"]`` is False. Masks are in ``observation["action_mask"]``. The rewards of an agent sum to its
return. The horizon is a termination (it is charged in the reward), so truncation never occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from relid_sumo.base import seeding
from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError, did_you_mean
from relid_sumo.base.process import Child, free_memory_mib
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.serve import Moment, serve
from relid_sumo.env.workers import MEMORY_SHARE
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.snapshot import SnapshotDiedError, can_fork

Observation = dict[str, NDArray[Any]]


def parallel_env(
    scenario: Scenario | str, *, traffic: Literal["training", "validation", "evaluation"] = "training"
) -> RoutingEnv:
    """Return the environment of a scenario; the simulation is the scenario's `simulator`.

    Parameters
    ----------
    scenario
        A scenario, or an argument of `load_scenario`: a name, a folder or an OSM file.
    traffic
        Set of traffic seeds from which `reset` draws.

    Raises
    ------
    InputError
        There is no such scenario, or it cannot be prepared.

    Examples
    --------
    >>> env = parallel_env("town")  # doctest: +SKIP
    >>> observations, infos = env.reset(seed=0)  # doctest: +SKIP
    """
    loaded = load_scenario(scenario) if isinstance(scenario, str) else scenario
    ready = prepare(loaded, simulators=(loaded.simulator,))
    options = partial(ready.options, simulator=loaded.simulator)
    return RoutingEnv(ready.task, options, getattr(ready.scenario.seeds, traffic))


class RoutingEnv(ParallelEnv[str, Observation, Any]):
    """Parallel environment of routing vehicles; see the module's docstring. Made by `relid_sumo.parallel_env`.

    Parameters
    ----------
    task
        The task.
    options_for
        Returns SUMO's options for a traffic seed.
    traffic_seeds
        Traffic seeds from which `reset` draws.
    fork
        Keep simulations after their warm-up and fork them at each `reset`. Default: if the system can fork.
    """

    metadata = {"name": "relid_sumo_routing_v0", "render_modes": []}  # noqa: RUF012 - PettingZoo's interface

    def __init__(
        self,
        task: RoutingTask,
        options_for: Callable[[int], tuple[str, ...]],
        traffic_seeds: tuple[int, ...],
        *,
        fork: bool = True,
    ) -> None:
        self.task = task
        self._fork = fork and can_fork()
        self.possible_agents = list(task.names)
        self.agents: list[str] = []
        self.render_mode = None
        self.traffic_seed: int | None = None
        self.digest: str | None = None
        self._options_for, self._traffic_seeds = options_for, traffic_seeds
        self._draw = seeding.stream(0, "traffic")
        self._paid = [0.0] * task.n_agents
        self._asked: dict[int, tuple[Float32s, Bools]] = {}
        self._child: Child | None = None
        slots = task.graph.m_out
        self._observation_space = gymnasium.spaces.Dict(
            {
                "observation": gymnasium.spaces.Box(-np.inf, np.inf, (task.observation_size,), np.float32),
                "action_mask": gymnasium.spaces.Box(0, 1, (slots,), np.int8),
            }
        )
        self._action_space = gymnasium.spaces.Discrete(slots)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return ``{"observation": (2 m_out + 2,) float32, "action_mask": (m_out,) int8}``; equal for all agents."""
        del agent
        return self._observation_space

    def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
        """Return the space of slots, ordered left to right in driving direction; equal for all agents."""
        del agent
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode.

        Parameters
        ----------
        seed
            Seed of the draws of traffic seeds, from this reset on.
        options
            ``{"traffic_seed": s}`` selects the traffic instead of a draw.

        Raises
        ------
        SimulationError
            SUMO does not start, or the simulation process died.
        """
        if seed is not None:
            self._draw = seeding.stream(seed, "traffic")
        drawn = int(self._draw.choice(self._traffic_seeds))
        self.traffic_seed = int((options or {}).get("traffic_seed", drawn))
        moment = self._ask(("reset", self.traffic_seed, self._options_for(self.traffic_seed)))
        self._paid = [0.0] * self.task.n_agents
        self.agents = [a for a, status in zip(self.possible_agents, moment.statuses, strict=True) if status is None]
        return self._observations(moment), self._infos(moment, self.agents)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Answer the open decisions and advance to the next ones.

        Raises
        ------
        InputError
            An agent that must decide has no action or a masked one. The episode is then unchanged.
        SimulationError
            SUMO died.
        """
        if not self.agents:
            raise InputError("step: the episode is over; call reset()")
        before = self.agents
        moment = self._ask(("act", {i: self._checked(i, mask, actions) for i, (_, mask) in self._asked.items()}))
        index = {name: i for i, name in enumerate(self.task.names)}
        rewards = {}
        for name in before:
            i = index[name]
            rewards[name] = moment.totals[i] - self._paid[i]
            self._paid[i] = moment.totals[i]
        ended = {name: moment.statuses[index[name]] is not None for name in before}
        self.agents = [name for name in before if not ended[name]]
        infos = self._infos(moment, before)
        return self._observations(moment, before), rewards, ended, dict.fromkeys(before, False), infos

    def _checked(self, agent: int, mask: Bools, actions: dict[str, int]) -> int:
        name = self.task.names[agent]
        if name not in actions:
            raise InputError(f"step: agent '{name}' must decide but has no action; give it an open slot")
        slot = int(actions[name])
        if not 0 <= slot < len(mask) or not mask[slot]:
            raise InputError(f"step: agent '{name}': slot {slot} is masked; use one of {np.flatnonzero(mask).tolist()}")
        return slot

    def _observations(self, moment: Moment, agents: list[str] | None = None) -> dict[str, Observation]:
        idle = np.zeros(self.task.graph.m_out, dtype=np.int8)
        idle[0] = 1
        nothing = np.zeros(self.task.observation_size, dtype=np.float32)
        self._asked = moment.asked
        seen = {self.task.names[i]: what for i, what in moment.asked.items()}
        return {
            name: {"observation": seen[name][0], "action_mask": seen[name][1].astype(np.int8)}
            if name in seen
            else {"observation": nothing.copy(), "action_mask": idle.copy()}
            for name in (self.agents if agents is None else agents)
        }

    def _infos(self, moment: Moment, agents: list[str]) -> dict[str, dict[str, Any]]:
        infos: dict[str, dict[str, Any]] = {}
        for i, name in enumerate(self.task.names):
            if name in agents:
                infos[name] = {"decides": i in moment.asked}
                if moment.statuses[i] is not None:
                    infos[name] |= {"status": moment.statuses[i], "travel_time_s": moment.travel_times[i]}
        return infos

    def branch(self, alternatives: Sequence[Mapping[str, int]], policy: Policy) -> list[EpisodeRecord]:
        """Return how the episode would end after other choices now. The episode itself does not change.

        The result is exact: each alternative runs to its end in a fork of the simulation.

        Parameters
        ----------
        alternatives
            Slots by agent, for any agents that decide now.
        policy
            Policy for all other decisions, open now or later.

        Raises
        ------
        InputError
            The episode is over, an agent does not decide now, its slot is masked, or the system cannot fork.
        SimulationError
            SUMO failed in a branch.
        """
        if not self.agents:
            raise InputError("branch: the episode is over; call reset()")
        index = {name: i for i, name in enumerate(self.task.names)}
        unknown = sorted({name for one in alternatives for name in one} - index.keys())
        if unknown:
            raise InputError(f"branch: there is no agent '{unknown[0]}'{did_you_mean(unknown[0], index)}")
        numbered = [{index[name]: slot for name, slot in one.items()} for one in alternatives]
        answer = self._request(("branch", numbered, policy))
        assert isinstance(answer, list)
        return answer

    def _ask(self, request: tuple[Any, ...]) -> Moment:
        answer = self._request(request)
        assert isinstance(answer, Moment)
        self.digest = answer.digest
        return answer

    def _request(self, request: tuple[Any, ...]) -> object:
        if self._child is None:
            self._child = Child(serve, self.task, MEMORY_SHARE * free_memory_mib() if self._fork else None)
        try:
            self._child.pipe.send(request)
            answer = self._child.pipe.recv()
        except (EOFError, OSError):
            how = self._child.stop()
            self._child, self.agents = None, []
            raise SimulationError(f"the simulation process died ({how}); call reset()") from None
        except KeyboardInterrupt:
            self.close()  # otherwise its late answer would be read as that of the next request
            raise
        if isinstance(answer, SnapshotDiedError):
            self.agents = []
            raise SimulationError(f"the simulation process died ({answer}); call reset()") from None
        if isinstance(answer, InputError):  # the episode is unchanged
            raise answer
        if isinstance(answer, RelidSumoError):
            self.close()
            raise answer
        return answer

    def render(self) -> None:
        """Do nothing; ``relid-sumo view`` shows episodes in sumo-gui."""

    def close(self) -> None:
        """End the simulation process."""
        if self._child is not None:
            self._child.stop()
            self._child, self.agents = None, []
