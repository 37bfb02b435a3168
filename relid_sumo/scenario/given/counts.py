"""Traffic that fits counts of vehicles on edges, through SUMO's routeSampler on seeded random routes.

Counts are a CSV table with the columns ``edge,count`` and, where given, ``begin,end`` (s or h:m:s; default: the first
hour), or a file of edge data of SUMO, with the first of the attributes `ATTRIBUTES` that it has.
The measure of fit is GEH, sqrt(2 (m - c)^2 / (m + c)) with vehicles per hour m and counted c; below 5 is good.
"""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from relid_sumo.base import cache, files, interpreter, safe_paths, seeding, sumo, temporary, xml_parts
from relid_sumo.base.errors import InputError, SimulationError, did_you_mean
from relid_sumo.network.network import Network
from relid_sumo.scenario.given.matrix import MOST_MIB, Traffic, number, rows, span
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import Scenario
from relid_sumo.scenario.traffic.demand import ROUTE_SPREAD, routes
from relid_sumo.scenario.traffic.sumo_options import simulation_options, with_additional

log = logging.getLogger(__name__)

FORMAT = 1  # part of the cache key: raise it when the routes change
ATTRIBUTES = ("entered", "count", "vehicles", "flow", "nVehEntered", "nVehContrib")
GOOD_GEH, GOOD_SHARE = 5.0, 0.85
PER_EDGE, MOST_PATHS = 30, 6000  # random routes through a counted edge, and through all of them
BETWEEN = 150  # random routes between other edges
HOUR_S = 3600.0
SHOWN = 5
RULES = xml_parts.Rules(
    "edge data of SUMO",
    frozenset({"meandata", "data", "additional"}),
    {"": frozenset({"interval"}), "interval": frozenset({"edge"})},
    {"interval": frozenset({"id", "begin", "end"}), "edge": frozenset({"id", *ATTRIBUTES})},
)


@dataclass(frozen=True)
class Count:
    """Vehicles that entered an edge in a time, s."""

    edge: str
    count: float
    begin_s: float
    end_s: float

    def geh(self, vehicles: float) -> float:
        """Return GEH of a number of vehicles in the same time."""
        per_hour = HOUR_S / (self.end_s - self.begin_s)
        measured, counted = vehicles * per_hour, self.count * per_hour
        return math.sqrt(2 * (measured - counted) ** 2 / (measured + counted)) if measured + counted else 0.0


def traffic(network: Network, file: Path) -> tuple[Traffic, Path]:
    """Return routes that fit counts, and the counts as a file for `reached`; cached.

    Raises
    ------
    InputError
        The file cannot be read, or names edges that no car can use.
    """
    found = read(file)
    index = network.graph.index
    if unknown := [one.edge for one in found if one.edge not in index]:
        shown = ", ".join(f"'{name}'{did_you_mean(name, index)}" for name in unknown[:SHOWN])
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        text = f"{file}: edges {shown}{more} are not in network '{network.name}', or closed to cars"
        if len(unknown) == len(found):
            raise InputError(f"{text}: no count can be used; give counts of this network")
        log.warning(f"{text}; their counts are left out: correct or remove them")
        found = [one for one in found if one.edge in index]
    content = [FORMAT, network.key, sumo.version(), [vars(one) for one in found]]
    made = cache.cache_file("demand", f"{network.name}-counts", content, ".rou.xml")
    kept = cache.cache_file("demand", f"{network.name}-counts", content, ".counts.xml")
    cache.once(made, lambda: _make(network, found, made))
    cache.once(kept, lambda: files.write(kept, as_xml(found).encode()))
    _report(file, found, sampled(made, found))
    return Traffic(made, min(one.begin_s for one in found), max(one.end_s for one in found)), kept


def read(file: Path) -> list[Count]:
    """Return the counts of a file.

    Raises
    ------
    InputError
        It cannot be read, or has no counts; the message names the line.
    """
    if not file.is_file():
        raise InputError(f"--counts {file}: there is no such file; correct the path")
    found = list(_of_xml(file) if xml_parts.root_of(file) else _of_table(file))
    if not found:
        raise InputError(
            f"--counts {file}: it has no counts; give a table edge,count or edge data of SUMO with the attribute "
            f"{', '.join(ATTRIBUTES[:3])} ..."
        )
    return found


def _of_table(file: Path) -> Iterable[Count]:
    try:
        text = safe_paths.read_text(file, MOST_MIB).lstrip("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}; give a table in UTF-8") from None
    for line, row in rows(file, text, ("edge", "count"), "--counts"):
        yield Count(row["edge"], number(file, line, row["count"]), *span(file, line, row))


def _of_xml(file: Path) -> Iterable[Count]:
    for part in xml_parts.parts(file, RULES, xml_parts.Account()):
        times = span(file, part.line, {"begin": part.values.get("begin", ""), "end": part.values.get("end", "")})
        for edge in ET.fromstring(part.text).iter("edge"):
            text = next((edge.attrib[name] for name in ATTRIBUTES if name in edge.attrib), None)
            if text is not None:
                yield Count(edge.get("id", ""), number(file, part.line, text), *times)


def as_xml(counts: Sequence[Count]) -> str:
    """Return counts as edge data of SUMO."""
    intervals: dict[tuple[float, float], list[str]] = {}
    for one in counts:
        words = f"<edge id={quoteattr(one.edge)} entered='{one.count:g}'/>"
        intervals.setdefault((one.begin_s, one.end_s), []).append(words)
    return "<meandata>{}</meandata>\n".format(
        "".join(
            f"<interval id='{i}' begin='{begin:g}' end='{end:g}'>{''.join(words)}</interval>"
            for i, ((begin, end), words) in enumerate(sorted(intervals.items()))
        )
    )


def _make(network: Network, counts: Sequence[Count], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    log.info(f"sampling routes for counts on {len({one.edge for one in counts})} edges")
    with temporary.folder("relid-sumo-", file.parent) as folder:
        data, paths, result = (folder / name for name in ("counts.xml", "paths.rou.xml", "out.rou.xml"))
        data.write_text(as_xml(counts), encoding="utf-8")
        every = _paths(network, sorted({network.graph.index[one.edge] for one in counts}))
        ids = network.graph.edge_ids
        words = "".join(
            f"<route id='r{i}' edges={quoteattr(' '.join(ids[list(path)].tolist()))}/>" for i, path in enumerate(every)
        )
        paths.write_text(f"<routes>{words}</routes>", encoding="utf-8")
        command = ["-r", str(paths), "-d", str(data)]
        command += ["--edgedata-attribute", "entered", "-o", str(result), "--optimize", "full"]
        command += ["--seed", str(seeding.sumo_seed(0, "counts")), "--prefix", "c"]
        command += ["--attributes", "departLane='best' departSpeed='max'"]
        done = interpreter.run_script(sumo.home() / "tools" / "routeSampler.py", command, folder)
        if done.returncode or not result.is_file():
            raise SimulationError(f"SUMO's routeSampler failed: {sumo.error_line(done.stderr + done.stdout)}")
        files.put(result, file)


def _paths(network: Network, counted: Sequence[int]) -> list[tuple[int, ...]]:
    """Return random routes: some between random edges, and some through each counted edge; each once."""
    graph, rng = network.graph, seeding.stream(0, "counts", "paths")
    weight = graph.length * graph.lanes * graph.speed
    share = weight / weight.sum()
    found: dict[tuple[int, ...], None] = {}
    each = min(PER_EDGE, max(4, MOST_PATHS // len(counted)))
    for edge in counted:
        cost = graph.free_flow_s * rng.uniform(1.0, ROUTE_SPREAD, graph.n_edges)
        into = graph.to_destination(edge, cost)[1]
        for origin, destination in rng.choice(graph.n_edges, (each, 2), p=share).tolist():
            before = _followed(into, origin, edge) or [edge]
            after = graph.path(edge, destination, cost) or [edge]
            if len(set(before) & set(after)) == 1:
                found[(*before, *after[1:])] = None
    for origin, destination in rng.choice(graph.n_edges, (BETWEEN, 2), p=share).tolist():
        cost = graph.free_flow_s * rng.uniform(1.0, ROUTE_SPREAD, graph.n_edges)
        if path := graph.path(origin, destination, cost):
            found[tuple(path)] = None
    return list(found)


def _followed(into: np.ndarray[tuple[int], np.dtype[np.int32]], origin: int, edge: int) -> list[int]:
    path = [origin]
    while path[-1] != edge:
        after = int(into[path[-1]])
        if after < 0:
            return []
        path.append(after)
    return path


def sampled(file: Path, counts: Sequence[Count]) -> list[float]:
    """Return the number of vehicles of a route file that use each counted edge in its time."""
    wanted = {one.edge for one in counts}
    departures: dict[str, list[float]] = {edge: [] for edge in wanted}
    for vehicle in ET.parse(file).getroot().iter("vehicle"):
        route = vehicle.find("route")
        for edge in wanted.intersection([] if route is None else route.get("edges", "").split()):
            departures[edge].append(seconds(vehicle.get("depart", "")))
    return [float(sum(one.begin_s <= at_s < one.end_s for at_s in departures[one.edge])) for one in counts]


def _report(file: Path, counts: Sequence[Count], vehicles: Sequence[float]) -> None:
    geh = [one.geh(found) for one, found in zip(counts, vehicles, strict=True)]
    good = sum(value < GOOD_GEH for value in geh) / len(geh)
    text = f"{file.name}: {sum(vehicles):.0f} passages of {sum(one.count for one in counts):.0f} counted; "
    text += f"GEH is below {GOOD_GEH:g} for {good:.0%} of {len(geh)} counts"
    if good >= GOOD_SHARE:
        log.info(text)
        return
    worst = sorted(range(len(geh)), key=lambda i: -geh[i])[:SHOWN]
    shown = ", ".join(f"'{counts[i].edge}' ({vehicles[i]:.0f} of {counts[i].count:.0f})" for i in worst)
    log.warning(f"{text}: these counts cannot be met together, worst {shown}; correct or remove the wrong ones")


def reached(scenario: Scenario, network: Network, file: Path) -> list[tuple[Count, float]]:
    """Drive a scenario's traffic once, and return its counts with the vehicles that entered each edge."""
    counts, seed = read(file), scenario.seeds.training[0]
    times = sorted({(one.begin_s, one.end_s) for one in counts})
    with temporary.folder("relid-sumo-") as folder:
        outs = [folder / f"{i}.xml" for i in range(len(times))]
        wanted = folder / "wanted.add.xml"
        wanted.write_text(
            "<additional>{}</additional>".format(
                "".join(
                    f'<edgeData id="{i}" file="{out}" begin="{begin:g}" end="{end:g}" excludeEmpty="true"/>'
                    for i, (out, (begin, end)) in enumerate(zip(outs, times, strict=True))
                )
            ),
            encoding="utf-8",
        )
        options = simulation_options(scenario, network, routes(scenario, network, seed), seed)
        end_s = max(end for _, end in times) + 1.0
        sumo.run("sumo", [*with_additional(options, wanted), "--end", f"{end_s:g}", "--no-step-log"])
        entered: dict[tuple[str, tuple[float, float]], float] = {}
        for out, time in zip(outs, times, strict=True):
            for edge in ET.parse(out).getroot().iter("edge"):
                # SUMO counts vehicles that depart on an edge apart from those that enter it
                vehicles = float(edge.get("entered", "0")) + float(edge.get("departed", "0"))
                entered[edge.get("id", ""), time] = vehicles
    return [(one, entered.get((one.edge, (one.begin_s, one.end_s)), 0.0)) for one in counts]
