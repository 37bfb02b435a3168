"""Reports on run folders: the comparison, the missing runs with the reason, and the files."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relid_sumo.base import files, stats
from relid_sumo.base.errors import InputError
from relid_sumo.reports import compare, read, words
from relid_sumo.reports.content import gather
from relid_sumo.reports.write import write
from relid_sumo.runs import layout, summary
from relid_sumo.sed import run_folder

WriteRun = Callable[..., Path]


def data_of(page: str) -> dict[str, dict[str, dict[str, list[dict[str, object]]]]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: dict[str, dict[str, dict[str, list[dict[str, object]]]]] = json.loads(found[1])
    return content


@pytest.fixture
def grid(tmp_path: Path, write_run: WriteRun) -> Path:
    """Return a folder of six runs: two algorithms with three seeds each."""
    for seed in range(3):
        write_run(tmp_path / "grid" / f"ippo-{seed}", seed=seed)
        write_run(tmp_path / "grid" / f"better-{seed}", algo="better", seed=seed, faster_s=60.0)
    return tmp_path / "grid"


def test_the_training_seed_is_the_unit_and_pairs_are_paired_by_seed(grid: Path) -> None:
    (comparison,) = compare.compare(read.find([grid])[0])
    better, ippo, shortest = comparison.rows
    assert [row.name for row in comparison.rows] == ["better", "ippo", "shortest"]
    assert (better.seeds, ippo.seeds, shortest.seeds) == (3, 3, 0)
    means = [
        np.mean(evaluation.policies["trained"].travel_time_s)
        for seed in range(3)
        if (evaluation := summary.summarise(grid / f"ippo-{seed}").evaluation) is not None
    ]
    assert ippo.travel_time_s.mean == pytest.approx(np.mean(means))
    assert ippo.travel_time_s.low is not None
    assert min(means) - 1e-9 <= ippo.travel_time_s.low
    assert ippo.arrival_rate.mean == 0.75
    assert ippo.over_shortest is not None
    assert ippo.over_shortest.mean == pytest.approx(np.mean(means) / shortest.travel_time_s.mean - 1)
    assert ippo.background_over_shortest is not None
    assert ippo.background_over_shortest.mean == pytest.approx(0.1)
    assert shortest.travel_time_s.low is None, "a baseline has no training seeds"
    pair = comparison.pairs[0]
    assert (pair.first, pair.second, pair.seeds) == ("better", "ippo", 3)
    assert pair.difference_s.mean == pytest.approx(-60.0), "noise is by seed, and pairing takes it out"
    assert pair.difference_s.high == pytest.approx(-60.0)
    assert pair.p is not None
    assert pair.p < 1e-6, "three seeds suffice where the difference is the same in all"
    assert [one.p_holm for one in comparison.pairs] == stats.holm([one.p for one in comparison.pairs])
    assert pair.improvement.mean == 1.0
    said = words.headline(comparison)
    assert (said.fastest, said.verdict) == ("shortest", "beyond noise")
    assert "shortest is fastest: 480 s per trip" in said.text
    assert "less than better, the best trained policy; beyond noise (p" in said.text
    assert "better is 60 s faster than ippo: beyond noise" in " ".join(words.details(comparison))


def test_one_training_is_compared_over_traffic_only_and_a_note_says_so(tmp_path: Path, write_run: WriteRun) -> None:
    (comparison,) = compare.compare(read.find([write_run(tmp_path / "run")])[0])
    assert comparison.rows[0].travel_time_s.low is None
    assert comparison.pairs[0].p is not None, "its difference is tested over traffic seeds"
    assert any("about that training only" in note for note in comparison.notes)
    assert "over 2 traffic seeds, for this one training" in words.headline(comparison).text


def test_only_common_traffic_seeds_are_compared(tmp_path: Path, write_run: WriteRun) -> None:
    def cut(folder: Path, places: list[int]) -> None:
        content = files.read_json(folder / layout.EVALUATION)
        for name in ("traffic_seeds", "free_flow_s"):
            content[name] = [content[name][i] for i in places]
        for driven in content["policies"].values():
            driven |= {name: [value[i] for i in places] for name, value in driven.items()}
        files.write_json(folder / layout.EVALUATION, content)

    write_run(tmp_path / "a")
    cut(write_run(tmp_path / "b", seed=1), [1])
    (comparison,) = compare.compare(read.find([tmp_path])[0])
    assert comparison.traffic_seeds == 1
    assert any("only the 1 that all have" in note for note in comparison.notes)
    assert comparison.rows[1].travel_time_s.mean == pytest.approx(485.0), "shortest in the second traffic seed"
    cut(tmp_path / "a", [0])
    (comparison,) = compare.compare(read.find([tmp_path])[0])
    assert comparison.pairs[0].p is None
    assert words.headline(comparison).verdict == "not tested"


def test_without_baselines_trained_policies_are_compared_and_one_alone_is_not(
    tmp_path: Path, write_run: WriteRun
) -> None:
    for algo, faster_s in (("a", 0.0), ("b", 40.0)):
        for seed in range(2):
            folder = write_run(tmp_path / f"{algo}-{seed}", algo=algo, seed=seed, faster_s=faster_s)
            content = files.read_json(folder / layout.EVALUATION)
            del content["policies"]["shortest"]
            files.write_json(folder / layout.EVALUATION, content)
    (comparison,) = compare.compare(read.find([tmp_path])[0])
    assert "b is fastest" in words.headline(comparison).text
    assert "less than a, the next" in words.headline(comparison).text
    (alone,) = compare.compare(read.find([tmp_path / "a-0"])[0])
    assert "no other policy was evaluated" in words.headline(alone).text


def test_runs_with_the_same_name_but_other_settings_are_not_pooled(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a" / "run")
    write_run(tmp_path / "b" / "run", updates=9)
    shutil.copytree(tmp_path / "a" / "run", tmp_path / "c" / "run")
    runs, _ = read.find([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [run.algorithm for run in runs] == ["ippo", "ippo #2"], "the same run in two folders counts once"
    unread = write_run(tmp_path / "e" / "run", seed=1) / layout.SETTINGS
    content = json.loads(unread.read_text())
    content["train"] |= {"probes": False, "score_seeds": 8}
    unread.write_text(json.dumps(content))
    runs, _ = read.find([tmp_path / "a", tmp_path / "e"])
    assert [run.algorithm for run in runs] == ["ippo", "ippo"], "ippo does not read these settings"
    other = write_run(tmp_path / "d" / "run", seed=1)
    scenario = other / layout.SCENARIO
    scenario.write_text(scenario.read_text().replace("900.0", "600.0"))
    runs, _ = read.find([tmp_path / "a", tmp_path / "d"])
    assert [run.scenario for run in runs] == ["town", "town #2"]


def test_a_report_uses_the_readable_runs_and_names_the_others(grid: Path, write_run: WriteRun) -> None:
    (grid / "empty").mkdir()
    damages: dict[str, Callable[[Path], object]] = {
        "no-update": lambda folder: (folder / layout.METRICS).write_text(""),
        "no-metrics": lambda folder: (folder / layout.METRICS).unlink(),
        "cut": lambda folder: (folder / layout.EVALUATION).write_text('{"scenario": "to'),
        "old": lambda folder: files.write_json(folder / layout.SETTINGS, {"format": 0}),
        "words": lambda folder: (folder / layout.METRICS).write_text("update,episodes\n1,many\n"),
        "no-scenario": lambda folder: (folder / layout.SCENARIO).unlink(),
        "half": lambda folder: files.write_json(folder / layout.EVALUATION, {"policies": {}}),
    }
    for name, damage in damages.items():
        damage(write_run(grid / name, seed=7))
    content = gather([grid])
    why = {one.name: one.why for one in content.missing}
    assert len(content.runs) == 6
    assert "no run folder" in why["empty"]
    assert "before its first update" in why["no-update"]
    assert "before its first update" in why["no-metrics"]
    assert "it may be cut short" in why["cut"]
    assert f"another version of relid_sumo (format 0, here {layout.RUN_FORMAT})" in why["old"]
    assert "line 2, episodes = 'many': not a number" in why["words"]
    assert "scenario.toml" in why["no-scenario"]
    assert "evaluation" in why["half"]
    written = write([grid], grid / "r.html")
    page = written.files[0].read_text()
    assert all(name in page for name in why)
    assert "8 runs missing" in page


def test_an_incomplete_last_row_is_ignored(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "run")
    with (folder / layout.METRICS).open("a") as out:
        out.write("6,24")
    assert len(summary.summarise(folder).metrics["episodes"]) == 5


@pytest.mark.parametrize("what", ["nothing", "no folder", "only bad ones", "an ending", "no place"])
def test_an_impossible_report_raises_one_error(what: str, tmp_path: Path, write_run: WriteRun) -> None:
    folder, out, said = tmp_path / "runs", tmp_path / "r.html", "no run to report on"
    if what == "no folder":
        said = "there is no such folder"
    else:
        folder.mkdir()
    if what == "only bad ones":
        (folder / "bad").mkdir()
        said = "bad: "
    if what in {"an ending", "no place"}:
        write_run(folder / "run")
        (tmp_path / "file").touch()
        out, said = {
            "an ending": (tmp_path / "r.doc", "the ending names no format; use one of .html"),
            "no place": (tmp_path / "file" / "r.html", "cannot be written"),
        }[what]
    with pytest.raises(InputError, match=re.escape(said)):
        write([folder], out)
    assert not out.exists()


def test_a_report_on_a_batch_gives_the_state_of_each_cell(tmp_path: Path, write_run: WriteRun) -> None:
    """States: finished here, finished elsewhere (summary only), failed, unfinished, not run yet."""
    batch = tmp_path / "b"
    about = {"scenario": "town", "seed": 0, "fingerprint": "0"}
    cells = [
        {**about, "name": name, "algorithm": name[:-2], "command": f"make {name}"}
        for name in ("here-0", "away-0", "failed-0", "begun-0", "waiting-0")
    ]
    files.write_json(batch / "batch.json", {"format": 1, "plan": {"cells": cells}})
    write_run(batch / "runs" / "here-0")
    away = summary.summarise(write_run(tmp_path / "away-0")).model_dump(mode="json")
    files.write_json(batch / "summaries" / "away-0.json", {**away, "cell": cells[1]})
    files.write_json(batch / "failed" / "failed-0.json", {"error": "SUMO said no"})
    write_run(batch / "runs" / "begun-0.part", evaluated=False)
    content = gather([batch])
    assert {run.name: run.algorithm for run in content.runs} == {"here-0": "here", "away-0": "away"}
    assert {run.name: run.command for run in content.runs} == {"here-0": "make here-0", "away-0": "make away-0"}
    assert {one.name: one.why for one in content.missing} == {
        "failed-0": "failed: SUMO said no",
        "begun-0": "not finished: 20 episodes so far",
        "waiting-0": "not run yet",
    }
    assert content.parts[0].city is not None
    assert "1 run without routes" in content.parts[0].city.note


def test_alpha_and_rounds_are_drawn_if_their_columns_exist(tmp_path: Path, write_run: WriteRun) -> None:
    for seed in range(2):
        columns = {"alpha_0": 1.0, "alpha_1": 3.0, "alpha_mean": 2.0}
        folder = write_run(tmp_path / "grid" / f"reled-{seed}", algo="reled", seed=seed, columns=columns)
        (folder / layout.ROUNDS).write_text("round,d_in,f_out,execution_rate,repairs\n1,0.5,3,0.9,2\n2,0.25,2,1.0,0\n")
    write_run(tmp_path / "grid" / "ippo", seed=0)
    charts = {chart.title: chart for chart in gather([tmp_path / "grid"]).parts[0].charts}
    mean, *agents = charts["Alpha, reled, town"].series
    assert [series.name for series in agents] == ["agent 0", "agent 1"]
    assert all(series.hidden for series in agents), "a reader asks for single agents"
    assert agents[1].y.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert mean.low is not None
    assert mean.high is not None
    assert (mean.y[0], mean.low[0], mean.high[0]) == (2.0, 1.0, 3.0), "the band is from the lowest to the highest agent"
    for label, values in {
        "D_in": [0.5, 0.25],
        "F_out": [3, 2],
        "execution rate": [0.9, 1.0],
        "repairs": [2, 0],
    }.items():
        (series,) = charts[f"{label}, town"].series
        assert (series.name, series.x.tolist(), series.y.tolist()) == ("reled", [1.0, 2.0], values)


def test_curves_count_episodes_for_demonstrations_and_mark_the_change_of_simulator(
    tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path / "ippo", columns={"micro": -3.0})
    write_run(tmp_path / "reled", algo="reled", columns={"driven_beside": 96.0})
    file = tmp_path / "ippo" / layout.METRICS
    file.write_text(re.sub(r",-[\d.]+$", ",0.0", file.read_text(), flags=re.MULTILINE))
    travel = gather([tmp_path]).parts[0].learning[0]
    lines = {series.name: series for series in travel.series}
    assert lines["ippo"].x.tolist() == [4, 8, 12, 16, 20]
    assert lines["reled"].x.tolist() == [100, 105, 110, 115, 120]
    assert "with those for demonstrations" in travel.x_label
    assert (lines["shortest"].dashed, set(lines["shortest"].y)) == (True, {480.0}), "a baseline is a line"
    assert (lines["shortest"].x.min(), lines["shortest"].x.max()) == (4, 120)
    ((x, said),) = travel.marks
    assert (x, said) == (18.0, "microscopic from here")


def test_long_curves_are_averaged_not_thinned(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "run", updates=1000)
    y = files.read_columns(folder / layout.METRICS)["mean_return"]
    series = gather([folder]).parts[0].learning[1].series[0]
    assert len(series.y) == 150
    assert np.average(series.y, weights=np.diff(np.linspace(0, 1000, 151).astype(int))) == pytest.approx(np.mean(y))


def test_the_distribution_contains_every_trip(grid: Path) -> None:
    content = gather([grid])
    (chart,) = content.parts[0].distribution
    shortest = next(series for series in chart.series if series.name == "shortest")
    assert (shortest.x.min(), shortest.x.max()) == (400.0, 560.0)
    assert shortest.dashed


def test_the_overall_table_is_relative_to_shortest(tmp_path: Path, write_run: WriteRun) -> None:
    for seed in range(2):
        write_run(tmp_path / f"a-{seed}", seed=seed)
        write_run(tmp_path / f"b-{seed}", seed=seed, scenario="city", faster_s=50.0)
    (row,) = gather([tmp_path]).overall
    runs, _ = read.find([tmp_path])
    ratios = sorted(one / (475 + 5) - 1 for c in compare.compare(runs) for one in c.driven[0].travel_time_s)
    assert (row.scenarios, row.seeds) == (2, 4)
    assert row.iqm.mean == pytest.approx(np.mean(ratios[1:3]))


def test_settings_that_differ_are_listed(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", updates=9)
    part = gather([tmp_path]).parts[0]
    assert part.algorithms == ["ippo", "ippo #2"]
    assert part.settings == {"episodes": ["20", "36"]}, "clip is the same, and the seed is no setting to compare"


def test_measurements_of_an_evaluation_are_shown(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "run")
    content = files.read_json(folder / layout.EVALUATION)
    for driven in content["policies"].values():
        for name in summary.MEASURED:
            driven.pop(name, None)
    files.write_json(folder / layout.EVALUATION, content)
    without = gather([folder]).parts[0].numbers
    assert without is not None
    assert without.columns == ["slowest agent, s", "spread over agents, s"], "nothing else was measured"
    assert without.rows["shortest"] == pytest.approx([555.0, np.std([400, 450, 500, 550])])
    content["policies"]["trained"]["co2_g"] = [[100.0, 200.0, 300.0, 9999.0]] * 2
    files.write_json(folder / layout.EVALUATION, content)
    numbers = gather([folder]).parts[0].numbers
    assert numbers is not None
    assert numbers.rows["ippo"][numbers.columns.index("CO2, g")] == 200.0, "the fourth agent does not arrive"
    assert numbers.rows["shortest"][numbers.columns.index("CO2, g")] is None


def test_rounds_programs_and_cost_of_sed_are_shown(tmp_path: Path, write_run: WriteRun) -> None:
    inside = write_run(tmp_path / "run", algo="reled") / layout.SED
    count = {"valid": 3, "programs": 4, "interval_95": [0.3, 0.95]}
    numbers = dict.fromkeys(("travel_time_s", "mean_return", "f_out", "f_out_signed", "f_out_floor", "d_in"), 1.0)
    content = {
        "format": run_folder.RESULTS_FORMAT,
        "scenario": "town",
        "provider": "openai",
        "execution_rate": dict.fromkeys(("initial", "refined", "all"), 0.75),
        "programs": dict.fromkeys(("initial", "refined", "all"), count),
        "rounds": [{"round": 1, **count, **numbers, "score": 0.125}],
        "subsets": [],
        "compared": [],
    }
    files.write_json(inside / run_folder.SETTINGS, {"provider": "openai", "llm": {"model": "some-model"}})
    files.write_json(inside / run_folder.ROUNDS, content)
    files.write_json(inside / run_folder.USAGE, {"requests": 5, "tokens_in": 1000, "tokens_out": 234, "usd": 0.5})
    page = write([tmp_path / "run"], tmp_path / "r.html").files[0].read_text()
    assert "3 of 4 programs of some-model gave a valid plan (75%); 5 requests, 1,234 tokens, 0.5000 USD" in page
    assert "0.125" in page
    files.write_json(inside / run_folder.ROUNDS, {**content, "rounds": [{"round": "<b>"}]})
    broken = write([tmp_path / "run"], tmp_path / "r.html").files[0].read_text()
    assert "rounds.json" in broken
    assert "<b>" not in broken


def test_streets_are_in_the_page_and_routes_that_do_not_fit_are_named(tmp_path: Path, write_run: WriteRun) -> None:
    file = write_run(tmp_path / "run") / layout.ROUTES
    content = files.read_json(file)
    street = [0] * len(content["roads"])
    files.write_json(file, {**content, "streets": ["High Street"], "street": street})
    city = gather([tmp_path / "run"]).parts[0].city
    assert city is not None
    assert city.streets == ["High Street"]
    for wrong in (street[1:], [7] * len(street)):
        files.write_json(file, {**content, "streets": ["High Street"], "street": wrong})
        assert gather([tmp_path / "run"]).parts[0].city is None
        assert any(f"{file}: its routes are not on the map" in one for one in gather([tmp_path / "run"]).problems)


def test_text_in_the_page_is_escaped(tmp_path: Path, write_run: WriteRun) -> None:
    nasty = "</script><img src=x onerror=alert(1)>"
    folder = write_run(tmp_path / "run", algo=nasty)
    page = write([folder], tmp_path / "r.html", title=nasty).files[0].read_text()
    assert nasty not in page
    assert "<img" not in page
    assert any(nasty == one["name"] for chart in data_of(page)["charts"].values() for one in chart["series"])


def test_incidents_are_on_the_map_and_one_on_no_edge_is_named(tmp_path: Path, write_run: WriteRun) -> None:
    file = write_run(tmp_path / "run") / layout.ROUTES
    content = files.read_json(file)
    for incidents, said in (
        ([[3, "'a<b>' closed from 0 to 60 s"]], ""),
        ([[-1, "'a' closed"]], "incidents"),
        ([[10**6, "'a' closed"]], "has no edge 1000000"),
        ([["x", "'a' closed"]], "its routes are not on the map"),
    ):
        files.write_json(file, {**content, "incidents": incidents})
        written = write([tmp_path / "run"], tmp_path / "r.html", figures=tmp_path / "figures")
        page = (tmp_path / "r.html").read_text()
        assert ("Red: events of the traffic seed: " in page) is not bool(said)
        assert "<b>" not in page
        assert said in str(written) + page


def test_the_page_makes_no_request(grid: Path, tmp_path: Path) -> None:
    page = write([grid], tmp_path / "r.html").files[0].read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name, not an address that is fetched"
    assert "default-src 'none'" in page


def test_markdown_csv_and_latex_contain_the_same_figures(grid: Path, tmp_path: Path) -> None:
    texts = {form: write([grid], tmp_path / f"r.{form}").files[0].read_text() for form in ("md", "csv", "tex")}
    (comparison,) = compare.compare(read.find([grid])[0])
    ippo = comparison.rows[1].travel_time_s
    assert ippo.low is not None
    shown = f"{ippo.mean:.0f} [{ippo.low:.0f}, {ippo.high:.0f}]"
    assert shown in texts["md"]
    assert shown in texts["tex"]
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert float(rows[1]["travel_time_s"]) == pytest.approx(ippo.mean, rel=1e-5)
    assert float(rows[1]["travel_time_s_low"]) == pytest.approx(ippo.low, rel=1e-5)
    assert rows[2]["travel_time_s_low"] == "", "no interval, no figure"
    assert texts["tex"].count(r"\\") == 1 + 3
    assert write([grid], tmp_path / "plain", form="md").files[0].read_text().startswith("# grid")


def test_latex_escapes_special_characters(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "run", algo="a_b & 50%")
    assert r"a\_b \& 50\%" in write([folder], tmp_path / "r.tex").files[0].read_text()


def test_figures_are_png_and_pdf_and_reproducible(grid: Path, tmp_path: Path) -> None:
    once, again = (write([grid], tmp_path / f"{n}.md", figures=tmp_path / n).files[1:] for n in ("once", "again"))
    names = {file.name for file in once}
    for name in ("town-mean-return", "town-travel-times", "town-comparison", "town-routes"):
        assert {f"{name}.png", f"{name}.pdf"} <= names
    for file, other in zip(once, again, strict=True):
        assert file.read_bytes() == other.read_bytes()
        if file.suffix == ".png":
            with Image.open(file) as picture:
                assert picture.width >= 900
        else:
            assert file.read_bytes().startswith(b"%PDF")


def test_the_page_of_fifty_runs_is_smaller_than_eight_megabytes(tmp_path: Path, write_run: WriteRun) -> None:
    for algorithm in range(5):
        for seed in range(10):
            columns = {f"alpha_{i}": 1.0 for i in range(10)}
            write_run(
                tmp_path / f"{algorithm}-{seed}",
                algo=f"algorithm {algorithm}",
                seed=seed,
                updates=300,
                agents=10,
                roads=5000,
                columns=columns,
            )
    page = write([tmp_path], tmp_path / "r.html").files[0]
    assert page.stat().st_size < 8e6
    assert "50 runs" in page.read_text()
