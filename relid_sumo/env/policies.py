"""Policies that a simulation process can run: learnt policies (in numpy) and baselines.

This module does not import torch, so that simulation processes stay small and can be forked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import extension, seeding
from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.base.errors import InputError, RelidSumoError
from relid_sumo.env.connected import LAYOUT as CONNECTED_LAYOUT
from relid_sumo.env.episode import Episode
from relid_sumo.env.observation import Junction
from relid_sumo.env.records import Decision
from relid_sumo.env.roads_now import rest
from relid_sumo.scenario.traffic.history import History
from relid_sumo.scenario.traffic.sumo_options import REROUTE_EVERY_S

GAIN, SCORER_LAYERS = "gain", 3  # of an actor of the observation ``connected``
Weights = Mapping[str, NDArray[np.float32]]
Choose = Callable[[Episode, Decision], int]
Logits = Callable[[Weights, int, Float32s], Float32s]


@dataclass(frozen=True, eq=False)
class Policy:
    """The description of a policy that a simulation process needs: a name, and the weights of learnt policies.

    Attributes
    ----------
    name : str
        ``learned``; ``random`` (uniform over open slots); ``shortest`` (free-flow fastest path); ``reactive`` (at each
        junction the fastest path by smoothed travel times); ``rerouting`` (SUMO's rerouting device, agents do not
        decide; where incidents close edges, the same without the device, which would know them at once); ``fixed``
        (agents follow `routes`); ``own`` (a user's function, see `path`); ``online`` (a planner that is asked while
        they drive, see `path`). Any other name is a baseline that `relid_sumo.baseline.named` must plan first.
    seed : int
        Seed of the draws. Each draw depends on (seed, agent, index of the decision).
    greedy : bool
        Choose the most probable action instead of drawing one.
    weights : mapping
        With ``learned``: actors of all agents, stacked (see `actor_logits`), or the weights for `path`.
    routes : mapping
        With ``fixed``: route of each agent, as edge indices by agent index. Off its route an agent takes the free-flow
        fastest path.
    otherwise : Policy
        With ``fixed``: policy of agents without a route. Default: ``shortest``.
    slip : float
        With ``fixed``: share of choices that are random.
    path : str
        Import path. With ``own``: a function from a `Junction` to a slot. With ``learned``: a function that replaces
        `actor_logits`; "" for the built-in one. With ``online``: a function of `history` that returns the function of
        episode and decision that chooses slots in one episode.
    critic : mapping
        With ``learned``: value networks of all agents, stacked, which `relid_sumo.env.choices` reads and no choice
        depends on; empty where there are none.
    history : History or None
        With ``online``: the training traffic.

    Examples
    --------
    >>> Policy("shortest").name
    'shortest'
    """

    name: str
    seed: int = 0
    greedy: bool = False
    weights: Weights = field(default_factory=dict)
    routes: Mapping[int, Sequence[int]] = field(default_factory=dict)
    otherwise: Policy | None = None
    slip: float = 0.0
    path: str = ""
    critic: Weights = field(default_factory=dict)
    history: History | None = None

    @property
    def observes(self) -> bool:
        """Whether decisions need observations: the policy reads them, or its episodes are learnt from."""
        return self.name in {"learned", "fixed"}

    def start(self) -> Choose:
        """Return the function that chooses slots in one episode."""
        match self.name:
            case "shortest" | "reactive":
                return free_flow_slot if self.name == "shortest" else _reactive
            case "rerouting":
                return _Rerouting()
            case "random":
                return _Drawn(self.seed, lambda decision: decision.mask / decision.mask.sum())
            case "fixed":
                choose = _fixed(self.routes, (self.otherwise or Policy("shortest")).start())
                return _slipping(choose, self.slip, self.seed) if self.slip else choose
            case "own" | "online":
                return _own(self.path) if self.name == "own" else _online(self.path, self.history)
            case "learned":
                logits = actor(self.path)

                def shares(d: Decision) -> NDArray[np.float64]:
                    return probabilities(self.weights, d.agent, d.observation, d.mask, logits)

                return (lambda _, d: int(np.argmax(shares(d)))) if self.greedy else _Drawn(self.seed, shares)
        raise ValueError(f"the policy '{self.name}' has no routes; plan it first")


class _Drawn:
    """Choices drawn from probabilities. A draw depends only on seed, agent and index of the decision."""

    def __init__(self, seed: int, shares: Callable[[Decision], NDArray[np.float64]]) -> None:
        self._seed, self._shares = seed, shares

    def __call__(self, _: Episode, decision: Decision) -> int:
        draw = seeding.stream(self._seed, "action", decision.agent, decision.number).random()
        return pick(self._shares(decision), draw)


def pick(shares: NDArray[np.float64], draw: float) -> int:
    """Return the index that a uniform draw in [0, 1) selects. An index with share 0 is never selected."""
    reach = np.cumsum(shares)
    index = int(np.searchsorted(reach, draw * reach[-1], side="right"))
    return min(index, int(np.flatnonzero(shares)[-1]))


def actor_logits(weights: Weights, agent: int, observation: Float32s) -> Float32s:
    """Return one agent's action logits, shape (m_out,).

    The actor is the sum of a slot scorer (one small network applied to each slot's values and the vehicle's own) and a
    network of the whole observation and its `waves`. The first axis of each array is the agent; all agents share a
    single network. The same in torch:
    `relid_sumo.learn.algos.nets.Actor`. Weights of a `slot_logits` actor are used as there.
    """
    if GAIN in weights:
        return slot_logits(weights, agent, observation)
    w, agent = weights, agent if len(weights["slot.0.bias"]) > 1 else 0
    slots, width = w["whole.1.weight"].shape[2], w["slot.0.weight"].shape[1]
    per_slot = (len(observation) - width) // (slots - 1) if slots > 1 else width // 2
    own = width - per_slot
    features = np.empty((slots, width), dtype=np.float32)
    features[:, :per_slot] = observation[:-own].reshape(slots, per_slot)
    features[:, per_slot:] = observation[-own:]
    hidden = np.tanh(features @ w["slot.0.weight"][agent] + w["slot.0.bias"][agent])
    scored = (hidden @ w["slot.1.weight"][agent] + w["slot.1.bias"][agent])[:, 0]
    octaves = (w["whole.0.weight"].shape[1] - len(observation)) // (2 * (slots + 1))
    seen = np.concatenate([observation, waves(observation, octaves, per_slot, own)]) if octaves else observation
    hidden = np.tanh(seen @ w["whole.0.weight"][agent] + w["whole.0.bias"][agent])
    whole = hidden @ w["whole.1.weight"][agent] + w["whole.1.bias"][agent]
    return np.asarray(scored + whole, dtype=np.float32)


def slot_logits(weights: Weights, agent: int, observation: Float32s) -> Float32s:
    """Return one agent's action logits for the observation ``connected``, shape (slots,), for any number of slots.

    Each slot gets minus its time-to-go over the best slot's, min, times a gain, plus the output of one small network of
    its values and the vehicle's own. That output is 0 at first, so that an untrained actor takes the fastest path by
    present times. The same network scores every slot, so that other orders of slots give the same logits in that order.
    The same in torch: `relid_sumo.learn.algos.nets.SlotActor`.
    """
    w, agent = weights, agent if len(weights[GAIN]) > 1 else 0
    slots = observation[: -CONNECTED_LAYOUT.own].reshape(-1, CONNECTED_LAYOUT.per_slot)
    own = np.broadcast_to(observation[-CONNECTED_LAYOUT.own :], (len(slots), CONNECTED_LAYOUT.own))
    x = np.concatenate([slots, own], axis=1)
    for layer in range(SCORER_LAYERS):
        x = x @ w[f"scorer.{layer}.weight"][agent] + w[f"scorer.{layer}.bias"][agent]
        x = np.tanh(x) if layer < SCORER_LAYERS - 1 else x
    return np.asarray(x[:, 0] - w[GAIN][agent, 0] * slots[:, 0], dtype=np.float32)


def waves(observation: Float32s, octaves: int, per_slot: int = 2, own: int = 2) -> Float32s:
    """Return sines and cosines of an observation's distances x, in octaves: of ``pi x``, ``2 pi x``, ``4 pi x``, ...

    A small network is too smooth to distinguish junctions whose distances differ by one percent; these features help
    (Tancik et al. 2020, arXiv 2006.10739). Shape (2 octaves (m_out + 1),): first the slots' distances (the last of each
    slot's `per_slot` values), then the first of the vehicle's `own` values.
    """
    distance = np.append(observation[per_slot - 1 : -own : per_slot], observation[-own])
    phase = (distance[:, None] * (np.pi * 2.0 ** np.arange(octaves))).astype(np.float32).ravel()
    return np.concatenate([np.sin(phase), np.cos(phase)])


def check_weights(weights: Mapping[str, object], agents: int, m_out: int) -> None:
    """Check the weights of an actor that were read from a file.

    Raises
    ------
    ValueError
        The weights do not fit this number of agents and slots.
    """
    shapes = {name: array.shape for name, array in weights.items() if isinstance(array, np.ndarray)}
    if GAIN in weights:
        _check_slot_weights(weights, shapes, agents)
        return
    sizes = {"slot.0": shapes.get("slot.0.bias", ()), "whole.0": shapes.get("whole.0.bias", ())}
    if any(len(size) != 2 for size in sizes.values()):
        raise ValueError("the actor's layers are missing")
    scorer, hidden = sizes["slot.0"][1], sizes["whole.0"][1]
    seen, width = (shapes.get(f"{name}.0.weight", ())[1:2] or (0,) for name in ("slot", "whole"))
    wanted = {
        "slot.0.weight": (agents, *seen, scorer),
        "slot.0.bias": (agents, scorer),
        "slot.1.weight": (agents, scorer, 1),
        "slot.1.bias": (agents, 1),
        "whole.0.weight": (agents, *width, hidden),
        "whole.0.bias": (agents, hidden),
        "whole.1.weight": (agents, hidden, m_out),
        "whole.1.bias": (agents, m_out),
    }
    if shapes != wanted or len(weights) != len(wanted):
        raise ValueError(f"the actor's layers do not fit {agents} agents with {m_out} slots")
    _check_finite(weights)


def _check_slot_weights(weights: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], agents: int) -> None:
    """Check the weights of a `slot_logits` actor."""
    features, width = CONNECTED_LAYOUT.size(1), (shapes.get("scorer.0.bias", ())[1:2] or (0,))[0]
    sizes = [features, *[width] * (SCORER_LAYERS - 1), 1]
    wanted: dict[str, tuple[int, ...]] = {GAIN: (agents, 1)}
    for i in range(SCORER_LAYERS):
        wanted[f"scorer.{i}.weight"], wanted[f"scorer.{i}.bias"] = (agents, *sizes[i : i + 2]), (agents, sizes[i + 1])
    if shapes != wanted or len(weights) != len(wanted):
        raise ValueError(f"the actor's layers do not fit {agents} networks and the observation 'connected'")
    _check_finite(weights)


def _check_finite(weights: Mapping[str, object]) -> None:
    if not all(isinstance(array, np.ndarray) and np.isfinite(array).all() for array in weights.values()):
        raise ValueError("the actor has weights that are not finite")


def actor(path: str) -> Logits:
    """Return the function from (weights, agent, observation) to logits; the built-in one if `path` is empty.

    Raises
    ------
    InputError
        The import path has no such function.
    """
    if not path:
        return actor_logits
    found = extension.load(path, "actor")

    def checked(weights: Weights, agent: int, observation: Float32s) -> Float32s:
        try:
            return np.asarray(found(weights, agent, observation))
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(path, "actor", error) from error

    return checked


def probabilities(
    weights: Weights, agent: int, observation: Float32s, mask: Bools, logits_of: Logits = actor_logits
) -> NDArray[np.float64]:
    """Return one agent's action probabilities, shape (m_out,); 0 on masked slots."""
    logits = np.where(mask, logits_of(weights, agent, observation).astype(np.float64), -np.inf)
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())


def free_flow_slot(episode: Episode, decision: Decision) -> int:
    """Return the open slot with the least free-flow time to the destination, around closed edges that are known."""
    to_go, next_edge = episode.closures.tables(decision.agent)
    slots = episode.task.graph.slots[decision.edge]
    slot = slot_of(episode, decision, int(next_edge[decision.edge]))
    if decision.mask[slot]:
        return slot
    through = np.where(decision.mask, to_go[slots] + episode.task.graph.free_flow_s[slots], np.inf)
    return int(np.argmin(through))


def _reactive(episode: Episode, decision: Decision) -> int:
    path = _fastest_now(episode, decision)
    allowed = episode.task.graph.slots[decision.edge][decision.mask]
    return slot_of(episode, decision, path[1]) if path[1:] and path[1] in allowed else free_flow_slot(episode, decision)


def _fastest_now(episode: Episode, decision: Decision) -> list[int]:
    """Return the fastest path of an agent by smoothed travel times.

    SUMO's router knows which edges are closed. Agents know what they have seen, so that another router serves them
    while edges are closed.
    """
    task, agent = episode.task, decision.agent
    names, goal = task.graph.edge_ids, int(task.destination[agent])
    if not (episode.closures.now or episode.closures.known(agent)):
        route = episode.bridge.fastest_route(str(names[decision.edge]), str(names[goal]))
        return [task.graph.index.get(name, -1) for name in route]
    cost = np.array([episode.bridge.travel_time(str(name), task.names[agent], smoothed=True) for name in names])
    cost[sorted(episode.closures.known(agent) | task.closed)] = np.inf
    return task.graph.path(decision.edge, goal, cost)


class _Rerouting:
    """Choices as by SUMO's rerouting device, for traffic in which edges close: the device would know that at once.

    An agent follows its fastest path by smoothed travel times, which it computes again after `REROUTE_EVERY_S` and when
    a closed edge that it has seen is ahead on it.
    """

    def __init__(self) -> None:
        self._paths: dict[int, tuple[float, list[int]]] = {}

    def __call__(self, episode: Episode, decision: Decision) -> int:
        agent, edge, known = decision.agent, decision.edge, episode.closures.known(decision.agent)
        since_s, path = self._paths.get(agent, (-REROUTE_EVERY_S, []))
        ahead = rest(path, edge)
        if not ahead or decision.time >= since_s + REROUTE_EVERY_S or known & set(ahead):
            path = _fastest_now(episode, decision)
            self._paths[agent], ahead = (decision.time, path), path[1:]
        slots = episode.task.graph.slots[edge]
        if ahead and ahead[0] in slots[decision.mask]:
            return slot_of(episode, decision, ahead[0])
        return free_flow_slot(episode, decision)


def _online(path: str, history: History | None) -> Choose:
    """Return the choices of a planner that vehicles ask while they drive."""
    choose: Choose = extension.load(path, "baseline")(history)
    return choose


def _own(path: str) -> Choose:
    """Return the choices of a user's function of a `Junction`."""
    function: Callable[[Junction], Any] = extension.load(path, "baseline")

    def choose(episode: Episode, decision: Decision) -> int:
        try:
            slot = int(function(episode.junction(decision)))
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(path, "baseline", error) from error
        if not 0 <= slot < len(decision.mask) or not decision.mask[slot]:
            allowed = np.flatnonzero(decision.mask).tolist()
            raise InputError(f"baseline '{path}': it returns slot {slot}, which is masked; return one of {allowed}")
        return slot

    return choose


def _fixed(routes: Mapping[int, Sequence[int]], otherwise: Choose) -> Choose:
    """Return the choices that follow given routes. A route contains each edge at most once.

    Where a closed edge that the agent has seen is ahead on its route, the agent drives around it as `shortest` does.
    """
    following = {(i, edge): nxt for i, route in routes.items() for edge, nxt in pairwise(route)}

    def choose(episode: Episode, decision: Decision) -> int:
        if decision.agent not in routes:
            return otherwise(episode, decision)
        successor = following.get((decision.agent, decision.edge), -1)
        known = episode.closures.known(decision.agent)
        if known and known & set(rest(routes[decision.agent], decision.edge)):
            return free_flow_slot(episode, decision)
        allowed = episode.task.graph.slots[decision.edge][decision.mask]
        return slot_of(episode, decision, successor) if successor in allowed else free_flow_slot(episode, decision)

    return choose


def _slipping(choose: Choose, share: float, seed: int) -> Choose:
    """Return choices of which a share is random."""
    random = _Drawn(seed, lambda decision: decision.mask / decision.mask.sum())

    def slip(episode: Episode, decision: Decision) -> int:
        draw = seeding.stream(seed, "slip", decision.agent, decision.number).random()
        return (random if draw < share else choose)(episode, decision)

    return slip


def slot_of(episode: Episode, decision: Decision, edge: int) -> int:
    """Return the slot of a next edge."""
    return int(np.flatnonzero(episode.task.graph.slots[decision.edge] == edge)[0])
