from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from relid_sumo.env.episode import Episode
from relid_sumo.env.policies import Choose, Policy, pick, probabilities, waves
from relid_sumo.env.records import Decision, EpisodeRecord
from relid_sumo.learn.algos.nets import NEVER, Actor
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.toy import ToyBridge, grid

NOBODY = cast(Episode, None)  # a draw depends only on the decision


def decision(agent: int, number: int, slots: int = 4, mask: NDArray[np.bool_] | None = None) -> Decision:
    rng = np.random.default_rng([agent, number])
    seen = rng.uniform(-1, 1, 2 * slots + 2).astype(np.float32)
    return Decision(agent, number, 0.0, 0, np.ones(slots, dtype=bool) if mask is None else mask, seen)


def roused(actor: Actor, seed: int, scale: float) -> Actor:
    """Return the actor with random weights instead of its almost uniform initial ones."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in actor.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return actor


# --- the actor in numpy -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    agents=st.integers(1, 4),
    slots=st.integers(1, 6),
    scale=st.floats(0.01, 3.0),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
def test_the_actor_gives_the_same_in_numpy_and_torch(
    agents: int, slots: int, scale: float, seed: int, data: st.DataObject
) -> None:
    actor = roused(Actor(agents, slots, hidden=8, scorer=5, octaves=3, seed=seed), seed, scale)
    rng = np.random.default_rng(seed)
    seen = rng.uniform(-2, 2, (agents, 3, 2 * slots + 2)).astype(np.float32)
    mask = rng.random((agents, 3, slots)) < data.draw(st.floats(0, 1))
    mask[..., int(rng.integers(slots))] = True
    with torch.no_grad():
        expected = actor(torch.from_numpy(seen), torch.from_numpy(mask)).exp().numpy()
    weights = actor.weights()
    for agent in range(agents):
        for row in range(3):
            shares = probabilities(weights, agent, seen[agent, row], mask[agent, row])
            np.testing.assert_allclose(shares, expected[agent, row], atol=1e-5)
            assert shares.sum() == pytest.approx(1.0)
            assert (shares[~mask[agent, row]] == 0).all()
            assert (shares >= 0).all()


def test_waves_depend_only_on_the_distances() -> None:
    seen = np.array([0.9, 0.5, 0.8, -0.25, 1 / 3, 0.7], dtype=np.float32)  # two slots' congestion and distance, own two
    sines, cosines = waves(seen, 2).reshape(2, 3, 2)
    phase = np.pi * np.array([[0.5, 1.0], [-0.25, -0.5], [1 / 3, 2 / 3]])
    np.testing.assert_allclose(sines, np.sin(phase), atol=1e-6)
    np.testing.assert_allclose(cosines, np.cos(phase), atol=1e-6)
    assert not len(waves(seen, 0))


def test_masked_slots_have_share_zero_in_torch() -> None:
    actor = Actor(1, 3, hidden=4, scorer=4, octaves=3, seed=0)
    log_p = actor(torch.zeros(1, 1, 8), torch.tensor([[[True, False, True]]]))
    assert log_p[0, 0, 1] <= NEVER / 2
    assert log_p.exp().sum().item() == pytest.approx(1.0)


def test_a_new_actor_is_almost_uniform() -> None:
    d = decision(0, 0)
    weights = Actor(1, 4, hidden=64, scorer=32, octaves=3, seed=3).weights()
    np.testing.assert_allclose(probabilities(weights, 0, d.observation, d.mask), 0.25, atol=0.03)


def test_initial_weights_do_not_depend_on_other_agents() -> None:
    few, many = (Actor(n, 4, hidden=8, scorer=8, octaves=3, seed=5).weights() for n in (2, 6))
    for name, value in few.items():
        np.testing.assert_array_equal(value, many[name][:2])
        if not name.endswith("bias"):
            assert not np.array_equal(value[0], value[1])


# --- draws ------------------------------------------------------------------------------------------------------------


@given(
    shares=st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1.0)), min_size=1, max_size=8).filter(any),
    draw=st.one_of(st.floats(0, 1, exclude_max=True), st.just(float(np.nextafter(1, 0)))),
)
def test_pick_never_returns_a_zero_share(shares: list[float], draw: float) -> None:
    array = np.array(shares) / np.sum(shares)
    index = pick(array, draw)
    assert array[index] > 0
    assert array[:index].sum() <= draw + 1e-9
    assert draw - 1e-9 <= array[: index + 1].sum()


def test_pick_follows_the_shares() -> None:
    shares = np.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    drawn = np.bincount([pick(shares, u) for u in (np.arange(1000) + 0.5) / 1000], minlength=6)
    assert drawn.tolist() == [0, 200, 0, 500, 300, 0]


def drawing(kind: str) -> Policy:
    if kind == "random":
        return Policy("random", seed=11)
    actor = Actor(3, 4, hidden=8, scorer=8, octaves=3, seed=0)
    return Policy("learned", seed=11, weights=roused(actor, 0, 1.0).weights())


def drawn(choose: Choose, agent: int, numbers: int) -> list[int]:
    return [choose(NOBODY, decision(agent, k)) for k in range(numbers)]


@pytest.mark.parametrize("kind", ["random", "learned"])
def test_draws_do_not_depend_on_other_agents(kind: str) -> None:
    policy = drawing(kind)
    alone = {agent: drawn(policy.start(), agent, 30) for agent in range(3)}
    choose, together = policy.start(), {agent: list[int]() for agent in range(3)}
    for k in range(30):
        for agent in (2, 0, 1) if k % 3 else (0, 1):  # agent 2 decides less often and at other times
            together[agent].append(choose(NOBODY, decision(agent, len(together[agent]))))
    assert together[0] == alone[0]
    assert together[1] == alone[1]
    assert together[2] == alone[2][: len(together[2])]
    assert len({tuple(moves) for moves in alone.values()}) == 3


def test_another_seed_gives_other_draws() -> None:
    one, same, other = (drawn(Policy("random", seed=s).start(), 0, 40) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("kind", ["random", "learned"])
def test_masked_slots_are_never_chosen(kind: str) -> None:
    choose, rng = drawing(kind).start(), np.random.default_rng(0)
    for k in range(200):
        mask = rng.random(4) < 0.5
        mask[rng.integers(4)] = True
        assert mask[choose(NOBODY, decision(0, k, mask=mask))]


def test_greedy_takes_the_most_probable() -> None:
    weights = drawing("learned").weights
    choose = Policy("learned", weights=weights, greedy=True).start()
    for k in range(50):
        d = decision(k % 3, k, mask=np.array([True, k % 2 == 0, False, True]))
        assert choose(NOBODY, d) == np.argmax(probabilities(weights, d.agent, d.observation, d.mask))


# --- baselines --------------------------------------------------------------------------------------------------------


def test_shortest_is_the_free_flow_path(crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord]) -> None:
    record = toy_drive(crossing, Policy("shortest"), slow={crossing.graph.index["12>13"]: 5.0})
    for i in range(crossing.n_agents):
        assert record.routes[i].tolist() == crossing.route(i, int(crossing.origin[i]))


def test_reactive_avoids_a_slow_edge(crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord]) -> None:
    slow = {crossing.graph.index[e]: 8.0 for e in ("12>13", "7>12", "12>17", "11>12", "6>11")}
    shortest, reactive = (toy_drive(crossing, Policy(name), slow=slow) for name in ("shortest", "reactive"))
    assert reactive.travel_time.mean() < shortest.travel_time.mean() - 10
    assert set(reactive.status) == {"arrived"}


def test_reactive_takes_the_shortest_path_if_the_fastest_is_masked(toy_task: Callable[..., RoutingTask]) -> None:
    class Heedless(ToyBridge):
        def fastest_route(self, edge: str, destination: str) -> list[str]:
            return [edge, "1>2", destination] if edge == "0>1" else []

    task = toy_task(grid(3), [("0>1", "7>8")], closed=["2>5"])  # so that 1>2 is a dead end
    episode = Episode(task, Heedless(task.graph))
    choose = Policy("reactive").start()
    while decisions := episode.advance():
        for d in decisions:
            episode.act(d, choose(episode, d))
    assert episode.record().status == ("arrived",)


def test_a_policy_without_routes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the policy 'best' has no routes; plan it first"):
        Policy("best").start()


# --- fixed routes -----------------------------------------------------------------------------------------------------


def test_agents_with_a_route_follow_it_and_the_others_do_not_change(
    crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord]
) -> None:
    task, graph = crossing, crossing.graph
    wanted = [graph.index[e] for e in ("0>1", "1>6", "6>7", "7>8", "8>13", "13>18", "18>23", "23>24")]
    before = toy_drive(task, Policy("random", seed=3))
    record = toy_drive(task, Policy("fixed", routes={0: wanted}, otherwise=Policy("random", seed=3)))
    assert record.routes[0].tolist() == wanted
    assert before.routes[0].tolist() != wanted
    assert record.observation.any()  # learners need the observations
    for agent in range(1, task.n_agents):
        mine, theirs = record.action[record.agent == agent], before.action[before.agent == agent]
        shared = min(len(mine), len(theirs))
        assert mine[:shared].tolist() == theirs[:shared].tolist()  # the same draws at each decision
    alone = toy_drive(task, Policy("fixed", routes={0: wanted}))
    shortest = toy_drive(task, Policy("shortest"))
    assert [r.tolist() for r in alone.routes[1:]] == [r.tolist() for r in shortest.routes[1:]]


def test_off_its_route_a_vehicle_takes_the_free_flow_fastest_path(
    crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord]
) -> None:
    elsewhere = [crossing.graph.index[e] for e in ("4>3", "3>2")]
    record = toy_drive(crossing, Policy("fixed", routes={0: elsewhere}))
    assert record.routes[0].tolist() == toy_drive(crossing, Policy("shortest")).routes[0].tolist()
