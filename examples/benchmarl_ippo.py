"""Train BenchMARL's IPPO, with one policy for all agents.

python3.11 -m venv benchmarl && benchmarl/bin/pip install "relid_sumo[benchmarl]"
benchmarl/bin/python examples/benchmarl_ippo.py --updates 20

An environment of its own, because BenchMARL 1.5 works with TorchRL 0.10 and 0.11 and not with that of the other extras.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from typing import Any

import torch

import relid_sumo

try:
    relid_sumo.require_extra("benchmarl")
except relid_sumo.InputError as error:
    sys.exit(str(error))
from benchmarl.algorithms import IppoConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from tensordict.nn import InteractionType, set_interaction_type
from torchrl.envs import EnvBase, PettingZooWrapper, RewardScaling, Transform

warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested using")
warnings.filterwarnings("ignore", message="SyncDataCollector has been deprecated")
REWARD, ARRIVED = ("next", "agents", "reward"), ("next", "agents", "info", "arrived")


def wrapped(scenario: relid_sumo.Scenario, traffic: Any = "training", **settings: Any) -> EnvBase:
    """Return the lockstep environment with all agents in one group; it is over when the last agent has ended."""
    env = relid_sumo.lockstep_env(scenario, traffic=traffic)
    group = {"agents": env.possible_agents}
    return PettingZooWrapper(env, group_map=group, categorical_actions=True, done_on_any=False, **settings)


class Routing(PettingZooClass):
    """The lockstep environment as a task of BenchMARL."""

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Any:
        """Return what makes the environment."""
        return lambda: wrapped(self.config["scenario"], seed=seed, device=device)

    def get_env_transforms(self, env: EnvBase) -> list[Transform]:
        """Return what scales rewards to 100 s."""
        return [RewardScaling(loc=0.0, scale=0.01, in_keys=[("agents", "reward")])]

    def supports_discrete_actions(self) -> bool:
        """Return that an action is a slot."""
        return True

    def has_render(self, env: EnvBase) -> bool:
        """Return that there are no pictures."""
        return False

    def max_steps(self, env: EnvBase) -> int:
        """Return more moments than an episode has."""
        return 10_000


def report(when: str, env: EnvBase, policy: Any) -> None:
    """Drive the greedy policy in two episodes of validation traffic and print what it reaches."""
    env.set_seed(1)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        driven = [env.rollout(10_000, policy) for _ in range(2)]
    for one in driven:
        earned, arrived = one[REWARD].sum(0).mean(), one[ARRIVED][-1].mean()
        print(f"{when}: mean return {earned:.1f} s, arrival rate {arrived:.2f}")


def main() -> None:
    """Train in the town's mesoscopic simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
    algorithm, config = IppoConfig.get_from_yaml(), ExperimentConfig.get_from_yaml()
    algorithm.lmbda, config.gamma = 1.0, 1.0
    algorithm.entropy_coef, config.lr, config.prefer_continuous_actions = 0.01, 3e-3, False
    config.on_policy_collected_frames_per_batch, config.on_policy_n_envs_per_worker = 1000, 1
    config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 10, 250
    config.max_n_frames, config.max_n_iters = None, given.updates
    config.evaluation, config.loggers, config.create_json = False, [], False
    model = MlpConfig(num_cells=[64, 64], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    held_out = wrapped(scenario, "validation")
    with tempfile.TemporaryDirectory() as folder:
        config.save_folder = folder
        experiment = Experiment(Routing("town", {"scenario": scenario}), algorithm, model, given.seed, config)
        report("before", held_out, experiment.policy)
        experiment.run()
    report("after", held_out, experiment.policy)
    held_out.close()


if __name__ == "__main__":
    main()
