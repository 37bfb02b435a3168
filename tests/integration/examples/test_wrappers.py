"""The examples for learning libraries, run as a user runs them; and that each library learns from the right rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import relid_sumo

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
BUDGETS = {
    "sb3_maskable_ppo": ("sb3", "--decisions", "300"),
    "rllib_ppo": ("rllib", "--updates", "1"),
    "torchrl_ppo": ("torchrl", "--updates", "1"),
    "benchmarl_ippo": ("benchmarl", "--updates", "1"),
}


def run(*command: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of the folder `before` ahead of those installed."""
    path = os.pathsep.join(filter(None, [str(before) if before else "", str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )


def needs(extra: str) -> None:
    """Skip what needs a library that is not installed; those of the extra `test` have to be there on CI."""
    try:
        relid_sumo.require_extra(extra)
    except relid_sumo.InputError as error:
        if os.environ.get("CI") == "true" and extra in {"sb3", "rllib"}:
            raise
        pytest.skip(str(error))


@pytest.mark.sumo
@pytest.mark.slow
@pytest.mark.parametrize("name", BUDGETS)
def test_an_example_trains_and_reports_before_and_after(name: str) -> None:
    extra, *budget = BUDGETS[name]
    needs(extra)
    done = run(str(EXAMPLES / f"{name}.py"), *budget)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(before|after).*: mean return -\d+\.\d s, arrival rate [01]\.\d\d$", done.stdout, re.MULTILINE)
    assert told == ["before", "before", "after", "after"], done.stdout  # libraries may log between them


@pytest.mark.parametrize("name", BUDGETS)
def test_a_wrong_library_version_is_one_line(name: str, tmp_path: Path) -> None:
    packages = {"sb3": "sb3_contrib", "rllib": "ray", "torchrl": "torchrl", "benchmarl": "benchmarl"}
    extra = BUDGETS[name][0]
    folder = tmp_path / f"{packages[extra]}-0.0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {packages[extra]}\nVersion: 0.0.1\n")
    done = run(str(EXAMPLES / f"{name}.py"), before=tmp_path)
    fix = rf'install it with: pip install "relid_sumo\[{extra}\]"'
    assert done.returncode == 1
    assert re.fullmatch(rf"[\w-]+ 0\.0\.1 is installed, but relid_sumo needs .*; {fix}\n", done.stderr), done.stderr


def test_benchmarl_cannot_share_an_environment_with_the_extra_torchrl() -> None:
    needs("torchrl")
    assert version("torchrl") == "0.14.1"
    done = run(str(EXAMPLES / "benchmarl_ippo.py"))
    assert done.returncode == 1
    assert re.fullmatch(r'.*; install it with: pip install "relid_sumo\[benchmarl\]"\n', done.stderr)


@pytest.mark.sumo
def test_the_page_s_program_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "wrappers.md").read_text(), re.DOTALL)
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10


# --- the rows that each library learns from ---------------------------------------------------------------------------

SB3 = """
import sys; sys.path.insert(0, "examples")
import tempfile, numpy as np, relid_sumo, sb3_maskable_ppo as example
collected, collect = [], relid_sumo.collect_episode
relid_sumo.collect_episode = lambda *of: collected.append(collect(*of)) or collected[-1]
env = relid_sumo.parallel_env(relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"}))
model = example.SharedPPO("MlpPolicy", example.Agents(env), n_steps=300, gamma=1.0, gae_lambda=1.0, seed=0)
model.learn(1)
env.close()
agents = [one for episode in collected for one in episode.agents.values()]
returns = np.concatenate([np.cumsum(one.reward[::-1])[::-1] for one in agents]) / 100
assert len(agents) == 20 and len(returns) > 300
buffer = model.rollout_buffer
np.testing.assert_array_equal(buffer.actions[:, 0], np.concatenate([one.action for one in agents]))
np.testing.assert_array_equal(buffer.action_masks, np.concatenate([one.action_mask for one in agents]))
np.testing.assert_allclose(buffer.returns[:, 0], returns, rtol=1e-4, atol=1e-4)
with tempfile.TemporaryDirectory() as folder:
    model.save(folder + "/model")
    again = example.SharedPPO.load(folder + "/model", device="cpu")
one = agents[0]
seen = {"observation": one.observation, "action_masks": one.action_mask, "deterministic": True}
np.testing.assert_array_equal(model.predict(**seen)[0], again.predict(**seen)[0])
print("same rows")
"""

RLLIB = """
import sys; sys.path.insert(0, "examples")
import numpy as np, relid_sumo, rllib_ppo as example
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
env = example.Agents({"scenario": scenario})
leftmost = lambda mask: int(np.argmax(mask))
seen, infos = env.reset(options={"traffic_seed": 3})
episode = MultiAgentEpisode(observation_space=env.observation_spaces, action_space=env.action_spaces,
                            agent_to_module_mapping_fn=lambda *_: "shared")
episode.add_env_reset(observations=seen, infos=infos)
while not episode.is_done:
    actions = {name: leftmost(one["action_mask"]) for name, one in seen.items()}
    seen, rewards, ended, cut, infos = env.step(actions)
    episode.add_env_step(seen, actions, rewards, infos, terminateds=ended, truncateds=cut)
env.close()
own = relid_sumo.parallel_env(scenario)
expected = relid_sumo.collect_episode(own, lambda name, one: leftmost(one["action_mask"]), traffic_seed=3)
own.close()
assert len(episode.agent_episodes) == 10
for name, one in episode.agent_episodes.items():
    rows = expected.agents[name]
    np.testing.assert_array_equal([seen["observations"] for seen in one.get_observations()][:-1], rows.observation)
    np.testing.assert_array_equal([seen["action_mask"] for seen in one.get_observations()][:-1], rows.action_mask)
    np.testing.assert_array_equal(one.get_actions(), rows.action)
    np.testing.assert_allclose(one.get_rewards(), rows.reward / 100, rtol=1e-4)
    assert one.is_terminated and not one.is_truncated
print("same rows")
"""

TORCHRL = """
import sys; sys.path.insert(0, "examples")
import numpy as np, relid_sumo, torch, torchrl_ppo as example
scenario = relid_sumo.load_scenario("town").model_copy(update={"simulator": "meso"})
env = example.wrapped(scenario, "training")
size, slots = env.observation_spec[example.SEEN].shape[-1], env.full_action_spec[example.ACTION].space.n
actor, critic = example.networks(size, slots)
with torch.no_grad():
    episode = env.rollout(10_000, actor)
rows = example.decisions(episode, critic)
taken = {name: episode[example.ACTION][:, i][episode[example.MASK][:, i].sum(-1) >= 2].tolist()[::-1]
         for i, name in enumerate(env.possible_agents)}
own, theirs = relid_sumo.parallel_env(scenario), env._env.routing
expected = relid_sumo.collect_episode(own, lambda name, one: taken[name].pop(), traffic_seed=theirs.traffic_seed)
assert own.digest == theirs.digest
own.close()
env.close()
agents = expected.agents.values()
assert len(rows) == sum(len(one.action) for one in agents)
both = np.concatenate([np.c_[one.observation, one.action, np.cumsum(one.reward[::-1])[::-1] / 100] for one in agents])
got = np.c_[rows[example.SEEN].numpy(), rows[example.ACTION].numpy(), rows["value_target"].numpy()]
order = lambda rows: rows[np.lexsort(np.round(rows, 3).T)]
np.testing.assert_allclose(order(got), order(both), rtol=1e-3, atol=1e-3)
idle = episode[example.MASK].sum(-1) == 1
assert idle.sum() > 5 * len(rows) and (episode[example.LOG_PROB][idle] == 0).all()
print("same rows")
"""


@pytest.mark.sumo
@pytest.mark.slow
@pytest.mark.parametrize(("extra", "script"), [("sb3", SB3), ("rllib", RLLIB), ("torchrl", TORCHRL)])
def test_a_library_learns_from_the_decisions_and_from_nothing_else(extra: str, script: str) -> None:
    needs(extra)
    done = run("-c", f"import os; os.chdir({str(ROOT)!r})\n{script}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same rows\n"
