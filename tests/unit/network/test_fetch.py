"""Fetching an area from a local server that speaks Overpass's and Nominatim's protocols."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import osmnx
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.cli.main import main
from relid_sumo.network import fetch, osm

BOX = (11.5, 48.1, 11.51, 48.11)
ROADS = b"""<?xml version="1.0" encoding="UTF-8"?>
<osm version="0.6" generator="Overpass API 0.7.62">
<node id="1" lat="48.101" lon="11.501"/><node id="2" lat="48.109" lon="11.509"/>
<way id="9"><nd ref="1"/><nd ref="2"/><tag k="highway" v="residential"/></way></osm>"""
BORDER = {"type": "Polygon", "coordinates": [[[11.5, 48.1], [11.6, 48.1], [11.6, 48.2], [11.5, 48.1]]]}
PLACE = {
    **{"display_name": "Town, Country", "importance": 0.5, "lat": "48.1", "lon": "11.5", "place_id": 1},
    **{"boundingbox": ["48.1", "48.2", "11.5", "11.6"], "geojson": BORDER},
}

Reply = Callable[["Handler", int], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    roads: Reply
    places: object
    status: str
    queries: list[str]
    agents: set[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def servers(self) -> fetch.Servers:
        return fetch.Servers(f"{self.url}/api", self.url)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert self.path == "/api/interpreter"
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.queries.append(form["data"][0])
        self.server.agents.add(self.headers["User-Agent"])
        self.server.roads(self, len(self.server.queries))

    def do_GET(self) -> None:
        if self.path == "/api/status":
            self.send(200, self.server.status.encode())
            return
        self.server.agents.add(self.headers["User-Agent"])
        assert urlsplit(self.path).path == "/search"
        content = self.server.places
        if isinstance(content, int):
            self.send(content, b"no")
        else:
            self.send(200, json.dumps(content).encode(), Content_Type="application/json")

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that were asked for; none of them is made."""
    made: list[float] = []
    monkeypatch.setattr("time.sleep", made.append)
    return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]) -> Iterator[Server]:
    del pauses
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "cache"))
    with Server(("127.0.0.1", 0), Handler) as made:
        made.roads = lambda request, _: request.send(200, ROADS)
        made.places, made.status, made.queries, made.agents = [PLACE], "", [], set()
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_the_roads_of_a_box_are_fetched_once(server: Server, tmp_path: Path) -> None:
    server.roads = lambda request, _: request.send(200, gzip.compress(ROADS), Content_Encoding="gzip")
    fetch.fetch(BOX, tmp_path / "a.osm", server.servers)
    assert (tmp_path / "a.osm").read_bytes() == ROADS
    assert len(osm.read(tmp_path / "a.osm").pieces) == 1
    (query,) = server.queries
    assert 'way["highway"](48.1000000,11.5000000,48.1100000,11.5100000)' in query
    assert "restriction" in query
    assert server.agents == {fetch.user_agent()}
    fetch.fetch(BOX, tmp_path / "b.osm", server.servers)
    assert len(server.queries) == 1, "from the cache"
    fetch.fetch(BOX, tmp_path / "c.osm", server.servers, refresh=True)
    assert len(server.queries) == 2
    with pytest.raises(InputError, match=r"a.osm exists; choose another --out"):
        fetch.fetch(BOX, tmp_path / "a.osm", server.servers)


@pytest.mark.parametrize(
    ("status", "headers", "page", "waited"),
    [
        (429, {"Retry_After": "7"}, "", 7.0),
        (429, {}, "Connected as: 1\nRate limit: 2\nSlot available after: 2026-01-01T00:00:00Z, in 12 seconds.\n", 12.0),
        (429, {}, "2 slots available now.", 5.0),
        (504, {}, "", 5.0),
    ],
)
def test_a_busy_server_is_asked_again_after_the_pause_that_it_names(
    server: Server, tmp_path: Path, pauses: list[float], status: int, headers: dict[str, str], page: str, waited: float
) -> None:
    server.status = page
    server.roads = lambda request, n: request.send(status if n == 1 else 200, ROADS, **(headers if n == 1 else {}))
    fetch.fetch(BOX, tmp_path / "a.osm", server.servers)
    assert pauses == [waited]
    assert len(server.queries) == 2


@pytest.mark.parametrize(
    ("status", "content", "told", "asked"),
    [
        (429, b"", r"it limits the rate \(HTTP 429\), 5 times; .* --overpass URL", 5),
        (504, b"", r"gave no map data: HTTP 504, 5 times", 5),
        (400, b"", r"refuses the request \(HTTP 400\); check --overpass", 1),
        (200, b"<osm></osm>", r"there are no roads in this file.*choose another area", 1),
        (
            200,
            ROADS.replace(b"</osm>", b"<remark>runtime error: timed out</remark></osm>"),
            "not complete.*timed out",
            1,
        ),
        (200, b"<!DOCTYPE html><html><body>busy</body></html>", "not OpenStreetMap data.*web page", 1),
        (200, ROADS[:200], "broken or cut off", 1),
        (200, b"", "not XML", 1),
    ],
)
def test_an_answer_that_is_none_has_one_message_and_is_not_cached(
    server: Server, tmp_path: Path, status: int, content: bytes, told: str, asked: int
) -> None:
    server.roads = lambda request, _: request.send(status, content)
    with pytest.raises(InputError, match=told) as error:
        fetch.fetch(BOX, tmp_path / "a.osm", server.servers)
    assert str(error.value).count("\n") == 0
    assert str(tmp_path) not in str(error.value)
    assert len(server.queries) == asked
    assert not (tmp_path / "a.osm").exists()
    assert not list((tmp_path / "cache").rglob("*.osm"))


def test_a_pause_of_hours_is_not_made(server: Server, tmp_path: Path) -> None:
    server.roads = lambda request, _: request.send(429, b"", Retry_After="7200")
    with pytest.raises(InputError, match="asks for a pause of 7200 s; try later"):
        fetch.fetch(BOX, tmp_path / "a.osm", server.servers)


def test_without_a_network_there_is_one_message(tmp_path: Path, pauses: list[float], server: Server) -> None:
    nobody = fetch.Servers("http://127.0.0.1:9/api", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127.0.0.1:9 gave no map data: it cannot be reached.*check the connection"):
        fetch.fetch(BOX, tmp_path / "a.osm", nobody)
    assert pauses == [5.0, 10.0, 20.0, 40.0]
    with pytest.raises(InputError, match=r"127.0.0.1:9 cannot look up 'Town'.*or give --bbox"):
        fetch.box_of_place("Town", nobody)
    assert not server.queries


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((10.0, 47.0, 12.0, 49.0), r"has \d+ km2, and 2500 km2 are the most.*geofabrik.*osmium extract"),
        ((11.5, 48.2, 11.6, 48.1), "expected W,S,E,N in degrees"),
        ((170.0, -10.0, -170.0, 10.0), "are the most that is fetched"),
    ],
)
def test_a_box_that_is_too_large_or_none_is_not_asked_for(
    server: Server, tmp_path: Path, box: osm.Box, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        fetch.fetch(box, tmp_path / "a.osm", server.servers)
    assert not server.queries


def test_a_place_is_its_border(server: Server) -> None:
    before = osmnx.settings.nominatim_url
    assert fetch.box_of_place("Town, Country", server.servers) == (11.5, 48.1, 11.6, 48.2)
    assert server.agents == {fetch.user_agent()}
    assert osmnx.settings.nominatim_url == before, "the settings of osmnx are its own again"


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([], "OpenStreetMap knows no such place; check its name"),
        ([PLACE | {"geojson": {"type": "Point", "coordinates": [11.5, 48.1]}}], "only a point; give --point"),
        (403, "cannot look up 'Nowhere': .*403.*or give --bbox"),
    ],
)
def test_a_place_that_is_not_found_has_one_message(server: Server, places: object, told: str) -> None:
    server.places = places
    with pytest.raises(InputError, match=told) as error:
        fetch.box_of_place("Nowhere", server.servers)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("package", ["osmnx", "requests"])
def test_without_a_package_the_message_names_the_extra(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'{package} is not installed; .*"relid_sumo\[fetch\]"'):
        if package == "osmnx":
            fetch.box_of_place("Town", server.servers)
        else:
            fetch.fetch(BOX, tmp_path / "a.osm", server.servers)


def test_a_point_and_a_distance_are_a_box() -> None:
    west, south, east, north = box = fetch.box_of_point(48.1, 11.5, 1000.0)
    assert fetch.area_km2(box) == pytest.approx(4.0, rel=0.02)
    assert ((west + east) / 2, (south + north) / 2) == pytest.approx((11.5, 48.1))
    for lat, lon, dist, told in ((98.0, 11.5, 500.0, "--point 98,11.5"), (48.1, 11.5, 9.0, "--dist 9: expected 50")):
        with pytest.raises(InputError, match=told):
            fetch.box_of_point(lat, lon, dist)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--place", "Town, Country"), 0, "fetched: Town.osm"),
        (("--bbox=11.5,48.1,11.51,48.11",), 0, "fetched: area.osm"),
        (("--point", "48.1,11.5", "--dist", "400", "--out", "p.osm"), 0, "next: relid-sumo network build p.osm"),
        (("--point", "48.1,11.5"), 2, "name one area: --place NAME"),
        (("--point", "48.1", "--dist", "400"), 2, "--point 48.1: expected LAT,LON"),
        (("--place", "Town", "--bbox=1,2,3,4"), 2, "name one area"),
        ((), 2, "name one area"),
        (("--bbox=1,2,3",), 2, "expected four numbers"),
    ],
)
def test_the_command_writes_an_osm_file(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["network", "fetch", *words, "--overpass", f"{server.url}/api", "--nominatim", server.url])
    assert int(stop.value.code or 0) == code
    assert told in " ".join("".join(capsys.readouterr()).split())
    assert len(list(tmp_path.glob("*.osm"))) == (code == 0)
