"""The environment in other people's programs: threads, event loops, forks, pools, copies, interrupts."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.lockstep import LockstepEnv
from relid_sumo.env.pettingzoo import RoutingEnv
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.prepare import PreparedScenario

pytestmark = pytest.mark.sumo

Descendants = Callable[[], dict[int, str]]


@pytest.fixture
def make(town_ready: PreparedScenario) -> Iterator[Callable[..., RoutingEnv]]:
    """Return a function that makes an environment of the small town, closed after the test."""
    made = []

    def one(**settings: Any) -> RoutingEnv:  # noqa: ANN401 - as RoutingEnv
        made.append(RoutingEnv(town_ready.task, town_ready.options, town_ready.scenario.seeds.training, **settings))
        return made[-1]

    yield one
    for env in made:
        env.close()


def leftmost(seen: dict[str, Any], infos: dict[str, Any]) -> dict[str, Any]:
    return {name: int(np.argmax(seen[name]["action_mask"])) for name, info in infos.items() if info["decides"]}


def begin(env: RoutingEnv, traffic_seed: int = 0) -> dict[str, Any]:
    """Reset, and return the actions of the first step."""
    return leftmost(*env.reset(options={"traffic_seed": traffic_seed}))


def finish(env: RoutingEnv, actions: dict[str, Any]) -> str | None:
    while env.agents:
        seen, _, _, _, infos = env.step(actions)
        actions = leftmost(seen, infos)
    return env.digest


@pytest.fixture(scope="module")
def expected(town_ready: PreparedScenario) -> str:
    """Return the digest of the episode of traffic seed 0."""
    env = RoutingEnv(town_ready.task, town_ready.options, (0,))
    digest = finish(env, begin(env))
    env.close()
    assert digest is not None
    return digest


# --- threads and event loops ------------------------------------------------------------------------------------------


def test_an_episode_outlives_the_thread_that_began_it(make: Callable[..., RoutingEnv], expected: str) -> None:
    env, actions = make(), {}
    thread = threading.Thread(target=lambda: actions.update(begin(env)))
    thread.start()
    thread.join()
    time.sleep(0.2)  # a signal at the end of the thread would have arrived by now
    assert finish(env, actions) == expected


def test_each_call_may_come_from_another_thread_of_an_event_loop(
    make: Callable[..., RoutingEnv], expected: str
) -> None:
    env = make()

    async def play() -> str | None:
        seen, infos = await asyncio.to_thread(env.reset, options={"traffic_seed": 0})
        while env.agents:
            seen, _, _, _, infos = await asyncio.to_thread(env.step, leftmost(seen, infos))
        return env.digest

    answers: list[str | None] = []
    kernel = threading.Thread(target=lambda: answers.append(asyncio.run(play())))  # as a notebook's kernel runs cells
    kernel.start()
    kernel.join()
    assert answers == [expected]


def test_environments_run_in_threads_at_the_same_time(make: Callable[..., RoutingEnv], expected: str) -> None:
    envs = [make(), make()]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda env: finish(env, begin(env)), envs)) == [expected, expected]


def test_two_threads_on_one_environment_are_refused(make: Callable[..., RoutingEnv], expected: str) -> None:
    env = make()
    actions = begin(env)
    with env._alone("step"):  # as while the other thread waits for SUMO
        for call in (lambda: env.step(actions), env.reset, lambda: env.branch([], None)):  # type: ignore[arg-type]
            with pytest.raises(InputError, match=r"another thread uses this environment"):
                call()
    assert finish(env, actions) == expected


def test_close_ends_the_call_of_another_thread(make: Callable[..., RoutingEnv], descendants: Descendants) -> None:
    env = make()
    actions = begin(env)
    for pid in descendants():
        os.kill(pid, signal.SIGSTOP)  # the step below waits for SUMO
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(env.step, actions)
        while not env._in_use.locked():
            time.sleep(0.01)
        env.close()
        with pytest.raises(SimulationError, match=r"closed by another call"):
            waiting.result(timeout=30)
    assert env.agents == []
    assert descendants() == {}
    assert begin(env)  # and it starts again


def test_a_stopped_simulation_counts_as_hanging(
    make: Callable[..., RoutingEnv], descendants: Descendants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relid_sumo.env.pettingzoo.SLACK_S", 0.5)
    env = make(limit_s=60.0)
    actions = begin(env)
    env._limit_s = 0.5  # after the warm-up, whose time depends on the machine
    os.kill(min(descendants()), signal.SIGSTOP)
    with pytest.raises(SimulationError, match=r"no answer in 1.5 s; call reset\(\)"):
        env.step(actions)
    assert descendants() == {}
    env._limit_s = 60.0
    assert begin(env) == actions


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda env: env, LockstepEnv], ids=["routing", "lockstep"])
def test_a_copy_has_its_own_simulation_and_leaves_the_original(
    make: Callable[..., RoutingEnv], expected: str, wrap: Callable[[RoutingEnv], Any]
) -> None:
    def pickled(env: Any) -> Any:  # noqa: ANN401 - an environment
        return pickle.loads(pickle.dumps(env))

    env = make()
    wrapped, actions = wrap(env), begin(env)
    for copied in (copy.copy, copy.deepcopy, pickled) if wrapped is env else (copy.deepcopy, pickled):
        with pytest.raises(InputError, match=r"cannot be copied or pickled in the middle of an episode"):
            copied(wrapped)
    assert finish(env, actions) == expected
    env.reset(seed=7)
    env.close()
    drawn = set()
    for copied in (copy.deepcopy, pickled):
        other = copied(wrapped)
        other.reset()
        inner = getattr(other, "routing", other)
        assert inner._child is not env._child
        drawn.add(inner.traffic_seed)
        other.close()
    env.reset()
    assert drawn == {env.traffic_seed}  # a copy draws the same traffic as the original


# --- arguments --------------------------------------------------------------------------------------------------------


def test_an_action_that_is_no_integer_changes_nothing(make: Callable[..., RoutingEnv], expected: str) -> None:
    env = make()
    actions = begin(env)
    name = next(iter(actions))
    wrong: list[Any] = [1.0, np.float32(0), True, np.True_, "0", None, [0], np.array([0, 1])]
    for bad in wrong:
        with pytest.raises(InputError, match=rf"agent '{name}': .* is not a slot; give an integer, one of \["):
            env.step({**actions, name: bad})
    for bad in wrong[:4]:
        with pytest.raises(InputError, match=rf"branch: agent '{name}': .* is not a slot; give an integer"):
            env.branch([{name: bad}], Policy("shortest"))
    with pytest.raises(InputError, match=r"there is no agent 'agnt'"):
        env.step({**actions, "agnt": 0})
    assert finish(env, actions) == expected


def test_integers_of_numpy_and_torch_are_actions(make: Callable[..., RoutingEnv], expected: str) -> None:
    torch = pytest.importorskip("torch")
    env, kinds = make(), [np.int64, np.uint8, np.array, torch.tensor]
    seen, infos = env.reset(options={"traffic_seed": np.int64(0)})
    for number in range(1000):
        chosen = {name: kinds[number % 4](slot) for name, slot in leftmost(seen, infos).items()}
        seen, _, _, _, infos = env.step(chosen)
        if not env.agents:
            break
    assert env.digest == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"trafic_seed": 1}}, r"no option 'trafic_seed' \(did you mean 'traffic_seed'\?\)"),
        ({"options": {"traffic_seed": 1.0}}, r"options\['traffic_seed'\] = 1.0 is not a seed"),
        ({"options": {"traffic_seed": True}}, r"= True is not a seed"),
        ({"options": {"traffic_seed": -1}}, r"= -1 is not a seed; give a whole number from 0"),
        ({"options": [1]}, r"options = \[1\] is not a dict"),
        ({"seed": 1.5}, r"seed = 1.5 is not a seed"),
        ({"seed": "x"}, r"seed = 'x' is not a seed"),
    ],
)
def test_wrong_arguments_of_reset_change_nothing(
    make: Callable[..., RoutingEnv], arguments: dict[str, Any], message: str
) -> None:
    env = make()
    with pytest.raises(InputError, match=message):
        env.reset(**arguments)
    assert env._child is None


# --- processes --------------------------------------------------------------------------------------------------------

PROGRAM = """
    import multiprocessing, os, pickle, signal, sys, threading, time
    from concurrent.futures import ProcessPoolExecutor
    import numpy as np
    from relid_sumo.base.errors import InputError

    def leftmost(seen, infos):
        return {n: int(np.argmax(seen[n]["action_mask"])) for n, info in infos.items() if info["decides"]}

    def finish(env, actions):
        while env.agents:
            seen, _, _, _, infos = env.step(actions)
            actions = leftmost(seen, infos)
        env.close()
        return env.digest

    def play(env):
        return finish(env, leftmost(*env.reset(options={"traffic_seed": 0})))

    def inherited(env, actions, answers):
        try:
            env.step(actions)
        except InputError as error:
            answers.put(str(error))
        answers.put(play(env))

    if __name__ == "__main__":
        with open(sys.argv[1], "rb") as file:
            env = pickle.load(file)
"""


def program(tmp_path: Path, make: Callable[..., RoutingEnv], body: str) -> list[str]:
    """Return the command of a program that loads an environment as `env` and runs `body`."""
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(make()))
    text = textwrap.dedent(PROGRAM) + textwrap.indent(textwrap.dedent(body), " " * 8).replace("\n        \n", "\n\n")
    (tmp_path / "program.py").write_text(text)
    return [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path / "env.pickle")]


def output(command: list[str], code: int = 0) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def test_processes_of_spawn_fork_and_pools(tmp_path: Path, make: Callable[..., RoutingEnv], expected: str) -> None:
    body = """
        fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
        actions = leftmost(*env.reset(options={"traffic_seed": 0}))
        answers = fork.Queue()
        child = fork.Process(target=inherited, args=(env, actions, answers))
        child.start()
        print(answers.get(), answers.get(), sep="\\n")
        child.join()
        print(finish(env, actions))  # the fork has not touched the episode of its parent
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            print(pool.submit(play, env).result())
    """
    said, *digests = output(program(tmp_path, make, body))
    assert said.startswith("step: this episode runs in the process that this one is a fork of; call reset()")
    assert digests == [expected] * 3


@pytest.mark.slow
def test_ray_actors(tmp_path: Path, make: Callable[..., RoutingEnv], expected: str) -> None:
    pytest.importorskip("ray")
    body = """
        import ray
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

        @ray.remote
        class Actor:
            def __init__(self, env):
                self.env = env
            def begin(self):
                self.actions = leftmost(*self.env.reset(options={"traffic_seed": 0}))
            def finish(self):
                return finish(self.env, self.actions)

        actor = Actor.options(max_concurrency=2).remote(env)  # the methods run in threads of a pool
        ray.get(actor.begin.remote())
        print(ray.get(actor.finish.remote()))
        ray.shutdown()
    """
    command = program(tmp_path, make, body)
    assert output([command[0], *command[3:]])[-1] == expected


def test_an_environment_that_is_never_closed_ends_with_its_object_or_program(
    tmp_path: Path, make: Callable[..., RoutingEnv], town_ready: PreparedScenario, descendants: Descendants
) -> None:
    env = RoutingEnv(town_ready.task, town_ready.options, (0,))
    begin(env)
    assert descendants()
    del env
    gc.collect()
    assert descendants() == {}
    (pid,) = output(program(tmp_path, make, "env.reset(); print(env._child.pid)"))
    assert not Path(f"/proc/{pid}").exists()


def test_ctrl_c_in_the_middle_of_a_step_ends_the_episode_and_no_more(
    tmp_path: Path, make: Callable[..., RoutingEnv], expected: str
) -> None:
    body = """
        for wait in (0.0, 0.05, 0.2, 0.7):
            seen, infos = env.reset(options={"traffic_seed": 1})
            try:
                threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
                while True:
                    seen, _, _, _, infos = env.step(leftmost(seen, infos))
                    if not env.agents:
                        seen, infos = env.reset()
            except KeyboardInterrupt:
                print("interrupted")
        print(play(env))
    """
    assert output(program(tmp_path, make, body)) == ["interrupted"] * 4 + [expected]


# --- names on the search path -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sumo", "libsumo", "traci", "sumolib"])
def test_a_file_of_the_user_with_the_name_of_a_module_of_sumo(
    tmp_path: Path, make: Callable[..., RoutingEnv], expected: str, name: str
) -> None:
    command = program(tmp_path, make, "print(play(env))" if name == "sumo" else "env.reset()")
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the module that is meant')\n")
    if name == "sumo":
        assert output(command) == [expected]
        return
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert f"{tmp_path}/{name}.py hides SUMO's Python module of the same name; rename" in done.stderr
