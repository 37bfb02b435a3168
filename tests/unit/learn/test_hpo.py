"""HPO: alpha, the expert loss and the two value functions, against small cases by hand; IPPO where alpha is none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.gae import Batch, make_batch
from relid_sumo.learn.algos.hpo import Expert, Hpo, RouteGap, alphas
from relid_sumo.learn.algos.ippo import Ippo
from relid_sumo.learn.algos.mappo import Mappo
from relid_sumo.learn.algos.settings import HpoSettings, IppoSettings
from relid_sumo.learn.reled import dtw, probes, renewal
from relid_sumo.learn.reled.demonstrated import driven_routes, planned
from relid_sumo.learn.reled.experts import Experts
from relid_sumo.learn.reled.reled import Reled
from relid_sumo.learn.settings import TrainSettings, train_settings
from relid_sumo.scenario.task import Day, RoutingTask
from relid_sumo.scenario.traffic.turn_times import TurnTimes
from relid_sumo.sed.bench import Bench, Present, SedWatch
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.programs.feedback import Reference
from relid_sumo.sed.run import Ask
from relid_sumo.sed.settings import SedSettings

Drive = Callable[..., EpisodeRecord]
SIZES: dict[str, Any] = {"hidden": 8, "scorer": 6, "octaves": 2, "epochs": 3}
SLOTS = 3


def random_batch(agents: int, n: int, seed: int, reward: float = -30.0) -> Batch:
    """Return n decisions of each agent, in episodes of four."""
    rng = np.random.default_rng(seed)
    return Batch(
        observation=rng.uniform(-1, 1, (agents, n, 2 * SLOTS + 2)).astype(np.float32),
        mask=np.ones((agents, n, SLOTS), dtype=bool),
        action=rng.integers(0, SLOTS, (agents, n)),
        reward=rng.normal(reward, 5.0, (agents, n)).astype(np.float32),
        last=np.tile(np.arange(n) % 4 == 3, (agents, 1)),
        valid=np.ones((agents, n), dtype=bool),
    )


def expert_of(batch: Batch, returns: float = -50.0) -> Expert:
    shape = batch.action.shape
    return Expert(batch, np.full(shape, returns), np.ones(shape, dtype=bool))


# --- dynamic time warping ---------------------------------------------------------------------------------------------


def plain_dtw(one: Floats, other: Floats) -> float:
    """Return what the textbook's dynamic programme gives, per point of the longer way."""
    cost = np.full((len(one) + 1, len(other) + 1), np.inf)
    cost[0, 0] = 0.0
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            before = min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
            cost[i, j] = before + float(np.hypot(*(a - b)))
    return float(cost[-1, -1]) / max(len(one), len(other))


points = st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 2), min_size=1, max_size=12)


@given(points, points)
def test_dtw_is_the_plain_dynamic_programme(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> None:
    a, b = np.array(one), np.array(other)
    assert dtw.distance(a, b) == pytest.approx(plain_dtw(a, b), rel=1e-6, abs=1e-6)


# --- alpha ------------------------------------------------------------------------------------------------------------


def test_alpha_grows_with_the_distance_and_falls_when_the_expert_is_worse() -> None:
    ways = RouteGap(
        distance=np.array([0.0, 90.0, 90.0, 90.0]), scale=np.full(4, 30.0), lead=np.array([50.0, 0.0, 10.0, -10.0])
    )
    least, far = 0.2, 0.6 * (1 - np.exp(-3.0))
    alone = alphas(HpoSettings(alpha="dtw", alpha_min=least, alpha_max=0.8), ways, 4, 0.0)
    assert alone == pytest.approx([least, least + far, least + far, least + far])
    gated = alphas(HpoSettings(alpha="dtw+gate", alpha_min=least, alpha_max=0.8, gate_s=10.0), ways, 4, 0.0)
    shares = [0.0, far / 2, far / (1 + np.exp(-1)), far / (1 + np.exp(1))]
    assert gated == pytest.approx([least + share for share in shares])
    with pytest.raises(ValueError, match="must not be above"):
        HpoSettings(alpha_min=0.9, alpha_max=0.5)


def test_other_alphas() -> None:
    assert alphas(HpoSettings(alpha="fixed:0.5"), None, 2, 0.3).tolist() == [0.5, 0.5]
    assert alphas(HpoSettings(alpha="decay", alpha_max=0.8), None, 2, 0.25) == pytest.approx([0.6, 0.6])
    assert alphas(HpoSettings(alpha="none"), None, 2, 0.3).tolist() == [0.0, 0.0]
    assert alphas(HpoSettings(alpha="dtw"), None, 2, 0.3).tolist() == [0.0, 0.0], "nothing is demonstrated yet"
    for wrong in ("fixed:2", "fixed:x", "dwt"):
        with pytest.raises(ValueError, match=r"fixed:0\.5"):
            HpoSettings(alpha=wrong)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_without_alpha_it_is_ippo_bit_for_bit() -> None:
    plain = Ippo(3, SLOTS, IppoSettings(**SIZES), seed=5)
    hybrid = Hpo(3, SLOTS, HpoSettings(**SIZES, alpha="none"), seed=5)
    hybrid.expert = expert_of(random_batch(3, 8, seed=77))
    for step in range(4):
        batch, progress = random_batch(3, 12, seed=step), step / 8
        hybrid.follow(None, progress)
        told, beside = plain.update(batch, progress), hybrid.update(batch, progress)
        assert all(beside[name] == value for name, value in told.items())
    for net in ("actor", "critic"):
        ours, theirs = getattr(hybrid, net).state_dict(), getattr(plain, net).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", ["ce", "sil", "ve"])
def test_the_blended_loss_is_what_the_formula_says(kind: str) -> None:
    """(1 - alpha) L + alpha L^e, with L^e a weighted mean of what log p misses of the target over expert decisions."""
    settings = HpoSettings(**SIZES, alpha="fixed:0.25", expert_loss=kind, imitation_target=1 / 3)  # type: ignore[arg-type]
    learner = Hpo(2, SLOTS, settings, seed=1)
    batch = random_batch(2, 5, seed=3)
    valued = np.array([[True, True, True, True, False]] * 2)  # the last one is what the expert would have done
    learner.expert = Expert(batch, np.linspace(-90, 30, 10).reshape(2, 5), valued)
    learner.follow(None, 0.0)
    loss = learner._with_expert(torch.tensor([2.0, -1.0]))
    log_p = learner.actor(torch.from_numpy(batch.observation), torch.from_numpy(batch.mask)).detach()
    critic = learner.critic if kind == "sil" else learner.expert_critic
    value = critic(torch.from_numpy(batch.observation)).detach()
    for i, own in enumerate((2.0, -1.0)):
        terms = []
        for k in range(5):
            gain = learner.expert.returns[i, k] / 100 - float(value[i, k])
            weight = {"ce": 1.0, "sil": max(gain, 0.0), "ve": min(np.exp(gain), 20.0)}[kind]
            weight = weight if k < 4 else {"ce": 1.0, "sil": 0.0, "ve": 1.0}[kind]
            terms.append(weight * max(0.0, np.log(1 / 3) - float(log_p[i, k, batch.action[i, k]])))
        assert kind == "sil" or any(term > 0 for term in terms)
        assert kind != "ce" or not all(term > 0 for term in terms), "some have what they need"
        assert float(loss[i].detach()) == pytest.approx(0.75 * own + 0.25 * np.mean(terms), rel=1e-5)


def test_luck_known_to_the_advantages_is_not_learnt_by_the_value_function() -> None:
    sizes = {**SIZES, "epochs": 400, "gae_lambda": 1.0}
    batch = random_batch(2, 8, seed=3)
    lucky = np.where(np.arange(8) < 4, 60.0, -60.0).astype(np.float32)  # of the first episode and of the second
    reward = batch.reward + np.where(batch.last, lucky, 0.0).astype(np.float32)
    told = replace(batch, reward=reward, traffic_baseline=np.tile(lucky, (2, 1)))
    learners = [Ippo(2, SLOTS, IppoSettings(**sizes), seed=1) for _ in range(2)]
    for learner, seen in zip(learners, (batch, told), strict=True):
        learner.update(seen, 0.0)
    observation = torch.from_numpy(batch.observation)
    with torch.no_grad():
        without, with_luck = (learner.actor(observation, torch.from_numpy(batch.mask)) for learner in learners)
        value, value_with_luck = (learner.critic(observation) for learner in learners)
    # A value of 60 s more in lucky traffic, and 60 s more reward: the same advantages, so the same policy.
    assert torch.allclose(without, with_luck, atol=1e-4)
    assert torch.allclose(value, value_with_luck, atol=1e-4)


def test_an_agent_without_a_choice_does_not_keep_the_others_imitating() -> None:
    expert = expert_of(random_batch(3, 8, seed=9))
    expert.batch.observation[1:] = expert.batch.observation[:1]  # one way to act, told by what is seen
    expert.batch.action[:] = np.arange(8) % SLOTS
    expert.batch.valid[2] = False
    told = []
    for agents in (None, [2]):
        learner = Hpo(3, SLOTS, HpoSettings(**SIZES), seed=1)
        learner.expert = expert
        told.append(learner.imitate(agents))
    assert told[0]["imitated"] >= 0.97
    assert told[0]["steps"] < 600
    assert told[1]["steps"] == 0


def test_each_value_function_learns_its_own_returns() -> None:
    """Own episodes are worth -40 s at every decision's end, the expert's -10 s: V^a and V^e part."""
    learner = Hpo(2, SLOTS, HpoSettings(**SIZES, alpha="fixed:0.5", schedule="constant", gae_lambda=1.0), seed=2)
    batch = random_batch(2, 16, seed=4)
    batch = Batch(**{**vars(batch), "reward": np.full_like(batch.reward, -40.0), "last": np.ones_like(batch.last)})
    learner.expert = expert_of(batch, returns=-10.0)
    for _ in range(150):
        learner.follow(None, 0.0)
        told = learner.update(batch, 0.0)
    seen = torch.from_numpy(batch.observation)
    assert float(learner.critic(seen).detach().mean()) == pytest.approx(-0.4, abs=0.03)
    assert float(learner.expert_critic(seen).detach().mean()) == pytest.approx(-0.1, abs=0.03)
    assert told["expert_value_loss"] < 0.01


def test_imitation_reaches_the_expert_and_stops() -> None:
    learner = Hpo(3, SLOTS, HpoSettings(**SIZES, imitation_steps=400), seed=3)
    learner.expert = expert_of(random_batch(3, 6, seed=8))
    told = learner.imitate()
    assert 0.97 <= told["imitated"] < 1.0
    assert 1 < told["steps"] < 400
    idle = Hpo(3, SLOTS, HpoSettings(**SIZES, imitation_steps=0), seed=3)
    before = {name: value.clone() for name, value in idle.actor.state_dict().items()}
    idle.expert = learner.expert
    assert idle.imitate()["steps"] == 0
    assert all(torch.equal(before[name], value) for name, value in idle.actor.state_dict().items())


def test_imitation_fits_both_value_functions_to_the_experts_returns() -> None:
    learner = Hpo(3, SLOTS, HpoSettings(**SIZES, imitation_steps=200, imitation_target=0.999999), seed=3)
    learner.expert = expert_of(random_batch(3, 6, seed=8))
    seen = learner._seen
    assert seen is not None

    def errors() -> list[float]:
        with torch.no_grad():
            return [
                float((seen.valued * (critic(seen.observation) - seen.returns).square()).sum())
                for critic in (learner.critic, learner.expert_critic)
            ]

    before = errors()
    learner.imitate()
    for old, new in zip(before, errors(), strict=True):
        assert new < 0.2 * old
    left = [p.grad for p in (*learner.actor.parameters(), *learner.expert_critic.parameters())]
    assert not any(bool(grad.any()) for grad in left if grad is not None)


def test_without_alpha_an_expert_plays_no_part_in_an_update() -> None:
    learner = Hpo(2, SLOTS, HpoSettings(**SIZES, alpha="none"), seed=3)
    learner.expert = expert_of(random_batch(2, 6, seed=8))
    learner.follow(None, 0.0)
    assert not {"expert_loss", "expert_value_loss"} & set(learner.update(random_batch(2, 12, seed=1), 0.0))


def test_an_update_tells_the_mean_probability_of_the_experts_actions() -> None:
    learner = Hpo(2, SLOTS, HpoSettings(**SIZES, alpha="fixed:0.5"), seed=3)
    learner.expert = expert_of(random_batch(2, 6, seed=8))
    learner.follow(None, 0.0)
    told = learner.update(random_batch(2, 12, seed=1), 0.0)["imitated"]
    seen = learner._seen
    assert seen is not None
    with torch.no_grad():
        now = (seen.share * learner.actor(seen.observation, seen.mask).gather(-1, seen.action)[..., 0].exp()).sum(1)
    assert 0.0 < told < 1.0
    assert told == pytest.approx(float(now.mean()), abs=0.05)


def test_imitation_may_be_of_some_agents_and_leaves_the_others_alone() -> None:
    learner = Hpo(3, SLOTS, HpoSettings(**SIZES, imitation_steps=400), seed=3)
    learner.expert = expert_of(random_batch(3, 6, seed=8))
    before = [value.detach().clone() for value in (*learner.actor.parameters(), *learner.expert_critic.parameters())]
    assert learner.imitate([1])["imitated"] >= 0.97
    after = [*learner.actor.parameters(), *learner.expert_critic.parameters()]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
        assert not torch.equal(old[1], new[1])


def test_a_learnt_gate_moves_to_the_lower_loss() -> None:
    learner = Hpo(1, SLOTS, HpoSettings(**SIZES, alpha="router", schedule="constant"), seed=3)
    learner.expert = expert_of(random_batch(1, 6, seed=8))
    for step in range(20):
        alpha = learner.follow(None, 0.0)
        learner.update(random_batch(1, 12, seed=step), 0.0)
    assert alpha[0] != 0.5
    assert 0.0 < alpha[0] < 1.0


def test_state_and_restore_go_on_exactly() -> None:
    one = Hpo(2, SLOTS, HpoSettings(**SIZES, alpha="fixed:0.5"), seed=3)
    one.expert = expert_of(random_batch(2, 6, seed=8))
    for step in range(2):
        one.follow(None, 0.1)
        one.update(random_batch(2, 12, seed=step), 0.1)
    other = Hpo(2, SLOTS, HpoSettings(**SIZES, alpha="fixed:0.5"), seed=9)
    other.expert = one.expert
    other.restore(copy.deepcopy(one.state()))
    for learner in (one, other):
        learner.follow(None, 0.2)
        learner.update(random_batch(2, 12, seed=5), 0.2)
    assert all(torch.equal(a, b) for a, b in zip(one.actor.parameters(), other.actor.parameters(), strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(one.expert_critic.parameters(), other.expert_critic.parameters(), strict=True)
    )


# --- experts, on a grid without traffic -------------------------------------------------------------------------------


class ToyRollouts:
    """Drives jobs over the grid; the traffic seed is the edge that is slow."""

    def __init__(self, task: RoutingTask, drive: Drive) -> None:
        self._task, self._drive, self.count = task, drive, 0

    def run(self, jobs: Sequence[Job], on_done: Callable[[EpisodeRecord], None] | None = None) -> list[EpisodeRecord]:
        del on_done
        self.count += len(jobs)
        return [
            self._drive(self._task, job.policy, slow={job.traffic_seed: 3.0}, traffic_seed=job.traffic_seed)
            for job in jobs
        ]


def ready_of(task: RoutingTask, seeds: Sequence[int]) -> Any:  # noqa: ANN401 - stands for a PreparedScenario
    scenario = SimpleNamespace(name="toy", seeds=SimpleNamespace(training=tuple(seeds)))
    network = SimpleNamespace(name="grid", key="k")
    options = {"options": lambda seed, *_: (str(seed),), "identity": lambda *_: ["toy", *seeds]}
    return SimpleNamespace(task=task, demand=None, scenario=scenario, network=network, day=lambda _: Day(), **options)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def experts(crossing: RoutingTask, toy_drive: Drive) -> Experts:
    """Experts whose plans are detours: the fastest way if the fastest one cost five times as much."""
    graph, routes = crossing.graph, []
    for origin, destination in zip(crossing.origin.tolist(), crossing.destination.tolist(), strict=True):
        cost = graph.free_flow_s.copy()
        cost[graph.path(origin, destination)[1:-1]] *= 5.0
        routes.append(tuple(graph.path(origin, destination, cost)))
    made = Experts(crossing, routes)
    ready, rollouts = ready_of(crossing, (5, 9, 11)), ToyRollouts(crossing, toy_drive)
    made.start(ready, rollouts, "micro", 0, 2)  # type: ignore[arg-type]
    made.show(driven_routes(ready, rollouts, routes, "micro"), "micro")  # type: ignore[arg-type]
    return made


def test_experts_demonstrate_their_plans_and_how_to_get_back(experts: Experts, crossing: RoutingTask) -> None:
    expert = experts.stacked()
    demonstrated = sum(len(d.action) for d in experts.demos[0].driven.values())
    slipped = sum(len(d.action) for d in experts.slips[0])
    assert expert.batch.valid[0].sum() == demonstrated + slipped
    assert expert.valued[0].sum() == demonstrated
    chosen = np.take_along_axis(expert.batch.mask, expert.batch.action[..., None], axis=-1)
    assert chosen.all(), "what is to be imitated is open"
    assert (experts.scale > 0).all()
    assert crossing.n_agents == len(experts.demos)


def test_demonstrations_kept_from_before_are_those_driven(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    rollouts, routes = ToyRollouts(crossing, toy_drive), [demo.route for demo in experts.demos]
    again = Experts(crossing, routes)
    again.show(driven_routes(ready_of(crossing, (5, 9, 11)), rollouts, routes, "micro"), "micro")  # type: ignore[arg-type]
    assert not rollouts.count
    plan = Policy("fixed", routes={i: demo.route for i, demo in enumerate(experts.demos)})
    record = toy_drive(crossing, plan, slow={9: 3.0}, traffic_seed=9)
    for i, demo in enumerate(again.demos):
        kept, mine = demo.driven["micro", 9], record.agent == i
        assert kept.total == pytest.approx(record.returns[i])
        assert np.array_equal(kept.observation, record.observation[mine])
        assert np.array_equal(kept.action, record.action[mine])
        assert kept.returns[0] == pytest.approx(record.reward[mine].sum())


def test_a_demonstration_is_no_distance_from_itself(experts: Experts, crossing: RoutingTask, toy_drive: Drive) -> None:
    plan = Policy("fixed", routes={i: demo.route for i, demo in enumerate(experts.demos)})
    same = [toy_drive(crossing, plan, slow={5: 3.0}, traffic_seed=5)]
    ways = experts.route_gap(same, "micro")
    assert ways.distance == pytest.approx([0.0] * crossing.n_agents)
    assert ways.lead == pytest.approx([0.0] * crossing.n_agents)
    shortest = [toy_drive(crossing, Policy("fixed"), slow={5: 3.0}, traffic_seed=5)]
    assert (experts.route_gap(shortest, "micro").distance > 0).any()
    assert (experts.route_gap(shortest, "micro").lead <= 0).all(), "detours are no faster"


def test_luck_is_what_the_demonstration_still_got_over_the_usual(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    demo = experts.demos[0]
    plan = Policy("fixed", routes={i: d.route for i, d in enumerate(experts.demos)})
    same, other = toy_drive(crossing, plan, traffic_seed=5), toy_drive(crossing, Policy("fixed"), traffic_seed=5)
    on_plan, off_plan = experts.traffic_baseline([same, other], "micro")
    here = demo.driven["micro", 5]
    usual = np.mean([demo.driven["micro", seed].returns for seed in (5, 9, 11)], axis=0)
    assert on_plan[same.agent == 0] == pytest.approx(here.returns - usual)
    known, held = dict(zip(here.edge.tolist(), (here.returns - usual).tolist(), strict=True)), 0.0
    for edge, value in zip(other.edge[other.agent == 0].tolist(), off_plan[other.agent == 0].tolist(), strict=True):
        held = known.get(edge, held)
        assert value == pytest.approx(held)
    assert not any(values.any() for values in experts.traffic_baseline([same], "meso")), (
        "nothing was demonstrated there"
    )


def test_a_better_own_route_replaces_a_demonstration_after_three_seeds(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    before = [demo.route for demo in experts.demos]
    for count, seed in enumerate((5, 9, 11), 1):
        experts.note([toy_drive(crossing, Policy("fixed"), slow={seed: 3.0}, traffic_seed=seed)], "micro", elite=True)
        assert experts.replaced.any() == (count == 3)
    for i, demo in enumerate(experts.demos):
        if experts.replaced[i]:
            assert demo.route != before[i]
            old = experts.own[i][before[i]]
            assert demo.mean(list(demo.driven)) > old.mean(list(demo.driven))
    again = Experts(crossing, before, experts.state())
    assert [demo.route for demo in again.demos] == [demo.route for demo in experts.demos]
    ours, theirs = again.stacked(), experts.stacked()
    assert np.array_equal(ours.batch.observation, theirs.batch.observation)
    assert np.array_equal(ours.returns, theirs.returns)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("action", float("nan"), "action outside 0 to"),
        ("action", 99, "action outside 0 to"),
        ("action", -1, "action outside 0 to"),
        ("edge", 10**6, "edge outside 0 to"),
        ("observation", float("nan"), "not finite"),
        ("returns", float("inf"), "not finite"),
    ],
)
def test_a_damaged_episode_of_an_expert_is_refused(
    experts: Experts, crossing: RoutingTask, name: str, value: float, told: str
) -> None:
    state: Any = experts.state()
    episode = next(one for demo in state["demos"] for _, _, one in demo["driven"])
    episode[name] = torch.full_like(episode[name], value, dtype=torch.tensor(value).dtype)
    with pytest.raises(ValueError, match=told):
        Experts(crossing, [demo.route for demo in experts.demos], state)
    episode[name] = episode[name][:, None]
    with pytest.raises(ValueError, match="of shape"):
        Experts(crossing, [demo.route for demo in experts.demos], state)


def test_episodes_that_replace_a_demonstration_are_not_held_against_themselves(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    records = [toy_drive(crossing, Policy("fixed"), slow={seed: 3.0}, traffic_seed=seed) for seed in (5, 9, 11)]
    before = experts.traffic_baseline(records, "micro")
    settings = TrainSettings(algo="reled", elite=True, hpo=HpoSettings(**SIZES))
    learner = Hpo(crossing.n_agents, crossing.graph.m_out, settings.hpo, seed=0)
    ready = SimpleNamespace(task=crossing)
    reled = SimpleNamespace(experts=experts, _settings=settings, hpo=learner, _last="micro", _driven=7, _ready=ready)
    batch, numbers = Reled.batch(reled, records, "micro", 0.5)  # type: ignore[arg-type]
    assert numbers["replaced"] > 0 and numbers["driven_beside"] == 7
    assert batch.traffic_baseline is not None
    expected = [
        make_batch(records, crossing.n_agents, traffic_baseline=known).traffic_baseline
        for known in (before, experts.traffic_baseline(records, "micro"))
    ]
    assert np.array_equal(batch.traffic_baseline, expected[0])  # type: ignore[arg-type]
    assert not np.array_equal(batch.traffic_baseline, expected[1])  # type: ignore[arg-type]


def test_a_route_that_jams_now_and_then_takes_no_demonstrations_place(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    for seed in (5, 9, 11):
        record = toy_drive(crossing, Policy("fixed"), slow={seed: 3.0}, traffic_seed=seed)
        if seed == 9:
            n = crossing.n_agents
            halves = tuple(route[: len(route) // 2] for route in record.routes)
            record = replace(record, status=("horizon",) * n, returns=np.full(n, -300.0), routes=halves)
        experts.note([record], "micro", elite=True)
    assert not experts.replaced.any()


def test_who_does_not_arrive_counts_against_the_ways_it_was_on_and_no_others(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    n, plan = crossing.n_agents, dict(enumerate(experts.routes))
    fastest = toy_drive(crossing, Policy("fixed"), traffic_seed=5)
    experts.note([fastest], "micro", elite=True)
    detour, parted = toy_drive(crossing, Policy("fixed", routes=plan), traffic_seed=13), list[int]()
    for i in range(n):  # stuck where the two ways part, its choice made
        own, other = experts.routes[i], tuple(fastest.routes[i].tolist())
        parted.append(next((k for k, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), len(own)))
    kept = [plan[i].index(int(edge)) < parted[i] for i, edge in zip(detour.agent, detour.edge, strict=True)]
    decisions = ("agent", "edge", "action", "time", "reward", "observation", "mask")
    stuck = replace(
        detour,
        **{name: getattr(detour, name)[kept] for name in decisions},
        status=("horizon",) * n,
        returns=np.full(n, -300.0),
        routes=tuple(np.array(plan[i][: parted[i]]) for i in range(n)),
    )
    nowhere = tuple(np.array([], dtype=np.int32) for _ in range(n))
    outside = replace(stuck, status=("never inserted",) * n, routes=nowhere, traffic_seed=17)
    experts.note([stuck, outside], "micro", elite=True)
    assert any(experts.own)
    for i, demo in enumerate(experts.demos):
        assert demo.driven["micro", 13].total == -300.0
        assert demo.driven["micro", 5].total > -300.0, "what was measured stays"
        for known in (demo, *experts.own[i].values()):
            assert ("micro", 17) not in known.driven
        for known in experts.own[i].values():
            assert ("micro", 13) not in known.driven, "it had turned off that way"


def test_a_demonstration_is_known_in_all_traffic_that_its_agent_drives_it_in(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    plan = Policy("fixed", routes={i: demo.route for i, demo in enumerate(experts.demos)})
    before = {i: demo.driven["micro", 5] for i, demo in enumerate(experts.demos)}
    records = [toy_drive(crossing, plan, traffic_seed=seed) for seed in (5, 13)]
    experts.note(records, "micro", elite=True)
    assert not experts.replaced.any()
    for i, demo in enumerate(experts.demos):
        assert demo.driven["micro", 13].total == pytest.approx(records[1].returns[i])
        assert demo.driven["micro", 5] is before[i], "as it was demonstrated"


def test_a_plan_that_was_never_driven_is_not_the_worst(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relid_sumo.learn.reled.experts.MOST_ROUTES", 1)
    plans = [demo.route for demo in experts.demos]
    fastest = [tuple(crossing.route(i, plan[0])) for i, plan in enumerate(plans)]
    unseen = Experts(crossing, fastest)
    unseen.exchange([plans[0][:-1], *fastest[1:]])  # in place of a plan that was not shown yet
    record = toy_drive(crossing, Policy("fixed", routes=dict(enumerate(plans))), traffic_seed=5)
    unseen.note([record], "micro", elite=True)
    assert list(unseen.own[0]) == [fastest[0]]


def test_without_elite_demonstrations_stay(crossing: RoutingTask, toy_drive: Drive, experts: Experts) -> None:
    before = int(experts.stacked().batch.valid[0].sum())
    records = [toy_drive(crossing, Policy("fixed"), slow={s: 3.0}, traffic_seed=s) for s in (5, 9, 11)]
    experts.note(records, "micro", elite=False)
    assert not experts.replaced.any()
    advised = sum(int((record.agent == 0).sum()) for record in records)
    expert = experts.stacked()
    assert expert.batch.valid[0].sum() == before + advised, "own decisions come with the expert's advice"
    assert np.take_along_axis(expert.batch.mask, expert.batch.action[..., None], axis=-1).all()


def test_renewal_takes_plans_that_score_better_and_are_so_in_company(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts, plans = ToyRollouts(crossing, toy_drive), [demo.route for demo in experts.demos]
    bench = Bench(ready_of(crossing, (5, 9, 11)), rollouts, SedSettings(seeds=3), Present(), SedWatch())  # type: ignore[arg-type]
    shortest, detours = bench.drive(
        [Policy("shortest"), Policy("fixed", routes=dict(enumerate(plans)))], (5, 9, 11), "micro"
    )
    gains = np.array([s.returns - d.returns for s, d in zip(shortest, detours, strict=True)])
    quick, other = np.argsort(-gains.min(axis=0))[:2].tolist()
    assert gains[:, [quick, other]].min() > 0
    fastest = {i: tuple(crossing.route(i, plans[i][0])) for i in (quick, other)}
    reference, groups, answers = Reference(shortest, shortest, shortest, shortest), [[quick], [other]], list[Any]()

    def planned(agent: int, route: tuple[int, ...], score: float) -> SimpleNamespace:
        best = SimpleNamespace(routes={agent: route}, numbers=SimpleNamespace(score=score))
        return SimpleNamespace(agents=(agent,), best=best)

    def renewed(*subsets: SimpleNamespace, asking: bool = True) -> list[tuple[int, ...]]:
        answers[:], ask = subsets, Ask("template") if asking else None
        return list(renewal.renew(bench, plans, groups, ask, tmp_path, "micro").routes)

    monkeypatch.setattr(Bench, "reference", lambda _: reference)
    looped = SimpleNamespace(subsets=answers, reference=reference)
    monkeypatch.setattr("relid_sumo.learn.reled.renewal.sed.looped", lambda *_: looped)
    expected = [fastest[quick] if i == quick else route for i, route in enumerate(plans)]
    assert renewed(planned(quick, fastest[quick], 9.0), planned(other, fastest[other], -9.0)) == expected
    detour, plans[quick] = plans[quick], fastest[quick]
    assert renewed(planned(quick, detour, 9.0)) == plans, "scored better, and slower beside the demonstrations"
    before = rollouts.count
    assert renewed(planned(quick, detour, 9.0), asking=False) == plans
    assert rollouts.count - before == 3 * len(groups), "the demonstrations are scored, and nothing else"


def test_probes_find_a_quicker_way_and_keep_what_is_best(
    experts: Experts,
    crossing: RoutingTask,
    toy_drive: Drive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def quiet(*_: object) -> TurnTimes:
        free = crossing.graph.free_flow_s
        return TurnTimes(crossing.graph, np.repeat(free[None, :, None], crossing.graph.m_out, axis=2), free)

    monkeypatch.setattr("relid_sumo.learn.reled.probes.turn_times.measured", quiet)
    ready, rollouts = ready_of(crossing, (5, 9, 11, 14)), ToyRollouts(crossing, toy_drive)
    detours = [demo.route for demo in experts.demos]
    found = probes.probe(ready, detours, rollouts)  # type: ignore[arg-type]
    assert max(found.gain_s) > 0
    for before, now, gain in zip(detours, found.routes, found.gain_s, strict=True):
        assert (now != before) == (gain > 0)
    routes = {name: dict(enumerate(ways)) for name, ways in (("before", detours), ("now", found.routes))}
    total = {
        name: sum(toy_drive(crossing, Policy("fixed", routes=ways), slow={s: 3.0}).returns.sum() for s in (11, 14))
        for name, ways in routes.items()
    }
    assert total["now"] > total["before"]
    driven = rollouts.count
    assert driven == found.episodes
    again = probes.probe(ready, detours, rollouts)  # type: ignore[arg-type]
    assert (again, rollouts.count) == (found, driven), "kept from before"
    best = probes.probe(ready, found.routes, rollouts)  # type: ignore[arg-type]
    assert best.routes == found.routes


def test_what_a_way_gains_is_weighed_by_how_well_it_is_known() -> None:
    driven = np.array([[0.0, 0.0], [10.0, 30.0], [-50.0, -50.0]])  # means 0, 20, -50; squared standard errors 0, 100, 0
    assert probes.weighed(np.array([0.0, 40.0, 9.0]), driven) == pytest.approx(
        [0.0, (40 / 400 + 20 / 100) / (1 / 400 + 1 / 100), -50.0], abs=1e-4
    )
    assert probes.weighed(np.array([0.0, 7.0]), np.array([[0.0], [99.0]])) == pytest.approx([0.0, 7.0])


def test_a_route_taken_as_demonstration_has_yet_to_be_shown(
    experts: Experts, crossing: RoutingTask, toy_drive: Drive
) -> None:
    before, free = experts.demos[0].route, tuple(crossing.route(0, int(crossing.origin[0])))
    assert free != before
    assert experts.exchange([free, *experts.routes[1:]]) == [0]
    assert not experts.demos[0].driven
    assert not experts.slips[0], "they tell how to get back to another plan"
    assert experts.slips[1]
    assert not experts.stacked().batch.valid[0].any()
    routes = [demo.route for demo in experts.demos]
    ready, rollouts = ready_of(crossing, (5, 9, 11)), ToyRollouts(crossing, toy_drive)
    experts.show(driven_routes(ready, rollouts, routes, "micro"), "micro")  # type: ignore[arg-type]
    assert len(experts.demos[0].driven) == 3
    assert before in experts.own[0], "it may come back"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scenario": "other"}, "demonstrations of scenario 'other', not 'toy'"),
        ({"network_key": "old"}, "another version of network 'grid'"),
        ({"subsets": []}, "no plan for a0, a1"),
        ({"turned": True}, "made for other trips .*'a0': its route starts on"),
    ],
)
def test_demonstrations_that_do_not_fit_are_refused(
    change: dict[str, Any], said: str, crossing: RoutingTask, experts: Experts
) -> None:
    with pytest.raises(InputError, match=said):
        planned(planned_for(crossing, experts, **change), ready_of(crossing, (5,)), Path("demos.npz"))


def test_a_plan_that_never_arrives_is_named(
    crossing: RoutingTask, experts: Experts, caplog: pytest.LogCaptureFixture
) -> None:
    made = planned_for(crossing, experts, arrived=False)
    assert planned(made, ready_of(crossing, (5,)), Path("d.npz")) == experts.routes
    assert "d.npz: on their demonstrated routes a0, a1, a2, a3, a4, a5 arrive in no traffic seed" in caplog.text


def planned_for(
    crossing: RoutingTask, experts: Experts, *, turned: bool = False, arrived: bool = True, **change: object
) -> Demonstrations:
    """Return demonstrations without decisions, with changes of their meta data."""
    ids = crossing.graph.edge_ids
    routes = {n: [str(ids[e]) for e in d.route] for n, d in zip(crossing.names, experts.demos, strict=True)}
    if turned:
        routes = dict(zip(crossing.names, [*routes.values()][::-1], strict=True))
    subset = {"vehicles": list(crossing.names), "routes": routes}
    meta = {"scenario": "toy", "network_key": "k", "simulator": "micro", "subsets": [subset], **change}
    empty: dict[str, Any] = {name: np.zeros(0, dtype=np.int32) for name in ("episode", "agent", "edge", "action")}
    shape = 3, crossing.n_agents
    return Demonstrations(
        **empty,
        time=np.zeros(0),
        reward=np.zeros(0),
        position=np.zeros((0, 2)),
        observation=np.zeros((0, crossing.observation_size), dtype=np.float32),
        mask=np.zeros((0, crossing.graph.m_out), dtype=bool),
        traffic_seed=np.arange(3),
        returns=np.zeros(shape),
        travel_time=np.zeros(shape),
        arrived=np.full(shape, arrived),
        meta=meta,
    )


# --- what it is compared with -----------------------------------------------------------------------------------------


def test_central_critics_see_what_everybody_last_saw(crossing: RoutingTask, toy_drive: Drive) -> None:
    record = toy_drive(crossing, Policy("fixed"))
    batch = make_batch([record], crossing.n_agents, joint=True)
    assert batch.joint is not None
    width = batch.observation.shape[-1]
    assert batch.joint.shape[-1] == (crossing.n_agents + 1) * width
    first, later = int(record.agent[0]), int(np.flatnonzero(record.agent != record.agent[0])[0])
    assert np.array_equal(batch.joint[first, 0, :width], batch.observation[first, 0])
    assert not batch.joint[first, 0, width:].reshape(-1, width)[int(record.agent[later])].any(), "nobody else yet"
    other = int(record.agent[later])
    row = batch.joint[other, 0, width:].reshape(-1, width)
    assert np.array_equal(row[first], record.observation[np.flatnonzero(record.agent[: later + 1] == first)[-1]])
    learner = Mappo(crossing.n_agents, crossing.graph.m_out, IppoSettings(**SIZES), seed=0)
    assert np.isfinite(list(learner.update(batch, 0.0).values())).all()


def test_algorithms_set_what_is_not_given() -> None:
    assert train_settings({"algo": "reled"}).hpo.alpha == "dtw+gate"
    assert train_settings({"algo": "reled"}).elite
    assert train_settings({"algo": "decaying-imitation"}).hpo.alpha == "decay"
    assert not train_settings({"algo": "decaying-imitation"}).elite
    assert train_settings({"algo": "bc"}).hpo.alpha == "fixed:1"
    given = train_settings({"algo": "reled"}, ["hpo.alpha=fixed:0.5", "elite=false"])
    assert given.hpo.alpha == "fixed:0.5"
    assert not given.elite
    for algo in ("reled", "decaying-imitation", "bc", "bc+ippo"):
        assert TrainSettings(algo=algo) == train_settings({"algo": algo}), "whoever makes them"
    with pytest.raises(InputError, match=r"hpo = .*: alpha_min must not be above alpha_max"):
        train_settings({"algo": "reled"}, ["hpo.alpha_max=0.3"])
    decaying = train_settings({"algo": "decaying-imitation"}, ["hpo.alpha_max=0.3"])
    assert decaying.hpo.alpha == "decay", "which has no least alpha"
    assert TrainSettings(algo="bc", hpo=HpoSettings(hidden=8)).hpo == HpoSettings(alpha="fixed:1", hidden=8)
