"""Tables of SED runs and partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from relid_sumo.cli.console import plain as shown
from relid_sumo.cli.notes import following, own_bar
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.bench import SedWatch
from relid_sumo.sed.comparing import ModelComparison
from relid_sumo.sed.partition import Partition
from relid_sumo.sed.programs.answers import WANTED
from relid_sumo.sed.programs.plain import last_line, plain
from relid_sumo.sed.programs.sandbox import MOST_TOLD

MOST_SHOWN = 160  # characters of a problem in a table


def tables(content: dict[str, Any]) -> Group:
    """Return the tables of `sed show` from the content of results.json."""
    compared = (_compared(one) for one in content["compared"])
    return Group(_rates(content), _rounds(content), *_causes(content), _programs(content), *compared)


def usage_text(usage: dict[str, float]) -> str:
    """Return requests, tokens and cost in words."""
    tokens = f"{usage['tokens_in']:,.0f} tokens in and {usage['tokens_out']:,.0f} out"
    cost = f", {usage['usd']:.4f} USD" if usage["usd"] else ""
    return f"asked: {usage['requests']:.0f} requests, {tokens}{cost}"


def models_table(found: ModelComparison) -> Table:
    """Return a row per run of `sed compare`."""
    table = Table(title=escape(f"{found.scenario}: programs and plans by run"))
    names = ("run", "model", "valid", "execution rate", "score", "travel time, s", "tokens in", "tokens out", "USD")
    for name in names:
        table.add_column(name, justify="left" if name in {"run", "model"} else "right", overflow="fold")
    for run in found.runs:
        low, high = run.interval_95 or (0.0, 0.0)
        rate = f"{run.valid / run.programs:.0%} [{low:.0%}, {high:.0%}]" if run.programs else "-"
        used = run.usage or {}
        table.add_row(
            escape(shown(run.folder) + ("" if run.finished else " (not finished)")),
            escape(shown(run.model)),
            f"{run.valid}/{run.programs}",
            rate,
            _text(run.score, ".3f"),
            _text(run.travel_time_s, ".0f"),
            *(_text(used.get(name), form) for name, form in (("tokens_in", ",.0f"), ("tokens_out", ",.0f"))),
            _text(used.get("usd") or None, ".4f"),
        )
    return table


def _rates(content: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{content['scenario']}, --llm {content['provider']}") + ": programs with a valid plan")
    for name in ("", "valid", "programs", "execution rate"):
        table.add_column(name, justify="right" if name else "left")
    for name, label in (("initial", "without refinement"), ("refined", "with refinement"), ("all", "all")):
        counted = content["programs"][name]
        share = content["execution_rate"][name]
        low, high = counted["interval_95"] or (0.0, 0.0)
        text = "-" if share is None else f"{share:.0%} [{low:.0%}, {high:.0%}]"
        table.add_row(label, str(counted["valid"]), str(counted["programs"]), text)
    return table


def _rounds(content: dict[str, Any]) -> Table:
    table = Table(title="best plans after each round, means over subsets")
    for name in (
        "round",
        "valid",
        "score",
        "travel time, s",
        "return, s",
        "F_out",
        "F_out, signed",
        "F_out, noise floor",
        "D_in",
    ):
        table.add_column(name, justify="right")
    for row in content["rounds"]:
        table.add_row(
            str(row["round"]),
            f"{row['valid']}/{row['programs']}",
            _text(row["score"], ".3f"),
            _text(row["travel_time_s"], ".0f"),
            _text(row["mean_return"], ".0f"),
            _text(row["f_out"], ".4f"),
            _text(row["f_out_signed"], "+.4f"),
            _text(row["f_out_floor"], ".4f"),
            _text(row["d_in"], ".3f"),
        )
    return table


def _programs(content: dict[str, Any]) -> Table:
    table = Table(title="programs", caption="* best plan of its subset; = equals an earlier plan")
    for name in ("program", "score", "travel time, s", "F_out", "error"):
        table.add_column(name, justify="left" if name in {"program", "error"} else "right")
    for subset in content["subsets"]:
        for one in subset["attempts"]:
            numbers = one["numbers"] or {}
            mark = "*" if one["place"] == subset["best"] else "=" if one["same"] else " "
            table.add_row(
                escape(f"{mark} {one['place']}"),
                _text(numbers.get("score"), ".3f"),
                _text(numbers.get("travel_time_s"), ".0f"),
                _text(numbers.get("f_out"), ".4f"),
                escape(_line(one["problem"] or "")),
            )
    return table


def _compared(content: dict[str, Any]) -> Table:
    seeds = len(content["seeds"])
    table = Table(
        title=f"best plans together: {seeds} {content['traffic']} traffic seeds, {content['simulator']}scopic",
        caption="gain: return of the demonstrations minus the baseline's, in brackets a 95 % bootstrap interval",
    )
    for name in ("policy", "return, s", "travel time, s", "arrived", "gain, s"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for name in content["mean_return"]:
        gain = content["gain"].get(name)
        table.add_row(
            name,
            f"{content['mean_return'][name]:.0f}",
            f"{content['mean_travel_time_s'][name]:.0f}",
            f"{content['arrival_rate'][name]:.0%}",
            "" if gain is None else f"{gain[0]:+.0f} [{gain[1]:+.0f}, {gain[2]:+.0f}]",
        )
    return table


def _causes(content: dict[str, Any]) -> list[Table]:
    """Return a table of the rounds' programs without a valid plan, by cause; none where all have one."""
    found = [(row["round"], count, cause) for row in content["rounds"] for count, cause in row.get("causes", [])]
    table = Table(title="programs without a valid plan")
    for name in ("round", "programs", "cause"):
        table.add_column(name, justify="left" if name == "cause" else "right")
    for number, count, cause in found:
        table.add_row(str(number), str(count), escape(_line(cause)))
    return [table] if found else []


def _line(problem: str) -> str:
    """Return the last line of a problem, which names the cause, without what is asked of the model."""
    return last_line(plain(problem, MOST_TOLD, end=True)).removesuffix(f"; {WANTED}")[:MOST_SHOWN]


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def partition_table(partition: Partition, task: RoutingTask) -> Table:
    """Return the subsets, and the overlap of their agents with each other and with other agents."""
    table = Table(
        title=f"{task.scenario.name}: {len(partition.subsets)} subsets of {task.n_agents} agents",
        caption="overlap: share of edges used at about the same time, 0 to 1, mean over pairs of agents",
    )
    for name in ("subset", "agents", "overlap inside", "overlap with others"):
        table.add_column(name, justify="left" if name == "agents" else "right")
    for number, subset in enumerate(partition.subsets, 1):
        inside = f"{partition.inside(subset):.2f}" if len(subset) > 1 else "-"
        names = ", ".join(task.names[i] for i in subset)
        table.add_row(str(number), names, inside, f"{partition.outside(subset):.2f}")
    return table


@contextmanager
def progress(console: Console) -> Iterator[SedWatch]:
    """Show the progress: a line with counts of answers and episodes on a terminal, a line per step elsewhere."""
    counts = {"answers": 0, "episodes": 0}
    with own_bar(), console.status("starting") as status:
        current = ["starting"]

        def show() -> None:
            status.update(f"{current[0]} ({counts['answers']} answers, {counts['episodes']} episodes so far)")

        def counted(what: str) -> None:
            counts[what] += 1
            show()

        def noted(text: str) -> None:
            current[0] = shown(text)
            show()

        with following(noted):
            yield SedWatch(lambda _: counted("answers"), lambda _: counted("episodes"))
