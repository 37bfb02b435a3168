"""Train IQL, VDN and QMIX with TorchRL on a scenario, with the budget of IPPO and MAPPO.

    pip install 'relid_sumo[torchrl]'
    python tools/torchrl_values.py town --algorithms iql,vdn,qmix,ippo,mappo --episodes 300 --out values.json

The traffic comes from the PettingZoo environment; networks, replay buffer, losses and mixers come from TorchRL
(`DQNLoss`, `QMixerLoss`, `VDNMixer`, `QMixer`). Each agent has a network of its own. Masked slots are never chosen, and
never the best ones of a target. Budget and order of the training traffic are those of `relid-sumo train`.

Agents decide asynchronously. IQL learns from each agent's own decisions: a transition leads from a decision to the same
agent's next one, with all rewards between. VDN and QMIX need joint transitions. They lead from a moment in which some
agents decide to the next such moment, by the rule of Xiao et al. 2019 (arXiv 2004.08646) for macro-actions:

- An agent between two decisions contributes the value of its last one, with its observation and action at that time.
  In the target its only open slot is that action, so that the maximum is over the agents that decide.
- The rewards of an agent since its decision are paid in the transition in which it decides again or ends.
- An agent joins with its first decision: a transition counts the agents that had decided by its beginning. An agent
  that has ended contributes 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torchrl_ippo import Choose, show, train_own, validate

from relid_sumo.base import files, seeding
from relid_sumo.base.arrays import Bools, Float32s
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.base.progress import counting
from relid_sumo.env.pettingzoo import Observation, RoutingEnv, parallel_env
from relid_sumo.learn.algos.ippo import RETURN_SCALE
from relid_sumo.learn.settings import train_settings
from relid_sumo.scenario.files import override
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.settings import Scenario, Simulator

try:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule, TensorDictSequential
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.modules import MultiAgentMLP, QMixer, QValueModule, VDNMixer
    from torchrl.objectives import DQNLoss, QMixerLoss, SoftUpdate, ValueEstimators
except ImportError as error:
    sys.exit(f"TorchRL cannot be imported ({error}); install it with: pip install 'relid_sumo[torchrl]'")

VALUES = ("iql", "vdn", "qmix")
OWN = ("ippo", "mappo")
ACTION, VALUE, CHOSEN = ("agents", "action"), ("agents", "action_value"), ("agents", "chosen_action_value")


@dataclass(frozen=True)
class ValueSettings:
    """Settings of the three learners."""

    learning_rate: float = 1e-3
    hidden: int = 64
    mixing: int = 32
    """Width of QMIX's mixing network."""
    batch: int = 128
    steps: int = 64
    """Gradient steps after each update's episodes."""
    tau: float = 0.01
    """Share by which the target networks follow in each step."""
    memory: int = 50_000
    """Transitions that the replay buffer contains."""
    epsilon: tuple[float, float] = (1.0, 0.05)
    """Share of random choices at the start, and from half of the budget on; linear between them."""
    max_grad_norm: float = 10.0


@dataclass(frozen=True, eq=False)
class Moment:
    """What N agents contribute: last observation (N, width), open slots (N, m_out), and whether they count (N,)."""

    observation: Float32s
    mask: Bools
    alive: Bools

    def tensors(self) -> TensorDict:
        """Return the moment as TorchRL reads it, with QMIX's state: all observations, and which agents count."""
        alive = self.alive.astype(np.float32)
        seen = self.observation * alive[:, None]
        agents = {
            "observation": torch.from_numpy(self.observation.copy()),
            "action_mask": torch.from_numpy(self.mask.copy()),
            "alive": torch.from_numpy(alive)[:, None],
        }
        state = torch.from_numpy(np.concatenate([seen.ravel(), alive]).astype(np.float32))
        return TensorDict({"agents": TensorDict(agents, batch_size=len(alive)), "state": state}, batch_size=[])


class Recorder:
    """Turns the steps of an episode into joint transitions, by the rule in the module's docstring.

    Parameters
    ----------
    agents, width, slots
        Number of agents, width of an observation, number of slots.
    """

    def __init__(self, agents: int, width: int, slots: int) -> None:
        self._observation = np.zeros((agents, width), dtype=np.float32)
        self._mask = np.zeros((agents, slots), dtype=bool)
        self._mask[:, 0] = True
        self._action = np.zeros(agents, dtype=np.int64)
        self._alive = np.zeros(agents, dtype=bool)
        self._owed = np.zeros(agents)
        self.rows: list[TensorDict] = []

    def decide(self, agent: int, observation: Float32s, mask: Bools, action: int) -> None:
        """Note a decision of the present moment."""
        self._observation[agent], self._mask[agent] = observation, mask
        self._action[agent], self._alive[agent] = action, True

    def step(self, rewards: dict[int, float], ended: set[int], following: dict[int, tuple[Float32s, Bools]]) -> None:
        """Add the transition to the next moment.

        Parameters
        ----------
        rewards
            Reward of each agent in this step, s.
        ended
            Agents whose trips ended.
        following
            Observation and open slots of the agents that decide next.
        """
        now = Moment(self._observation.copy(), self._mask.copy(), self._alive.copy())
        action = torch.from_numpy(self._action.copy())
        paid, ends = np.zeros(len(self._owed), dtype=np.float32), np.zeros(len(self._owed), dtype=bool)
        for agent, reward in rewards.items():
            self._owed[agent] += (
                reward if self._alive[agent] else 0.0
            )  # no decision changes what comes before the first
            if self._alive[agent] and (agent in ended or agent in following):
                paid[agent], ends[agent], self._owed[agent] = self._owed[agent] / RETURN_SCALE, True, 0.0
        for agent in ended:
            self._alive[agent] = False
        self._mask = np.eye(self._mask.shape[1], dtype=bool)[self._action]
        after = Moment(self._observation.copy(), self._mask.copy(), self._alive.copy())
        for agent, (observation, mask) in following.items():
            if self._alive[agent]:
                after.observation[agent], after.mask[agent] = observation, mask
        end = torch.tensor([not after.alive.any()])
        row = now.tensors()
        row["agents", "action"] = action
        row["agents", "paid"], row["agents", "ends"] = torch.from_numpy(paid)[:, None], torch.from_numpy(ends)[:, None]
        row["next"] = after.tensors()
        row["next", "reward"] = row["agents", "paid"].sum(0)
        row["next", "done"], row["next", "terminated"] = end, end.clone()
        if now.alive.any():
            self.rows.append(row)


class AgentValues(nn.Module):
    """Action values of every agent from its own network; 0 for agents that do not count."""

    def __init__(self, agents: int, width: int, slots: int, hidden: int) -> None:
        super().__init__()
        self.net = MultiAgentMLP(
            width,
            slots,
            agents,
            centralized=False,
            share_params=False,
            depth=2,
            num_cells=hidden,
            activation_class=nn.ReLU,
        )

    def forward(self, observation: Tensor, alive: Tensor) -> Tensor:
        """Return values (..., agents, slots) of observations (..., agents, width)."""
        return torch.as_tensor(self.net(observation)) * alive


class ValueLearner:
    """IQL, VDN or QMIX of TorchRL for N agents."""

    def __init__(self, kind: str, agents: int, width: int, slots: int, settings: ValueSettings, seed: int) -> None:
        torch.manual_seed(seed)
        self.kind, self.agents, self.settings = kind, agents, settings
        self.net = AgentValues(agents, width, slots, settings.hidden)
        values = TensorDictModule(self.net, in_keys=[("agents", "observation"), ("agents", "alive")], out_keys=[VALUE])
        choice = QValueModule(
            action_space="categorical",
            action_value_key=VALUE,
            action_mask_key=("agents", "action_mask"),
            out_keys=[ACTION, VALUE, CHOSEN],
        )
        local = TensorDictSequential(values, choice)
        if kind == "iql":
            self.loss = DQNLoss(local, delay_value=True, action_space="categorical")
            self.loss.set_keys(
                action=ACTION,
                action_value=VALUE,
                value=CHOSEN,
                reward=("agents", "reward"),
                done=("agents", "done"),
                terminated=("agents", "terminated"),
            )
        else:
            mixer = (
                VDNMixer(n_agents=agents, device="cpu")
                if kind == "vdn"
                else QMixer((agents * (width + 1),), settings.mixing, agents, "cpu")
            )
            keys = [CHOSEN] if kind == "vdn" else [CHOSEN, "state"]
            mixing = TensorDictModule(mixer, in_keys=keys, out_keys=["chosen_action_value"])
            self.loss = QMixerLoss(local, mixing, delay_value=True, action_space="categorical")
        self.loss.make_value_estimator(ValueEstimators.TD0, gamma=1.0)
        self._follow = SoftUpdate(self.loss, tau=settings.tau)
        self.optimiser = torch.optim.Adam(self.loss.parameters(), lr=settings.learning_rate)
        count = agents if kind == "iql" else 1
        self._memory = [
            TensorDictReplayBuffer(storage=LazyTensorStorage(settings.memory), batch_size=settings.batch)
            for _ in range(count)
        ]

    def values(self, agent: int, observation: Float32s) -> Float32s:
        """Return an agent's action values of an observation, shape (slots,)."""
        seen = torch.zeros(self.agents, len(observation))
        seen[agent] = torch.from_numpy(observation)
        with torch.no_grad():
            return np.asarray(self.net(seen, torch.ones(self.agents, 1))[agent].numpy())

    def greedy(self, agent: int, observation: Float32s, mask: Bools) -> int:
        """Return the best open slot."""
        return int(np.argmax(np.where(mask, self.values(agent, observation), -np.inf)))

    def remember(self, rows: Sequence[TensorDict]) -> None:
        """Add the joint transitions of an episode; for IQL those of each agent alone."""
        if self.kind != "iql":
            self._memory[0].extend(torch.stack(list(rows)))
            return
        for agent, own in enumerate(own_transitions(rows, self.agents)):
            if own:
                self._memory[agent].extend(torch.stack(own))

    def learn(self) -> None:
        """Take the gradient steps of an update."""
        for _ in range(self.settings.steps):
            loss = self.loss(self._sample())["loss"]
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.loss.parameters(), self.settings.max_grad_norm)
            self.optimiser.step()
            self._follow.step()

    def _sample(self) -> TensorDict:
        if self.kind != "iql":
            return self._memory[0].sample()
        empty = next(memory for memory in self._memory if len(memory)).sample().apply(torch.zeros_like)
        empty["next", "terminated"] = torch.ones_like(empty["next", "terminated"])
        parts = [memory.sample() if len(memory) else empty for memory in self._memory]
        names = list(empty.keys(include_nested=True, leaves_only=True))
        names = [name for name in names if name != "index"]
        rows = {name: torch.stack([part[name] for part in parts], dim=1) for name in names}
        batch = TensorDict({}, batch_size=[self.settings.batch])
        for name, value in rows.items():
            path = (name,) if isinstance(name, str) else name
            batch[("next", "agents", *path[1:]) if path[0] == "next" else ("agents", *path)] = value
        return batch


def own_transitions(rows: Sequence[TensorDict], agents: int) -> list[list[TensorDict]]:
    """Return each agent's transitions, from its decisions to its next ones; rewards in units of 100 s.

    A transition of an agent ends where its reward is paid, ``("agents", "paid")`` of a row.
    """
    found: list[list[TensorDict]] = [[] for _ in range(agents)]
    for row in rows:
        for agent in torch.nonzero(row["agents", "ends"][:, 0])[:, 0].tolist():
            seen, after = row["agents"][agent], row["next", "agents"][agent]
            end = after["alive"] == 0
            following = {
                "observation": after["observation"],
                "action_mask": after["action_mask"],
                "alive": torch.ones(1),
                "reward": seen["paid"],
                "done": end,
                "terminated": end.clone(),
            }
            content = {name: seen[name] for name in ("observation", "action_mask", "action")}
            content |= {"alive": torch.ones(1), "next": TensorDict(following, batch_size=[])}
            found[agent].append(TensorDict(content, batch_size=[]))
    return found


def episode(env: RoutingEnv, choose: Choose, traffic_seed: int) -> tuple[list[TensorDict], float]:
    """Run an episode; return its joint transitions, and the mean return of its agents, s."""
    seen, infos = env.reset(options={"traffic_seed": traffic_seed})
    index = {name: i for i, name in enumerate(env.task.names)}
    recorder = Recorder(len(index), env.task.observation_size, env.task.graph.m_out)
    total = 0.0
    while env.agents:
        actions = {name: choose(name, seen[name]) for name in env.agents if infos[name]["decides"]}
        for name, action in actions.items():
            recorder.decide(index[name], seen[name]["observation"], seen[name]["action_mask"] > 0, action)
        seen, rewards, ended, _, infos = env.step(actions)
        total += sum(rewards.values())
        following = {
            index[name]: (seen[name]["observation"], seen[name]["action_mask"] > 0)
            for name in env.agents
            if infos[name]["decides"]
        }
        paid = {index[name]: reward for name, reward in rewards.items()}
        recorder.step(paid, {index[name] for name, over in ended.items() if over}, following)
    return recorder.rows, total / len(index)


def train_values(
    scenario: Scenario, kind: str, episodes: int, per_update: int, seed: int, settings: ValueSettings
) -> tuple[list[float], Choose]:
    """Train a learner of TorchRL; return the mean return of each update's episodes [s], and the greedy policy."""
    env, seeds = parallel_env(scenario), scenario.seeds.training
    agents, width, slots = len(env.possible_agents), env.task.observation_size, env.task.graph.m_out
    learner = ValueLearner(kind, agents, width, slots, settings, seeding.derive(seed, "torchrl", kind) % 2**31)
    index = {name: i for i, name in enumerate(env.possible_agents)}
    curve: list[float] = []
    with counting(f"{kind} episode", episodes) as tick:
        for first in range(0, episodes, per_update):
            returns = []
            for number in range(first, min(first + per_update, episodes)):
                turn, place = divmod(number, len(seeds))  # each seed once per pass, in the order of learn.train
                traffic = int(seeding.stream(seed, "traffic order", turn).permutation(seeds)[place])
                high, low = settings.epsilon
                share = max(low, high - (high - low) * 2 * number / episodes)
                draws = seeding.stream(seed, "epsilon", number)

                def choose(
                    name: str, seen: Observation, share: float = share, draws: np.random.Generator = draws
                ) -> int:
                    mask = seen["action_mask"] > 0
                    if draws.random() < share:
                        return int(draws.choice(np.flatnonzero(mask)))
                    return learner.greedy(index[name], seen["observation"], mask)

                rows, mean_return = episode(env, choose, traffic)
                learner.remember(rows)
                returns.append(mean_return)
                tick(number)
            learner.learn()
            curve.append(float(np.mean(returns)))
    env.close()
    return curve, lambda name, seen: learner.greedy(index[name], seen["observation"], seen["action_mask"] > 0)


def run(scenario: Scenario, kinds: Sequence[str], episodes: int, seed: int) -> dict[str, Any]:
    """Train each algorithm and evaluate its greedy policy, in the simulator of the training and microscopically."""
    curves: dict[str, list[float]] = {}
    policies: dict[str, Choose] = {}
    seconds: dict[str, float] = {}
    for kind in kinds:
        start = time.perf_counter()
        own = train_settings(
            {"algo": kind if kind in OWN else "ippo", "seed": seed, "episodes": episodes}, source="arguments"
        )
        curves[kind], policies[kind] = (
            train_own(scenario, own)
            if kind in OWN
            else train_values(scenario, kind, episodes, own.episodes_per_update, seed, ValueSettings())
        )
        seconds[kind] = round(time.perf_counter() - start, 1)
        print(f"{kind}: {seconds[kind]:.0f} s, last ten updates {np.mean(curves[kind][-10:]):.1f} s", flush=True)
    return {
        "scenario": scenario.name,
        "simulator": scenario.simulator,
        "episodes": episodes,
        "seed": seed,
        "seconds": seconds,
        "curves": curves,
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
        "--algorithms", default=",".join(VALUES), help=f"some of {', '.join((*VALUES, *OWN))} (default: %(default)s)"
    )
    parser.add_argument("--episodes", type=int, default=300, help="training episodes of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="training seed (default: %(default)s)")
    parser.add_argument(
        "--simulator", choices=get_args(Simulator), default="meso", help="simulator (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    kinds = given.algorithms.split(",")
    if unknown := [kind for kind in kinds if kind not in (*VALUES, *OWN)]:
        parser.error(f"there is no algorithm '{unknown[0]}'; known are {', '.join((*VALUES, *OWN))}")
    torch.set_num_threads(1)
    try:
        scenario = override(load_scenario(given.scenario), [f"simulator={given.simulator}"])
        if scenario.fleet is not None:
            parser.error(f"{given.scenario} has a fleet; the networks are of a fixed number of agents with trips")
        result = run(scenario, kinds, given.episodes, given.seed)
    except RelidSumoError as error:
        parser.error(str(error))
    files.write_json(given.out, result)
    show(result)


if __name__ == "__main__":
    main()
