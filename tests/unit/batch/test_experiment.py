"""Experiment files: their cells, and the report of every fault before anything runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.batch import experiment

TOWN = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
SMOKE = Path(__file__).parents[3] / "experiments" / "smoke.toml"


def read(folder: Path, text: str) -> experiment.Plan:
    file = folder / "grid.toml"
    file.write_text(text)
    return experiment.read(file)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(folder / "grid.toml")) for line in lines), "each names the file"
    return lines


def test_a_grid_is_scenarios_by_algorithms_by_seeds(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        """
        scenarios = ["town", "orlando"]
        seeds = [3, 5]
        episodes = 40
        curriculum = "meso:0.75, micro:0.25"
        evaluation.seeds = 4
        [algorithms.ippo]
        [algorithms.steep]
        algo = "ippo"
        episodes = 60
        curriculum = "micro"
        ippo.learning_rate = 0.05
        """,
    )
    assert [cell.name for cell in plan.cells] == [
        f"{scenario}-{algorithm}-{seed}"
        for scenario in ("town", "orlando")
        for algorithm in ("ippo", "steep")
        for seed in (3, 5)
    ]
    plain, steep = plan.cells[1], plan.cells[2]
    assert (plain.train.seed, plain.train.episodes, plain.train.ippo.learning_rate) == (5, 40, 0.01)
    assert plain.train.curriculum == (("meso", 0.75), ("micro", 0.25))
    assert 'train.curriculum=[["meso", 0.75], ["micro", 0.25]]' in shlex.split(plain.command)
    assert steep.train.curriculum == (("micro", 1.0),)
    assert (steep.train.seed, steep.train.episodes, steep.train.ippo.learning_rate) == (3, 60, 0.05)
    assert len({cell.fingerprint for cell in plan.cells}) == 8


def test_a_scenario_can_have_its_own_settings_budget_and_osm_file(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "my town.osm").write_bytes(TOWN.read_bytes())
    text = """
        [scenarios.busy]
        source = "town"
        episodes = 7
        settings.demand.rate_vph = 900.0
        settings.reward.w_d = 0.2
        [scenarios.mine]
        source = "maps/my town.osm"
        agents = 4
        bbox = [-2.97, 39.43, -2.93, 39.46]
        [algorithms.ippo]
        """
    plan = read(tmp_path, text)
    busy, mine = plan.cells
    assert (busy.train.episodes, mine.train.episodes) == (7, 100)
    assert plan.sources["busy"].changes == ["demand.rate_vph=900.0", "reward.w_d=0.2"]
    assert plan.sources["mine"].source == str(tmp_path / "maps" / "my town.osm")
    words = shlex.split(busy.command)
    assert words[:3] == ["relid-sumo", "train", "town"]
    assert words[-6:-2] == ["--set", "demand.rate_vph=900.0", "--set", "reward.w_d=0.2"]
    assert words[-2:] == ["--set", "train.curriculum=[]"], "the cell has no preset"
    words = shlex.split(mine.command)
    assert words[2] == str(tmp_path / "maps" / "my town.osm")
    assert {"--agents", "--bbox=-2.97,39.43,-2.93,39.46"} <= set(words)
    # The map is identified by its content, not by its path.
    (tmp_path / "maps").rename(tmp_path / "elsewhere")
    moved = read(tmp_path, text.replace("maps/", "elsewhere/"))
    assert moved.cells[1].fingerprint == mine.fingerprint
    with (tmp_path / "elsewhere" / "my town.osm").open("a") as osm:
        osm.write("<!-- another -->")
    assert read(tmp_path, text.replace("maps/", "elsewhere/")).cells[1].fingerprint != mine.fingerprint


def test_settings_that_an_algorithm_does_not_read_do_not_change_its_fingerprint(tmp_path: Path) -> None:
    def fingerprints(setting: str) -> list[str]:
        text = "scenarios = ['town']\n[algorithms.ippo]\n" + setting + "\n[algorithms.bc]\n" + setting
        return [cell.fingerprint for cell in read(tmp_path, text).cells]

    (ippo, bc), (ippo_hpo, bc_hpo), (ippo_own, bc_own) = map(fingerprints, ("", "hpo.epochs = 2", "ippo.epochs = 2"))
    assert ippo == ippo_hpo != ippo_own
    assert bc == bc_own != bc_hpo


def test_files_are_identified_by_their_content(tmp_path: Path) -> None:
    demonstrations, traffic = tmp_path / "d.npz", tmp_path / "own.rou.xml"
    text = f"""
        scenarios.town.settings.demand.route_file = '{traffic}'
        [algorithms.ippo]
        [algorithms.reled]
        demonstrations = 'd.npz'
    """
    assert any("algorithms.reled: demonstrations: there is no" in line for line in faults(tmp_path, text))
    found = []
    for made, driven in (("old", "light"), ("new", "light"), ("new", "heavy")):
        demonstrations.write_text(made)
        traffic.write_text(driven)
        found.append([cell.fingerprint for cell in read(tmp_path, text).cells])
    (ippo, reled), (ippo_again, reled_again), (ippo_heavy, reled_heavy) = found
    assert ippo == ippo_again != ippo_heavy
    assert len({reled, reled_again, reled_heavy}) == 3
    (cell,) = [cell for cell in read(tmp_path, text).cells if cell.algorithm == "reled"]
    assert cell.train.demonstrations == str(demonstrations), "an absolute path"


def test_a_listed_osm_file_is_labelled_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "my town.osm").write_bytes(TOWN.read_bytes())
    plan = read(tmp_path, 'scenarios = ["my town.osm"]\n[algorithms.ippo]')
    assert list(plan.sources) == ["my_town"]


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
        scenarios = ["twon", "orlando", "nowhere.osm"]
        seeds = [0, 1]
        evaluation = { seeds = 99, baselines = ["shortets"] }
        [algorithms.ippo]
        ippo.lerning_rate = 1
        epochs = 3
        [algorithms.pppo]
        [algorithms.fixed]
        algo = "ippo"
        seed = 3
        """,
    )
    for said in (
        "scenarios.twon: there is no scenario 'twon' (did you mean 'town'?)",
        "nowhere.osm",
        "there is no baseline 'shortets' (did you mean 'shortest'?)",
        "algorithms.ippo: unknown key 'ippo.lerning_rate' in [ippo] (did you mean 'learning_rate'?)",
        "algorithms.ippo: unknown key 'epochs'",
        "algorithms.pppo: there is no algorithm 'pppo' (did you mean 'ippo'?)",
        "algorithms.fixed: seed: give the seeds at the top of the file",
        "evaluation.seeds = 99: scenario 'orlando' has 20 evaluation seeds",
    ):
        assert any(said in line for line in found), f"{said}\n" + "\n".join(found)
    assert len(found) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('scenarios = ["town"]', "key 'algorithms' is missing"),
        (
            'scenarios = ["town"]\nalgorithm = 3\n[algorithms.ippo]',
            "unknown key 'algorithm' (did you mean 'algorithms'?)",
        ),
        ("scenarios = []\n[algorithms.ippo]", "scenarios"),
        ('scenarios = ["town"]\nseeds = []\n[algorithms.ippo]', "seeds"),
        ('scenarios = ["town"]\nseeds = [-1]\n[algorithms.ippo]', "seeds[0]"),
        ('scenarios = ["town"]\ncurriculum = "mezo"\n[algorithms.ippo]', "there is no simulator 'mezo'"),
        ('scenarios = ["town"]\ncurriculum = "meso:0.5"\n[algorithms.ippo]', "the shares must add up to 1"),
        ('scenarios = ["town"]\ncurriculum = "meso:0.5,micro:0.2,meso:0.3"\n[algorithms.ippo]', "may occur once"),
        ('scenarios = ["town"]\nepisodes = 0\n[algorithms.ippo]', "episodes = 0"),
        ('scenarios = ["town"]\n[algorithms."a b"]\nalgo = "ippo"', "algorithms.a b"),
        (
            "[scenarios.town]\nsettings.demand.levle = 0.3\n[algorithms.ippo]",
            "scenarios.town: unknown key 'demand.levle'",
        ),
        ("[scenarios.town]\nagents = 3\n[algorithms.ippo]", "--agents are for an OSM file"),
        ('scenarios = ["town", "town"]\n[algorithms.ippo]', "'town' is named twice"),
        ('scenarios = ["town"]\nseeds = [1, 1]\n[algorithms.ippo]', "the cell 'town-ippo-1' is in the grid twice"),
        (
            'scenarios = ["town"]\n[algorithms.ippo]\n[algorithms.same]\nalgo = "ippo"',
            "the cells 'town-ippo-0' and 'town-same-0' are the same run under two names",
        ),
        ("scenarios = [", "not TOML"),
    ],
)
def test_a_bad_grid_gives_one_message(text: str, said: str, tmp_path: Path) -> None:
    assert any(said in line for line in faults(tmp_path, text))


def test_the_included_grid_is_valid_and_can_be_saved() -> None:
    plan = experiment.read(SMOKE)
    assert len(plan.cells) == 4
    assert experiment.Plan.model_validate_json(json.dumps(plan.model_dump(mode="json"))) == plan
