"""Load the policy of a trained run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding, trusted
from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.base.errors import InputError
from relid_sumo.env.choices import fitting_critic
from relid_sumo.env.observation import EMPTY
from relid_sumo.env.policies import Policy, actor, check_weights, pick, probabilities
from relid_sumo.learn import checkpoint, run_folder
from relid_sumo.learn.run_folder import RunSettings
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.scenario.files import override, with_fleet
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.kinds import layout
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare, with_slots
from relid_sumo.scenario.settings import CONNECTED, OBSERVATION, Scenario


def load_trained(
    folder: Path,
    *,
    greedy: bool = True,
    changes: Sequence[str] = (),
    closed: Sequence[str] = (),
    incidents: Sequence[str] = (),
    scenario: Scenario | Path | str | None = None,
    fleet: float | None = None,
) -> tuple[PreparedScenario, Policy]:
    """Return the prepared scenario of a run, or another one, and the run's trained policy.

    Parameters
    ----------
    greedy
        Choose the most probable action instead of drawing one.
    changes, closed
        What-if: replaced settings of the scenario, and edges closed to all vehicles. The mean travel times in
        observations (``observation.distance = "time"``) stay those of the training.
    incidents
        What-if: incidents in addition to those of the scenario, such as ``"EDGE@600-1200"``
        (`relid_sumo.scenario.incidents.FORM`).
    scenario
        Another scenario, as `relid_sumo.load_scenario` takes it, in which a policy that all agents share acts. It gets
        the observation of the run. Default: the scenario of the run.
    fleet
        Agents drawn from the demand instead of those of the scenario: a share, such as 0.2, or a number from 2.

    Raises
    ------
    InputError
        The folder contains no trained run, or the policy does not fit the changed or the other scenario.
    """
    settings, own = run_folder.load(folder)
    is_shared = _networks(own, settings.train) == 1 and (settings.train.shared or own.fleet is not None)
    if scenario is None:
        chosen = override(with_fleet(own, fleet), changes)
    else:
        _check_shared(folder, own, is_shared=is_shared)
        if isinstance(scenario, Scenario):
            chosen = override(with_fleet(scenario, fleet), changes)
        else:
            chosen = load_scenario(scenario, changes=changes, fleet=fleet)
        chosen = chosen.model_copy(update={"observation": own.observation})
    _check_agents(folder, own, chosen, is_shared=is_shared)
    state = checkpoint.load(folder)
    ready = prepare(added(chosen, incidents), closed=closed, known=own if scenario is None else None)
    if scenario is None:
        run_folder.check_same(settings, ready, folder)
    else:
        if ready.task.graph.m_out < settings.m_out and own.observation.kind != CONNECTED:
            ready = with_slots(ready, settings.m_out)
        run_folder.check_fits(settings, ready, folder)
    networks = _networks(own, settings.train)
    weights, acts = _actor(state, folder, networks, settings.m_out)
    critic = _critic(state, networks, ready.task.observation_size)
    return ready, Policy("learned", settings.train.seed, greedy, weights, path=acts, critic=critic)


def _check_shared(folder: Path, own: Scenario, *, is_shared: bool) -> None:
    if not is_shared:
        raise InputError(
            f"{folder}: each of its agents has a policy of its own, for its own trip in '{own.name}', so it cannot act "
            "in another scenario; a policy that all agents share can: train it with --fleet 0.2, or with --algo ippo "
            "--set train.shared=true"
        )


def _check_agents(folder: Path, own: Scenario, now: Scenario, *, is_shared: bool) -> None:
    """Raise InputError where a policy is for other agents than those of a scenario."""
    if (own.fleet is None) != (now.fleet is None):
        fix = "train again" if now.fleet is not None else "give a fleet, such as --fleet 0.2, or train again"
        trained_on, has = ("trips", "a fleet") if own.fleet is None else ("a fleet", "trips")
        raise InputError(
            f"{folder}: its policy was trained on {trained_on}, but scenario '{now.name}' has {has}; {fix}"
        )
    if not is_shared and own.n_agents != now.n_agents:
        raise InputError(
            f"{folder}: its policy has {own.n_agents} agents, but the scenario now has {now.n_agents}; keep "
            f"{own.n_agents}"
        )


def load_policy(folder: Path | str, *, greedy: bool = True, seed: int = 0) -> Callable[[str, dict[str, Any]], int]:
    """Return a trained policy as a function of (agent's name, its observation from `parallel_env`) that gives a slot.

    A policy that all agents share takes any agent of any scenario whose junctions have at most as many slots as those
    it was trained on.

    Parameters
    ----------
    greedy
        Choose the most probable action instead of drawing one.
    seed
        Seed of the draws.

    Raises
    ------
    InputError
        The folder contains no trained run, the name is not that of a trained agent, or the observation is that of
        another network or kind.

    Examples
    --------
    >>> policy = load_policy("runs/town")  # doctest: +SKIP
    >>> slot = policy("agent0", observations["agent0"])  # doctest: +SKIP
    """
    settings, scenario = run_folder.load(Path(folder))
    weights, acts = _actor(
        checkpoint.load(Path(folder)), Path(folder), _networks(scenario, settings.train), settings.m_out
    )
    logits = actor(acts)
    shared = settings.train.shared or scenario.fleet is not None  # by all agents, whatever their names
    fits = _Slots(folder, settings, scenario, is_shared=shared)
    index = {trip.id: i for i, trip in enumerate(scenario.trips)}
    rng = seeding.stream(seed, "policy", settings.train.seed)

    def act(agent: str, observation: dict[str, Any]) -> int:
        if agent not in index and not shared:
            raise InputError(f"{folder}: the run has no agent '{agent}'; its agents are {', '.join(index)}")
        seen, open_slots = fits(observation)
        shares = probabilities(weights, index.get(agent, 0), seen, open_slots, logits)
        return int(np.argmax(shares)) if greedy else pick(shares, rng.random())

    return act


class _Slots:
    """Gives observations of networks with fewer slots the number of slots that a policy was trained with."""

    def __init__(self, folder: Path | str, settings: RunSettings, scenario: Scenario, *, is_shared: bool) -> None:
        self._folder, self._m_out, self._layout = folder, settings.m_out, layout(scenario)
        self._fills = is_shared and scenario.observation.kind == OBSERVATION
        self._takes_any = settings.train.algo == "ippo" and scenario.observation.kind == CONNECTED

    def __call__(self, observation: dict[str, Any]) -> tuple[Float32s, Bools]:
        seen, mask = observation["observation"], np.asarray(observation["action_mask"], dtype=bool)
        has, per_slot = len(mask), self._layout.per_slot
        if self._takes_any and len(seen) == self._layout.size(has):
            return seen, mask
        if len(seen) != self._layout.size(has) or has > self._m_out or (has < self._m_out and not self._fills):
            raise InputError(
                f"{self._folder}: its policy reads observations of width {self._layout.size(self._m_out)} at junctions "
                f"with up to {self._m_out} slots, and this one has width {len(seen)} and {has} slots, so the policy "
                "does not fit; train on a network with as many slots"
            )
        missing = self._m_out - has
        if not missing:
            return seen, mask
        empty = np.full(missing * per_slot, EMPTY, dtype=np.float32)
        place = has * per_slot
        return np.concatenate([seen[:place], empty, seen[place:]]), np.append(mask, np.zeros(missing, dtype=bool))


def _networks(scenario: Scenario, settings: TrainSettings) -> int:
    """Return the number of networks of a policy: one for each agent, or one for all agents."""
    return 1 if settings.shared else len(scenario.trips) or 1


def _actor(state: dict[str, Any], folder: Path, agents: int, m_out: int) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Return the weights in a checkpoint, and the import path of the function that uses them ("" if built in).

    Raises
    ------
    InputError
        The checkpoint has no weights that fit the run, or it names code that the user has not named.
    """
    file = folder / run_folder.CHECKPOINT
    try:
        own = state.get("policy", {})
        found = own.get("weights") or state["learner"]["actor"]
        weights = {name: value.numpy() for name, value in found.items()}
        if other := [name for name, value in weights.items() if value.dtype.kind != "f"]:
            raise ValueError(f"the weights '{other[0]}' are no real numbers")
        acts = str(own.get("acts", ""))
        if not acts:
            check_weights(weights, agents, m_out)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: does not fit the run ({error}); train again") from None
    trusted.check_code({"acts": acts}, str(file))
    return weights, acts


def _critic(state: dict[str, Any], networks: int, width: int) -> dict[str, NDArray[np.float32]]:
    """Return the weights of the value networks in a checkpoint; empty where the algorithm has none of the built-in."""
    learner = state.get("learner")
    found = learner.get("critic") if isinstance(learner, dict) else None
    if not isinstance(found, dict) or not all(hasattr(value, "numpy") for value in found.values()):
        return {}
    weights = {str(name): value.numpy() for name, value in found.items()}
    return weights if fitting_critic(weights, networks, width) else {}
