"""SED through the command line, on the town in light traffic: from prompts to demonstrations, with every provider."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from relid_sumo import load_scenario
from relid_sumo.cli.main import main
from relid_sumo.scenario.files import write_scenario
from relid_sumo.scenario.prepare import build_network
from relid_sumo.scenario.settings import Demand
from relid_sumo.scenario.traffic import demand
from relid_sumo.sed.ask.mailbox import read_record
from relid_sumo.sed.demonstrations import Demonstrations

pytestmark = pytest.mark.sumo

TOWN = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
SERVICE = ("--llm", "openai", "--set", "sed.llm.model=m", "--set", "sed.llm.base_url=http://127.0.0.1:1/v1")
SETTINGS = [
    *("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=700", "simulator=meso"),
    *("seeds.training=[0, 1, 2]", "seeds.validation=[100]", "seeds.evaluation=[200, 201]"),
]
FEW = ("--rounds", "2", "--samples", "2", "--set", "sed.seeds=2", "--set", "sed.held_out=2")
VALID = """I follow the traffic.

```python
def plan(network, trips, traffic):
    return {trip.id: traffic.fastest_path(trip.origin, trip.destination, trip.depart) for trip in trips}
```
"""
WRONG = VALID.replace("trip.destination", "trip.origin")
FAILING = VALID.replace("trip.depart", "trip.departure")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def post(prompt: Path, text: str) -> None:
    """Answer a prompt, some time ago."""
    answer = prompt.with_name(prompt.name.replace(".prompt.", ".answer."))
    answer.write_text(text)
    os.utime(answer, (1e9, 1e9))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a scenario that is driven in seconds."""
    folder = tmp_path_factory.mktemp("scenarios") / "small"
    folder.mkdir()
    shutil.copy(TOWN, folder)
    scenario = load_scenario("town", changes=SETTINGS).model_copy(update={"name": "small", "network": "town.osm"})
    write_scenario(scenario, folder)
    return folder


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sed") / "made"
    assert run("sed", "run", small, "--llm", "template", "--out", folder, *FEW) == 0
    return folder


def test_a_run_leaves_what_was_asked_answered_and_found(made: Path) -> None:
    content = json.loads((made / "results.json").read_text())
    assert content["execution_rate"] == {"initial": 1.0, "refined": 1.0, "all": 1.0}
    places = [one["place"] for subset in content["subsets"] for one in subset["attempts"]]
    assert len(places) == len(set(places)) == 4 * len(content["subsets"])
    for place in places:
        assert "# Write a route planner" in (made / "prompts" / f"{place}.md").read_text()
        assert (made / "programs" / f"{place}.py").read_text() in (made / "answers" / f"{place}.md").read_text()
    assert [row["round"] for row in content["rounds"]] == [1, 2]
    for row in content["rounds"]:
        assert row["f_out"] >= 0
        assert row["f_out_floor"] >= 0
        assert row["d_in"] is None
    scores = [row["score"] for row in content["rounds"]]
    assert scores == sorted(scores), "what is held never gets worse"
    assert set(content["baselines"]) == {"shortest", "reactive"}
    assert {one["traffic"]: one["simulator"] for one in content["compared"]} == {
        "training": "micro",
        "evaluation": "micro",
    }
    assert content["compared"][1]["seeds"] == [200, 201]
    assert content["mean_return"] == content["compared"][1]["mean_return"]["demonstrations"]


def test_demonstrations_are_the_held_plans_driven_on_all_training_traffic(made: Path) -> None:
    content = json.loads((made / "results.json").read_text())
    demonstrations = Demonstrations.load(made / "demonstrations.npz")
    assert demonstrations.traffic_seed.tolist() == [0, 1, 2]
    assert demonstrations.returns.shape == demonstrations.travel_time.shape == (3, 10)
    n = len(demonstrations.agent)
    assert n > 50
    assert demonstrations.position.shape == (n, 2)
    chosen = demonstrations.mask[np.arange(n), demonstrations.action]
    assert chosen.all()
    assert demonstrations.meta["simulator"] == "meso"
    for subset, held in zip(content["subsets"], demonstrations.meta["subsets"], strict=True):
        best = next(one for one in subset["attempts"] if one["place"] == subset["best"])
        assert held["vehicles"] == subset["vehicles"]
        assert held["routes"] == best["routes"]
        assert held["program"] == (made / "programs" / f"{subset['best']}.py").read_text()


def test_the_same_run_again_gives_the_same_bytes(made: Path, small: Path, tmp_path: Path) -> None:
    arguments = ("sed", "run", small, "--llm", "template", *FEW)
    assert run(*arguments, "--out", tmp_path / "again", "--workers", "1") == 0
    for name in ("prompts", "answers"):
        for file in sorted((made / name).iterdir()):
            assert (tmp_path / "again" / name / file.name).read_bytes() == file.read_bytes()
    first, again = (Demonstrations.load(folder / "demonstrations.npz").digest for folder in (made, tmp_path / "again"))
    assert first == again


def test_a_scenario_with_traffic_of_its_own_is_gone_on_with(small: Path, tmp_path: Path) -> None:
    own = shutil.copytree(small, tmp_path / "own")
    scenario = load_scenario(str(own))
    (own / "scenario.toml").unlink()
    shutil.copy(demand.routes(scenario, build_network(scenario), 0), own / "traffic.rou.xml")
    write_scenario(scenario.model_copy(update={"demand": Demand(route_file="traffic.rou.xml", warmup_s=60.0)}), own)
    few = ("--rounds", "1", "--samples", "1", "--set", "sed.seeds=1", "--set", "sed.held_out=1")
    for _ in range(2):
        assert run("sed", "run", own, "--llm", "template", "--out", tmp_path / "run", *few) == 0
    assert run("sed", "show", tmp_path / "run") == 0, "it is found from elsewhere"


def test_show_prints_what_each_round_changed_and_draws_the_routes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sed", "show", made, "--map", tmp_path / "routes.png") == 0
    printed = capsys.readouterr().out
    for words in ("without refinement", "with refinement", "F_out", "floor", "best plans together", "reactive"):
        assert words in printed, words
    assert (tmp_path / "routes.png").read_bytes().startswith(b"\x89PNG")
    assert run("sed", "show", made, "--json") == 0
    stored = json.loads((made / "results.json").read_text())
    assert json.loads(capsys.readouterr().out) == {**stored, "finished": True, "usage": None}


def test_show_takes_runs_that_are_not_finished_and_the_folder_inside_a_training(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = tmp_path / "training"
    inside = shutil.copytree(made, training / "sed")
    (training / "settings.json").write_text('{"train": {}}')
    (inside / "results.json").unlink()
    usage = {"requests": 9, "answers": 8, "tokens_in": 12345, "tokens_out": 678, "usd": 0.25}
    (inside / "usage.json").write_text(json.dumps(usage))
    assert run("sed", "show", training) == 0
    printed = capsys.readouterr().out
    for words in ("with refinement", "9 requests, 12,345 tokens in", "0.2500 USD", "the rounds up to now are shown"):
        assert words in printed, words
    assert (inside / "routes.png").is_file()
    (inside / "rounds.json").unlink()
    (inside / "demonstrations.npz").unlink()
    (inside / "stopped.txt").write_text("the service is down\n")
    assert run("sed", "show", training) == 0
    printed = capsys.readouterr().out
    assert "no round is finished" in printed
    assert "it stopped: the service is down" in printed
    shutil.rmtree(inside)
    assert run("sed", "show", training) == 2
    assert "is a training run without a folder 'sed'" in " ".join(capsys.readouterr().err.split())


def test_compare_shows_programs_scores_tokens_and_cost_of_two_models(
    made: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(made, tmp_path / "other")
    content, settings = (json.loads((other / name).read_text()) for name in ("results.json", "settings.json"))
    programs = content["programs"]["all"]["programs"]
    content["programs"]["all"] |= {"valid": 0, "interval_95": [0.0, 0.3]}
    settings["llm"]["model"] = "small-model"
    (other / "results.json").write_text(json.dumps(content))
    (other / "settings.json").write_text(json.dumps(settings))
    (other / "usage.json").write_text(json.dumps({"tokens_in": 5000, "tokens_out": 70, "usd": 0.5}))
    assert run("sed", "compare", made, other) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("template", "small-model", f"{programs}/{programs}", f"0/{programs}", "5,000", "0.5000"):
        assert words in printed, words
    assert "100% and 0% valid, beyond chance" in printed
    assert run("sed", "compare", made, other, "--json") == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [one["model"] for one in found] == ["template", "small-model"]
    assert found[0]["score"] == content["rounds"][-1]["score"]
    settings["network_key"] = "another"
    (other / "settings.json").write_text(json.dumps(settings))
    for folders, said in (((made,), "name two or more run folders"), ((made, other), "compare runs of the same")):
        assert run("sed", "compare", *folders) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_partition_tells_who_plans_together(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sed", "partition", small, "--map", tmp_path / "s.png", "--set", "sed.partition.max_size=2") == 0
    printed = capsys.readouterr().out
    assert "agent9" in printed
    assert "overlap" in printed
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("isolated")
def test_a_mailbox_is_answered_round_by_round_recorded_and_replayed(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that at first gets everything wrong, in two ways, and then refines."""
    scenario, box, out = tmp_path / "scenario", tmp_path / "box", tmp_path / "out"
    shutil.copytree(small, scenario)
    ask = ("sed", "run", scenario, *FEW, "--out")
    letters = ("--llm", "mailbox", "--mailbox", box, "--wait", "0")
    assert run(*ask, out, *letters) == 2
    assert "prompts are not answered" in capsys.readouterr().err
    first = sorted(box.glob("*.prompt.md"))
    assert {file.name.split("-")[1] for file in first} == {"round1"}
    for file in first:
        text = WRONG if "sample1" in file.name else FAILING
        post(file, text)
    assert run(*ask, out, *letters) == 2
    second = sorted(set(box.glob("*.prompt.md")) - set(first))
    assert len(second) == len(first)
    for file in second:
        prompt = file.read_text()
        assert "No program has given a valid plan yet." in prompt
        assert "its route ends on" in prompt
        assert "AttributeError: 'Trip' object has no attribute 'departure'" in prompt
        post(file, VALID)
    assert run(*ask, out, *letters) == 0
    content = json.loads((out / "results.json").read_text())
    assert content["execution_rate"]["initial"] == 0.0
    assert content["execution_rate"]["refined"] == 1.0
    assert content["programs"]["refined"]["programs"] == len(second)
    low, high = content["programs"]["refined"]["interval_95"]
    assert 0 < low < high <= 1.0
    assert [one["same"] for one in content["subsets"][0]["attempts"]] == [False, False, False, True]

    assert run("sed", "record", out, scenario) == 0
    answers = sorted((scenario / "answers").iterdir())
    assert len(answers) == len(first) + len(second)
    assert {read_record(file)[1] for file in answers} == {WRONG, FAILING, VALID}
    assert run(*ask, tmp_path / "replayed") == 0
    replayed = json.loads((tmp_path / "replayed" / "results.json").read_text())
    assert replayed["provider"] == "recorded"
    assert "other figures" not in capsys.readouterr().err
    assert replayed["subsets"][0]["attempts"][2]["numbers"] == content["subsets"][0]["attempts"][2]["numbers"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "SMALL", "--out", "OUT", "--llm", "openia"), "no such provider (did you mean 'openai'?)"),
        (
            ("run", "SMALL", "--out", "OUT", "--llm", "mailbox"),
            "name the folder for prompts and answers: --mailbox DIR",
        ),
        (("run", "SMALL", "--out", "OUT", "--llm", "recorded"), "has no recorded answers"),
        (("run", "SMALL", "--out", "OUT", "--set", "sed.sample=1"), "unknown key 'sample' (did you mean 'samples'?)"),
        (("run", "SMALL", "--out", "OUT", "--rounds", "0"), "rounds = 0"),
        (("run", "SMALL", "--out", "MADE", *SERVICE), "run with another provider"),
        (("run", "SMALL", "--out", "OUT", "--llm", "openai", "--set", "sed.llm.model=m"), "there is no key"),
        (("run", "nowhere", "--out", "OUT"), "there is no scenario 'nowhere'"),
        (("run", "SMALL", "--out", "SMALL"), "exists and is not a SED run"),
        (("show", "OUT"), "there is no such file; make it with: relid-sumo sed run"),
        (("record", "OUT", "SMALL"), "there is no such file"),
        (("record", "MADE", "SMALL"), "its answers are from 'template'; only answers of a model can be recorded"),
        (("partition", "SMALL", "--set", "sed.partition.max_size=0"), "max_size = 0"),
    ],
)
def test_bad_input_is_told(
    made: Path,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    places = {"SMALL": small, "OUT": tmp_path / "out", "MADE": made}
    assert run("sed", *(places.get(word, word) for word in arguments)) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert told in printed
    assert "Traceback" not in printed
