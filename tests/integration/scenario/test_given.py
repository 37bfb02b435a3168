"""SUMO scenarios of others: the same traffic as in plain SUMO, and one message for each fault."""

from __future__ import annotations

import gzip
import logging
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import drive, job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.network import network, sumo_net
from relid_sumo.network.network import Network
from relid_sumo.scenario import trips
from relid_sumo.scenario.given import source
from relid_sumo.scenario.given.source import Inputs
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import prepare
from relid_sumo.scenario.routes import alternatives, shared
from relid_sumo.scenario.settings import Place, Scenario, Trip
from relid_sumo.scenario.traffic import own_traffic, readings
from relid_sumo.scenario.traffic.demand import own_demand

pytestmark = pytest.mark.sumo

END_S = 400
ENDS = 'from="A0B0" to="D3C3"'
ROUTE = "A0B0 B0C0 C0D0 D0D1 D1D2 D2D3 D3C3"
CARS = f'<flow id="cars" begin="0" end="300" period="20" {ENDS}/>'
TAZ = (
    '<taz id="z1" edges="A0B0 A0A1"/>'
    '<taz id="z2"><tazSource id="D3C3" weight="1"/><tazSink id="C3D3" weight="1"/></taz>'
)
STOP = '<busStop id="stop" lane="B0C0_1" startPos="10" endPos="30"/>'
# Routes, additional elements and options of a configuration; vehicles and persons that SUMO loads.
CASES = {
    "flows": (CARS, "", {}),
    "trips that need routing": ("".join(f'<trip id="t{i}" depart="{9 * i}" {ENDS}/>' for i in range(5)), "", {}),
    "routes of the additional file": (
        '<flow id="f" route="named" begin="0" end="100" number="5"/>',
        f'<route id="named" edges="{ROUTE}"/>',
        {},
    ),
    "distributions of types": (
        f'<vTypeDistribution id="mix"><vType id="a" probability="0.5"/><vType id="b" vClass="truck" probability="0.5" '
        f'imgFile="car.png"/></vTypeDistribution><flow id="f" type="mix" begin="0" end="200" number="10" {ENDS}/>',
        "",
        {},
    ),
    "a default type and types of the agents": (
        f'<vType id="DEFAULT_VEHTYPE" maxSpeed="8"/><vType id="agent" vClass="taxi"/>{CARS}'
        f'<flow id="taxis" type="agent" begin="10" end="100" number="3" {ENDS}/>',
        "",
        {},
    ),
    "zones": ('<flow id="f" begin="0" end="200" number="8" fromTaz="z1" toTaz="z2"/>', TAZ, {}),
    "junctions": (
        '<trip id="j" depart="3" fromJunction="A0" toJunction="D3"/>',
        "",
        {"junction-taz": "true"},
    ),
    "buses with stops": (
        f'<vType id="bus" vClass="bus"/><vehicle id="bus1" type="bus" depart="5"><route edges="{ROUTE}"/>'
        '<stop busStop="stop" duration="20"/></vehicle>' + CARS.replace('begin="0"', 'begin="10"'),
        STOP,
        {},
    ),
    "parking, rerouters, speed signs and detectors": (
        f'{CARS.replace("/>", "")}><stop parkingArea="p" duration="10"/></flow>',
        '<parkingArea id="p" lane="B0C0_1" startPos="20" endPos="90" roadsideCapacity="8"/>'
        '<rerouter id="r" edges="C0D0"><interval begin="0" end="900"><closingReroute id="D1D2"/></interval></rerouter>'
        '<variableSpeedSign id="v" lanes="C0D0_0"><step time="50" speed="5"/></variableSpeedSign>'
        '<inductionLoop id="loop" lane="C0D0_0" pos="5" freq="60" file="loop.xml"/>'
        '<poly id="park" color="green" shape="0,0 9,9 9,0"/><edgeData id="e" file="edges.xml"/>',
        {},
    ),
    "signal programs": (
        CARS,
        '<tlLogic id="B1" type="actuated" programID="mine" offset="0"><param key="file" value="tls.xml"/>'
        '<phase duration="30" minDur="5" maxDur="40" state="GGGggrrrrrGGGggrrrrr"/>'
        '<phase duration="4" state="yyyyyrrrrryyyyyrrrrr"/>'
        '<phase duration="30" minDur="5" maxDur="40" state="rrrrrGGGggrrrrrGGGgg"/>'
        '<phase duration="4" state="rrrrryyyyyrrrrryyyyy"/></tlLogic>',
        {},
    ),
    "calibrators": (
        CARS,
        f'<route id="c" edges="{ROUTE}"/><calibrator id="cal" edge="C0D0" pos="2" freq="60" output="cal.xml">'
        '<flow begin="0" end="300" route="c" vehsPerHour="120" speed="10" type="DEFAULT_VEHTYPE"/></calibrator>',
        {},
    ),
    "triggered departures": (
        f'<person id="p" depart="10"><ride from="A0B0" to="D3C3" lines="cab"/></person>'
        f'<vehicle id="cab" depart="triggered"><route edges="{ROUTE}"/></vehicle>' + CARS,
        "",
        {"route-steps": "0"},
    ),
    "persons that walk": ('<person id="p" depart="10"><walk from="A0B0" to="B0C0"/></person>', "", {}),
    "vehicles out of order": (
        f'<trip id="late" depart="90" {ENDS}/><trip id="early" depart="20" {ENDS}/>'
        f'<trip id="last" depart="95" {ENDS}/>',
        "",
        {},
    ),
    "a factor on the demand": (CARS, "", {"scale": "2"}),
    "vehicles before the begin": (CARS, "", {"begin": "100"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network of 4 x 4 junctions with sidewalks and a signal."""
    file = tmp_path_factory.mktemp("grid") / "grid.net.xml"
    options = "--grid --grid.number 4 --grid.length 150 --tls.set B1 --sidewalks.guess --crossings.guess --seed 1"
    sumo.run("netgenerate", [*options.split(), "-o", str(file)])
    return file


def written(folder: Path, grid: Path, routes: str, additional: str = "", options: dict[str, str] | None = None) -> Path:
    """Write a configuration with its files into a folder."""
    (folder / "my.net.xml").write_bytes(grid.read_bytes())
    files = {"net-file": "my.net.xml", "route-files": "", "additional-files": ""}
    if routes:
        (folder / "my.rou.xml").write_text(f"<routes>{routes}</routes>")
        files["route-files"] = "my.rou.xml"
    if additional:
        (folder / "my.add.xml").write_text(f"<additional>{additional}</additional>")
        files["additional-files"] = "my.add.xml"
    every = {"begin": "0", "end": str(END_S)} | files | (options or {})
    words = "".join(f'<{name} value="{value}"/>' for name, value in every.items() if value)
    (folder / "my.sumocfg").write_text(f"<configuration><input>{words}</input></configuration>")
    return folder / "my.sumocfg"


def with_trips(given: source.Given, name: str = "grid") -> Scenario:
    """Return a scenario of a given demand with one agent."""
    trip = Trip(id=f"{given.prefix}0", origin=Place(edge="A0A1"), destination=Place(edge="C3D3"), depart_s=0)
    left_s = given.left_s or 900.0
    return Scenario(name=name, network=str(given.net), trips=(trip,), horizon_s=left_s, **given.settings)


def plain(config: Path, folder: Path) -> dict[str, int]:
    """Return the numbers of vehicles and persons in plain SUMO."""
    file = folder / "statistics.xml"
    sumo.run("sumo", ["-c", str(config), "--statistic-output", str(file), "--no-step-log", "--xml-validation", "never"])
    root = ET.parse(file).getroot()
    vehicles, persons = root.find("vehicles"), root.find("persons")
    assert vehicles is not None
    assert persons is not None
    return {
        "loaded": int(vehicles.get("loaded", "0")),
        "departed": int(vehicles.get("inserted", "0")),
        "persons": int(persons.get("loaded", "0")),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_traffic_is_that_of_plain_sumo(
    name: str, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes, additional, options = CASES[name]
    config = written(tmp_path, grid, routes, additional, options)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(there)
    expected = plain(config, there)
    assert expected["departed"] + expected["persons"] > 0, "this tests nothing: no vehicle departs in plain SUMO"
    before = {file.name for file in tmp_path.iterdir()}
    monkeypatch.chdir(here)
    scenario = with_trips(source.read(config, Inputs(), {}))
    roads = network.build(tmp_path / "my.net.xml", name="grid")
    found = own_traffic.check(scenario, roads, str(own_demand(scenario)))
    assert {"loaded": found.loaded, "departed": found.departed, "persons": found.persons} == expected
    merged = Path(str(scenario.demand.route_file)).read_text()
    for place in ("busStop=", "parkingArea="):
        assert (place in merged) == (place in routes)
    assert {file.name for file in tmp_path.iterdir()} == before, "an output was written"
    assert not list(here.iterdir())


def test_files_are_separated_by_commas_and_spaces_and_may_be_packed(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS)
    for name, text in (("a.xml", STOP), ("b.xml", TAZ), ("c.xml", STOP.replace("stop", "other"))):
        (tmp_path / name).write_text(f"<additional>{text}</additional>")
    (tmp_path / "more.rou.xml.gz").write_bytes(
        gzip.compress(f"<routes>{CARS.replace('cars', 'more')}</routes>".encode())
    )
    text = config.read_text().replace(
        '<route-files value="my.rou.xml"/>',
        '<additional-files value="a.xml b.xml,c.xml"/><route-files value="my.rou.xml, more.rou.xml.gz"/>',
    )
    config.write_text(text)
    scenario = with_trips(source.read(config, Inputs(), {}))
    roads = network.build(tmp_path / "my.net.xml", name="grid")
    assert own_traffic.check(scenario, roads, str(own_demand(scenario))).loaded == 30
    stops = ET.parse(str(scenario.demand.additional_file)).getroot()
    assert [one.get("id") for one in stops] == ["stop", "z1", "z2", "other"]


def test_a_scenario_without_a_projection_names_edges(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS)
    scenario = load_scenario(config, agents=2)
    assert {trip.origin.lon for trip in scenario.trips} == {None}
    assert scenario.trips[0].origin.edge in network.build(tmp_path / "my.net.xml", name="grid").graph.index
    ready = prepare(scenario)
    assert ready.task.n_agents == 2
    assert scenario.start_s == 100
    assert scenario.end_s >= END_S


def test_agents_do_not_have_the_ids_of_vehicles(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS.replace('id="cars"', 'id="agent"'))
    scenario = with_trips(source.read(config, Inputs(), {}))
    assert scenario.trips[0].id == "rl_agent0"
    roads = network.build(tmp_path / "my.net.xml", name="grid")
    assert not own_traffic.check(scenario, roads, str(own_demand(scenario))).clashes


def test_a_long_configuration_is_cut_to_its_busiest_hour(
    grid: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    night = f'<flow id="night" begin="0" end="20000" period="600" {ENDS}/>'
    flows = night + f'<flow id="day" begin="9000" end="12600" period="60" {ENDS}/>'
    given = source.read(written(tmp_path, grid, flows, options={"end": "20000"}), Inputs(), {})
    assert (given.settings["demand"]["begin_s"], given.duration_s) == (9000, 3600)
    assert "busiest hour, from 9000 s on" in caplog.text


def test_options_that_change_traffic_are_taken_over_and_others_reported(
    grid: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = {
        "time-to-teleport": "-1",
        "step-length": "0.5",
        "ignore-junction-blocker": "20",
        "device.rerouting.probability": "0.3",
        "seed": "7",
        "tripinfo-output": "trips.xml",
        "gui-settings-file": "gone.xml",
        "remote-port": "8813",
        "load-state": "state.xml",
        "time-to-telport.highways": "3",
    }
    given = source.read(written(tmp_path, grid, CARS, options=options), Inputs(), {})
    assert given.settings["teleport_after_s"] == 1e9
    assert given.settings["step_length_s"] == 0.5
    taken = {"ignore-junction-blocker": 20.0, "device.rerouting.probability": 0.3, "tls.actuated.jam-threshold": -1.0}
    assert given.settings["demand"]["sumo"] == taken
    assert "outputs are not written: tripinfo-output" in caplog.text
    assert "gui-settings-file" in caplog.text
    assert "remote-port (no other program" in caplog.text
    assert "load-state is left out" in caplog.text
    assert "has no option time-to-telport.highways, did you mean" in caplog.text.replace(" (did", ", did")


FAULTS = {
    "a network is missing": ('<net-file value="gone.net.xml"/>', r"net-file = 'gone.net.xml': there is no such file"),
    "no network is named": ("", r"names no network"),
    "routes are missing": ('<net-file value="my.net.xml"/><route-files value="gone.xml"/>', r"'gone.xml': there is no"),
    "a file is outside": ('<net-file value="../my.net.xml"/>', r"lies outside .* --allow"),
    "a variable": ('<net-file value="${HOME}/my.net.xml"/>', r"environment variable"),
    "routes are a network": (
        '<net-file value="my.net.xml"/><route-files value="my.net.xml"/>',
        r"a SUMO network, where routes .* are needed",
    ),
    "the end is before the begin": (
        '<net-file value="my.net.xml"/><begin value="50"/><end value="20"/>',
        r"the end must follow the begin",
    ),
    "a time is none": ('<net-file value="my.net.xml"/><begin value="soon"/>', r"begin = 'soon': not a time"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_configuration_is_one_message(name: str, grid: Path, tmp_path: Path) -> None:
    words, message = FAULTS[name]
    config = written(tmp_path, grid, CARS)
    config.write_text(f"<configuration>{words}</configuration>")
    with pytest.raises(InputError, match=message):
        source.read(config, Inputs(), {})


def test_routes_of_another_network_are_one_message(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS.replace("A0B0", "elsewhere"))
    with pytest.raises(InputError, match=r"SUMO cannot run this demand .*elsewhere.* is not known"):
        load_scenario(config, agents=2)


def test_a_file_outside_is_read_where_the_user_names_it(grid: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    config = written(inside, grid, CARS)
    config.write_text(config.read_text().replace("my.net.xml", "../other.net.xml"))
    (tmp_path / "other.net.xml").write_bytes(grid.read_bytes())
    given = source.read(config, Inputs(allow=(tmp_path / "other.net.xml",)), {})
    assert given.net.resolve() == (tmp_path / "other.net.xml").resolve()


def built(folder: Path, options: str, name: str = "made") -> Network:
    """Return a network of netgenerate."""
    file = folder / f"{name}.net.xml"
    sumo.run("netgenerate", [*options.split(), "-o", str(file)])
    return network.build(file, name=name)


def test_a_network_without_cars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no road network for cars: 0 edges are open to cars.* 24 edges are closed.* allow passenger"
    ):
        built(tmp_path, "--grid --grid.number 3 --default.allow pedestrian")


def test_trips_are_in_the_strongly_connected_part(tmp_path: Path) -> None:
    """Roads that only lead out of the grid or into it stay in the network, and no trip starts or ends there."""
    roads = built(tmp_path, "--grid --grid.number 5 --grid.attach-length 100 --no-turnarounds")
    assert roads.summary["outcome"][sumo_net.APART] == {"ways": 40, "km": pytest.approx(4.0, rel=0.1)}
    assert roads.graph.n_edges == 120
    ends = {place.edge for trip in trips.choose(roads, 6) for place in (trip.origin, trip.destination)}
    strong = roads.graph.edge_ids[roads.graph.strong_component()].tolist()
    assert len(strong) == 80
    assert ends <= set(strong)


def test_a_network_without_a_strongly_connected_part_has_trips_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Roads in one direction only: networks of studies of route choice are like that."""
    nodes = {"a": (0, 0), "b": (300, 200), "c": (300, -200), "d": (600, 0), "e": (-300, 0), "f": (900, 0)}
    words = "".join(f'<node id="{name}" x="{x}" y="{y}"/>' for name, (x, y) in nodes.items())
    (tmp_path / "my.nod.xml").write_text(f"<nodes>{words}</nodes>")
    pairs = ("ea", "ab", "ac", "bd", "cd", "df")
    words = "".join(f'<edge id="{one}" from="{one[0]}" to="{one[1]}" numLanes="1"/>' for one in pairs)
    (tmp_path / "my.edg.xml").write_text(f"<edges>{words}</edges>")
    options = ["-n", "my.nod.xml", "-e", "my.edg.xml", "-o", "my.net.xml"]
    sumo.run("netconvert", [one if one.startswith("-") else str(tmp_path / one) for one in options])
    roads = network.build(tmp_path / "my.net.xml", name="one-way")
    chosen = trips.choose(roads, 10, fewer=True)
    assert [(trip.origin.edge, trip.destination.edge) for trip in chosen] == [("ea", "df")]
    assert "1 agents instead of 10" in caplog.text


def test_trips_have_the_best_second_routes_that_there_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On one block with long arms, routes around it share the arms."""
    roads = built(tmp_path, "--grid --grid.number 2 --grid.length 100 --grid.attach-length 150 --no-turnarounds")
    chosen = trips.choose(roads, 4, fewer=True)
    assert len(chosen) == 4
    assert "has 0 trips with two clearly different routes; trips are added" in caplog.text
    for trip in chosen:
        o, d = (roads.graph.index[str(place.edge)] for place in (trip.origin, trip.destination))
        first, second = alternatives(roads.graph, o, d, 2, trips.MORE_SHARED, trips.MORE_DETOUR)
        assert shared(roads.graph, second, first) < trips.MORE_SHARED


def test_a_network_without_a_choice_of_routes_is_refused(tmp_path: Path) -> None:
    roads = built(tmp_path, "--grid --grid.number 1 --grid.attach-length 200 --no-turnarounds", "junction")
    with pytest.raises(InputError, match=r"network 'junction' gives no trip of .* a choice between two routes"):
        trips.choose(roads, 10, fewer=True)


def test_random_factors_of_the_demand_do_not_end_the_preparation(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS, "", {"weights.random-factor": "1.2"})
    scenario = with_trips(source.read(config, Inputs(), {}))
    assert scenario.demand.sumo["weights.random-factor"] == 1.2
    rows = readings.sample(scenario, network.build(tmp_path / "my.net.xml", name="grid"), 0, "micro")
    assert rows.shape[0] > 0
    assert np.isfinite(rows).all()


def test_a_damaged_file_of_the_merged_demand_is_made_again(
    grid: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = written(tmp_path, grid, CARS.replace("20", "21"), STOP)
    demand = source.read(config, Inputs(), {}).settings["demand"]
    for key in ("route_file", "additional_file"):
        file = Path(demand[key])
        whole = file.read_bytes()
        file.write_bytes(whole[:-20])
        assert source.read(config, Inputs(), {}).settings["demand"] == demand
        assert file.read_bytes() == whole
    assert caplog.text.count("is deleted and made again") >= 2


def test_episodes_with_a_fleet_and_incidents_do_not_depend_on_the_workers(grid: Path, tmp_path: Path) -> None:
    config = written(tmp_path, grid, CARS.replace('period="20"', 'period="8"'))
    content = with_trips(source.read(config, Inputs(), {})).model_dump(exclude={"trips"})
    random = {"random": {"count": 1, "duration_s": 100.0}}
    ready = prepare(Scenario.model_validate({**content, "fleet": {"share": 0.3}, "incidents": [random]}))
    jobs = [job(ready, seed, Policy("random", seed=3)) for seed in (0, 1, 2, 200)]
    digests = []
    for workers in (1, 2, 4):
        with Rollouts(ready.task, workers) as rollouts:
            digests.append([one.digest for one in rollouts.run(jobs)])
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == len(jobs)
    assert len(drive(ready.task, jobs[0]).status) > 1


def test_a_broken_network_is_refused_with_the_fix(grid: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.net.xml"
    file.write_text(grid.read_text().replace('<connection from="A0A1"', '<connection from="nowhere"'))
    with pytest.raises(InputError, match=r"SUMO .* cannot load this network.*nowhere.*netconvert -s broken.net.xml"):
        network.build(file, name="broken")


def test_traffic_that_cannot_drive_on_the_network_is_one_message(tmp_path: Path) -> None:
    roads = built(tmp_path, "--grid --grid.number 4 --default.disallow rail")
    train = (
        '<vType id="train" vClass="rail"/><vehicle id="t" type="train" depart="1"><route edges="A0B0 B0C0"/></vehicle>'
    )
    scenario = with_trips(source.read(written(tmp_path, tmp_path / "made.net.xml", train), Inputs(), {}))
    with pytest.raises(InputError, match=r"none of its vehicles can drive on network 'made' \(.*'t'.*not allowed"):
        own_traffic.check(scenario, roads, str(own_demand(scenario)))
