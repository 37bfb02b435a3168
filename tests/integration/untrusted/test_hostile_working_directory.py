"""Commands run in a stranger's folder: nothing is imported from it, but for the modules that the user names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relid_sumo import load_scenario
from relid_sumo.scenario.files import write_scenario

pytestmark = pytest.mark.sumo

ROOT = Path(__file__).parents[3]
SETTINGS = [
    *("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=400"),
    *("seeds.training=[0]", "seeds.validation=[100]", "seeds.evaluation=[200]"),
]
ALONE = ["--algo", "ippo", "--curriculum", "micro", "--evaluate", "0"]
SHADOWS = [
    *("sitecustomize", "usercustomize", "relid_sumo", "json", "random"),
    *("numpy", "torch", "scipy", "pydantic", "libsumo", "sumolib", "traci"),
]
OWN = "import helper\ndef toll(leg): return helper.PRICE * (leg.begin_s - leg.end_s)\n"


def relid_sumo(*words: str, cwd: Path, code: int = 0) -> str:
    """Run a command as the installed script does, which does not search the working directory."""
    start = [sys.executable, "-P", "-c", "from relid_sumo.cli.main import main; main()"]
    where = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*start, *words], cwd=cwd, env=where, capture_output=True, text=True, check=False)
    said = " ".join(f"{done.stdout}{done.stderr}".split())
    assert done.returncode == code, said
    return said


def plant(folder: Path, canary: Path, names: list[str]) -> None:
    """Write modules that write a canary when they are imported."""
    for name in names:
        file = folder / name / "__init__.py" if name == "relid_sumo" else folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(canary)!r}, 'a').write('{name} ')\nraise SystemExit(3)\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a small scenario."""
    made = tmp_path / "scenario"
    made.mkdir()
    shutil.copy(ROOT / "scenarios" / "town" / "town.osm", made)
    changes = {"name": "small", "network": "town.osm"}
    write_scenario(load_scenario("town", changes=SETTINGS).model_copy(update=changes), made)
    return made


def test_nothing_in_the_working_directory_is_imported(folder: Path, tmp_path: Path) -> None:
    canary, run = tmp_path / "canary", tmp_path / "run"
    plant(folder, canary, SHADOWS)
    subprocess.run([sys.executable, "-c", ""], cwd=folder, env={"PYTHONPATH": "."}, check=False, capture_output=True)
    assert canary.read_text() == "sitecustomize ", "the planted modules do not work"
    canary.unlink()
    relid_sumo("scenario", "check", ".", cwd=folder)
    relid_sumo("train", ".", *ALONE, "--episodes", "1", "--workers", "1", "--out", str(run), cwd=folder)
    plant(run, canary, SHADOWS)
    relid_sumo("evaluate", ".", "--seeds", "1", "--baselines", "shortest", "--workers", "1", cwd=run)
    relid_sumo("doctor", cwd=folder)
    assert not canary.exists(), canary.read_text()


def test_a_module_that_the_user_names_is_imported_from_the_working_directory(folder: Path, tmp_path: Path) -> None:
    canary, here, stranger = tmp_path / "canary", tmp_path / "here", tmp_path / "stranger"
    here.mkdir()
    plant(here, canary, ["random", "libsumo"])
    (here / "own_reward.py").write_text(OWN)
    (here / "helper.py").write_text("PRICE = 2.0\n")
    words = [*ALONE, "--episodes", "1", "--workers", "1", "--set", "reward.kind=own_reward:toll"]
    relid_sumo("train", str(folder), *words, "--out", "run", cwd=here)
    evaluate = ["evaluate", "run", "--seeds", "1", "--baselines", "shortest", "--workers", "1"]
    relid_sumo(*evaluate, cwd=here)
    assert not canary.exists(), canary.read_text()

    (here / "own_reward.py").write_text(f"{OWN}# edited\n")
    assert "has changed since you named it" in relid_sumo(*evaluate, cwd=here, code=2)

    shutil.copytree(here / "run", stranger / "run")
    plant(stranger, canary, ["own_reward"])
    assert "which you have not named" in relid_sumo(*evaluate, cwd=stranger, code=2)
    assert not canary.exists()
