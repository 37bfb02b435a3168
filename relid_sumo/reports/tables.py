"""The comparison as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from relid_sumo.base.stats import Estimate
from relid_sumo.reports.content import Content
from relid_sumo.reports.words import details, headline

HEAD = ("scenario", "policy", "seeds", "travel time, s", "IQM, s", "vs. shortest, %", "arrived, %", "return, s")
PAIR_HEAD = ("first", "second", "seeds", "difference, s", "p", "p (Holm)", "P(first faster)")
TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
TEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}


def markdown(content: Content, title: str) -> str:
    """Return the summary, the comparison, the pairs and the missing runs as Markdown."""
    lines = [f"# {title}", ""]
    for part in content.parts:
        lines += [f"## {part.name}", ""]
        if part.comparison is None:
            lines += ["Not evaluated.", ""]
            continue
        lines += [f"**{headline(part.comparison).text}**", ""]
        lines += [*(f"- {sentence}" for sentence in [*details(part.comparison), *part.comparison.notes]), ""]
        lines += [*_pipes(HEAD[1:], [row[1:] for row in _rows(content) if row[0] == part.name]), ""]
        pairs = [
            (
                *(pair.first, pair.second, str(pair.seeds), shown(pair.difference_s, 1)),
                *(_p(pair.p), _p(pair.p_holm), shown(pair.improvement, 2)),
            )
            for pair in part.comparison.pairs
        ]
        lines += [*_pipes(PAIR_HEAD, pairs), ""] if pairs else []
    lines += [
        "Brackets: of a policy, 95 % bootstrap intervals over training seeds; of a difference, 95 % intervals over "
        "training seeds and traffic seeds, from which p is too. p (Holm): corrected for all pairs.",
        "",
    ]
    if content.missing:
        lines += ["## Missing runs", "", *(f"- {one.name}: {one.why}" for one in content.missing), ""]
    lines += [*content.problems]
    return "\n".join(lines).rstrip() + "\n"


def comma_separated(content: Content) -> str:
    """Return one row per scenario and policy as CSV. The interval of each figure has columns of its own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = ("travel_time_s", "iqm_s", "over_shortest", "arrival_rate", "mean_return", "background_over_shortest")
    ends = ("", "_low", "_high")
    writer.writerow(["scenario", "policy", "seeds", *(f"{name}{end}" for name in figures for end in ends), "teleports"])
    for part in content.parts:
        for row in part.comparison.rows if part.comparison is not None else []:
            values: list[object] = [part.name, row.name, row.seeds or ""]
            for name in figures:
                estimate: Estimate | None = getattr(row, name)
                three = (None, None, None) if estimate is None else (estimate.mean, estimate.low, estimate.high)
                values += ["" if value is None else f"{value:.6g}" for value in three]
            writer.writerow([*values, f"{row.teleports:g}"])
    return out.getvalue()


def latex(content: Content) -> str:
    """Return the comparison as a LaTeX tabular with booktabs rules."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{tabular}{llrrrrrr}", r"\toprule"]
    lines += [" & ".join(map(_tex, HEAD)) + r" \\", r"\midrule"]
    last = None
    for row in _rows(content):
        if last not in {None, row[0]}:
            lines.append(r"\midrule")
        lines.append(" & ".join([_tex(row[0]) if row[0] != last else "", *map(_tex, row[1:])]) + r" \\")
        last = row[0]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _rows(content: Content) -> list[tuple[str, ...]]:
    return [
        (
            *(part.name, row.name, str(row.seeds or "-"), shown(row.travel_time_s), shown(row.iqm_s)),
            *(shown(row.over_shortest, 1, 100), shown(row.arrival_rate, 0, 100), shown(row.mean_return)),
        )
        for part in content.parts
        for row in (part.comparison.rows if part.comparison is not None else [])
    ]


def shown(estimate: Estimate | None, digits: int = 0, scale: float = 1.0) -> str:
    """Return a figure with its interval, such as ``412 [398, 427]``."""
    if estimate is None:
        return "-"
    text = f"{estimate.mean * scale:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low * scale:.{digits}f}, {estimate.high * scale:.{digits}f}]"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in table]


def _tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)
