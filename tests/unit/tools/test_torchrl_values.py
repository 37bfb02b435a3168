"""`tools/torchrl_values.py`: joint transitions of agents that decide at different times, and the targets on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("torchrl", reason="TorchRL is not installed: pip install 'relid_sumo[torchrl]'")

from torchrl_values import Recorder, ValueLearner, ValueSettings, own_transitions

WIDTH, SLOTS = 8, 3
OPEN = np.array([True, False, True])


def seen(agent: int, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng([agent, number]).uniform(-1, 1, WIDTH).astype(np.float32)


@pytest.fixture
def recorder() -> Recorder:
    """Agent 0 decides at moments 0 and 2 and ends, agent 1 decides at moment 1 and ends last."""
    made = Recorder(2, WIDTH, SLOTS)
    made.decide(0, seen(0, 0), OPEN, 2)
    made.step({0: -10.0, 1: -5.0}, set(), {1: (seen(1, 0), OPEN)})
    made.decide(1, seen(1, 0), OPEN, 0)
    made.step({0: -20.0, 1: -20.0}, set(), {0: (seen(0, 1), OPEN)})
    made.decide(0, seen(0, 1), OPEN, 0)
    made.step({0: -40.0, 1: -40.0}, {0}, {})
    made.step({1: -80.0}, {1}, {})
    return made


def test_rewards_are_paid_where_an_agent_decides_again_or_ends(recorder: Recorder) -> None:
    paid = [row["next", "reward"].item() * 100 for row in recorder.rows]
    assert paid == pytest.approx([0.0, -30.0, -40.0, -140.0]), "without the 5 s of agent 1 before its first decision"
    assert [row["next", "terminated"].item() for row in recorder.rows] == [False, False, False, True]
    alive = [row["agents", "alive"][:, 0].tolist() for row in recorder.rows]
    assert alive == [[1, 0], [1, 1], [1, 1], [0, 1]]
    after = [row["next", "agents", "alive"][:, 0].tolist() for row in recorder.rows]
    assert after == [[1, 0], [1, 1], [0, 1], [0, 0]], "agent 1 joins with its first decision, in no target before"


def test_the_only_open_slot_of_an_agent_under_way_is_its_action(recorder: Recorder) -> None:
    masks = [row["next", "agents", "action_mask"].tolist() for row in recorder.rows]
    assert masks[0][0] == [False, False, True]
    assert masks[1] == [OPEN.tolist(), [True, False, False]], "agent 0 decides, agent 1 is under way"
    assert masks[2][1] == [True, False, False]


@pytest.mark.parametrize("kind", ["vdn", "qmix"])
def test_the_joint_loss_is_that_of_the_rule(recorder: Recorder, kind: str) -> None:
    learner = ValueLearner(kind, 2, WIDTH, SLOTS, ValueSettings(), seed=3)
    loss = float(learner.loss(torch.stack(recorder.rows))["loss"].detach())

    def mixed(values: list[float], row: object) -> float:
        if kind == "vdn":
            return sum(values)
        mixer = learner.loss.mixer_network
        with torch.no_grad(), learner.loss.mixer_network_params.to_module(mixer):
            state = row["state"]  # type: ignore[index]
            return float(mixer.module(torch.tensor(values)[None, :, None], state[None]))

    errors = []
    for row in recorder.rows:
        now, after = row["agents"], row["next", "agents"]
        chosen = [
            float(now["alive"][i]) * float(learner.values(i, now["observation"][i].numpy())[now["action"][i]])
            for i in range(2)
        ]
        best = [
            float(after["alive"][i])
            * max(learner.values(i, after["observation"][i].numpy())[after["action_mask"][i].numpy()].tolist())
            for i in range(2)
        ]
        follows = 0.0 if row["next", "terminated"].item() else mixed(best, row["next"])
        errors.append(mixed(chosen, row) - row["next", "reward"].item() - follows)
    assert loss == pytest.approx(np.mean(np.square(errors)), rel=1e-4)
    assert loss > 1e-4


def test_iql_learns_from_each_agents_own_decisions(recorder: Recorder) -> None:
    first, second = own_transitions(recorder.rows, 2)
    assert [one["next", "reward"].item() * 100 for one in first] == pytest.approx([-30.0, -40.0])
    assert [one["next", "reward"].item() * 100 for one in second] == pytest.approx([-140.0])
    assert [one["next", "terminated"].item() for one in first] == [False, True]
    assert first[0]["next", "observation"].tolist() == seen(0, 1).tolist()
    assert first[0]["next", "action_mask"].tolist() == OPEN.tolist()
    learner = ValueLearner("iql", 2, WIDTH, SLOTS, ValueSettings(batch=16, steps=200, tau=0.2), seed=3)
    learner.remember(recorder.rows)
    learner.learn()
    assert learner.values(1, seen(1, 0))[0] == pytest.approx(-1.4, abs=0.1), "the whole of its only leg"
    best = learner.values(0, seen(0, 1))[OPEN].max()
    assert learner.values(0, seen(0, 0))[2] == pytest.approx(-0.3 + best, abs=0.15)
    assert learner.greedy(0, seen(0, 1), np.array([False, True, False])) == 1, "a masked slot is never chosen"
