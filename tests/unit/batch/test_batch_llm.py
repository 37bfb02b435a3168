"""The language-model service of an experiment file: given in one block, checked by a dry run, trusted only if named."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from relid_sumo.base import cache, trusted
from relid_sumo.base.errors import InputError
from relid_sumo.batch import experiment, run
from relid_sumo.cli.main import main
from relid_sumo.learn.settings import check_provider, train_settings
from relid_sumo.scenario import files
from relid_sumo.scenario.make import load_scenario

GRID = """
seeds = [0]
episodes = 4
[scenarios.town.settings]
horizon_s = 700.0
demand.rate_vph = 600.0
[algorithms.reled]
llm = "openai"
[algorithms.ippo]
"""
SERVICE = "http://127.0.0.1:1/v1"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No service in the environment, and a cache in which nothing is noted as named."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("relid_sumo.base.trusted.cache_folder", lambda: tmp_path / "cache")
    assert cache.cache_folder() != tmp_path / "cache"


def read(folder: Path, text: str, *changes: str) -> experiment.Plan:
    file = folder / "grid.toml"
    file.write_text(GRID + text)
    return experiment.read(file, changes)


def fault(folder: Path, text: str, *changes: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, *changes)
    return str(caught.value)


def test_a_dry_run_checks_model_key_and_address_without_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"{tmp_path / 'grid.toml'}: algorithms.reled: "
    assert fault(tmp_path, "").startswith(f"{where}--llm openai: name the model")
    assert "there is no key; put it into the environment as OPENAI_API_KEY" in fault(tmp_path, "[llm]\nmodel = 'm'")
    assert "no address of a service" in fault(tmp_path, "[llm]\nmodel = 'm'", "llm.base_url=gpu")
    assert "give the prices too" in fault(tmp_path, "[llm]\nmodel = 'm'\nbudget_usd = 1.0")
    assert "unknown key 'llm.modell' in [llm] (did you mean 'model'?)" in fault(tmp_path, "[llm]\nmodell = 'm'")
    assert "--set seeds: here --set replaces settings of [llm] only" in fault(tmp_path, "", "seeds=[1]")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    assert len(read(tmp_path, "[llm]\nmodel = 'm'").cells) == 2
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "openai is not installed; install it with: pip install" in fault(tmp_path, "[llm]\nmodel = 'm'")


def test_the_command_line_ends_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    with pytest.raises(SystemExit) as stop:
        main(["batch", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "b"), "--dry-run"])
    assert stop.value.code == 2
    assert "algorithms.reled: --llm openai: name the model" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "b").exists()


def test_a_cell_has_the_service_and_its_command_too(tmp_path: Path) -> None:
    text = "[llm]\nmodel = 'm'\ntemperature = 0.5\nmax_tokens = 900\nheaders = { X-Title = 'my routes' }"
    named = "llm.base_url=http://127.0.0.1:1/v1", "llm.headers.X-Title=yours"
    plan = read(tmp_path, text, *named)
    reled, ippo = plan.cells
    words = shlex.split(reled.command)
    for change in ('llm.model="m"', "llm.temperature=0.5", 'llm.headers.X-Title="yours"', f'llm.base_url="{SERVICE}"'):
        assert change in words
    scenario = load_scenario("town", changes=plan.sources["town"].changes)
    assert (scenario.llm.model, scenario.llm.max_tokens, scenario.llm.base_url) == ("m", 900, SERVICE)
    other = read(tmp_path, text.replace("0.5", "0.7"), *named)
    assert other.cells[0].fingerprint != reled.fingerprint, "its answers may differ"
    assert other.cells[1].fingerprint == ippo.fingerprint, "it asks no model"


def test_a_scenarios_own_settings_go_before_those_of_the_file(tmp_path: Path) -> None:
    text = "[scenarios.town.settings.llm]\nmodel = 'own'\n[llm]\nmodel = 'm'\nseed = 3"
    asked = read(tmp_path, text, f"llm.base_url={SERVICE}").sources["town"].settings["llm"]
    assert asked == {"model": "own", "seed": 3, "base_url": SERVICE}
    asked = read(tmp_path, text, f"llm.base_url={SERVICE}", "llm.model=mine").sources["town"].settings["llm"]
    assert asked["model"] == "mine", "the command line goes first"


@pytest.mark.parametrize(
    "stranger",
    [
        "base_url = 'https://collect.example/v1'",
        "key_env = 'AWS_SECRET_ACCESS_KEY'",
        "headers = { X-Copy = '${AWS_SECRET_ACCESS_KEY}' }",
        "query = { k = '${AWS_SECRET_ACCESS_KEY}' }",
        "key_header = 'X-Key'",
        "allow_http = true",
    ],
)
@pytest.mark.parametrize("place", ["[llm]\nmodel = 'm'\n", "[scenarios.town.settings.llm]\nmodel = 'm'\n"])
def test_a_strangers_experiment_sends_no_key_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: str, place: str
) -> None:
    """Refused until the user names the setting; the same file is then known, and a changed one is not."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-0123456789")
    key, _, value = (part.strip() for part in stranger.partition("="))
    said = fault(tmp_path, place + stranger)
    assert f"llm.{key} = " in said
    assert "this decides where your key and the prompts go, and you have not named it" in said
    assert "aws-0123456789" not in said
    assert len(read(tmp_path, place + stranger, f"llm.{key}={value}").cells) == 2
    assert len(read(tmp_path, place + stranger).cells) == 2, "you have named it once"
    more = "\nkey_env = 'OTHER'" if key != "key_env" else "\nallow_http = true"
    assert "you have not named it" in fault(tmp_path, place + stranger + more)


def test_a_strangers_batch_folder_sends_no_key_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`batch retry` reads the grid in the folder: what it says of a service is not said by the user."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    settings = {"llm": {"model": "m", "base_url": SERVICE}}
    entry = experiment.ScenarioEntry(source="town", settings=settings)
    train = train_settings({"algo": "reled", "llm": "openai"})
    with pytest.raises(InputError, match=r"sources.town: llm.base_url = .*you have not named it"):
        check_provider(train, run._scenario("town", entry, None))
    trusted.note_service({"base_url": SERVICE})
    check_provider(train, run._scenario("town", entry, None))
    with_file = train.model_copy(update={"demonstrations": "d.npz"})
    assert (train.asks, with_file.asks) == (True, False)
    assert not train_settings({"algo": "ippo"}).asks


def test_a_scenario_from_a_stranger_sends_no_key_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    made = load_scenario("town", changes=["llm.model=m", f"llm.base_url={SERVICE}", "llm.key_env=MINE"])
    text = files.to_toml(made)
    assert "[llm]" in text
    (tmp_path / "s").mkdir()
    file = tmp_path / "s" / files.FILE
    file.write_text(text.replace('network = "town.osm"', 'network = "orlando"'))
    assert "llm.base_url" in files.read_scenario(file).llm_unnamed
    grid = f"[scenarios.other]\nsource = '{file.parent}'\n"
    assert "llm.key_env" in fault(tmp_path, grid, f"llm.base_url={SERVICE}")
    monkeypatch.setenv("OPENAI_BASE_URL", SERVICE)
    assert "llm.base_url" not in files.read_scenario(file).llm_unnamed
    named = {"llm.base_url", "llm.key_env"}
    assert files.read_scenario(file, named).llm_unnamed == ""
    assert files.read_scenario(file, named).llm == made.llm


def test_a_service_is_not_part_of_the_problem(tmp_path: Path) -> None:
    plain, asked = load_scenario("town"), load_scenario("town", changes=["llm.model=m"])
    assert json.dumps(plain.model_dump(mode="json")) == json.dumps(asked.model_dump(mode="json"))
    assert files.to_toml(plain) == files.to_toml(files.override(asked, ["llm.model="]))
    assert files.with_fleet(asked, 0.2).llm == asked.llm
