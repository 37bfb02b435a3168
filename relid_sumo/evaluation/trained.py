"""Load the policy of a trained run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import seeding, trusted
from relid_sumo.base.errors import InputError
from relid_sumo.env.choices import fitting_critic
from relid_sumo.env.policies import Policy, actor, check_weights, pick, probabilities
from relid_sumo.learn import checkpoint, run_folder
from relid_sumo.learn.settings import TrainSettings
from relid_sumo.scenario.files import override
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Scenario


def load_trained(
    folder: Path,
    *,
    greedy: bool = True,
    changes: Sequence[str] = (),
    closed: Sequence[str] = (),
    incidents: Sequence[str] = (),
) -> tuple[PreparedScenario, Policy]:
    """Return the prepared scenario of a run, and its trained policy.

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

    Raises
    ------
    InputError
        The folder contains no trained run, or the policy does not fit the changed scenario.
    """
    settings, scenario = run_folder.load(folder)
    state = checkpoint.load(folder)
    changed = added(override(scenario, changes), incidents)
    ready = prepare(changed, closed=closed, known=scenario)
    run_folder.check_same(settings, ready, folder)
    networks = _networks(scenario, settings.train)
    weights, acts = _actor(state, folder, networks, settings.m_out)
    if (scenario.fleet is None) != (ready.scenario.fleet is None):
        trained_on, now = ("trips", "a fleet") if scenario.fleet is None else ("a fleet", "trips")
        raise InputError(
            f"{folder}: its policy was trained on {trained_on}, but the scenario now has {now}; train again"
        )
    if scenario.fleet is None and scenario.n_agents != ready.task.n_agents:
        raise InputError(
            f"{folder}: its policy has {scenario.n_agents} agents, but the scenario now has {ready.task.n_agents}; "
            f"keep {scenario.n_agents}"
        )
    critic = _critic(state, networks, ready.task.observation_size)
    return ready, Policy("learned", settings.train.seed, greedy, weights, path=acts, critic=critic)


def load_policy(folder: Path | str, *, greedy: bool = True, seed: int = 0) -> Callable[[str, dict[str, Any]], int]:
    """Return a trained policy as a function of (agent's name, its observation from `parallel_env`) that gives a slot.

    Parameters
    ----------
    greedy
        Choose the most probable action instead of drawing one.
    seed
        Seed of the draws.

    Raises
    ------
    InputError
        The folder contains no trained run, or the name is not that of a trained agent.

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
    shared = scenario.fleet is not None  # by all agents, whatever their names
    index = {trip.id: i for i, trip in enumerate(scenario.trips)}
    rng = seeding.stream(seed, "policy", settings.train.seed)

    def act(agent: str, observation: dict[str, Any]) -> int:
        if agent not in index and not shared:
            raise InputError(f"{folder}: the run has no agent '{agent}'; its agents are {', '.join(index)}")
        open_slots = np.asarray(observation["action_mask"], dtype=bool)
        shares = probabilities(weights, index.get(agent, 0), observation["observation"], open_slots, logits)
        return int(np.argmax(shares)) if greedy else pick(shares, rng.random())

    return act


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
