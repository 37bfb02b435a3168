"""The content of a report, gathered once. The page, the tables and the figures only render it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from relid_sumo.reports import charts, compare, read, sections
from relid_sumo.reports.charts import Chart
from relid_sumo.reports.city import City, city
from relid_sumo.reports.compare import Comparison, Overall
from relid_sumo.reports.read import Missing, Run
from relid_sumo.reports.sections import NumbersTable, SedRow


@dataclass(frozen=True, eq=False)
class Part:
    """The content about one scenario. No comparison if no run was evaluated; no map if no routes were saved."""

    key: str
    name: str
    comparison: Comparison | None
    learning: list[Chart]
    alpha: list[Chart]
    rounds: list[Chart]
    distribution: list[Chart]
    city: City | None
    numbers: NumbersTable | None
    sed_rounds: list[SedRow]
    sed_words: list[str]
    algorithms: list[str]
    settings: dict[str, list[str]]

    @property
    def charts(self) -> list[Chart]:
        """All curves of the scenario."""
        return [*self.learning, *self.distribution, *self.alpha, *self.rounds]


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a report.

    Attributes
    ----------
    parts
        One part per scenario.
    missing, problems
        Runs that are not in the report, with the reason; and other read errors, as sentences.
    colours
        Colour of each policy.
    """

    runs: list[Run]
    parts: list[Part]
    overall: list[Overall]
    missing: list[Missing]
    problems: list[str]
    colours: dict[str, str]
    version: str = field(default_factory=lambda: version("relid_sumo"))
    written: str = field(default_factory=lambda: f"{datetime.datetime.now():%Y-%m-%d %H:%M}")


def gather(folders: Sequence[Path]) -> Content:
    """Read run folders and compare the runs in them.

    Raises
    ------
    InputError
        The folders contain no run that can be read.
    """
    runs, missing = read.find(folders)
    comparisons = {comparison.scenario: comparison for comparison in compare.compare(runs)}
    baselines = [row.name for one in comparisons.values() for row in one.rows if not row.learned]
    colour = charts.colours([run.algorithm for run in runs], baselines)
    problems: list[str] = []
    parts = []
    for name in dict.fromkeys(run.scenario for run in runs):
        where, wrong = city(runs, name)
        problems += wrong
        comparison = comparisons.get(name)
        sed_rounds, sed_words = sections.sed(runs, name)
        algorithms, settings = sections.differing(runs, name)
        parts.append(
            Part(
                key=f"scenario-{charts.slug(name)}",
                name=name,
                comparison=comparison,
                learning=charts.learning(runs, name, colour, comparison),
                alpha=charts.alpha(runs, name),
                rounds=charts.rounds(runs, name, colour),
                distribution=[charts.travel_times(comparison, colour)] if comparison is not None else [],
                city=where,
                numbers=sections.numbers(runs, name),
                sed_rounds=sed_rounds,
                sed_words=sed_words,
                algorithms=algorithms,
                settings=settings,
            )
        )
    problems += _versions(runs)
    return Content(runs, parts, compare.overall(list(comparisons.values())), missing, problems, colour)


def _versions(runs: Sequence[Run]) -> list[str]:
    """Return a sentence if runs were made with different versions, because results may then differ."""
    kinds: dict[str, set[str]] = {}
    for run in runs:
        for name, number in run.versions.items():
            kinds.setdefault(name, set()).add(str(number))
    mixed = [f"{name} {' and '.join(sorted(found))}" for name, found in kinds.items() if len(found) > 1]
    return [f"The runs were made with different versions: {', '.join(mixed)}."] if mixed else []
