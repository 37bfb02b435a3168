"""From a map to a scenario: the quality of calibration, the same bytes with any number of workers, and resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relid_sumo.base import cache, sumo
from relid_sumo.base.errors import InputError
from relid_sumo.network.network import Network
from relid_sumo.scenario.files import override, read_scenario, to_toml, write_scenario
from relid_sumo.scenario.make import load_scenario, new_scenario
from relid_sumo.scenario.prepare import prepare, roads
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic import calibration, edge_times, meso
from relid_sumo.scenario.traffic.level import LEVEL_TOLERANCE

pytestmark = pytest.mark.sumo

ROOT = Path(__file__).parents[3]
TOWN = ROOT / "scenarios" / "town" / "town.osm"
BRIEF = ["demand.max_running=80", "demand.warmup_s=60", "horizon_s=600", "seeds.training=[0,1]"]  # seconds of work


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a cache that only the tests here use."""
    return tmp_path_factory.mktemp("cold")


@pytest.fixture(scope="module")
def town(cold: Path) -> tuple[Scenario, Network]:
    """Return a scenario that is made from the town's map, mesoscopic parameters included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.CACHE_VARIABLE, str(cold / "town"))
        made = new_scenario("town", TOWN, agents=4, changes=["demand.warmup_s=300"], with_meso=True)
        return made, roads("town", TOWN, made.network_options)


def near(gap: meso.Gap) -> bool:
    return abs(gap.light) < 0.10 and abs(gap.loaded) < 0.15 and gap.correlation > 0.7


@pytest.mark.slow
def test_a_new_scenario_has_its_level_and_a_mesoscopic_simulation_that_agrees(
    town: tuple[Scenario, Network], cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, network = town
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cold / "town"))
    level = calibration.measure(made, network)
    assert level.flows
    assert abs(level.level - made.demand.level) <= LEVEL_TOLERANCE
    seeds = made.seeds.validation[:2]  # which calibration has not seen
    gap = meso._gap(meso._times(made, network, seeds), meso._times(made, network, seeds, "meso"))
    assert near(gap), gap


@pytest.mark.slow
@pytest.mark.osm
@pytest.mark.timeout(1200)
def test_a_city_has_its_level_and_a_mesoscopic_simulation_that_agrees(
    osm_dir: Path, cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cold / "city"))
    source = osm_dir / "orlando_ucf_alafaya_20250228.osm"
    made = new_scenario("city", source, with_meso=True)
    network = roads("city", source, made.network_options)
    assert abs(calibration.measure(made, network).level - made.demand.level) <= LEVEL_TOLERANCE
    seeds = made.seeds.validation[:1]
    gap = meso._gap(meso._times(made, network, seeds), meso._times(made, network, seeds, "meso"))
    assert near(gap), gap


@pytest.mark.slow
def test_each_traffic_seed_is_driven_once(
    town: tuple[Scenario, Network], cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, network = town
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cold / "town"))
    driven: list[int] = []
    drive = edge_times._driven

    def noted(scenario: Scenario, network: Network, seed: int) -> edge_times.Sample:
        driven.append(seed)
        return drive(scenario, network, seed)

    monkeypatch.setattr(edge_times, "_driven", noted)
    edge_times.measured(made, network, None, made.seeds.training[:4])
    assert driven == [made.seeds.training[3]]  # the others are those of the calibration and of the choice of trips


def brief(cold: Path, name: str, workers: int | None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cold / name))
    with sumo.limited(workers):
        return to_toml(new_scenario("brief", TOWN, agents=4, changes=BRIEF, with_meso=True))


def test_one_and_two_workers_and_a_killed_run_give_the_same_scenario(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = brief(cold, "one", 1, monkeypatch)
    assert brief(cold, "two", 2, monkeypatch) == alone

    folder = cold / "killed"
    command = [sys.executable, "-c", "from relid_sumo.cli.main import main; main()", "scenario", "new", "brief"]
    command += ["--osm", str(TOWN), "--agents", "4", "--folder", str(cold / "out")]
    command += [word for change in BRIEF for word in ("--set", change)]
    environment = {**os.environ, cache.CACHE_VARIABLE: str(folder), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(folder.glob("samples/*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cold / "out").exists()
    before = {file: file.stat().st_mtime_ns for file in folder.glob("samples/*.npz")}
    assert brief(cold, "killed", None, monkeypatch) == alone
    assert before.items() <= {file: file.stat().st_mtime_ns for file in folder.glob("samples/*.npz")}.items()


def test_a_rough_draft_can_be_driven_and_says_what_is_rough(
    cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(cold / "quick"))
    made = new_scenario("quick", TOWN, agents=4, changes=BRIEF, with_meso=True, quick=True)
    assert [line.partition(":")[0] for line in made.rough] == ["demand.rate_vph", "meso", "trips"]
    assert not list((cold / "quick").glob("samples/*"))  # nothing is driven microscopically
    read = override(read_scenario(write_scenario(made, tmp_path / "quick")), ["reward.w_d=0.2"])
    assert read.rough == made.rough
    ready = prepare(read, simulators=("micro", "meso"))
    assert ready.options(0, "meso")
    assert "scenario 'quick' is a rough draft (--quick): demand.rate_vph: from the mesoscopic" in caplog.text
    assert prepare(made.model_copy(update={"rough": ()})).identity() == prepare(made).identity()


def test_a_scenario_is_not_drafted_again() -> None:
    with pytest.raises(InputError, match="--quick drafts a scenario from a map, and 'town' is none; leave it out"):
        load_scenario("town", quick=True)
