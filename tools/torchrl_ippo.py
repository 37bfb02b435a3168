"""Compare the project's IPPO with TorchRL's PPO on the same scenario.

    pip install 'relid_sumo[torchrl]'
    python tools/torchrl_ippo.py town --episodes 200 --seed 0 --simulator meso --out town-0.json

The traffic comes from the PettingZoo environment, the learner from TorchRL: `ProbabilisticActor` over a masked
categorical, `GAE` and `ClipPPOLoss`, with one actor and one critic per agent and nothing shared. Budget, settings and
the order of training traffic are equal on both sides; draws and initial weights are not. Both policies are evaluated
greedily in the validation traffic, in the same environment.

Transitions come from `collect_episode`, one per decision of an agent. TorchRL's PettingZooWrapper and collectors would
take every moment for a step of every agent. In `town` an agent decides in 27 of 240 moments: the others would fill its
batch with forced actions, and GAE would apply lambda per moment instead of per decision of the agent
(docs/wrappers.md).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from relid_sumo.base import files, seeding
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.env.decisions import AgentDecisions, CollectedEpisode, collect_episode
from relid_sumo.env.pettingzoo import Observation, parallel_env
from relid_sumo.env.play import Job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.evaluation.trained import load_policy
from relid_sumo.learn.algos.ippo import RETURN_SCALE
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.learn.algos.settings import IppoSettings
from relid_sumo.learn.settings import TrainSettings, train_settings
from relid_sumo.learn.train import train
from relid_sumo.runs import layout
from relid_sumo.scenario.files import override
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.settings import Scenario, Simulator

try:
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, TensorDictModule, set_interaction_type
    from torchrl.modules import MLP, MaskedCategorical, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE
except ImportError as error:
    sys.exit(f"TorchRL cannot be imported ({error}); install it with: pip install 'relid_sumo[torchrl]'")

Net = Literal["mlp", "own"]
Choose = Callable[[str, Observation], int]
MEASURES = ("return_s", "travel_time_s", "arrival_rate")


def measured(episode: CollectedEpisode) -> dict[str, float]:
    """Return an episode's return [s], travel time [s] and share of arrivals, means over agents."""
    return dict(zip(MEASURES, (episode.mean_return_s, episode.mean_travel_time_s, episode.arrival_rate), strict=True))


def batch_of(episodes: Sequence[AgentDecisions]) -> TensorDict:
    """Return one agent's decisions in several episodes as a TorchRL batch, in order; rewards in units of 100 s."""

    def column(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(one, name) for one in episodes]))

    observation, reward = column("observation"), column("reward") / RETURN_SCALE
    count = len(reward)
    lengths = [len(one.action) for one in episodes]
    end = torch.zeros(count, 1, dtype=torch.bool)
    end[np.cumsum([length for length in lengths if length]) - 1] = True
    following = {
        "observation": observation.roll(-1, 0),  # GAE does not look past an end
        "reward": reward[:, None],
        "done": end,
        "terminated": end,
    }
    return TensorDict(
        {
            "observation": observation,
            "action_mask": column("action_mask"),
            "action": column("action"),
            "next": TensorDict(following, batch_size=count),
        },
        batch_size=count,
    )


class OwnNet(nn.Module):
    """The project's actor of one agent as a TorchRL network, from observations (..., width) to logits."""

    def __init__(self, m_out: int, settings: IppoSettings, seed: int) -> None:
        super().__init__()
        s = settings
        self.actor = Actor(1, m_out, hidden=s.hidden, scorer=s.scorer, octaves=s.octaves, seed=seed)

    def forward(self, observation: Tensor) -> Tensor:
        """Return log-probabilities without a mask, which are logits under any mask."""
        flat = observation.reshape(1, -1, observation.shape[-1])
        every = torch.ones(1, flat.shape[1], (flat.shape[2] - 2) // 2, dtype=torch.bool)
        return torch.as_tensor(self.actor(flat, every)).reshape(*observation.shape[:-1], -1)


class Learner:
    """One agent's actor, critic and PPO from TorchRL. `net` selects TorchRL's network or the project's."""

    def __init__(self, m_out: int, settings: IppoSettings, net: Net, seed: int) -> None:
        self.settings = s = settings
        width, hidden = 2 * m_out + 2, [settings.hidden, settings.hidden]
        torch.manual_seed(seed)
        self.critic_net = MLP(width, 1, num_cells=hidden, activation_class=nn.Tanh)
        self.net = (
            OwnNet(m_out, s, seed) if net == "own" else MLP(width, m_out, num_cells=hidden, activation_class=nn.Tanh)
        )
        self.actor = ProbabilisticActor(
            TensorDictModule(self.net, in_keys=["observation"], out_keys=["logits"]),
            in_keys={"logits": "logits", "mask": "action_mask"},
            distribution_class=MaskedCategorical,
        )
        critic = ValueOperator(self.critic_net, in_keys=["observation"])
        self.gae = GAE(gamma=1.0, lmbda=s.gae_lambda, value_network=critic)
        self.loss = ClipPPOLoss(
            self.actor,
            critic,
            clip_epsilon=s.clip,
            entropy_coeff=s.entropy,
            critic_coeff=0.5,
            loss_critic_type="l2",
            normalize_advantage=True,
        )
        self.optimiser = torch.optim.Adam(self.loss.parameters(), lr=s.learning_rate, eps=1e-5)

    def act(self, observation: Observation, how: InteractionType) -> int:
        """Return a slot: a draw, or the most probable one."""
        seen = {name: torch.from_numpy(observation[name]) for name in ("observation", "action_mask")}
        with torch.no_grad(), set_interaction_type(how):
            return int(self.actor(TensorDict(seen | {"action_mask": seen["action_mask"] > 0}))["action"])

    def learn(self, batch: TensorDict, progress: float) -> None:
        """Learn from a batch of the agent's decisions; `progress` is the finished share of the run."""
        s, left = self.settings, 1.0 - progress
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * (left if s.schedule == "linear" else 1.0)
        self.loss.entropy_coeff.fill_(s.entropy * left)
        with torch.no_grad():
            batch["action_log_prob"] = self.actor.get_dist(batch).log_prob(batch["action"])
            self.gae(batch)
        for _ in range(s.epochs):
            losses = self.loss(batch)
            self.optimiser.zero_grad()
            (losses["loss_objective"] + losses["loss_entropy"] + losses["loss_critic"]).backward()
            nn.utils.clip_grad_norm_(self.loss.parameters(), s.max_grad_norm)
            self.optimiser.step()


def train_torchrl(scenario: Scenario, settings: TrainSettings, net: Net) -> tuple[list[float], Choose]:
    """Train with TorchRL; return the mean sampled return of each update [s], and the greedy policy."""
    env, seeds = parallel_env(scenario), scenario.seeds.training
    curve: list[float] = []

    def sample(name: str, seen: Observation) -> int:
        return of[name].act(seen, InteractionType.RANDOM)

    of = {
        name: Learner(env.task.graph.m_out, settings.ippo, net, seeding.derive(settings.seed, "torchrl", i))
        for i, name in enumerate(env.possible_agents)
    }
    torch.manual_seed(seeding.derive(settings.seed, "torchrl", "draws"))
    for first in range(0, settings.episodes, settings.episodes_per_update):
        episodes = []
        for number in range(first, min(first + settings.episodes_per_update, settings.episodes)):
            turn, place = divmod(number, len(seeds))  # each seed once per pass, in the order of learn.train
            traffic = int(seeding.stream(settings.seed, "traffic order", turn).permutation(seeds)[place])
            episodes.append(collect_episode(env, sample, traffic_seed=traffic))
        for name, learner in of.items():
            if any(len(episode.agents[name].action) for episode in episodes):
                learner.learn(batch_of([episode.agents[name] for episode in episodes]), first / settings.episodes)
        curve.append(float(np.mean([episode.mean_return_s for episode in episodes])))
    env.close()
    return curve, lambda name, seen: of[name].act(seen, InteractionType.MODE)


def train_own(scenario: Scenario, settings: TrainSettings) -> tuple[list[float], Choose]:
    """Train with the project's IPPO; return the same."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(prepare(scenario, simulators=(scenario.simulator,)), run, settings, workers=1)
        return files.read_columns(run / layout.METRICS)["mean_return"], load_policy(run, greedy=True)


def validate(scenario: Scenario, policies: dict[str, Choose]) -> dict[str, dict[str, list[float]]]:
    """Evaluate policies and `shortest` in the validation traffic; return means over agents, one per traffic seed."""
    seeds = scenario.seeds.validation
    env = parallel_env(scenario, traffic="validation")
    driven = {
        name: [measured(collect_episode(env, choose, traffic_seed=seed)) for seed in seeds]
        for name, choose in policies.items()
    }
    env.close()
    ready = prepare(scenario, simulators=(scenario.simulator,))
    with Rollouts(ready.task, workers=1) as rollouts:
        jobs = [Job(seed, ready.options(seed, scenario.simulator), Policy("shortest")) for seed in seeds]
        driven["shortest"] = [
            dict(zip(MEASURES, (one.returns.mean(), one.travel_time.mean(), one.arrival_rate), strict=True))
            for one in rollouts.run(jobs)
        ]
    return {name: {key: [float(one[key]) for one in drives] for key in MEASURES} for name, drives in driven.items()}


def show(result: dict[str, Any]) -> None:
    """Print both learning curves at up to ten updates, and both evaluations."""
    curves = result["curves"]
    print(f"{'update':>10}" + "".join(f"{name:>14}" for name in curves) + "   mean sampled return, s")
    count = min(map(len, curves.values()))
    for k in sorted({round(k) for k in np.linspace(0, count - 1, 10)}):
        print(f"{k + 1:>10}" + "".join(f"{curve[k]:>14.1f}" for curve in curves.values()))
    for simulator, found in result["validation"].items():
        print(f"\nvalidation traffic, {simulator}: return, s; travel time, s; arrived (greedy, means over seeds)")
        for name, values in found.items():
            print(f"{name:>14}" + "".join(f"{np.mean(values[key]):>10.2f}" for key in MEASURES))


def compare(scenario: Scenario, settings: TrainSettings, net: Net) -> dict[str, Any]:
    """Train with both and evaluate both policies, in the simulator of the training and in the microscopic one."""
    start = time.perf_counter()
    theirs, their_policy = train_torchrl(scenario, settings, net)
    between = time.perf_counter()
    ours, our_policy = train_own(scenario, settings)
    done = time.perf_counter()
    policies = {"torchrl": their_policy, "relid_sumo": our_policy}
    return {
        "scenario": scenario.name,
        "simulator": scenario.simulator,
        "net": net,
        "settings": settings.model_dump(mode="json", include={"seed", "episodes", "episodes_per_update", "ippo"}),
        "seconds": {"torchrl": round(between - start, 1), "relid_sumo": round(done - between, 1)},
        "curves": {"torchrl": theirs, "relid_sumo": ours},
        "validation": {
            simulator: validate(override(scenario, [f"simulator={simulator}"]), policies)
            for simulator in dict.fromkeys((scenario.simulator, "micro"))
        },
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", help="scenario's name or folder, or an OSM file")
    parser.add_argument(
        "--episodes", type=int, default=200, help="training episodes of each side (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="training seed (default: %(default)s)")
    parser.add_argument(
        "--simulator", choices=get_args(Simulator), default="meso", help="simulator (default: %(default)s)"
    )
    parser.add_argument(
        "--net",
        choices=get_args(Net),
        default="mlp",
        help="TorchRL's actor: its MLP or our network (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        scenario = override(load_scenario(given.scenario), [f"simulator={given.simulator}"])
        settings = train_settings({"algo": "ippo", "seed": given.seed, "episodes": given.episodes}, source="arguments")
        result = compare(scenario, settings, given.net)
    except RelidSumoError as error:
        parser.error(str(error))
    files.write_json(given.out, result)
    show(result)


if __name__ == "__main__":
    main()
