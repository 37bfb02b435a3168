"""The report as one HTML page: sortable tables, curves and a map. It opens offline and makes no request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from relid_sumo.reports import charts
from relid_sumo.reports.charts import Chart, Series
from relid_sumo.reports.city import City
from relid_sumo.reports.content import Content, Part
from relid_sumo.reports.read import Run
from relid_sumo.reports.words import details, headline

HERE = Path(__file__).parent


def page(content: Content, title: str) -> str:
    """Return the report as HTML text."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True)
    return environment.get_template("page.html").render(
        title=title,
        facts=_facts(content),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        data=Markup(_data(content)),
        parts=[_part(part) for part in content.parts],
        colours=content.colours,
        overall=content.overall,
        missing=content.missing,
        problems=content.problems,
        runs=[_run(run) for run in content.runs],
        attributions=sorted({part.city.attribution for part in content.parts if part.city is not None}),
        number=_number,
        count=_count,
        points=charts.POINTS,
        version=content.version,
    )


def _facts(content: Content) -> str:
    text = f"{_count(len(content.runs), 'run')}, {_count(len(content.parts), 'scenario')}"
    algorithms = len({run.algorithm for run in content.runs})
    seconds = sum(sum(run.seconds.values()) for run in content.runs)
    spent = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    spent = f"{seconds / 3600:.0f} h" if seconds > 6000 else spent
    return f"{text}, {_count(algorithms, 'algorithm')}, {spent} of training; written {content.written}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


@dataclass(frozen=True)
class _Shown:
    name: str
    scenario: str
    algorithm: str
    seed: int
    episodes: float
    last_return: float
    travel_time_s: float | None
    seconds: float
    command: str
    versions: dict[str, str]
    settings: str


def _run(run: Run) -> _Shown:
    times = None if run.evaluation is None else float(run.evaluation.policies["trained"].travel_times.mean())
    return _Shown(
        name=run.name,
        scenario=run.scenario,
        algorithm=run.algorithm,
        seed=run.seed,
        episodes=run.metrics["episodes"][-1],
        last_return=run.metrics["mean_return"][-1],
        travel_time_s=times,
        seconds=sum(run.seconds.values()),
        command=run.command,
        versions=run.versions,
        settings=json.dumps(run.settings, indent=1),
    )


def _part(part: Part) -> dict[str, Any]:
    return {
        **vars(part),
        "charts": part.charts,
        "headline": headline(part.comparison) if part.comparison is not None else None,
        "words": details(part.comparison) if part.comparison is not None else [],
    }


def _number(value: float, digits: int = 0, sign: bool = False) -> str:
    """Return a number with a real minus sign and thin spaces between thousands."""
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    text = text.replace(",", "\u2009")
    plain = not any(c in "123456789" for c in text)  # "-0" is shown as "0"
    return (text.lstrip("-+") if plain else text).replace("-", "\u2212")


def _data(content: Content) -> str:
    """Return the data that the page's script draws, as JSON that cannot close the script element."""
    drawn = {chart.key: _chart(chart) for part in content.parts for chart in part.charts}
    maps = {part.key: _map(part.city, content.colours) for part in content.parts if part.city is not None}
    text = json.dumps({"charts": drawn, "maps": maps}, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _chart(chart: Chart) -> dict[str, Any]:
    series = [_series(one) for one in chart.series]
    return {
        "title": chart.title,
        "xLabel": chart.x_label,
        "yLabel": chart.y_label,
        "series": series,
        "marks": list(chart.marks),
    }


def _series(one: Series) -> dict[str, Any]:
    def short(values: Any) -> list[float] | None:  # noqa: ANN401 - an array or None
        return None if values is None else [float(f"{value:.5g}") for value in values]

    numbers = {"x": short(one.x), "y": short(one.y), "low": short(one.low), "high": short(one.high)}
    return {"name": one.name, "colour": one.colour, "dashed": one.dashed, "hidden": one.hidden, **numbers}


def _map(city: City, colours: dict[str, str]) -> dict[str, Any]:
    layers = [
        {
            "policy": layer.policy,
            "seed": layer.seed,
            "colour": colours[layer.policy],
            "routes": layer.routes,
            "times": layer.travel_time_s,
            "arrived": layer.arrived,
        }
        for layer in city.layers
    ]
    ends = {"origin": city.origin, "destination": city.destination}
    return {
        "roads": city.roads,
        "streets": city.streets,
        "street": city.street,
        "speed": city.speed_class,
        **ends,
        "incidents": [edge for edge, _ in city.incidents],
        "layers": layers,
    }
