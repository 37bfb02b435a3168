"""RELED on the town, by the template: what a run keeps, that it goes on exactly, and what is told when it cannot."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from relid_sumo.base import files
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.baseline import due
from relid_sumo.baseline.named import baselines, plan_baselines
from relid_sumo.baseline.planners import bestroute, by_turns, hist
from relid_sumo.cli.main import main
from relid_sumo.env.play import Job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts, in_traffic
from relid_sumo.learn import checkpoint, closing, run_folder
from relid_sumo.learn import settings as learn_settings
from relid_sumo.learn.train import TrainingWatch, resume, train
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.settings import Demand
from relid_sumo.scenario.traffic import demand, turn_times
from relid_sumo.sed.demonstrations import Demonstrations

pytestmark = [pytest.mark.sumo, pytest.mark.slow]

WRITER = r"""
import json, re


class Writer:
    def __init__(self, asking):
        pass

    def answer(self, questions):
        for number, question in enumerate(questions):
            origin = re.search("on edge `(.*?)`", question.prompt)[1]
            goal = re.search("arrive at edge `(.*?)`", question.prompt)[1]
            follow = dict(re.findall(r"^(\S+), \d+, [\d.]+: (.*)$", question.prompt, re.M))
            routes, seen = [[origin]], {origin}
            while routes[0][-1] != goal:
                route = routes.pop(0)
                for edge in follow.get(route[-1], "").split():
                    if edge not in seen:
                        seen.add(edge)
                        routes.append([*route, edge])
            yield question, json.dumps(routes[0] if number != 1 else [origin, "nowhere"])
"""


class StopHereError(Exception):
    """Ends a run in its midst."""


def settings(**content: object) -> learn_settings.TrainSettings:
    return learn_settings.train_settings(
        {
            "algo": "reled",
            "llm": "template",
            "episodes": 10,
            "episodes_per_update": 2,
            "renew_every": 2,
            "curriculum": [("meso", 0.6), ("micro", 0.4)],
            **content,
        }
    )


@pytest.fixture(scope="module")
def trained(town_ready: PreparedScenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reled") / "run"
    train(town_ready, folder, settings())
    return folder


def test_a_run_keeps_alpha_by_agent_and_looks_at_its_plans(trained: Path, town_ready: PreparedScenario) -> None:
    columns = files.read_columns(trained / layout.METRICS)
    for i in range(town_ready.task.n_agents):
        assert all(0.5 <= value <= 0.9 for value in columns[f"alpha_{i}"])
    assert columns["imitated"][0] > 0.5, "imitation went before"
    rounds = files.read_columns(trained / layout.ROUNDS)
    assert rounds["round"] == [1.0, 2.0]
    assert all(0.0 <= value <= 1.0 for value in rounds["d_in"])
    assert all(value >= 0.0 for value in rounds["f_out"])
    assert all(0 <= value <= town_ready.task.n_agents for value in rounds["renewed"])
    for number in (1, 2):
        assert list((trained / "renewed" / str(number) / "programs").glob("*.py")), "programs planned again"
    told = json.loads((trained / "experts.json").read_text())
    assert told["meso"]["imitated"] > 0.9
    assert Demonstrations.load(trained / "demonstrations.npz").meta["scenario"] == "small-town"


def test_ways_are_probed_before_the_last_simulation_and_count_in_the_budget(
    trained: Path, town_ready: PreparedScenario
) -> None:
    columns = files.read_columns(trained / layout.METRICS)
    told = json.loads((trained / "experts.json").read_text())
    probed = json.loads((trained / "probes.json").read_text())
    assert list(probed["gain_s"]) == list(town_ready.task.names)
    assert all(gain >= 0 for gain in probed["gain_s"].values())
    made = Demonstrations.load(trained / "demonstrations.npz").meta["episodes"]
    slips_and_chance = max(1, len(town_ready.scenario.seeds.training) // 2) + 2
    assert told["meso"]["episodes_driven"] == 0, "they were driven when they were made"
    assert columns["driven_beside"][0] == made + slips_and_chance
    looked = columns["driven_beside"][3] - columns["driven_beside"][0]
    renewed = looked - probed["episodes_driven"] - told["micro"]["episodes_driven"]
    assert renewed > 0, "the plans were driven against the present policies, too"
    assert list(columns["micro"]) == [0, 0, 0, 1, 1]
    rounds = files.read_columns(trained / layout.ROUNDS)
    before = [0.0, 0.0, rounds["renewed"][0]]  # renewed after the second update
    assert columns["replaced"][:3] == before, "what is better mesoscopically replaces nothing by itself"
    better = sum(gain > 0 for gain in probed["gain_s"].values())
    assert columns["replaced"][3] >= before[-1] + better
    assert ("imitated" in told["micro"]) == (better > 0), "what is the same need not be imitated again"


def test_plans_are_looked_at_in_a_simulation_that_is_not_trained_in(
    trained: Path, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrated(*_: object, **__: object) -> PreparedScenario:
        return town_ready

    monkeypatch.setattr("relid_sumo.learn.reled.reled.prepare", calibrated)
    micro_alone = replace(town_ready, scenario=town_ready.scenario.model_copy(update={"meso": None}))
    given = str(trained / "demonstrations.npz")
    train(
        micro_alone,
        tmp_path / "run",
        settings(demonstrations=given, llm="", episodes=4, renew_every=1, curriculum=[("micro", 1.0)]),
    )
    assert files.read_columns(tmp_path / "run" / layout.ROUNDS)["update"] == [1.0], "nothing after the last update"


def test_a_run_goes_on_exactly(trained: Path, town_ready: PreparedScenario, tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["update"] == 4:  # after the probes
            raise StopHereError

    with pytest.raises(StopHereError):
        train(town_ready, tmp_path / "run", settings(), watch=TrainingWatch(update=stop))
    resume(tmp_path / "run")
    for name in (layout.METRICS, layout.ROUNDS):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes(), name


def test_training_with_closed_roads_and_an_alpha_that_may_vanish_goes_on_exactly(
    trained: Path, town_ready: PreparedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_road = closing.of_routes
    monkeypatch.setattr(closing, "of_routes", lambda *given: every_road(*given)[:4])  # of some sixty
    seeds = town_ready.scenario.seeds.model_copy(update={"training": town_ready.scenario.seeds.training[:4]})
    ready = replace(town_ready, scenario=town_ready.scenario.model_copy(update={"seeds": seeds}))
    own = settings(
        demonstrations=str(trained / "demonstrations.npz"),
        llm="",
        episodes=6,
        renew_every=0,
        probes=False,
        closed_share=0.5,
        curriculum=[("meso", 1.0)],
        hpo={"alpha_min": 0.0, "imitation_steps": 60},
    )
    digests: list[tuple[int, str]] = []

    def stop(row: dict[str, float]) -> None:
        if row["update"] == 2:
            raise StopHereError

    noted = TrainingWatch(episode=lambda record: digests.append((record.closed, record.digest)))
    train(ready, tmp_path / "whole", own, watch=noted)
    closed = [edge for edge, _ in digests if edge >= 0]
    assert 0 < len(closed) < 6
    columns = files.read_columns(tmp_path / "whole" / layout.METRICS)
    assert min(columns[f"alpha_{i}"][-1] for i in range(town_ready.task.n_agents)) < 0.5
    slips, untrained, past_a_closed_road = 2, 2, 4
    shown = 2 * 4  # mesoscopically and microscopically
    made = Demonstrations.load(trained / "demonstrations.npz").meta["episodes"]
    assert columns["driven_beside"][0] == made + slips + untrained + past_a_closed_road + shown
    with pytest.raises(StopHereError):
        train(ready, tmp_path / "halves", own, watch=TrainingWatch(update=stop))
    resume(tmp_path / "halves", workers=1, fork=False)
    for name in (layout.METRICS, layout.DIGESTS):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_leed_learns_from_a_sequence_per_agent(town_ready: PreparedScenario, tmp_path: Path) -> None:
    """A provider of its own answers one prompt per agent; the second answer names an edge that does not exist."""
    provider = tmp_path / "sequences.py"
    provider.write_text(WRITER)
    own = settings(algo="leed", llm=f"{provider}:Writer", episodes=4, curriculum=[("meso", 1.0)])
    assert (own.hpo.alpha, own.hpo.alpha_min, own.hpo.imitation_steps) == ("dtw", 0.0, 0)
    train(town_ready, tmp_path / "run", own)
    made = Demonstrations.load(tmp_path / "run" / layout.DEMONSTRATIONS).meta
    faults = [subset["fault"] for subset in made["subsets"]]
    assert "'nowhere', is not in the network" in faults[1]
    assert not any(fault for i, fault in enumerate(faults) if i != 1)
    columns = files.read_columns(tmp_path / "run" / layout.METRICS)
    seeds, untrained, shown = len(town_ready.scenario.seeds.training), 2, len(town_ready.scenario.seeds.training)
    assert columns["driven_beside"] == [seeds + untrained + shown] * 2, "no slips, no renewal"
    assert min(columns["imitated"]) > 0.8, "the expert loss alone leads to the demonstration"
    prompts = list((tmp_path / "run" / "sed" / "prompts").glob("*.md"))
    assert len(prompts) == town_ready.task.n_agents


def test_demonstrations_may_be_given_and_have_to_fit(
    trained: Path, town_ready: PreparedScenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = str(trained / "demonstrations.npz")
    train(town_ready, tmp_path / "given", settings(demonstrations=given, episodes=2, renew_every=0, algo="bc"))
    assert not (tmp_path / "given" / "sed").exists()
    with pytest.raises(SystemExit) as stop:
        main(["train", "town", "--algo", "reled", "--demonstrations", given, "--out", str(tmp_path / "o")])
    assert stop.value.code == 2
    assert "demonstrations of scenario 'small-town', not 'town'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["train", "town", "--algo", "ippo", "--demonstrations", given, "--out", str(tmp_path / "i")])
    assert stop.value.code == 2
    assert "ippo has no experts" in capsys.readouterr().err
    assert not (tmp_path / "o").exists(), "the mended command is to find the folder free"
    with pytest.raises(InputError, match=r"llm tmplate: no such provider.*template"):
        settings(llm="tmplate")
    with pytest.raises(InputError, match="no recorded answers"):
        train(town_ready, tmp_path / "r", settings(llm="recorded"))
    assert not (tmp_path / "r").exists()
    with pytest.raises(InputError, match="sed run SCENARIO --llm mailbox"):
        settings(llm="mailbox")


def test_a_checkpoint_of_another_algorithm_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(trained, folder)
    content = json.loads((folder / run_folder.SETTINGS).read_text())
    content["train"] |= {"algo": "ippo", "episodes": 20}
    (folder / run_folder.SETTINGS).write_text(json.dumps(content))
    with pytest.raises(Exception, match=r"checkpoint.*'reled'.*'ippo'"):
        resume(folder)


def test_a_checkpoint_of_another_version_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(trained, folder)
    state = checkpoint.load(folder)
    del state["format"]
    torch.save(state, folder / run_folder.CHECKPOINT)
    with pytest.raises(InputError, match="written by another version"):
        resume(folder)


def test_a_run_does_not_go_on_in_other_traffic(town_ready: PreparedScenario, tmp_path: Path) -> None:
    own = tmp_path / "own.rou.xml"
    shutil.copy(demand.routes(town_ready.scenario, town_ready.network, 0), own)
    traffic = Demand(route_file=str(own), warmup_s=60.0)
    ready = prepare(town_ready.scenario.model_copy(update={"demand": traffic}), simulators=("meso",))
    train(ready, tmp_path / "run", settings(algo="ippo", llm="", episodes=2, curriculum=[("meso", 1.0)]))
    with pytest.raises(InputError, match="the run is finished"):
        resume(tmp_path / "run")
    own.write_text(own.read_text() + "<!-- other traffic -->")
    with pytest.raises(InputError, match=r"its traffic \(.*own.rou.xml\) has changed since"):
        resume(tmp_path / "run")


def test_a_loss_that_is_not_finite_names_the_agent_and_the_update(town_ready: PreparedScenario, tmp_path: Path) -> None:
    broken = settings(algo="ippo", llm="", ippo={"schedule": "constant"}, episodes=8)
    too_fast = broken.ippo.model_copy(update={"learning_rate": 1e30})  # beyond what the settings permit
    broken = broken.model_copy(update={"ippo": too_fast})
    with pytest.raises(
        SimulationError, match=r"update \d+: the loss of agent\d.* is not finite; the last good checkpoint"
    ):
        train(town_ready, tmp_path / "run", broken)


def test_routes_on_mean_travel_times_of_training_traffic(town_ready: PreparedScenario) -> None:
    task = town_ready.task
    for i, route in enumerate(hist(town_ready)):
        assert route[0] == task.origin[i]
        assert route[-1] == task.destination[i]
        assert all(b in task.graph.slots[a] for a, b in pairwise(route))
    policies = plan_baselines(baselines("hist,turns,shortest"), town_ready)
    assert {n: policy.name for n, policy in policies.items()} == {
        "hist": "fixed",
        "turns": "fixed",
        "shortest": "shortest",
    }
    assert np.array_equal(list(policies["hist"].routes), range(task.n_agents))


def test_due_routes_the_agents_by_sumos_own_assignment(
    town_ready: PreparedScenario, caplog: pytest.LogCaptureFixture
) -> None:
    task, seeds = town_ready.task, town_ready.scenario.seeds.training[:2]
    few = town_ready.scenario.seeds.model_copy(update={"training": seeds})
    ready = replace(town_ready, scenario=town_ready.scenario.model_copy(update={"seeds": few}))
    caplog.set_level(logging.INFO, "relid_sumo")
    routes = due.equilibrium(ready)
    assert due.equilibrium(ready) == routes
    assert len(caplog.messages) == 1, "nothing is driven twice"
    assert [route[0] for route in routes] == task.origin.tolist()
    assert [route[-1] for route in routes] == task.destination.tolist()
    assert all(b in task.graph.slots[a] for route in routes for a, b in pairwise(route))
    free = [task.route(i, int(task.origin[i])) for i in range(task.n_agents)]
    assert routes != free, "traffic moves some off the free-flow fastest path"
    with pytest.raises(InputError, match="cannot close roads"):
        due.equilibrium(replace(ready, task=replace(task, closed=frozenset({0}))))


def test_bestroute_takes_each_vehicles_quickest_of_several_routes(
    town_ready: PreparedScenario, caplog: pytest.LogCaptureFixture
) -> None:
    task, seeds = town_ready.task, town_ready.scenario.seeds.training[:2]
    few = town_ready.scenario.seeds.model_copy(update={"training": seeds})
    ready = replace(town_ready, scenario=town_ready.scenario.model_copy(update={"seeds": few}))
    caplog.set_level(logging.INFO, "relid_sumo")
    chosen = bestroute(ready)
    assert "samples of traffic" in caplog.messages[0]
    assert bestroute(ready) == chosen
    assert len(caplog.messages) == 1, "nothing is driven twice"
    ends = zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    options = [[list(route) for route in alternatives(task.graph, o, d, 2)] for o, d in ends]
    with Rollouts(task, 2) as rollouts:
        plans = [
            Policy("fixed", routes={i: routes[min(k, len(routes) - 1)] for i, routes in enumerate(options)})
            for k in (0, 1)
        ]
        first, second = (
            np.mean([record.travel_time for record in records], axis=0)
            for records in in_traffic(ready, rollouts, plans, seeds)
        )
    for i, routes in enumerate(options):
        if len(routes) > 1:
            worse = routes[int(first[i] < second[i])]
            assert chosen[i] != worse, task.names[i]


def test_turn_times_foretell_what_routes_on_them_take(town_ready: PreparedScenario) -> None:
    task, times = town_ready.task, turn_times.measured(town_ready.scenario, town_ready.network, None)
    routes = by_turns(town_ready)
    departures = list(zip(routes, task.depart_s.tolist(), strict=True))
    expected = np.array([times.duration(route, depart_s) for route, depart_s in departures])
    plain = np.array(
        [times.duration(route, depart_s) for route, (_, depart_s) in zip(hist(town_ready), departures, strict=True)]
    )
    assert (expected <= plain + 1e-6).mean() > 0.8, "they are the fastest, but for bins that change under way"
    plan = Policy("fixed", routes=dict(enumerate(routes)))
    seeds = town_ready.scenario.seeds.training
    with Rollouts(task, 2) as rollouts:
        driven = rollouts.run([Job(seed, town_ready.options(seed), plan) for seed in seeds])
    took = np.mean([record.travel_time for record in driven])
    assert expected.mean() == pytest.approx(took, rel=0.25)
