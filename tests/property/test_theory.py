"""The bounds of docs/theory.md, on random small games computed exactly: partial observation, agents in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STATES, ACTIONS, OBSERVATIONS, AGENTS, DEPTH = 4, 2, 2, 3, 4
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Game:
    """Who decides in a state and what it sees; where actions lead, and what each agent gets for it.

    Attributes
    ----------
    who, seen : array of int, shape (STATES,)
    leads : array, shape (STATES, ACTIONS, STATES)
    reward : array, shape (AGENTS, STATES, ACTIONS, STATES)
    stays : array, shape (STATES,)
        Probability that the episode goes on from a state: episodes end after different numbers of decisions.
    """

    who: NDArray[np.int64]
    seen: NDArray[np.int64]
    leads: Floats
    reward: Floats
    stays: Floats


Policies = Floats  # shape (AGENTS, OBSERVATIONS, ACTIONS)


def random_game(rng: np.random.Generator) -> Game:
    return Game(
        who=rng.integers(0, AGENTS, STATES),
        seen=rng.integers(0, OBSERVATIONS, STATES),
        leads=rng.dirichlet(np.full(STATES, 0.5), (STATES, ACTIONS)),
        reward=rng.normal(size=(AGENTS, STATES, ACTIONS, STATES)),
        stays=rng.uniform(0.5, 1.0, STATES),
    )


def random_policies(rng: np.random.Generator) -> Policies:
    return rng.dirichlet(np.full(ACTIONS, 0.7), (AGENTS, OBSERVATIONS))


@dataclass(frozen=True, eq=False)
class Law:
    """All episodes of a game: their probability, each agent's return, and the decisions in them.

    Attributes
    ----------
    chance : array, shape (episodes,)
    returns : array, shape (episodes, AGENTS)
    decisions : list of lists of (agent, observation, action)
    """

    chance: Floats
    returns: Floats
    decisions: list[list[tuple[int, int, int]]]


def law(game: Game, policies: Policies) -> Law:
    """Enumerate the episodes; the order is the same for all policies of one game."""
    chance: list[float] = []
    returns: list[Floats] = []
    decisions: list[list[tuple[int, int, int]]] = []

    def go(state: int, p: float, total: Floats, made: list[tuple[int, int, int]]) -> None:
        ends = 1.0 if len(made) == DEPTH else 1.0 - game.stays[state]
        chance.append(p * ends)
        returns.append(total)
        decisions.append(made)
        if len(made) == DEPTH:
            return
        agent, sight = int(game.who[state]), int(game.seen[state])
        for action in range(ACTIONS):
            for nxt in range(STATES):
                step = game.stays[state] * policies[agent, sight, action] * game.leads[state, action, nxt]
                got = total + game.reward[:, state, action, nxt]
                go(nxt, p * step, got, [*made, (agent, sight, action)])

    go(0, 1.0, np.zeros(AGENTS), [])
    return Law(np.array(chance), np.array(returns), decisions)


def moved(of: Law, new: Policies, old: Policies, agents: set[int]) -> float:
    """Return the expected sum of total variations over the decisions of some agents."""
    tv = np.abs(new - old).sum(axis=2) / 2
    sums = [sum(tv[agent, sight] for agent, sight, _ in made if agent in agents) for made in of.decisions]
    return float(of.chance @ np.array(sums, dtype=float))


def setting(seed: int) -> tuple[Game, Policies, Policies]:
    rng = np.random.default_rng(seed)
    return random_game(rng), random_policies(rng), random_policies(rng)


EVERYBODY = set(range(AGENTS))
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, near=st.floats(0.001, 1.0))
def test_the_law_of_the_episode_moves_no_more_than_the_policies(seed: int, near: float) -> None:
    """Step 1, under either policy's law, for policies near each other and far apart."""
    game, old, other = setting(seed)
    new = (1 - near) * old + near * other
    before, after = law(game, old), law(game, new)
    distance = np.abs(after.chance - before.chance).sum() / 2
    assert before.chance.sum() == pytest.approx(1.0)
    assert distance <= min(1.0, moved(before, new, old, EVERYBODY)) + TOLERANCE
    assert distance <= min(1.0, moved(after, new, old, EVERYBODY)) + TOLERANCE


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_returns_move_no_more_than_their_span_allows(seed: int) -> None:
    """Step 2."""
    game, old, new = setting(seed)
    before, after = law(game, old), law(game, new)
    change = np.abs(after.chance @ after.returns - before.chance @ before.returns)
    span = np.ptp(before.returns, axis=0)
    assert (change <= span * min(1.0, moved(before, new, old, EVERYBODY)) + TOLERANCE).all()


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_what_moves_splits_into_a_subset_and_the_others(seed: int) -> None:
    """Step 3."""
    game, old, new = setting(seed)
    before = law(game, old)
    inside, outside = moved(before, new, old, {0}), moved(before, new, old, EVERYBODY - {0})
    assert inside + outside == pytest.approx(moved(before, new, old, EVERYBODY))


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_what_others_feel_of_a_demonstration_is_bounded_by_d_in(seed: int) -> None:
    """Agent 0 alone moves, to a demonstration: total variation is 1 - pi(action), and F_out obeys step 2."""
    game, old, _ = setting(seed)
    rng = np.random.default_rng(seed + 1)
    new = old.copy()
    new[0] = np.eye(ACTIONS)[rng.integers(0, ACTIONS, OBSERVATIONS)]
    before, after = law(game, old), law(game, new)
    far = [[1.0 - old[0, sight, action] for agent, sight, action in made if agent == 0] for made in after.decisions]
    decisions = float(after.chance @ np.array([len(one) for one in far], dtype=float))
    assume(decisions > 0.01)
    d_in = float(after.chance @ np.array([sum(one) for one in far])) / decisions
    assert d_in * decisions == pytest.approx(moved(after, new, old, {0}))
    change = np.abs(after.chance @ after.returns - before.chance @ before.returns)[1:]
    span = np.ptp(before.returns, axis=0)[1:]
    assert change.mean() <= span.max() * min(1.0, d_in * decisions) + TOLERANCE


def test_the_sum_over_decisions_is_needed() -> None:
    """The largest single total variation bounds nothing: over several decisions the law moves by more."""
    beyond = []
    for seed in range(20):
        game, old, new = setting(seed)
        new = 0.8 * old + 0.2 * new
        distance = np.abs(law(game, new).chance - law(game, old).chance).sum() / 2
        beyond.append(distance - np.abs(new - old).sum(axis=2).max() / 2)
    assert max(beyond) > 0.01


def test_with_one_decision_the_bound_is_exact() -> None:
    """So that nothing smaller would do."""
    game = Game(
        who=np.zeros(STATES, dtype=np.int64),
        seen=np.zeros(STATES, dtype=np.int64),
        leads=np.broadcast_to(np.eye(STATES)[1:3], (STATES, ACTIONS, STATES)).copy(),
        reward=np.zeros((AGENTS, STATES, ACTIONS, STATES)),
        stays=np.array([1.0, 0.0, 0.0, 0.0]),
    )
    game.reward[:, 0, 0, 1] = 1.0
    old, new = (np.full((AGENTS, OBSERVATIONS, ACTIONS), share) for share in (0.5, 0.5))
    new[0, 0] = [0.9, 0.1]
    before, after = law(game, old), law(game, new)
    delta = moved(before, new, old, EVERYBODY)
    assert delta == pytest.approx(0.4)
    assert np.abs(after.chance - before.chance).sum() / 2 == pytest.approx(delta)
    change = np.abs(after.chance @ after.returns - before.chance @ before.returns)
    assert change == pytest.approx(np.ptp(before.returns[before.chance > 0], axis=0) * delta)
