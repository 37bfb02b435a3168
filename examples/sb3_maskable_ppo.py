"""Train MaskablePPO of sb3-contrib (Stable-Baselines3), with one policy for all agents.

pip install "relid_sumo[sb3]"
python examples/sb3_maskable_ppo.py --decisions 10000
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gymnasium
import numpy as np
import torch

import relid_sumo

try:
    relid_sumo.require_extra("sb3")
except relid_sumo.InputError as error:
    sys.exit(str(error))
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer


class Agents(gymnasium.Env[Any, Any]):
    """Gives Stable-Baselines3 the spaces; `SharedPPO` drives the episodes of `routing`."""

    def __init__(self, routing: Any) -> None:
        self.routing = routing
        self.observation_space = routing.observation_space(routing.possible_agents[0])["observation"]
        self.action_space = routing.action_space(routing.possible_agents[0])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Seed the draws of traffic."""
        seen, _ = self.routing.reset(seed, options)
        return seen[self.routing.possible_agents[0]]["observation"], {}


class SharedPPO(MaskablePPO):
    """MaskablePPO that learns from whole episodes: one row per decision, one agent after another."""

    def choose(self, agent: str, seen: dict[str, Any], greedy: bool = False) -> int:
        """Return an open slot; the same policy for every agent."""
        return int(self.predict(seen["observation"], action_masks=seen["action_mask"], deterministic=greedy)[0])

    def collect_rollouts(self, env: Any, callback: Any, rollout_buffer: Any, n_rollout_steps: int, *_: Any) -> bool:
        """Drive episodes until they have enough decisions, and fill a buffer with those; rewards in 100 s."""
        callback.on_rollout_start()
        self.policy.set_training_mode(False)
        (routing,), sequences, rows = env.get_attr("routing"), [], 0
        while rows < n_rollout_steps:
            episode = relid_sumo.collect_episode(routing, self.choose)
            sequences += [one for one in episode.agents.values() if len(one.action)]
            rows = sum(len(one.action) for one in sequences)
        columns = ("observation", "action_mask", "action", "reward")
        seen, mask, action, reward = (np.concatenate([getattr(one, key) for one in sequences]) for key in columns)
        with torch.no_grad():
            values, log_probs, _ = self.policy.evaluate_actions(torch.as_tensor(seen), torch.as_tensor(action), mask)
        spaces = self.observation_space, self.action_space
        self.rollout_buffer = buffer = MaskableRolloutBuffer(rows, *spaces, self.device, self.gae_lambda, self.gamma)
        buffer.observations[:, 0], buffer.action_masks[:, 0], buffer.actions[:, 0, 0] = seen, mask, action
        buffer.rewards[:, 0], buffer.values[:], buffer.log_probs[:, 0] = reward / 100, values, log_probs
        buffer.episode_starts[:, 0] = np.concatenate([np.arange(len(one.action)) == 0 for one in sequences])
        buffer.full = True
        buffer.compute_returns_and_advantage(last_values=torch.zeros(1), dones=np.ones(1))
        self.batch_size = -(-rows // 4)
        self.num_timesteps += rows
        callback.on_rollout_end()
        return True


def report(when: str, scenario: relid_sumo.Scenario, model: SharedPPO) -> None:
    """Drive the greedy policy in two seeds of validation traffic and print what it reaches."""
    env = relid_sumo.parallel_env(scenario, traffic="validation")
    for seed in scenario.seeds.validation[:2]:
        driven = relid_sumo.collect_episode(env, lambda agent, seen: model.choose(agent, seen, True), traffic_seed=seed)
        found = f"mean return {driven.mean_return_s:.1f} s, arrival rate {driven.arrival_rate:.2f}"
        print(f"{when}, traffic {seed}: {found}")
    env.close()


def main() -> None:
    """Train in the town's mesoscopic simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=10_000, help="to learn from (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
    env = relid_sumo.parallel_env(scenario)
    settings = {"n_steps": 500, "gamma": 1.0, "learning_rate": 3e-3, "ent_coef": 0.01, "seed": given.seed}
    model = SharedPPO("MlpPolicy", Agents(env), device="cpu", **settings)
    report("before", scenario, model)
    model.learn(given.decisions)
    report("after", scenario, model)
    env.close()


if __name__ == "__main__":
    main()
