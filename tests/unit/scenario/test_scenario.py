from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import check_name
from relid_sumo.base.toml import load_toml, validate
from relid_sumo.network.catalogue import NetworkSettings
from relid_sumo.scenario.files import ANSWERS, FILE, override, placed, to_toml, write_scenario
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.settings import Demand, Observation, Place, Reward, Scenario, Seeds, Trip

HERE = Place(lon=4.9, lat=52.4, bearing=12.5)
TRIP = """
[[trips]]
id = "a"
depart_s = 10
origin = { lon = 4.9, lat = 52.4, bearing = 12.5 }
destination = { lon = 4.91, lat = 52.41, bearing = 0 }
"""


def scenario(**changes: Any) -> Scenario:  # noqa: ANN401 - as Scenario
    trips = tuple(Trip(id=f"a{i}", origin=HERE, destination=HERE, depart_s=10.0 * i) for i in range(2))
    return Scenario.model_validate({"name": "here", "network": "here", "trips": trips, **changes})


def written(folder: Path, text: str) -> Path:
    file = folder / "scenario.toml"
    file.write_text(text, encoding="utf-8")
    return file


# --- what is not a scenario -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("horizon = 600" + TRIP, r"unknown key 'horizon' \(did you mean 'horizon_s'\?\)"),
        ("[demand]\nlevl = 0.2" + TRIP, r"unknown key 'demand.levl' in \[demand\] \(did you mean 'level'\?\)"),
        ("[reward]\nwd = 1" + TRIP, r"unknown key 'reward.wd' in \[reward\] \(did you mean 'w_d'\?\)"),
        (TRIP + "colour = 1", r"unknown key 'trips\[0\].colour' in \[trips\[0\]\]"),
        ('horizon_s = "long"' + TRIP, "horizon_s = 'long': input should be a valid number"),
        ("horizon_s = 0" + TRIP, "horizon_s = 0: input should be greater than 0"),
        ("horizon_s = inf" + TRIP, "horizon_s = inf: input should be a finite number"),
        ("step_length_s = 2" + TRIP, "step_length_s = 2: input should be less than or equal to 1"),
        ("[demand]\nwarmup_s = nan" + TRIP, "demand.warmup_s = nan: input should be"),
        ('[observation]\ndistance = "time-to-go"' + TRIP, "observation.distance = 'time-to-go': input should be"),
        ("[demand]\nprofile = [[0, 1], [0, 2]]" + TRIP, "profile: give .* rising times"),
        ("[demand]\nprofile = []" + TRIP, "profile: give"),
        ("[demand]\nprofile = [[0, -1]]" + TRIP, "profile: give .* at least 0"),
        ("[seeds]\ntraining=[1]\nvalidation=[2]\nevaluation=[1]" + TRIP, "seeds: .* must not share a seed"),
        ("[seeds]\ntraining=[1, 1]\nvalidation=[2]\nevaluation=[3]" + TRIP, "seeds: .* hold one twice"),
        ("[seeds]\ntraining=[1]\nvalidation=[]\nevaluation=[3]" + TRIP, "seeds: .* at least one"),
        ("[seeds]\ntraining=[-1]\nvalidation=[2]\nevaluation=[3]" + TRIP, "seeds: .* at least 0"),
        ("[seeds]\ntraining=[1]" + TRIP, "key 'seeds.validation' is missing"),
        (TRIP + TRIP, "trips: the id 'a' is given twice"),
        ("horizon_s = 10" + TRIP, "horizon_s: 10 s ends before trip 'a' departs"),
        ("trips = []", "trips: there are no agents; give trips"),
        ("[fleet]\nshare = 0.2" + TRIP, "fleet: a scenario has either trips or a fleet; remove"),
        ("[fleet]\nshare = 0.2\ncount = 5", "fleet = .*both share and count are given; remove one"),
        ("[fleet]\nmin_distance_m = 500", "fleet = .*it has no size; give share, such as 0.2, or count"),
        ("[fleet]\nshare = 0", "fleet.share = 0: input should be greater than 0"),
        ("[fleet]\nshare = 1.2", "fleet.share = 1.2: input should be less than or equal to 1"),
        (
            "[fleet]\ncount = 5\nbegin_s = 1000",
            "fleet: departures from 1000 s to 900 s are not within horizon_s = 1800",
        ),
        ("[fleet]\ncount = 5\nend_s = 2000", "fleet: departures from 0 s to 2000 s are not within horizon_s = 1800"),
        ("[fleet]\ncount = 5\nbegin_s = 30\nend_s = 20", "fleet.end_s = 20: not after begin_s = 30"),
        (TRIP.replace('"a"', '"a b"'), r"trips\[0\].id = 'a b': string should match"),
        (TRIP.replace("lat = 52.4,", "lat = 152.4,"), r"trips\[0\].origin.lat = 152.4: .* less than or equal to 90"),
        (TRIP.replace("lat = 52.4,", ""), r"trips\[0\].origin = .*key 'lat' is missing"),
    ],
)
def test_a_fault_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, 'name = "here"\nnetwork = "here"\n' + text)
    with pytest.raises(InputError, match=message) as caught:
        load_scenario(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_the_defaults_are_a_scenario(tmp_path: Path) -> None:
    loaded = load_scenario(written(tmp_path, 'name = "here"\nnetwork = "here"' + TRIP))
    assert loaded.n_agents == 1
    assert loaded.folder == tmp_path.resolve()
    assert (loaded.start_s, loaded.end_s) == (600.0, 2400.0)
    assert [len(part) for part in (loaded.seeds.training, loaded.seeds.validation, loaded.seeds.evaluation)] == [
        16,
        5,
        20,
    ]


# --- by name ----------------------------------------------------------------------------------------------------------


def test_a_scenario_is_found_by_name_folder_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_scenario(scenario(), tmp_path / "scenarios" / "riverside")
    found = [load_scenario(what) for what in ("riverside", file, file.parent, str(file.parent))]
    assert all(one == found[0] for one in found)
    for wrong in ("riversde", "scenarios/riverside/x.toml"):
        with pytest.raises(InputError, match=f"there is no scenario '{wrong}'"):
            load_scenario(wrong)
    with pytest.raises(InputError, match=r"did you mean 'riverside'\?\); known are .*riverside"):
        load_scenario("riversde")
    with pytest.raises(InputError, match="--bbox"):
        load_scenario("riverside", bbox=(0, 0, 1, 1))


def test_a_run_may_name_the_map_of_a_scenario_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs made before there were notes of what the user has named can be evaluated too."""
    write_scenario(placed(load_scenario("town")), tmp_path / "run")
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "new"))
    assert load_scenario(tmp_path / "run").network.endswith("town.osm")
    text = (tmp_path / "run" / FILE).read_text()
    (tmp_path / "run" / FILE).write_text(text.replace("scenarios/town/town.osm", "pyproject.toml"))
    with pytest.raises(InputError, match="lies outside"):
        load_scenario(tmp_path / "run")


def test_a_scenario_is_not_overwritten(tmp_path: Path) -> None:
    file = write_scenario(scenario(), tmp_path / "s")
    before = file.read_bytes()
    with pytest.raises(InputError, match="exists; choose another name"):
        write_scenario(scenario(horizon_s=900.0), tmp_path / "s")
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == ["scenario.toml"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_scenario(scenario(), tmp_path / "file" / "s")


def test_recorded_answers_go_with_a_scenario(tmp_path: Path) -> None:
    file = write_scenario(scenario(), tmp_path / "s")
    (file.parent / ANSWERS).mkdir()
    (file.parent / ANSWERS / "one.md").write_text("an answer")
    copy = write_scenario(load_scenario(file), tmp_path / "run")
    assert (copy.parent / ANSWERS / "one.md").read_text() == "an answer"


# --- round trip -------------------------------------------------------------------------------------------------------

PLACES = st.builds(Place, lon=st.floats(-180, 180), lat=st.floats(-90, 90), bearing=st.floats(0, 360, exclude_max=True))
WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)


def is_name(text: str) -> bool:
    try:
        return check_name(text) == text
    except ValueError:
        return False


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    n = draw(st.integers(1, 4))
    numbers = draw(st.lists(st.integers(0, 10**6), min_size=3, max_size=9, unique=True))
    times = sorted(draw(st.sets(st.floats(0, 1e5), min_size=1, max_size=4)))
    return Scenario(
        name=draw(st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,40}[A-Za-z0-9_-])?", fullmatch=True).filter(is_name)),
        network=draw(WORDS),
        network_options=NetworkSettings(bbox=draw(st.none() | st.tuples(*[st.floats(-180, 180)] * 4))),
        horizon_s=draw(st.floats(101, 6e5)),
        step_length_s=draw(st.floats(0.01, 1)),
        observation=Observation(
            distance=draw(st.sampled_from(["straight", "network", "time"])),
            congestion=draw(st.sampled_from(["ewma", "instant"])),
            window_s=draw(st.floats(10, 1e4)),
        ),
        reward=Reward(w_d=draw(st.floats(0, 10))),
        demand=Demand(
            level=draw(st.floats(0, 2)),
            rate_vph=draw(st.none() | st.floats(0, 1e5)),
            profile=tuple((t, draw(st.floats(0, 9))) for t in times),
            route_file=draw(st.none() | WORDS),
        ),
        seeds=Seeds(training=tuple(numbers[2:]), validation=(numbers[0],), evaluation=(numbers[1],)),
        trips=tuple(
            Trip(id=f"a{i}", origin=draw(PLACES), destination=draw(PLACES), depart_s=draw(st.floats(0, 100)))
            for i in range(n)
        ),
    )


@settings(deadline=None, max_examples=60)
@given(one=scenarios())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, one: Scenario) -> None:
    file = written(tmp_path_factory.getbasetemp(), to_toml(one, ["made for a test", "of two lines"]))
    assert load_toml(file, Scenario) == one
    assert file.read_text(encoding="utf-8").startswith("# made for a test\n# of two lines\n")


def test_every_value_is_visible_and_explained() -> None:
    text = to_toml(scenario())
    for line in ("w_d = 0.1", "level = 0.3", "# rate_vph =", "warmup_s = 600.0", "[seeds]", "[[trips]]", "window_s"):
        assert f"\n{line}" in text
    assert "# Weight of the distance, s/m:" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "folder" not in text


# --- override ---------------------------------------------------------------------------------------------------------


def test_a_changed_demand_is_calibrated_anew() -> None:
    one = scenario(demand=Demand(rate_vph=500.0)).model_copy(update={"folder": Path("/somewhere")})
    for change in ("demand.level=0.5", "demand.fringe_factor = 2", "demand.profile=[[0, 1]]", "demand.max_running=9"):
        assert override(one, [change]).demand.rate_vph is None
    for change in ("horizon_s=900", "demand.route_file=own.rou.xml", "reward.w_d=0", "seeds.training=[7, 8]"):
        assert override(one, [change]).demand.rate_vph == 500.0
    assert override(one, ["demand.level=0.5", "demand.rate_vph=700"]).demand.rate_vph == 700.0
    assert override(one, ["demand.level=0.5"]).folder == Path("/somewhere")
    assert override(one, []) is one


def test_values_are_read_as_toml_has_them() -> None:
    changed = override(
        scenario(),
        [
            "name=elsewhere",
            'network="a.osm"',
            "horizon_s= 900 ",
            "observation.distance=network",
            "seeds.training=[7, 8]",
            "network_options.bbox=[1, 2, 3, 4]",
            "step_length_s=0.5",
        ],
    )
    assert (changed.name, changed.network, changed.horizon_s, changed.step_length_s) == (
        "elsewhere",
        "a.osm",
        900.0,
        0.5,
    )
    assert changed.observation.distance == "network"
    assert changed.seeds.training == (7, 8)
    assert changed.network_options.bbox == (1.0, 2.0, 3.0, 4.0)
    assert changed.trips == scenario().trips


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("demand.levl=0.4", r"unknown key 'demand.levl' in \[demand\] \(did you mean 'level'\?\)"),
        ("dmand.level=0.4", r"unknown key 'dmand' \(did you mean 'demand'\?\)"),
        ("demand.level", "demand.level: write it as key=value"),
        ("=0.4", "=0.4: write it as key=value"),
        ("demand.level=much", "demand.level = 'much': input should be a valid number"),
        ("demand.level=3", "demand.level = 3: input should be less than or equal to 2"),
        ("demand.level=", "demand.level = '': input should be a valid number"),
        ("name.first=x", "'name' contains no settings"),
        ("trips.0=x", "'trips' contains no settings"),
        ("horizon_s=5", "5 s ends before trip 'a1' departs"),
        ("demand=0.4", "demand = 0.4: input should be"),
    ],
)
def test_a_change_that_cannot_be(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        override(scenario(), [change])
    assert str(caught.value).startswith("--set")


def test_a_scenario_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        scenario().horizon_s = 3.0
    assert validate(scenario().model_dump(), Scenario, "x") == scenario()


@pytest.mark.parametrize("change", ["horizon_s=true", 'horizon_s="3"', 'folder="x"', "trips.depart_s=1"])
def test_types_are_what_toml_has(change: str) -> None:
    with pytest.raises(InputError, match="--set"):
        override(scenario(), [change])
