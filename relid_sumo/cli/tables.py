"""The output of the commands: tables and progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn
from rich.table import Table
from rich.text import Text

from relid_sumo.base.stats import Estimate
from relid_sumo.cli.console import SafeConsole, clean, plain
from relid_sumo.cli.doctor import Check
from relid_sumo.cli.notes import own_bar
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation.evaluate import Evaluation
from relid_sumo.evaluation.numbers import NUMBERS, TRAFFIC
from relid_sumo.network import account, netconvert, streets, sumo_net
from relid_sumo.network.network import Network
from relid_sumo.runs.summary import StoredEvaluation
from relid_sumo.scenario import events
from relid_sumo.scenario.condition import SHOWN, Condition
from relid_sumo.scenario.given.counts import GOOD_GEH, GOOD_SHARE, Count
from relid_sumo.scenario.incidents import Placed
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.routes import alternatives
from relid_sumo.scenario.routes import shared as shared_length
from relid_sumo.scenario.settings import Events
from relid_sumo.scenario.traffic.level import TrafficLevel
from relid_sumo.scenario.traffic.meso import Gap, describe

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
DRAWN_EVERY_S = 0.5
SHOWN_TRIPS = 20  # of a fleet


def percent(estimate: Estimate | None) -> str:
    """Return a share as ``+12.3 % [+8.1, +16.0]``."""
    if estimate is None:
        return "-"
    text = f"{100 * estimate.mean:+.1f} %"
    return text if estimate.low is None else f"{text} [{100 * estimate.low:+.1f}, {100 * (estimate.high or 0.0):+.1f}]"


def number(estimate: Estimate, digits: int = 0) -> str:
    """Return a figure as ``412 [398, 427]``."""
    text = f"{estimate.mean:.{digits}f}"
    return text if estimate.low is None else f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def evaluation_table(result: Evaluation) -> Table:
    """Return the table that compares policies."""
    seeds = len(result.seeds)
    changed = "; " + ", ".join(result.what_if) if result.what_if else ""
    actions = "greedy" if result.greedy else "sampled"
    table = Table(
        title=f"{result.scenario}: {seeds} {result.traffic} traffic seeds, {actions} actions{changed}",
        caption="return and travel time: means over all trips and traffic seeds"
        + (", in brackets 95 % bootstrap intervals" if seeds > 1 else " (one seed: no interval)")
        + "; without arrival: time to the horizon plus remaining free-flow time",
    )
    for name in (
        "policy",
        "return, s",
        "travel time, s",
        "time vs. shortest",
        "arrived",
        "background vs. shortest",
        "teleports",
    ):
        table.add_column(name, justify="left" if name == "policy" else "right")
    met = any(row.diverted for row in result.policies.values())
    if met:
        table.add_column("closings met", justify="right")
    for name, row in result.policies.items():
        table.add_row(
            name,
            number(row.mean_return),
            number(row.mean_travel_time_s),
            percent(row.travel_time_over_shortest),
            f"{100 * row.arrival_rate.mean:.1f} %",
            percent(row.background_over_shortest),
            str(row.teleports),
            *([str(row.diverted)] if met else []),
            style="bold" if name == "trained" else None,
        )
    return table


def evaluation_parts(result: Evaluation) -> Iterator[Table | str]:
    """Yield what is shown of an evaluation: the comparison, by type of day, further numbers, and quality of choices."""
    yield evaluation_table(result)
    if (days := day_types_table(result)) is not None:
        yield days
    yield numbers_table(result)
    yield from choices_text(result)


def day_types_table(result: Evaluation) -> Table | None:
    """Return the table of travel times and arrivals by type of day; None where all days are alike."""
    if not result.by_day_type:
        return None
    table = Table(title="travel time, s, and arrivals by type of day")
    table.add_column("policy")
    for name, days in result.by_day_type.items():
        table.add_column(f"{name} ({len(days.seeds)})", justify="right")
    for policy in result.policies:
        rows = [days.policies[policy] for days in result.by_day_type.values()]
        table.add_row(
            policy,
            *(f"{number(row.mean_travel_time_s)}, {100 * row.arrival_rate.mean:.1f} %" for row in rows),
            style="bold" if policy == "trained" else None,
        )
    return table


def numbers_table(result: Evaluation) -> Table:
    """Return the further numbers of each policy, one row per number with what it is a mean over."""
    several = len(result.seeds) > 1
    table = Table(
        title="per trip",
        caption="delay: travel time minus that of the fastest route on an empty network; numbers over arrived trips "
        "are SUMO's (time loss: by driving slower than the limits allow; CO2 and fuel: its emission model)"
        + ("; in brackets 95 % bootstrap intervals over traffic seeds" if several else ""),
    )
    table.add_column("", overflow="fold")
    table.add_column("mean over")
    for name in result.policies:
        table.add_column(name, justify="right", style="bold" if name == "trained" else None)
    for field, how in NUMBERS.items():
        found = [getattr(row.numbers, field) for row in result.policies.values()]
        table.add_row(how.label, how.over, *("-" if one is None else number(one, how.digits) for one in found))
    rows = result.policies.values()
    table.add_row("other drivers vs. shortest", TRAFFIC, *(percent(row.background_over_shortest) for row in rows))
    table.add_row("all vehicles vs. shortest", TRAFFIC, *(percent(row.vehicles_over_shortest) for row in rows))
    table.add_row("arrived trips", "", *(f"{row.numbers.arrived} of {row.numbers.trips}" for row in rows))
    return table


def choices_text(result: Evaluation) -> Iterator[str]:
    """Yield a text on the quality of choices for each policy whose choices were tried."""
    for name, row in result.policies.items():
        if row.choices is not None:
            yield (
                f"{name}: {row.choices.best.mean:.0%} of {row.choices.decisions} choices were the best in hindsight; "
                f"{number(row.choices.lost_s, 1)} s lost per choice (every next edge tried from the same moment, then "
                "greedily)"
            )


def stored_text(stored: StoredEvaluation) -> str:
    """Return the stored evaluation of a run in one line: mean travel time of its policy and of each baseline."""
    means = {name: policy.travel_times.mean() for name, policy in stored.policies.items()}
    listed = ", ".join(f"{name} {mean:.0f} s" for name, mean in means.items())
    return f"stored evaluation, {len(stored.traffic_seeds)} traffic seeds, mean travel time: {listed}"


def doctor_table(checks: list[Check]) -> Table:
    """Return the checks of `doctor`, with fixes."""
    table = Table(show_header=True)
    for name in ("", "check", "found", "fix"):
        table.add_column(name, overflow="fold")
    for check in checks:
        table.add_row(f"[{COLOURS[check.status]}]{check.status}[/]", check.name, check.found, check.fix)
    return table


def trips_table(ready: PreparedScenario) -> Table:
    """Return the trips of a scenario with their alternative routes; of a fleet, the first ones of a traffic seed."""
    seed = ready.scenario.seeds.training[0]
    task, graph = ready.on(seed).task, ready.task.graph
    title = f"{ready.scenario.name}: {task.n_agents} agents, horizon {ready.scenario.horizon_s:g} s"
    if ready.scenario.fleet is not None:
        title += f"; the first {min(SHOWN_TRIPS, task.n_agents)} trips of traffic seed {seed}"
    table = Table(title=title)
    for name in ("agent", "departs, s", "straight line, m", "routes: free-flow time, s", "shared by the first two"):
        table.add_column(name, justify="left" if name == "agent" else "right")
    for i, name in enumerate(task.names[: SHOWN_TRIPS if ready.scenario.fleet is not None else None]):
        origin, destination = int(task.origin[i]), int(task.destination[i])
        gap = graph.end_xy[origin] - graph.end_xy[destination]
        routes = alternatives(graph, origin, destination)
        seconds = ", ".join(f"{graph.free_flow_s[route].sum():.0f}" for route in routes)
        shared = f"{shared_length(graph, routes[1], routes[0]):.0%}" if len(routes) > 1 else "no alternative"
        table.add_row(name, f"{task.depart_s[i]:.0f}", f"{np.hypot(*gap):.0f}", seconds, shared)
    return table


def incidents_text(ready: PreparedScenario, seeds: int = 3) -> Iterator[str]:
    """Yield the incidents of a scenario: those of all traffic seeds, and those drawn in the first ones of each set.

    A scenario with events has lines on its days instead: how many there are of each type, and the first ones.
    """
    for one in ready.task.incidents.fixed:
        yield f"incident in all traffic seeds: {one.describe()}"
    if ready.scenario.events is not None:
        yield from _days_text(ready, ready.scenario.events, seeds)
        return
    for name, seed, drawn in _drawn(ready, seeds):
        yield f"incidents of {name} seed {seed}: {'; '.join(one.describe() for one in drawn)}"


def _days_text(ready: PreparedScenario, settings: Events, seeds: int) -> Iterator[str]:
    for name, of_set in ready.scenario.seeds.model_dump().items():
        counted = ", ".join(f"{days} {kind}" for kind, days in events.counts(settings, of_set).items())
        yield f"{len(of_set)} {name} days: {counted}"
        for seed in of_set[:seeds]:
            yield f"  {name} seed {seed}: {ready.describe_day(seed)}"


def marked_incidents(ready: PreparedScenario, seeds: int = 3) -> list[tuple[list[int], str, str]]:
    """Return the edges of the same incidents for a map, with colours and labels."""
    fixed = ready.task.incidents.fixed
    drawn = [one for _, _, of_seed in _drawn(ready, seeds) for one in of_seed]
    surges = [one for _, seed in _first(ready, seeds) if (one := ready.surge(seed)) is not None]
    parts = (
        ([one.edge for one in surges], "#2a9d8f", f"places of surges in {seeds} seeds per set"),
        (
            [edge for one in drawn for edge in one.shut or (one.edge,)],
            "#8e7cc3",
            f"incidents drawn in {seeds} seeds per set",
        ),
        ([one.edge for one in fixed if not one.shut], "#f1a208", "slowed, or lanes closed, for a time"),
        ([edge for one in fixed for edge in one.shut], "#d00000", "closed for a time"),
    )
    return [part for part in parts if part[0]]


def _drawn(ready: PreparedScenario, seeds: int) -> Iterator[tuple[str, int, list[Placed]]]:
    incidents = ready.task.incidents
    if incidents.is_random:
        for name, seed in _first(ready, seeds):
            yield name, seed, [one for one in incidents.of(seed) if one not in incidents.fixed]


def _first(ready: PreparedScenario, seeds: int) -> list[tuple[str, int]]:
    """Return the first traffic seeds of each set, with its name."""
    return [(name, seed) for name, of_set in ready.scenario.seeds.model_dump().items() for seed in of_set[:seeds]]


def traffic_text(traffic: TrafficLevel, wanted: float | None) -> str:
    """Return a text on the background traffic; `wanted` is None if no level is the target."""
    if traffic.trips == 0:
        return "no background vehicle departs during the measurement"
    rate = f", {traffic.rate_vph:.0f} vehicles/h" if traffic.rate_vph else ""
    aim = "" if wanted is None else f" (target: +{wanted:.0%})"
    text = (
        f"background traffic{rate}: trips take {traffic.loaded_s:.0f} s, compared with "
        f"{traffic.light_s:.0f} s in light traffic, {traffic.level:+.0%}{aim}, mean of "
        f"{traffic.trips} trips; jam and yield teleports: {traffic.teleport_share:.2%} of vehicles"
    )
    if not traffic.flows:
        text += " - [red]gridlock: lower demand.level[/]"
    return text + (f" - {plain(traffic.note)}" if traffic.note else "")


def condition_text(found: Condition, ready: PreparedScenario) -> list[str]:
    """Return lines on teleports, edges where vehicles stand, queues at signals, and alternatives of the trips."""
    graph, names = ready.task.graph, streets.read_names(ready.network.net_file)
    lines = []
    if found.with_alternatives is not None:
        lines.append(f"trips with at least two clearly different routes: {found.with_alternatives:.0%}")
    for (cause, edge), count in found.teleports.most_common(SHOWN):
        lines.append(f"teleports on edge {streets.labelled(edge, names)}: {count} ({cause})")
    for one in found.standing[:SHOWN]:
        edge = streets.labelled(str(graph.edge_ids[one.edge]), names)
        lines.append(
            f"vehicles stand on edge {edge}: {one.seconds:.0f} s in its slowest five minutes, {one.free_s:.0f} s at "
            f"free flow; {one.delay_share:.0%} of all delay"
        )
    for junction, vehicles in found.queues[:SHOWN]:
        edges = np.flatnonzero(graph.to_junction == junction)
        roads = sorted({names.get(str(graph.edge_ids[e]), str(graph.edge_ids[e])) for e in edges})
        lines.append(f"signal at {', '.join(roads)}: {vehicles:.1f} delayed vehicles on average")
    return lines


def marked_traffic(found: Condition, ready: PreparedScenario) -> list[tuple[list[int], str, str]]:
    """Return edges to mark on a map: where vehicles stand, and the signals with the longest queues."""
    graph = ready.task.graph
    junctions = [junction for junction, _ in found.queues[:SHOWN]]
    into = np.flatnonzero(np.isin(graph.to_junction, junctions)).tolist()
    return [
        (into, "#f2c14e", "longest queues at signals"),
        ([one.edge for one in found.standing], "#c1121f", "vehicles stand"),
    ]


def verdict_text(found: Condition) -> list[str]:
    """Return lines that say whether a scenario simulates well, or what is wrong."""
    return [f"wrong: {fault}" for fault in found.faults] or ["simulates well"]


def meso_text(gap: Gap, floor: Gap) -> str:
    """Return a text on the difference between the mesoscopic and the microscopic simulation."""
    return (
        f"mesoscopic simulation, over {gap.trips} trips of the validation traffic: {describe(gap)} "
        f"(microscopic with another random seed: {describe(floor)})"
    )


class TrainingBar:
    """The progress of a training run: a bar on a terminal, a line per update elsewhere."""

    def __init__(self, console: Console, episodes: int, done: int = 0) -> None:
        self._console, self._last = console, "return -"
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("episode"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            EtaColumn(),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=1 / DRAWN_EVERY_S,
        )
        self._task = self._bar.add_task(self._last, total=episodes, completed=done)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar during the training."""
        with own_bar(), self._bar:
            yield

    def episode(self, record: EpisodeRecord) -> None:
        """Update the bar with an episode."""
        text = f"return {record.returns.mean():.0f} s, travel {record.travel_time.mean():.0f} s, "
        self._bar.update(self._task, advance=1, description=f"{text}arrived {record.arrival_rate:.0%}")

    def update(self, row: dict[str, float]) -> None:
        """Update the bar, or print a line, after an update."""
        self._bar.update(self._task, completed=row["episodes"] + row.get("skipped", 0))
        if isinstance(self._console, SafeConsole) and self._console.as_json is not None:
            self._console.event(f"update {row['update']}", **row)
            return
        if not self._console.is_terminal:
            self._console.print(
                f"update {row['update']}: episode {row['episodes']}, return {row['mean_return']:.0f} s, travel time "
                f"{row['mean_travel_time_s']:.0f} s, arrived {row['arrival_rate']:.0%}"
            )


def counts_table(reached: Sequence[tuple[Count, float]]) -> Table:
    """Return the counts of a scenario with the vehicles of its traffic, and how well they fit."""
    geh = [count.geh(vehicles) for count, vehicles in reached]
    good = sum(value < GOOD_GEH for value in geh) / max(len(geh), 1)
    table = Table(
        title="counts",
        caption=f"GEH below {GOOD_GEH:g} for {good:.0%} of the counts; {GOOD_SHARE:.0%} is usual in practice",
    )
    for name in ("edge", "time, s", "counted", "traffic", "GEH"):
        table.add_column(name, justify="left" if name == "edge" else "right")
    for (count, vehicles), value in zip(reached, geh, strict=True):
        table.add_row(
            clean(count.edge),
            f"{count.begin_s:g}-{count.end_s:g}",
            f"{count.count:.0f}",
            f"{vehicles:.0f}",
            f"{value:.1f}",
            style=None if value < GOOD_GEH else "yellow",
        )
    return table


def _given_text(network: Network) -> Group:
    """Return a summary of a network that was given as a SUMO network."""
    facts, area = network.summary, network.summary["area"]
    where = "no projection, so no longitudes and latitudes"
    if area is not None:
        where = "{:.4f},{:.4f},{:.4f},{:.4f} (W,S,E,N)".format(*area)
    rows = {
        "network": network.title,
        "source": f"{facts['source']} (sha256 {facts['sha256'][:12]}..., format {facts['version'] or 'unknown'}), "
        f"{facts['attribution']}; used as it is",
        "area": where,
        "traffic": f"{'left' if facts['left_hand'] else 'right'}-hand",
        "size": f"{facts['edges']} edges for cars, {facts['junctions']} junctions, {facts['km']:.1f} km "
        f"({facts['lane_km']:.1f} lane-km), at most {facts['most_ways_on']} successors",
        "signals": str(facts["signals"]),
        "not for SUMO": sumo_net.listed(facts["not_for_sumo"]) or "nothing: SUMO gets all of the file",
        "files": f"{network.net_file} (SUMO {facts['sumo']})",
    }
    edges = Table("edges of the file", "edges", "km", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for column in edges.columns[1:]:
        column.justify = "right"
    for use, entry in facts["outcome"].items():
        name = "in the largest strongly connected part for cars" if use == netconvert.KEPT else use
        edges.add_row(Text(clean(name)), f"{entry['ways']:.0f}", f"{entry['km']:.1f}")
    return Group(_facts_table(facts, rows), edges)


def summary_text(network: Network) -> Group:
    """Return a summary of a network for `rich`: its size, and the use of every element of the OSM file."""
    facts = network.summary
    if facts.get("given"):
        return _given_text(network)
    side = f"{'left' if facts['left_hand'] else 'right'}-hand, {facts['left_hand_decided']}"
    west, south, east, north = facts["area"]
    guessed = facts["signals_guessed"]

    def named(edges: Iterable[str]) -> list[str]:
        return [streets.labelled(edge, network.streets) for edge in edges]

    rows = {
        "network": f"{network.title}: {network.description}".removesuffix(": "),
        "source": f"{facts['source']} (sha256 {facts['sha256'][:12]}...), {facts['attribution']}",
        "area": f"{west:.4f},{south:.4f},{east:.4f},{north:.4f} (W,S,E,N)",
        "traffic": side,
        "size": f"{facts['edges']} edges, {facts['junctions']} junctions, {facts['km']:.1f} km "
        f"({facts['lane_km']:.1f} lane-km), at most {facts['most_ways_on']} successors",
        "signals": f"{facts['signals']}, {'guessed where large roads meet' if guessed else 'all from the data'}",
        "elements in the file": account.elements(facts),
        "barriers": f"{facts['barriers']['closed']} closed to cars, {facts['barriers']['open']} open",
        "tags by rules": "; ".join(account.rules(facts)) or "none replaced",
        "tags ignored": account.listed(facts["ignored_tags"]),
        "of nodes": account.listed(facts["ignored_node_tags"]),
        "turn restrictions": ", ".join(
            [
                f"{facts['restrictions']['used']} used",
                *(f"{count} left out ({why})" for why, count in facts["restrictions"]["left_out"].items()),
            ]
        ),
        "trial runs": f"{facts['trial']['runs']}, the last with {facts['trial']['vehicles']} vehicles; in the "
        f"wrong lane at the end: {edge_list(named(facts['trial']['wrong_lane_left']))}",
        "fixed edges": f"{edge_list(named(facts['lanes_opened']))} (every successor reachable from every lane)",
        "closed edges": edge_list(facts["closed"]),
        "files": f"{network.net_file} (SUMO {facts['sumo']})",
    }
    ways = Table("roads in the file", "OSM ways", "km", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for column in ways.columns[1:]:
        column.justify = "right"
    for reason, entry in [*facts["left_out"].items(), *facts["outcome"].items()]:
        ways.add_row(
            Text("used" if reason == netconvert.KEPT else clean(reason)), f"{entry['ways']:.0f}", f"{entry['km']:.1f}"
        )
    total = account.totals(facts["roads_in_file"])
    ways.add_section()
    ways.add_row("total", f"{total['ways']:.0f}", f"{total['km']:.1f}")
    return Group(_facts_table(facts, rows), ways)


def _facts_table(facts: dict[str, Any], rows: Mapping[str, str]) -> Table:
    """Return the warnings about a network, and facts by name."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for warning in account.warnings(facts):
        table.add_row(Text("warning", style="bold yellow"), Text(clean(warning)))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(clean(value)))
    return table


def edge_list(edges: Iterable[str]) -> str:
    """Return edges as one text."""
    return ", ".join(edges) or "none"
