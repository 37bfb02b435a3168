"""The report's page in a real browser, controlled through chromedriver (W3C WebDriver)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser
from browser import browser as headless
from PIL import Image

from relid_sumo.reports.write import write
from relid_sumo.runs import layout

pytestmark = pytest.mark.browser

TAB, ENTER, SPACE, RIGHT, PLUS = "\ue004", "\ue007", " ", "\ue014", "+"
NONE = "\u2013"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """Return a page with every part: two scenarios, algorithms and seeds, alpha, rounds, a missing run."""
    folder = tmp_path_factory.mktemp("report")
    for seed in range(3):
        write_run(folder / "runs" / f"ippo-{seed}", seed=seed)
        ours = write_run(
            folder / "runs" / f"reled-{seed}", algo="reled", seed=seed, faster_s=80.0, columns={"alpha_0": 1}
        )
        (ours / layout.ROUNDS).write_text("round,d_in,f_out\n1,0.5,3\n2,0.25,2\n")
    write_run(folder / "runs" / "city", scenario="city", roads=200)
    (folder / "runs" / "broken").mkdir()
    return write([folder], folder / "page.html").files[0]


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.size(1200, 900)
    browser.log("performance")
    browser.log("browser")
    browser.open(page.as_uri())
    return browser


def picture(browser: Browser) -> Image.Image:
    return Image.open(io.BytesIO(browser.picture()))


def texts(browser: Browser, table: str, column: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
        ".map((row) => row.cells[arguments[1]].innerText)"
    )
    found: list[str] = browser.run(script, table, column)
    return found


def view(browser: Browser) -> list[float]:
    box: str = browser.run("return document.querySelector('.map svg').getAttribute('viewBox')")
    return [float(number) for number in box.split()]


def test_the_page_opens_without_errors_or_requests(opened: Browser, page: Path) -> None:
    assert opened.run("return document.querySelectorAll('.plot svg').length") == opened.run(
        "return document.querySelectorAll('[data-chart]').length"
    )
    assert opened.run("return document.querySelectorAll('.map .route').length") == 2 + 1 + 2, "a first seed each"
    assert opened.log("browser") == [], "no error, no warning"
    messages = [json.loads(entry["message"])["message"] for entry in opened.log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {address.partition("#")[0] for address in asked if not address.startswith("data:")} == {page.as_uri()}


def test_the_first_screen_says_who_is_fastest_and_whether_that_is_beyond_noise(opened: Browser) -> None:
    headline, bottom = opened.run(
        "const h = document.querySelector('.headline'); return [h.innerText, h.getBoundingClientRect().bottom]"
    )
    assert "shortest is fastest: 480 s per trip" in headline
    assert "beyond noise (p" in headline
    assert bottom < 900
    assert opened.run("return document.querySelector('.bars .bar').getBoundingClientRect().width") > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_light_or_dark_setting_of_the_system(opened: Browser, scheme: str) -> None:
    opened.scheme(scheme)
    ground, ink = opened.run(
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        ".map((c) => c.match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 3)"
    )
    opened.scheme("light")
    assert abs(ground - ink) > 150, "text is readable"
    assert (ground < 128) is (scheme == "dark")


def test_tables_are_lists_of_named_values_on_a_phone(opened: Browser) -> None:
    opened.size(390, 800)
    cell = "document.querySelector('#scenario-town-policies tbody td:nth-child(3)')"
    assert opened.run(f"return getComputedStyle({cell}, '::before').content") == '"travel time, s"'
    wide = opened.run(
        "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth).length"
    )
    assert wide == 0, "no table scrolls sideways"


def test_every_link_has_a_target(opened: Browser) -> None:
    lost = opened.run(
        "return [...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))"
        ".filter((h) => !h.startsWith('#') || !document.getElementById(h.slice(1)))"
    )
    assert lost == []


def test_tables_sort_numerically_in_both_orders_with_unknown_values_last(opened: Browser) -> None:
    click = "document.querySelectorAll('#all-runs thead button')[arguments[0]].click()"
    opened.run(click, 6)
    times = [float(text) for text in texts(opened, "all-runs", 6)]
    assert times == sorted(times)
    assert len(times) == 7
    opened.run(click, 6)
    assert [float(text) for text in texts(opened, "all-runs", 6)] == times[::-1]
    state = opened.run("return document.querySelectorAll('#all-runs th[aria-sort]').length")
    assert state == 1
    table = "scenario-town-policies"
    opened.run(f"document.querySelectorAll('#{table} thead button')[1].click()")
    assert texts(opened, table, 1) == [NONE, "3", "3"], "a baseline has no seeds"
    pairs = "scenario-city-pairs"
    opened.run(f"document.querySelectorAll('#{pairs} thead button')[4].click()")
    assert texts(opened, pairs, 4) == ["<0.001"], "a difference that is the same in all traffic"


def test_the_map_pans_and_zooms_with_the_pointer(opened: Browser) -> None:
    opened.run("document.querySelector('.map').scrollIntoView({behavior: 'instant'})")
    box = opened.run("const b = document.querySelector('.map svg').getBoundingClientRect(); return [b.x, b.y, b.width]")
    before = view(opened)
    opened.drag((int(box[0]) + 200, int(box[1]) + 200), (-60, -40))
    after = view(opened)
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert after[2:] == before[2:]
    opened.run("document.querySelector('.map [data-zoom=in]').click()")
    assert view(opened)[2] < after[2]
    opened.run("document.querySelector('.map [data-zoom=all]').click()")
    assert view(opened) == before


def test_the_map_shows_the_selected_agent_and_policies(opened: Browser) -> None:
    opened.run("document.querySelectorAll('.map input')[0].click()")
    shown = opened.run("return document.querySelectorAll('.map .route').length")
    assert shown == 2 + 1 + 1
    assert "did not arrive" not in opened.run("return document.querySelector('.layers').innerText")
    opened.run("const s = document.querySelector('.agent'); s.value = 3; s.dispatchEvent(new Event('change'))")
    assert "did not arrive" in opened.run("return document.querySelector('.layers').innerText")


def test_a_curve_shows_values_on_hover_and_can_be_hidden(opened: Browser) -> None:
    chart = "document.querySelector('#scenario-town .chart')"
    opened.run(chart + ".scrollIntoView({behavior: 'instant', block: 'center'})")
    box = opened.run(f"const b = {chart}.querySelector('.plot').getBoundingClientRect(); return [b.x, b.y, b.width]")
    opened.drag((int(box[0] + box[2] / 2), int(box[1]) + 100), (1, 0))
    tip = opened.run(f"return {chart}.querySelector('.tip').innerText")
    assert "episode" in tip
    assert "ippo" in tip
    assert "[" in tip, "the tooltip shows the interval"
    lines = f"return {chart}.querySelectorAll('polyline').length"
    assert opened.run(lines) == 3, "two algorithms and a baseline"
    opened.run(f"{chart}.querySelector('.legend button').click()")
    assert opened.run(lines) == 2


def test_the_keyboard_reaches_and_operates_everything(opened: Browser) -> None:
    seen = []
    for _ in range(200):
        opened.press(TAB)
        where = opened.run(
            "const e = document.activeElement; return e === document.body ? '' : e.closest('thead') ? 'sort' : "
            "e.closest('.legend') ? 'legend' : e.matches('.map svg') ? 'map' : e.matches('select') ? 'agent' : "
            "e.matches('input') ? 'layer' : e.matches('summary') ? 'run' : e.tagName"
        )
        outlined = "return getComputedStyle(document.activeElement).outlineStyle"
        if where:
            assert opened.run(outlined) != "none", f"{where}: the focus is seen"
        if where == "sort" and "sort" not in seen:
            opened.press(ENTER)
            assert opened.run("return document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
        if where == "map" and "map" not in seen:
            before = view(opened)
            opened.press(RIGHT)
            assert view(opened)[0] > before[0]
            opened.press(PLUS)
            assert view(opened)[2] < before[2]
        if where == "run" and "run" not in seen:
            opened.press(SPACE)
            assert opened.run("return document.activeElement.parentElement.open")
        seen.append(where)
        if seen.count("run") == 7:
            break
    assert {"sort", "legend", "map", "agent", "layer", "run", "A"} <= set(seen)


def test_a_link_to_a_run_opens_its_details(opened: Browser) -> None:
    opened.run("document.querySelector('#all-runs tbody a').click()")
    assert opened.run("return document.querySelector('details[open] pre').innerText").startswith("relid-sumo train ")


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_is_readable_at_any_width(opened: Browser, width: int) -> None:
    opened.size(width, 800)
    opened.open(opened.run("return location.href"))
    assert opened.run("return document.documentElement.scrollWidth") <= width, "nothing makes the page scroll sideways"
    small = opened.run(
        "return [...document.querySelectorAll('body *')].filter((e) => e.innerText && !e.children.length && "
        "e.getClientRects().length && parseFloat(getComputedStyle(e).fontSize) < 11)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert small == [], "no text smaller than 11 pixels"
    scaled = opened.run(
        "return [...document.querySelectorAll('.plot svg')].map((s) => s.getBoundingClientRect().width / "
        "s.viewBox.baseVal.width).filter((f) => f < 0.95 || f > 1.05)"
    )
    assert scaled == [], "charts are drawn at the width there is, not shrunk to it"
    assert picture(opened).convert("L").getextrema() != (255, 255), "and it is not blank"
