"""Train RLlib's PPO with one policy for all agents.

pip install "relid_sumo[rllib]"
python examples/rllib_ppo.py --updates 20
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

import gymnasium
import numpy as np
import torch

import relid_sumo

try:
    relid_sumo.require_extra("rllib")
except relid_sumo.InputError as error:
    sys.exit(str(error))
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
logging.getLogger("ray.rllib").setLevel(logging.ERROR)
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule


def seen_by(observation: dict[str, Any]) -> dict[str, Any]:
    """Return an observation under the names and types of RLlib's module for masked actions."""
    return {"observations": observation["observation"], "action_mask": observation["action_mask"].astype(np.float32)}


class Agents(MultiAgentEnv):
    """Only agents that decide get an observation, so RLlib asks only them for an action.

    RLlib adds up an agent's rewards until its next observation. The agents end together, with the last of them: RLlib
    ends an episode when all agents that it has seen so far have ended, though others have yet to depart.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.routing = relid_sumo.parallel_env(config["scenario"])
        self.agents = self.possible_agents = self.routing.possible_agents
        given: Any = self.routing.observation_space(self.agents[0])
        slots = self.routing.action_space(self.agents[0])
        mask = gymnasium.spaces.Box(0.0, 1.0, (int(slots.n),), np.float32)
        space = gymnasium.spaces.Dict({"observations": given["observation"], "action_mask": mask})
        self.observation_spaces = dict.fromkeys(self.agents, space)
        self.action_spaces = dict.fromkeys(self.agents, slots)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        seen, infos = self.routing.reset(seed, options)
        return {name: seen_by(seen[name]) for name in seen if infos[name]["decides"]}, {}

    def step(self, action_dict: dict[str, int]) -> Any:
        """Answer the open decisions and continue to the next; rewards in 100 s."""
        seen, rewards, _, _, infos = self.routing.step(action_dict)
        deciding = {name: seen_by(seen[name]) for name in seen if infos[name]["decides"]}
        ended = {"__all__": not self.routing.agents}
        return deciding, {name: reward / 100 for name, reward in rewards.items()}, ended, {"__all__": False}, {}

    def close(self) -> None:
        """End the simulation."""
        self.routing.close()


def report(when: str, scenario: relid_sumo.Scenario, module: Any) -> None:
    """Drive the greedy policy in two seeds of validation traffic and print what it reaches."""

    def choose(agent: str, observation: dict[str, Any]) -> int:
        batch = {key: torch.as_tensor(value)[None] for key, value in seen_by(observation).items()}
        return int(module.forward_inference({"obs": batch})["action_dist_inputs"].argmax())

    env = relid_sumo.parallel_env(scenario, traffic="validation")
    for seed in scenario.seeds.validation[:2]:
        driven = relid_sumo.collect_episode(env, choose, traffic_seed=seed)
        found = f"mean return {driven.mean_return_s:.1f} s, arrival rate {driven.arrival_rate:.2f}"
        print(f"{when}, traffic {seed}: {found}")
    env.close()


def main() -> None:
    """Train in the town's mesoscopic simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = parser.parse_args()
    scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    learning = {"lr": 3e-3, "num_epochs": 10, "minibatch_size": 250, "entropy_coeff": 0.01}
    config = (
        PPOConfig()
        .environment(Agents, env_config={"scenario": scenario}, disable_env_checking=True)  # which ignores masks
        .env_runners(num_env_runners=0, batch_mode="complete_episodes")
        .multi_agent(policies={"shared"}, policy_mapping_fn=lambda agent, episode, **_: "shared")
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .training(gamma=1.0, lambda_=0.95, train_batch_size_per_learner=500, **learning)
        .debugging(seed=given.seed)
    )
    algo = config.build_algo()
    report("before", scenario, algo.get_module("shared"))
    for _ in range(given.updates):
        algo.train()
    report("after", scenario, algo.get_module("shared"))
    algo.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
