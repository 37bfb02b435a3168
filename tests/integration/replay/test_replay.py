"""Replays: the recording of real episodes, and the page in a real browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser
from PIL import Image

from relid_sumo.base.errors import InputError
from relid_sumo.env.play import Job, drive, job
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.learn.algos.nets import Actor
from relid_sumo.replay.recording import Recording, record
from relid_sumo.replay.write import write
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Fleet

SEED = 3
TAB, ESCAPE, LEFT, RIGHT = "\ue004", "\ue00c", "\ue012", "\ue014"
HOSTILE = "</script><b>town"


def headless(ready: PreparedScenario, policy: Policy) -> EpisodeRecord:
    return drive(ready.task, Job(SEED, ready.options(SEED), policy))


@pytest.fixture(scope="module")
def busy_town(town_ready: PreparedScenario) -> PreparedScenario:
    """Return the town with an incident on the first agent's route."""
    graph, route = town_ready.task.graph, town_ready.task.route(0, int(town_ready.task.origin[0]))
    slowed = graph.edge_ids[route[len(route) // 2]]
    return prepare(added(town_ready.scenario, [f"{slowed}@100-300=20%"]))


@pytest.fixture(scope="module")
def learned(town_ready: PreparedScenario) -> Policy:
    task = town_ready.task
    weights = Actor(task.n_agents, task.graph.m_out, hidden=8, scorer=8, octaves=3, seed=0).weights()
    return Policy("learned", greedy=True, weights=weights)


@pytest.fixture(scope="module")
def made(
    busy_town: PreparedScenario, learned: Policy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Recording]]:
    """Return a page with two episodes, some of whose decisions are tried, and the recordings in it."""
    file = tmp_path_factory.mktemp("replay") / "replay.html"
    policies = {"trained": learned, "rerouting": Policy("rerouting")}
    return file, write(busy_town, policies, file, traffic_seed=SEED, branches=0.04, title=HOSTILE)


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def opened(tab: Browser, made: tuple[Path, dict[str, Recording]], wait_until: Callable[..., object]) -> Browser:
    tab.size(1200, 800)
    tab.scheme("light")
    tab.log("performance")
    tab.log("browser")
    tab.open(made[0].as_uri())
    wait_until(lambda: tab.run("return document.body.dataset.ready"), 30)
    return tab


def text(tab: Browser, selector: str) -> str:
    return str(tab.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))


def settled(tab: Browser) -> None:
    """Wait for two frames, after which the page shows what was asked for."""
    tab.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def set_time(tab: Browser, seconds: float) -> None:
    tab.run("const t = document.getElementById('time'); t.value = arguments[0]; t.oninput()", seconds)
    settled(tab)


def press(tab: Browser, keys: str) -> None:
    tab.press(keys)
    settled(tab)


def seconds(clock: str) -> int:
    minutes, rest = clock.split(":")
    return 60 * int(minutes) + int(rest)


@pytest.mark.sumo
def test_recording_changes_no_episode(
    busy_town: PreparedScenario, learned: Policy, made: tuple[Path, dict[str, Recording]]
) -> None:
    for policy, recorded in zip([learned, Policy("rerouting")], made[1].values(), strict=True):
        assert recorded.episode.digest == headless(busy_town, policy).digest


@pytest.mark.sumo
def test_every_vehicle_is_recorded_where_sumo_has_it(town_ready: PreparedScenario) -> None:
    recorded = record(town_ready, Policy("shortest"), name="shortest", traffic_seed=SEED)
    tracks, graph = recorded.tracks, town_ready.task.graph
    ends = np.cumsum(tracks.length)
    assert len(tracks.names) > town_ready.task.n_agents + 20
    for k in np.flatnonzero([tracks.names[v] in town_ready.task.names for v in tracks.vehicle]):
        agent = town_ready.task.names.index(tracks.names[tracks.vehicle[k]])
        xy = tracks.xy[ends[k] - tracks.length[k] : ends[k]]
        driven = np.concatenate([graph.shape(int(edge)) for edge in recorded.episode.routes[agent]])
        away = np.hypot(*(xy[:, None] - driven).T).min(axis=0)
        assert away.max() < 150.0, "it is near a point of its route"
        assert np.hypot(*np.diff(xy, axis=0).T).max() < 40.0, "and does not jump"


@pytest.mark.sumo
def test_the_agents_of_a_fleet_are_those_of_the_traffic_seed(town_ready: PreparedScenario, tmp_path: Path) -> None:
    fleet = prepare(town_ready.scenario.model_copy(update={"trips": (), "fleet": Fleet(share=0.2)}))
    policy, file = Policy("shortest"), tmp_path / "fleet.html"
    recorded = write(fleet, {"shortest": policy}, file, traffic_seed=SEED)["shortest"]
    assert recorded.episode.digest == drive(fleet.task, job(fleet, SEED, policy)).digest
    found = re.search(r'id="data">(.*?)</script>', file.read_text(), re.DOTALL)
    assert found is not None
    trips = fleet.day(SEED).trips
    assert trips is not None
    assert [agent["name"] for agent in json.loads(found[1])["agents"]] == list(trips.names)


@pytest.mark.browser
@pytest.mark.sumo
def test_the_page_opens_without_errors_or_requests(opened: Browser, made: tuple[Path, dict[str, Recording]]) -> None:
    press(opened, "n")
    assert opened.log("browser") == [], "no error, no warning"
    messages = [json.loads(entry["message"])["message"] for entry in opened.log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {address for address in asked if not address.startswith(("data:", "blob:"))} == {made[0].as_uri()}
    assert text(opened, "h1") == HOSTILE, "names are texts"
    assert "relid_sumo" in text(opened, ".leaflet-control-attribution")


@pytest.mark.browser
@pytest.mark.sumo
def test_the_list_compares_the_agents_travel_times(opened: Browser, made: tuple[Path, dict[str, Recording]]) -> None:
    rows = opened.run("return [...document.querySelectorAll('#panel tbody tr')].map((r) => r.innerText.split('\\t'))")
    ours, theirs = (one.episode.travel_time for one in made[1].values())
    assert [seconds(row[1].rstrip(" *")) for row in rows[1:]] == np.floor(ours).astype(int).tolist()
    assert [seconds(row[2].rstrip(" *")) for row in rows[1:]] == np.floor(theirs).astype(int).tolist()


@pytest.mark.browser
@pytest.mark.sumo
def test_an_agent_shows_its_decisions(
    opened: Browser, busy_town: PreparedScenario, made: tuple[Path, dict[str, Recording]]
) -> None:
    recorded = made[1]["trained"]
    tried = recorded.episode.branches[0]
    choice = recorded.choices[tried.decision]
    assert choice.probabilities is not None
    assert choice.congestion is not None
    opened.run(f"document.querySelectorAll('#panel tr.pick')[{choice.agent}].click()")
    set_time(opened, choice.time_s - busy_town.scenario.start_s)
    cells = opened.run(
        "return [...document.querySelectorAll('.options tbody tr')].map((r) => r.innerText.split('\\t'))"
    )
    assert [float(row[1].strip().rstrip(" %").lstrip("<")) for row in cells] == pytest.approx(
        [100 * share for share in choice.probabilities], abs=1.0
    )
    assert [float(row[2][:-1]) for row in cells] == pytest.approx(list(choice.congestion), abs=0.06)
    assert [seconds(row[3]) for row in cells] == np.floor(tried.travel_time[:, choice.agent] + 0.5).astype(int).tolist()
    assert cells[choice.chosen][0].startswith("\u2713")
    names = opened.run("return [...document.querySelectorAll('.options tbody td[title]')].map((c) => c.title)")
    assert names == [f"edge {busy_town.task.graph.edge_ids[edge]}" for edge in choice.edges]


@pytest.mark.browser
@pytest.mark.sumo
def test_a_click_on_the_map_selects_the_vehicle_that_is_there(
    opened: Browser, busy_town: PreparedScenario, made: tuple[Path, dict[str, Recording]]
) -> None:
    """The followed agent is in the middle of the map, so its position was read correctly from the page's arrays."""
    tracks, names = made[1]["trained"].tracks, busy_town.task.names
    k = int(np.flatnonzero([tracks.names[v] == names[2] for v in tracks.vehicle])[0])
    begin = int(tracks.length[:k].sum())
    moves = np.hypot(*np.diff(tracks.xy[begin : begin + tracks.length[k]], axis=0).T)
    at = int(np.argmax(moves))
    press(opened, "nnnf")
    set_time(opened, (tracks.first[k] + at) * tracks.frame_s)
    speed = int(text(opened, "#panel").partition(" km/h")[0].rpartition(" ")[2])
    assert speed == pytest.approx(3.6 * moves[at], abs=2.0)
    press(opened, ESCAPE)
    box = opened.run(
        "const b = document.querySelector('.view').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )
    middle = int(box[0] + box[2] / 2), int(box[1] + box[3] / 2)
    opened.drag(middle, (0, 0))
    settled(opened)
    assert text(opened, "#panel h2") == f"{names[2]}, trained"


@pytest.mark.browser
@pytest.mark.sumo
def test_keys_play_step_and_change_the_layout(opened: Browser, wait_until: Callable[..., object]) -> None:
    set_time(opened, 100)
    press(opened, RIGHT)
    assert text(opened, "#clock").startswith("1:50 /")
    press(opened, LEFT + ",")
    assert text(opened, "#clock").startswith("1:39 /")
    press(opened, " ")
    wait_until(lambda: seconds(text(opened, "#clock").split(" /")[0]) > 100, 20)
    press(opened, " ")
    paused = text(opened, "#clock")
    settled(opened)
    assert text(opened, "#clock") == paused
    count = "return document.querySelectorAll('.view').length"
    assert opened.run(count) == 2
    press(opened, "o")
    assert opened.run(count) == 1
    press(opened, "o")
    press(opened, "?")
    assert opened.run("return document.getElementById('help').open")
    press(opened, ESCAPE)
    assert not opened.run("return document.getElementById('help').open")
    opened.run("document.getElementById('speed').value = '100'; document.getElementById('speed').onchange()")
    set_time(opened, 1e6)
    press(opened, " ")
    wait_until(lambda: seconds(text(opened, "#clock").split(" /")[0]) > 10, 20)
    assert opened.log("browser") == []


@pytest.mark.browser
@pytest.mark.sumo
def test_the_tab_key_reaches_every_control(opened: Browser) -> None:
    seen = set()
    for _ in range(60):
        opened.press(TAB)
        where = opened.run(
            "const e = document.activeElement; return e === document.body ? '' : e.closest('.leaflet-container') ? "
            "'map' : e.closest('#panel') ? 'panel' : e.id"
        )
        seen.add(where)
        if where:
            assert opened.run("return getComputedStyle(document.activeElement).outlineStyle") != "none", where
        if where == "speed":
            break
    assert {"layout", "whole", "help-open", "map", "panel", "play", "time", "speed"} <= seen


@pytest.mark.browser
@pytest.mark.sumo
@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (740, 360), (1200, 800)])
def test_the_page_fits_any_screen(
    opened: Browser, made: tuple[Path, dict[str, Recording]], width: int, height: int
) -> None:
    opened.size(width, height)
    settled(opened)
    scrolls = opened.run("const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
    assert scrolls[0] <= width
    assert scrolls[1] <= height
    boxes = opened.run(
        "return [...document.querySelectorAll('.view, #panel, #play, #time')].map((e) => { const b = "
        "e.getBoundingClientRect(); return [b.width, b.height, b.bottom]; })"
    )
    assert all(b[0] > 40 and b[1] > 15 and b[2] <= height for b in boxes), boxes
    assert min(boxes[0][:2]) > 90, "there is room for the map"


@pytest.mark.browser
@pytest.mark.sumo
def test_the_incident_is_drawn_while_it_lasts(opened: Browser) -> None:
    assert "slowed" in text(opened, "#panel ol")

    def red() -> int:
        picture = np.asarray(Image.open(io.BytesIO(opened.picture())).convert("RGB")).astype(int)
        return int((np.abs(picture[60:-80] - (213, 0, 28)).max(axis=-1) < 6).sum())

    set_time(opened, 50)
    before = red()
    set_time(opened, 200)
    assert red() > before + 50


@pytest.mark.browser
@pytest.mark.sumo
def test_dark_colours_follow_the_system(opened: Browser) -> None:
    def brightness() -> float:
        settled(opened)
        settled(opened)
        return float(np.asarray(Image.open(io.BytesIO(opened.picture())).convert("L")).mean())

    light = brightness()
    opened.scheme("dark")
    assert light > 200
    assert brightness() < 100


@pytest.mark.sumo
def test_a_replay_that_cannot_be_written_is_refused_before_anything_runs(
    town_ready: PreparedScenario, tmp_path: Path
) -> None:
    never = replace(town_ready, scenario=None)  # type: ignore[arg-type]  # any use of the scenario would fail
    with pytest.raises(InputError, match=r"replay\.png: a replay is a web page; give the name the ending \.html"):
        write(never, {}, tmp_path / "replay.png", traffic_seed=SEED)
    (tmp_path / "d.html").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write(never, {}, tmp_path / "d.html", traffic_seed=SEED)
