"""The observation `connected` and its slot scorer: values derived by hand, the planner it starts as, and symmetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from relid_sumo.base.errors import InputError
from relid_sumo.env.connected import LAYOUT, Connected, connected
from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Policy, check_weights, probabilities, slot_logits
from relid_sumo.env.records import Decision
from relid_sumo.learn.algos.nets import SlotActor, SlotCritic
from relid_sumo.network.graph import RoadGraph
from relid_sumo.scenario.kinds import layout
from relid_sumo.scenario.settings import Observation
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.scenario.traffic.history import History
from relid_sumo.sim.toy import ToyBridge, grid, two_routes

Make = Callable[..., RoutingTask]
Know = Callable[..., History]
FIRST, TOP, BOTTOM, END = 2, 3, 4, 5


@pytest.fixture(scope="module")
def connected_task(toy_task: Make, free_history: Know) -> Make:
    """Return a function that makes tasks without traffic whose agents observe `connected`."""

    def make(graph: RoadGraph, ends: list[tuple[str, str]], **settings: object) -> RoutingTask:
        task = toy_task(graph, ends, observation=Observation(kind="connected"), **settings)
        return replace(task, layout=layout(task.scenario), history=free_history(graph))

    return make


def driven(task: RoutingTask, slow: Mapping[int, float], policy: Policy) -> tuple[Episode, list[tuple[Decision, int]]]:
    episode, choose, made = Episode(task, ToyBridge(task.graph, dict(slow))), policy.start(), []
    while decisions := episode.advance():
        for decision in decisions:
            slot = choose(episode, decision)
            made.append((decision, slot))
            episode.act(decision, slot)
    return episode, made


def untrained(seed: int = 0, *, trained: bool = False) -> Mapping[str, np.ndarray]:
    actor = SlotActor(1, scorer=8, seed=seed)
    if trained:
        with torch.no_grad():
            for value in actor.scorer[2].parameters():
                value.normal_(generator=torch.Generator().manual_seed(seed))
    return actor.weights()


def test_the_values_are_those_of_the_two_routes(connected_task: Make) -> None:
    """The top road takes 90 s instead of 30 s; the bottom one 48 s. The agent planned the bottom one."""
    task = connected_task(two_routes(), [("start", "end")])
    policy = Policy("learned", greedy=True, weights=untrained())
    _, made = driven(task, {TOP: 3.0}, policy)
    (decision,) = [one for one, _ in made if one.edge == FIRST]
    slots = decision.observation[: -LAYOUT.own].reshape(2, LAYOUT.per_slot)
    road_class = np.log10([1.0, 1.0])
    assert slots[0] == pytest.approx([0.7, 0, 0.7, 1, 0, 1, 1, 0, 0, 0, 0, 0, road_class[0]])
    assert slots[1] == pytest.approx([0, 0.3, 0, 0, 0.9, 0, 0, 0, 0, 0, 1, 0, road_class[1]])
    # The reading of the road that the agent itself drove on when it was read is twice free flow in the toy.
    start_s, w_d = 10.0, task.scenario.reward.w_d
    through = task.to_go[0, FIRST] * w_d
    own = decision.observation[-LAYOUT.own :] * 600.0
    assert own == pytest.approx([10 + 48, start_s, through, 10 + 48 - 10 - 30], abs=1e-3)


def test_an_untrained_actor_takes_the_fastest_path_by_present_times(connected_task: Make) -> None:
    graph = grid(5)
    rng = np.random.default_rng(0)
    slow = {edge: float(factor) for edge, factor in enumerate(rng.uniform(1.0, 4.0, graph.n_edges))}
    ends = [("0>1", "23>24"), ("4>3", "21>20"), ("2>7", "17>22")]
    task = connected_task(graph, ends, depart_s=[0.0, 3.0, 6.0], horizon_s=1800.0)
    policy = Policy("learned", greedy=True, weights=untrained())
    episode = Episode(task, ToyBridge(graph, slow))
    choose, count = policy.start(), 0
    while decisions := episode.advance():
        for decision in decisions:
            slot = choose(episode, decision)
            assert episode.connected is not None
            to_go, _ = graph.to_destination(int(task.destination[decision.agent]), episode.connected.roads.seconds)
            after = graph.slots[decision.edge]
            through = np.where(decision.mask, episode.connected.roads.seconds[after] + to_go[after], np.inf)
            assert through[slot] == pytest.approx(through.min())
            count += 1
            episode.act(decision, slot)
    assert count > 10


def test_other_agents_plans_become_waits(connected_task: Make) -> None:
    """0.2 vehicles a second leave the top road: 60 in five minutes. Of 100 the last waits 200 s, the mean 100 s."""
    graph = two_routes()
    task = connected_task(graph, [("start", "end")] * 101)
    known = Connected(task, ToyBridge(graph))
    known.update(0.0)
    for agent in range(100):
        known.note(agent, TOP, (END, frozenset()))
    known.update(10.0)
    assert known.wait[TOP] == 0, "readings and plans are read together"
    known.update(30.0)
    assert known.wait[TOP] == pytest.approx(100.0)
    assert known.planned_road(7, TOP) == END
    for agent in range(100):
        known.forget(agent)
    known.update(60.0)
    assert not known.wait.any()


@pytest.mark.parametrize("seed", range(5))
def test_other_orders_of_slots_give_the_same_in_that_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m_out = int(rng.integers(2, 7))
    order = rng.permutation(m_out)
    slots = rng.normal(size=(m_out, LAYOUT.per_slot)).astype(np.float32)
    own = rng.normal(size=LAYOUT.own).astype(np.float32)
    seen, moved = (np.concatenate([part.ravel(), own]) for part in (slots, slots[order]))
    mask = rng.random(m_out) < 0.7
    mask[0] = True
    weights = untrained(seed, trained=True)
    shares = probabilities(weights, 3, seen, mask)
    assert probabilities(weights, 3, moved, mask[order]) == pytest.approx(shares[order], abs=1e-6)
    actor, critic = SlotActor(1, scorer=8, seed=seed), SlotCritic(1, hidden=8, seed=seed)
    actor.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    with torch.no_grad():
        log_p = actor(torch.from_numpy(seen)[None, None], torch.from_numpy(mask)[None, None])[0, 0].numpy()
        values = critic(torch.from_numpy(np.stack([seen, moved]))[None])[0].numpy()
    assert np.exp(log_p) == pytest.approx(shares, abs=1e-6)
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_the_critic_starts_at_the_reward_left_minus_the_time_to_go() -> None:
    """300 s of reward left and 120 s to go are 1.8 in units of 100 s."""
    seen = torch.zeros(1, 1, 2 * LAYOUT.per_slot + LAYOUT.own)
    seen[0, 0, -LAYOUT.own :] = torch.tensor([120.0, 0.0, 300.0, 0.0]) / 600.0
    assert float(SlotCritic(1, hidden=16, seed=0)(seen).detach()) == pytest.approx(1.8, abs=0.1)


def test_weights_of_another_observation_are_refused() -> None:
    weights = dict(untrained())
    check_weights(weights, 1, 3)
    with pytest.raises(ValueError, match="do not fit 2 networks"):
        check_weights(weights, 2, 3)
    weights["scorer.0.weight"] = weights["scorer.0.weight"][:, 1:]
    with pytest.raises(ValueError, match="do not fit 1 networks and the observation 'connected'"):
        check_weights(weights, 1, 3)
    assert slot_logits(untrained(), 0, np.zeros(LAYOUT.size(6), dtype=np.float32)).shape == (6,)


def test_a_task_without_history_is_refused(connected_task: Make) -> None:
    task = connected_task(two_routes(), [("start", "end")])
    with pytest.raises(InputError, match="prepare the scenario with this observation"):
        Episode(replace(task, history=None), ToyBridge(task.graph))
    episode = Episode(task, ToyBridge(task.graph))
    (decision,) = episode.advance()
    with pytest.raises(InputError, match="started without observations"):
        connected(replace(episode.junction(decision), connected=None))
