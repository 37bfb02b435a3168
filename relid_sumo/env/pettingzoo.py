"""The Dec-POMDP as a PettingZoo ParallelEnv. The simulation runs in a separate process.

`agents` lists every unfinished vehicle. A step answers all decisions of one moment and advances to the next moment with
decisions. An agent without a decision gets a mask with one open slot, its action is ignored, and
``infos[agent]["decides"]`` is False. Masks are in ``observation["action_mask"]``. The rewards of an agent sum to its
return. The horizon is a termination (it is charged in the reward), so truncation never occurs.

Any thread may use an environment, but one at a time. `close` may be called at any time: it also ends the call that
another thread waits for. A copy (`copy.deepcopy`, `pickle`) is made while no episode runs, and has its own simulations.
After a fork of the process, so has the environment there, from its next `reset` on.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from relid_sumo.env import arguments
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.serve import Moment, serve
from relid_sumo.env.workers import MEMORY_SHARE, SLACK_S, how_it_died
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.task import DailyTasks, Day, RoutingTask
from relid_sumo.scenario.traffic.fleet import agent_names
from relid_sumo.sim.snapshot import LIMIT_S, SnapshotDiedError, can_fork

UNSHARED = {"_in_use", "_stop_child"}  # attributes that a copy does not take over

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
    seeds = getattr(ready.scenario.seeds, traffic)
    fleets = [trips for seed in seeds if (trips := ready.day(seed).trips) is not None]
    names = agent_names(max((len(trips.names) for trips in fleets), default=0))
    return RoutingEnv(ready.task, options, seeds, day_of=ready.day, possible_agents=names)


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
    day_of
        Returns the trips of a fleet in a traffic seed (`PreparedScenario.day`).
    possible_agents
        All agents of all traffic seeds, for a fleet. Default: the agents of the task.
    fork
        Keep simulations after their warm-up and fork them at each `reset`. Default: if the system can fork.
    limit_s
        Time limit of a warm-up and of the answer to a step, s. A simulation that takes longer counts as hanging.
    """

    metadata = {"name": "relid_sumo_routing_v0", "render_modes": []}  # noqa: RUF012 - PettingZoo's interface

    def __init__(
        self,
        task: RoutingTask,
        options_for: Callable[[int], tuple[str, ...]],
        traffic_seeds: tuple[int, ...],
        *,
        fork: bool = True,
        limit_s: float = LIMIT_S,
        day_of: Callable[[int], Day] | None = None,
        possible_agents: Sequence[str] = (),
    ) -> None:
        self.task = task
        self._tasks, self._day_of = DailyTasks(task), day_of
        self._limit_s = limit_s
        self._fork = fork and can_fork()
        self.possible_agents = list(possible_agents or task.names)
        self.agents: list[str] = []
        self.render_mode = None
        self.traffic_seed: int | None = None
        self.digest: str | None = None
        self._options_for, self._traffic_seeds = options_for, traffic_seeds
        self._draw = seeding.stream(0, "traffic")
        self._paid = [0.0] * task.n_agents
        self._asked: dict[int, tuple[Float32s, Bools]] = {}
        self._child: Child | None = None
        self._in_use, self._closing = threading.Lock(), False
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
        InputError
            There is no such option, a seed is not a whole number from 0 on, or another thread uses the environment.
        SimulationError
            SUMO does not start, or the simulation process died.
        """
        with self._alone("reset"):
            chosen = arguments.traffic_seed(options)
            if seed is not None:
                self._draw = seeding.stream(arguments.seed(seed, "seed"), "traffic")
            drawn = int(self._draw.choice(self._traffic_seeds))
            self.traffic_seed = drawn if chosen is None else chosen
            day = Day() if self._day_of is None else self._day_of(self.traffic_seed)
            words = self._options_for(self.traffic_seed)
            self.task = self._tasks.of(day, words)
            moment = self._ask(("reset", self.traffic_seed, words, day))
            self._paid = [0.0] * self.task.n_agents
            self.agents = [a for a, status in zip(self.task.names, moment.statuses, strict=True) if status is None]
            return self._observations(moment), self._infos(moment, self.agents)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Answer the open decisions and advance to the next ones.

        Raises
        ------
        InputError
            An agent that must decide has no action, a masked one, or one that is no integer; or another thread uses the
            environment. The episode is then unchanged.
        SimulationError
            SUMO died.
        """
        with self._alone("step"):
            self._check_running("step")
            index = {name: i for i, name in enumerate(self.task.names)}
            for name in sorted(map(str, actions.keys() - index.keys())):
                raise InputError(f"step: there is no agent '{name}'{did_you_mean(name, index)}")
            before = self.agents
            moment = self._ask(("act", {i: self._checked(i, mask, actions) for i, (_, mask) in self._asked.items()}))
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
        return arguments.slot(actions[name], name, mask)

    def _check_running(self, method: str) -> None:
        if self._child is not None and self._child.inherited:
            raise InputError(
                f"{method}: this episode runs in the process that this one is a fork of; call reset() to start one here"
            )
        if not self.agents:
            why = "no episode runs" if self.digest is None else "the episode is over"
            raise InputError(f"{method}: {why}; call reset()")

    @contextlib.contextmanager
    def _alone(self, method: str) -> Iterator[None]:
        """Refuse two calls at the same time; end the simulation where a call is interrupted or closed."""
        if self._child is not None and self._child.inherited:
            self._in_use = threading.Lock()  # another thread of the other process may have held it during the fork
        if not self._in_use.acquire(blocking=False):
            raise InputError(
                f"{method}: another thread uses this environment; use it from one thread at a time, or make one for "
                "each thread"
            )
        try:
            self._close_if_asked()  # by a call that came too late to end the last one
            yield
        except Exception:
            raise
        except BaseException:  # Ctrl-C: a late answer would be read as that of the next request
            self._end(at_once=True)
            raise
        finally:
            self._close_if_asked()
            self._in_use.release()

    def _close_if_asked(self) -> None:
        if self._closing:
            self._end()
            self._closing = False

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
            The episode is over, an agent does not decide now, its slot is masked or no integer, the system cannot fork,
            or another thread uses the environment.
        SimulationError
            SUMO failed in a branch.
        """
        with self._alone("branch"):
            self._check_running("branch")
            index = {name: i for i, name in enumerate(self.task.names)}
            unknown = sorted({name for one in alternatives for name in one} - index.keys())
            if unknown:
                raise InputError(f"branch: there is no agent '{unknown[0]}'{did_you_mean(unknown[0], index)}")
            for name, slot in ((name, slot) for one in alternatives for name, slot in one.items()):
                if arguments.whole(slot) is None:
                    raise InputError(f"branch: agent '{name}': {slot!r} is not a slot; give an integer")
            numbered = [{index[name]: arguments.whole(slot) for name, slot in one.items()} for one in alternatives]
            answer = self._request(("branch", numbered, policy))
            assert isinstance(answer, list)
            return answer

    def _ask(self, request: tuple[Any, ...]) -> Moment:
        answer = self._request(request)
        assert isinstance(answer, Moment)
        self.digest = answer.digest
        return answer

    def _request(self, request: tuple[Any, ...]) -> object:
        if self._child is not None and self._child.inherited:
            self._end()
        if self._child is None:
            memory_mib = MEMORY_SHARE * free_memory_mib() if self._fork else None
            self._child = Child(serve, self._tasks.base, memory_mib, self._limit_s)
            self._stop_child = weakref.finalize(self, self._child.stop, at_once=True)  # for those who do not close()
        child, patience_s = self._child, 2 * self._limit_s + SLACK_S  # a warm-up and an answer
        try:
            child.pipe.send(request)
            if not child.pipe.poll(patience_s):
                self._end(at_once=True)
                raise SimulationError(f"the simulation process gave no answer in {patience_s:g} s; call reset()")
            answer = child.pipe.recv()
        except (EOFError, OSError):
            how = "closed by another call" if self._closing else how_it_died(child)
            self._end()
            raise SimulationError(f"the simulation process died ({how}); call reset()") from None
        if isinstance(answer, SnapshotDiedError):
            self.agents = []
            raise SimulationError(f"the simulation process died ({answer}); call reset()") from None
        if isinstance(answer, InputError):  # the episode is unchanged
            raise answer
        if isinstance(answer, RelidSumoError):
            self._end()
            raise answer
        return answer

    def _end(self, *, at_once: bool = False) -> None:
        self.agents = []
        child, self._child = self._child, None
        if child is not None:
            self._stop_child.detach()
            child.stop(at_once=at_once)

    def render(self) -> None:
        """Do nothing; ``relid-sumo view`` shows episodes in sumo-gui."""

    def close(self) -> None:
        """End the simulation process. `reset` starts another one."""
        if self._child is not None and self._child.inherited:
            self._end()
        elif self._in_use.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._in_use.release()
        else:
            self._closing, child = True, self._child
            if child is not None:
                child.kill()  # the call that waits for an answer ends with an error, and closes

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: everything but the simulation process.

        Raises
        ------
        InputError
            An episode runs, which exists only once.
        """
        if self.agents:
            raise InputError(
                "an environment cannot be copied or pickled in the middle of an episode; copy it before reset() or "
                "after the episode, or make another one with parallel_env()"
            )
        own: dict[str, object] = {"_child": None, "_draw": copy.deepcopy(self._draw), "_asked": {}, "_closing": False}
        return {name: own.get(name, value) for name, value in self.__dict__.items() if name not in UNSHARED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy; see `__getstate__`."""
        self.__dict__.update(state)
        self._in_use = threading.Lock()
