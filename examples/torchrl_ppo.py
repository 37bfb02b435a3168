"""Train TorchRL's PPO with one policy for all agents, through TorchRL's PettingZooWrapper.

pip install "relid_sumo[torchrl]"
python examples/torchrl_ppo.py --updates 20
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import torch

import relid_sumo

try:
    relid_sumo.require_extra("torchrl")
except relid_sumo.InputError as error:
    sys.exit(str(error))
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictModule, set_interaction_type
from torchrl.envs import PettingZooWrapper
from torchrl.modules import MLP, MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested using")
SEEN, MASK, ACTION = ("agents", "observation", "observation"), ("agents", "action_mask"), ("agents", "action")
LOG_PROB, REWARD = ("agents", "action_log_prob"), ("next", "agents", "reward")


def wrapped(scenario: relid_sumo.Scenario, traffic: Any) -> PettingZooWrapper:
    """Return the environment with all agents in one group; an episode is over when the last agent has ended."""
    env = relid_sumo.lockstep_env(scenario, traffic=traffic)
    group = {"agents": env.possible_agents}
    return PettingZooWrapper(env, group_map=group, categorical_actions=True, done_on_any=False)


def networks(size: int, slots: int) -> tuple[ProbabilisticActor, ValueOperator]:
    """Return the actor, which respects the masks, and the critic."""
    layers = {"num_cells": [64, 64], "activation_class": torch.nn.Tanh}
    actor = ProbabilisticActor(
        TensorDictModule(MLP(size, slots, **layers), in_keys=[SEEN], out_keys=[("agents", "logits")]),
        in_keys={"logits": ("agents", "logits"), "mask": MASK},
        out_keys=[ACTION],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
        log_prob_key=LOG_PROB,
    )
    return actor, ValueOperator(MLP(size, 1, **layers), in_keys=[SEEN])


def decisions(episode: TensorDict, critic: ValueOperator) -> TensorDict:
    """Return the decisions of an episode [moment, agent] as rows, with their advantages; rewards in 100 s.

    The advantage (discount 1, lambda 1) is the sum of all later rewards of the agent minus the critic's value. So the
    moments in which an agent has nothing to decide, with one slot open, can be left out.
    """
    later = episode[REWARD].flip(0).cumsum(0).flip(0) / 100
    decides = episode[MASK].sum(-1) >= 2
    rows = TensorDict({key: episode[key][decides] for key in (SEEN, MASK, ACTION, LOG_PROB)}, [int(decides.sum())])
    rows["value_target"] = later[decides]
    with torch.no_grad():
        rows["advantage"] = rows["value_target"] - critic(rows.clone())["state_value"]
    return rows


def report(when: str, env: PettingZooWrapper, actor: ProbabilisticActor) -> None:
    """Drive the greedy policy in two episodes of validation traffic and print what it reaches."""
    env.set_seed(1)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        driven = [env.rollout(10_000, actor) for _ in range(2)]
    for one in driven:
        earned, arrived = one[REWARD].sum(0).mean(), one["next", "agents", "info", "arrived"][-1].mean()
        print(f"{when}: mean return {earned:.1f} s, arrival rate {arrived:.2f}")


def main() -> None:
    """Train in the town's mesoscopic simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
    env, held_out = wrapped(scenario, "training"), wrapped(scenario, "validation")
    env.set_seed(given.seed)
    actor, critic = networks(env.observation_spec[SEEN].shape[-1], env.full_action_spec[ACTION].space.n)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
    loss.set_keys(action=ACTION, sample_log_prob=LOG_PROB)
    optimiser = torch.optim.Adam(loss.parameters(), lr=3e-3)
    report("before", held_out, actor)
    for _ in range(given.updates):
        with torch.no_grad():
            batch = torch.cat([decisions(env.rollout(10_000, actor), critic) for _ in range(2)])
        for rows in [batch[part] for _ in range(10) for part in torch.randperm(len(batch)).chunk(4)]:
            losses = loss(rows)
            optimiser.zero_grad()
            (losses["loss_objective"] + losses["loss_entropy"] + losses["loss_critic"]).backward()
            optimiser.step()
    report("after", held_out, actor)
    env.close()
    held_out.close()


if __name__ == "__main__":
    main()
