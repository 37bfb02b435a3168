"""A scenario's own route file: SUMO runs it, counts what it makes of it, and measures it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive
from relid_sumo.env.policies import Policy
from relid_sumo.scenario.given import times
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Demand, Scenario
from relid_sumo.scenario.traffic import calibration, own_traffic
from relid_sumo.sed.programs.feedback import without_one_vehicle

pytestmark = pytest.mark.sumo

WARMUP_S = 60


def route_of(ready: PreparedScenario) -> list[str]:
    """Return the edges of a route through the town."""
    task = ready.task
    return [str(task.graph.edge_ids[edge]) for edge in task.route(1, int(task.origin[1]))]


def with_demand(ready: PreparedScenario, folder: Path, lines: str, name: str = "own.rou.xml") -> Scenario:
    """Return the town with own demand; EDGES, FIRST and LAST stand for a route through it and its ends."""
    route = route_of(ready)
    for word, edges in (("EDGES", " ".join(route)), ("FIRST", route[0]), ("LAST", route[-1])):
        lines = lines.replace(word, edges)
    content = f"<routes>\n{lines}\n</routes>\n".encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    demand = Demand(route_file=name, warmup_s=WARMUP_S)
    return ready.scenario.model_copy(update={"demand": demand, "folder": folder, "horizon_s": 600.0, "meso": None})


ENDS = 'from="FIRST" to="LAST"'
NAMED_ROUTE = '<route id="r" edges="EDGES"/>'
CASES = {
    "vehicles": ('<vehicle id="a" depart="60"><route edges="EDGES"/></vehicle>', (1, 1, 0), 1),
    "trips": (f'<trip id="a" depart="60" {ENDS}/><trip id="b" depart="90" {ENDS}/>', (2, 2, 0), 2),
    "a flow by number": (f'{NAMED_ROUTE}<flow id="f" begin="60" end="160" number="10" route="r"/>', (10, 10, 0), 10),
    "a flow by rate": ('<flow id="f" begin="60" end="420" vehsPerHour="100" from="FIRST" to="LAST"/>', (10, 10, 0), 10),
    "a flow beyond the end": (f'<flow id="f" begin="60" end="9999" period="60" {ENDS}/>', (10, 10, 0), 8),
    "times of the clock": (f'{NAMED_ROUTE}<vehicle id="a" depart="0:01:30" route="r"/>', (1, 1, 0), 1),
    "before the agents": (f'{NAMED_ROUTE}<vehicle id="a" depart="5" route="r"/>', (1, 1, 0), 0),
    "own types": (
        '<vType id="lorry" vClass="truck" maxSpeed="6"/><vTypeDistribution id="mix"><vType id="slow" maxSpeed="5" '
        f'probability="0.5"/><vType id="fast" probability="0.5"/></vTypeDistribution>{NAMED_ROUTE}'
        '<vehicle id="a" type="lorry" depart="60" route="r"/>'
        '<flow id="f" type="mix" begin="60" end="90" number="6" route="r"/>',
        (7, 7, 0),
        7,
    ),
    "a car that waits for a person": (
        '<vehicle id="cab" depart="triggered"><route edges="EDGES"/></vehicle>'
        '<person id="p" depart="70"><ride from="FIRST" to="LAST" lines="cab"/></person>'
        '<vehicle id="a" depart="60"><route edges="EDGES"/></vehicle>',
        (2, 2, 0),
        1,
    ),
    "trams where there are no rails": (
        f'<vType id="tram" vClass="tram"/>{NAMED_ROUTE}'
        '<flow id="t" type="tram" begin="60" end="90" number="3" route="r"/>'
        '<vehicle id="a" depart="60" route="r"/>',
        (4, 1, 3),
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_own_demand_is_measured_as_sumo_runs_it(town_ready: PreparedScenario, tmp_path: Path, case: str) -> None:
    lines, (loaded, departed, dropped), trips = CASES[case]
    ready = prepare(with_demand(town_ready, tmp_path, lines))
    found = own_traffic.check(ready.scenario, ready.network, str(ready.demand))
    assert (found.loaded, found.departed, found.dropped) == (loaded, departed, dropped)
    assert ("tram" in case) == ("is not allowed to depart" in found.describe())
    measured = calibration.measure(ready.scenario, ready.network, samples=1)
    assert measured.trips == trips
    assert measured.rate_vph == pytest.approx(trips / calibration.MEASURE_S * 3600)
    if trips:
        free = float(
            town_ready.network.graph.free_flow_s[town_ready.task.route(1, int(town_ready.task.origin[1]))].sum()
        )
        assert 0.5 * free < measured.light_s
        assert abs(measured.level) < 0.5
    record = drive(ready.task, Job(0, ready.options(0), Policy("shortest"), background=True))
    assert record.background_vehicle_s > 0 or not trips


def test_slow_vehicles_are_as_slow_in_light_traffic(town_ready: PreparedScenario, tmp_path: Path) -> None:
    slow = f'<vType id="slow" maxSpeed="6"/>{NAMED_ROUTE}<vehicle id="a" type="slow" depart="60" route="r"/>'
    scenario = with_demand(town_ready, tmp_path, slow)
    measured = calibration.measure(scenario, town_ready.network, samples=1)
    assert measured.light_s == pytest.approx(measured.loaded_s, rel=0.1)  # else the type was lost on one side


@pytest.mark.parametrize("name", ["own.rou.xml.gz", "own.gz"])
def test_packed_route_files_are_read(town_ready: PreparedScenario, tmp_path: Path, name: str) -> None:
    ready = prepare(with_demand(town_ready, tmp_path, CASES["trips"][0], name))
    assert calibration.measure(ready.scenario, ready.network, samples=1).trips == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('<vehicle id="AGENT" depart="60"><route edges="EDGES"/></vehicle>', "ids of agents: 'AGENT'; rename"),
        ('<trip id="AGENT" depart="9999" from="FIRST" to="LAST"/>', "ids of agents: 'AGENT'; rename"),
        ('<vType id="agent" maxSpeed="8"/>', "vehicle type 'agent'.*give yours another id"),
        (
            '<vType id="agent_rerouting"/><vType id="DEFAULT_VEHTYPE"/>',
            "vehicle type 'DEFAULT_VEHTYPE', 'agent_rerouting'",
        ),
        ('<vehicle id="a" depart="60"><route edges="nowhere"/></vehicle>', "SUMO cannot run .*nowhere"),
        ('<vehicle id="a" depart="60" route="nothing"/>', "SUMO cannot run .*nothing"),
        (
            f'{NAMED_ROUTE}<vehicle id="a" depart="60" route="r"/><vehicle id="a" depart="61" route="r"/>',
            "SUMO cannot.*'a'",
        ),
        (f'{NAMED_ROUTE}<vehicle id="a" type="ufo" depart="60" route="r"/>', "SUMO cannot run .*ufo"),
        (f'{NAMED_ROUTE}<vehicle id="a" depart="soon" route="r"/>', "SUMO cannot run .*depart"),
    ],
)
def test_what_cannot_be_run_is_said_when_it_is_loaded(
    town_ready: PreparedScenario, tmp_path: Path, lines: str, message: str
) -> None:
    agent = town_ready.scenario.trips[0].id
    scenario = with_demand(town_ready, tmp_path, lines.replace("AGENT", agent))
    with pytest.raises(InputError, match=message.replace("AGENT", agent)) as caught:
        prepare(scenario)
    assert str(caught.value).startswith(str(tmp_path / "own.rou.xml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("0:01:30", 90),
        ("01:00:00", 3600),
        ("1:00:00:00.5", 86400.5),
        ("triggered", None),
        ("", None),
    ],
)
def test_times_of_route_files(text: str, seconds: float | None) -> None:
    assert times.seconds(text) == (
        pytest.approx(seconds) if seconds is not None else pytest.approx(float("nan"), nan_ok=True)
    )


def test_a_probe_leaves_out_one_vehicle_whatever_the_times_look_like(tmp_path: Path) -> None:
    file = tmp_path / "own.rou.xml"
    file.write_text(
        '<routes><vehicle id="cab" depart="triggered"/><vehicle id="early" depart="5"/><trip id="a" depart="0:01:30"/>'
        '<vehicle id="b" depart="99"/></routes>'
    )
    (folder := tmp_path / "new").mkdir()
    options = without_one_vehicle(["-r", str(file)], folder, 60.0)
    assert options == ("-r", str(folder / "own.rou.xml"))
    left = Path(options[1]).read_text()
    assert [f'id="{name}"' in left for name in ("cab", "early", "a", "b")] == [True, True, False, True]
