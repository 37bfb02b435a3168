"""Traffic of a SUMO network from a matrix of trips or from counts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.network import network
from relid_sumo.network.network import Network
from relid_sumo.scenario.given import counts, matrix, source
from relid_sumo.scenario.given.counts import GOOD_GEH, GOOD_SHARE, Count
from relid_sumo.scenario.given.source import Inputs
from relid_sumo.scenario.settings import Place, Scenario, Trip
from relid_sumo.scenario.traffic import own_traffic
from relid_sumo.scenario.traffic.demand import own_demand

pytestmark = pytest.mark.sumo


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Network:
    file = tmp_path_factory.mktemp("data") / "grid.net.xml"
    sumo.run("netgenerate", ["--grid", "--grid.number", "5", "--grid.length", "150", "--seed", "1", "-o", str(file)])
    return network.build(file, name="grid")


def ends(file: Path) -> Counter[tuple[str, str]]:
    """Return how many vehicles of a route file drive between two edges."""
    routes = [vehicle.find("route") for vehicle in ET.parse(file).getroot().iter("vehicle")]
    edges = [route.get("edges", "").split() for route in routes if route is not None]
    return Counter((one[0], one[-1]) for one in edges)


TABLE = "from,to,count,begin,end\nA0B0,D3D4,12,0,600\nA0A1,E2E3,7,0:10:00,0:20:00\nB0B1,C1C2,0,0,600\n"
IN_ROWS = "$OR;D2\n* From To\n0.00 0.20\n* Factor\n1.00\nA0B0 D3D4 12\nA0A1 E2E3 7\n"
IN_A_SQUARE = "$VMR;D2\n1\n* times\n0.00 0.20\n* factor\n0.5\n* zones\n2\nA0B0 D3D4\n* A0B0\n0 24\n* D3D4\n0 0\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("od.csv", TABLE, {("A0B0", "D3D4"): 12, ("A0A1", "E2E3"): 7}),
        ("od.csv", TABLE.replace(",", ";"), {("A0B0", "D3D4"): 12, ("A0A1", "E2E3"): 7}),
        ("rows.od", IN_ROWS, {("A0B0", "D3D4"): 12, ("A0A1", "E2E3"): 7}),
        ("square.od", IN_A_SQUARE, {("A0B0", "D3D4"): 12}),
    ],
)
def test_a_matrix_between_edges_gives_its_trips(
    name: str, text: str, expected: dict[tuple[str, str], int], grid: Network, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    traffic = matrix.routes(grid, tmp_path / name, None)
    assert ends(traffic.routes) == expected
    assert (traffic.begin_s, traffic.end_s) == (0, 1200)


def test_zones_are_those_of_a_file(grid: Network, tmp_path: Path) -> None:
    (tmp_path / "od.csv").write_text("from,to,count\nwest,east,40\n")
    (tmp_path / "taz.xml").write_text('<tazs><taz id="west" edges="A0B0 A1B1"/><taz id="east" edges="D3E3"/></tazs>')
    found = ends(matrix.routes(grid, tmp_path / "od.csv", tmp_path / "taz.xml").routes)
    assert set(found) == {("A0B0", "D3E3"), ("A1B1", "D3E3")}
    assert sum(found.values()) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to,count\nA0B0,nowhere,3\n", r"zones 'nowhere' are not in network 'grid'; without --taz, the name of a"),
        ("from,to\nA0B0,D3D4\n", r"line 1: the column count is missing; write a header such as from,to,count"),
        ("from,to,count\nA0B0,D3D4,many\n", r"line 2: 'many' is not a count"),
        ("from,to,count\nA0B0,D3D4,-1\n", r"line 2: '-1' is not a count"),
        ("from,to,count\nA0B0,D3D4,0\n", r"the matrix has no trips"),
        ("from,to,count\nA0B0,D3D4\n", r"line 2: 2 values under 3 names"),
        ("from,to,count,begin,end\nA0B0,D3D4,1,600,300\n", r"line 2: begin and end are no times in order"),
        ("$OR;D2\nnonsense\n", r"not a matrix in V or O format; give a CSV table"),
        ("$VR;D2\n0.00 1.00\n1.00\n2\nA0B0 D3D4\n1 2 3\n", r"3 values for 2 zones, which need 4"),
    ],
)
def test_a_fault_of_a_matrix_is_one_message(text: str, message: str, grid: Network, tmp_path: Path) -> None:
    (tmp_path / "od.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        matrix.routes(grid, tmp_path / "od.csv", None)


COUNTS = {"B1C1": 180, "C1D1": 120, "C2C3": 150, "D3D2": 80, "B3B2": 50}


def test_traffic_fits_counts(grid: Network, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("edge,count\n" + "".join(f"{edge},{n}\n" for edge, n in COUNTS.items()))
    given = source.read(_net(grid, tmp_path), Inputs(counts=file), {}, "grid")
    trip = Trip(id="agent0", origin=Place(edge="A0A1"), destination=Place(edge="D3D4"), depart_s=0)
    scenario = Scenario(name="grid", network="grid", trips=(trip,), horizon_s=given.left_s or 0, **given.settings)
    assert own_traffic.check(scenario, grid, str(own_demand(scenario))).departed > 0
    compared = counts.reached(scenario, grid, Path(str(scenario.demand.counts_file)))
    assert {one.edge: one.count for one, _ in compared} == COUNTS
    good = sum(one.geh(vehicles) < GOOD_GEH for one, vehicles in compared) / len(compared)
    assert good >= GOOD_SHARE


def test_counts_are_read_from_edge_data(tmp_path: Path) -> None:
    file = tmp_path / "counts.xml"
    file.write_text('<meandata><interval begin="60" end="660"><edge id="a" entered="9"/></interval></meandata>')
    assert counts.read(file) == [Count("a", 9, 60, 660)]


def test_geh_is_per_hour() -> None:
    """Of 100 and 150 vehicles in half an hour: sqrt(2 * 100**2 / 500)."""
    assert Count("a", 100, 0, 1800).geh(150) == pytest.approx(6.3246, abs=1e-4)
    assert Count("a", 0, 0, 1800).geh(0) == 0


def test_counts_that_cannot_be_met_are_one_message(
    grid: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every vehicle that leaves the edge into the corner A0 continues on one of two edges, which count none."""
    file = tmp_path / "counts.csv"
    file.write_text("edge,count\nB0A0,900\nA0A1,0\nA0B0,0\nA1A0,0\nB1B0,0\nC0B0,0\nA0A0,5\n")
    counts.traffic(grid, file)
    assert "edges 'A0A0'" in caplog.text
    assert "these counts cannot be met together, worst 'B0A0'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge,count\nnowhere,5\n", r"edges 'nowhere' are not in network 'grid'.*no count can be used"),
        ("edge,vehicles\nA0B0,5\n", r"the column count is missing; write a header such as edge,count"),
        ("edge,count\n", r"it has no counts"),
        ("<net/>", r"<net> is not the first element of edge data of SUMO"),
    ],
)
def test_a_fault_of_counts_is_one_message(text: str, message: str, grid: Network, tmp_path: Path) -> None:
    (tmp_path / "counts").write_text(text)
    with pytest.raises(InputError, match=message):
        counts.traffic(grid, tmp_path / "counts")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (Inputs(od=Path("a"), counts=Path("b")), "different sources of the same traffic"),
        (Inputs(taz=Path("a")), "add --od MATRIX"),
        (Inputs(routes=(Path("gone.rou.xml"),)), "--routes gone.rou.xml: there is no such file"),
        (Inputs(od=Path("gone.csv")), "--od gone.csv: there is no such file"),
        (Inputs(counts=Path("gone.csv")), "--counts gone.csv: there is no such file"),
    ],
)
def test_inputs_that_do_not_fit_are_one_message(inputs: Inputs, message: str, grid: Network, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        source.read(_net(grid, tmp_path), inputs, {}, "grid")


def _net(grid: Network, folder: Path) -> Path:
    file = folder / "grid.net.xml"
    file.write_bytes(grid.net_file.read_bytes())
    return file
