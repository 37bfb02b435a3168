"""SUMO road networks: made from clean OSM by netconvert, cut down to what is strongly connected, read as arrays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from relid_sumo import trial
from relid_sumo.base import sumo
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.graph import RoadGraph, order_slots
from relid_sumo.trial import Trial

KEPT = "kept"
CLOSED = "closed: vehicles end in the wrong lane"
CUT_OFF = "not strongly connected with the rest"
DROPPED = "inside a joined junction, or dropped by netconvert"

CLEAN_RUNS = 2  # trial runs in a row without a vehicle in the wrong lane
MOST_RUNS = 12
LONGEST_CYCLE_S = 120.0  # of an actuated signal
Edge = tuple[dict[str, str], list[dict[str, str]], Counter[int]]  # attributes, lanes for cars, OSM ways
Links = dict[tuple[int, int], list[tuple[int, int]]]

HEADING_M = 8.0  # the direction of an edge at its ends is taken over this length, past the kinks at junctions

# netconvert's OSM types are German country roads; the second file has town speeds (50 km/h) where there is no
# maxspeed tag; this one lets cars use service roads, which osm.py has chosen or not chosen already.
SERVICE_TYPES = """<types>
    <type id="highway.service" numLanes="1" speed="5.56" priority="1" oneway="false" allow="passenger delivery"/>
    <type id="highway.track" numLanes="1" speed="5.56" priority="1" oneway="false" allow="passenger delivery"/>
</types>
"""


@dataclass(frozen=True)
class RoadNet:
    """A .net.xml read for cars.

    Attributes
    ----------
    file
        The .net.xml.
    graph
        Its road graph.
    ways
        The OSM ways (or pieces of ways, see `relid_sumo.osm.Piece`) of each edge and how often, shape (E,).
    links
        The connections between lanes, (from lane, to lane), by (from edge, to edge).
    signals
        Number of traffic light programs.
    """

    file: Path
    graph: RoadGraph
    ways: list[Counter[int]]
    links: Links
    signals: int


class Builder:
    """A network in the making, and what became of every OSM way on the way.

    Attributes
    ----------
    net
        The network as it is now.
    opened
        Edges from each lane of which every way on can be taken.
    closed
        Edges taken out because vehicles still ended in the wrong lane there.
    """

    def __init__(self, source: Path, work: Path) -> None:
        self.source = source
        self.work = work
        self.versions = 0
        self.net: RoadNet
        self.opened: set[str] = set()
        self.closed: set[str] = set()
        self._gone: dict[str, dict[int, float]] = {CLOSED: {}, CUT_OFF: {}}

    @property
    def fate(self) -> dict[str, dict[int, float]]:
        """Metres of edge by outcome and OSM way."""
        return {KEPT: _metres(self.net, range(self.net.graph.n_edges)), **self._gone}

    def convert(self, clean: Path, *, left_hand: bool, guess_signals: bool) -> None:
        """Start from clean OSM.

        Raises
        ------
        InputError
            If netconvert refuses; the message holds its own error line.
        """
        types = self.work / "service.typ.xml"
        types.write_text(SERVICE_TYPES)
        maps = sumo.home() / "data" / "typemap"
        self._netconvert(
            *("--osm-files", clean),
            *("--type-files", f"{maps / 'osmNetconvert.typ.xml'},{maps / 'osmNetconvertUrbanDe.typ.xml'},{types}"),
            *("--geometry.remove", "true"),
            *("--junctions.join", "true"),
            *("--junctions.corner-detail", "5"),
            *("--roundabouts.guess", "true"),
            *("--ramps.guess", "true"),
            *("--osm.turn-lanes", "true"),
            *("--keep-edges.by-vclass", "passenger"),
            # Signals at stop lines make one with the junction behind them. Nothing is joined beyond that (--tls.join):
            # programs over several junctions get a dozen phases, and Mong Kok then loses half as much time again.
            *("--tls.guess-signals", "true"),
            *("--tls.discard-simple", "true"),
            *("--tls.guess", str(guess_signals).lower()),
            *("--lefthand", str(left_hand).lower()),
        )

    def reduce(self) -> None:
        """Cut down to what is strongly connected.

        Raises
        ------
        InputError
            If there is no such part.
        """
        while not (keep := self.net.graph.strong_component()).all():
            if not keep.any():
                raise InputError(
                    f"{self.source}: no two roads can be driven there and back (no strongly connected part); "
                    "use a larger area"
                )
            self._remove(np.flatnonzero(~keep).tolist(), CUT_OFF)

    def mend(self) -> list[Trial]:
        """Drive trial runs, mend or close the edges on which vehicles end in the wrong lane, and return the runs."""
        trials: list[Trial] = []
        clean = 0
        while clean < CLEAN_RUNS and len(trials) < MOST_RUNS:
            trials.append(trial.run(self.net.graph, self.net.file, self.work, seed=len(trials)))
            found = set(trials[-1].wrong_lane)
            clean = 0 if found else clean + 1
            again = found & self.opened
            if found - again:
                self._open_lanes(found - again)
            if again:
                self.closed |= again
                self._remove([self.net.graph.index[edge] for edge in sorted(again)], CLOSED)
                self.reduce()
        self.opened &= set(self.net.graph.index)
        return trials

    def _remove(self, edges: list[int], why: str) -> None:
        gone = set(edges)
        for way, metres in _metres(self.net, edges).items():
            self._gone[why][way] = self._gone[why].get(way, 0.0) + metres
        kept = self.work / "keep.txt"
        names = (str(name) for i, name in enumerate(self.net.graph.edge_ids) if i not in gone)
        kept.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        self._netconvert("--sumo-net-file", self.net.file, "--keep-edges.input-file", kept, "--tls.rebuild", "true")

    def _open_lanes(self, names: set[str]) -> None:
        """Let every way on be taken from every lane, by way of the lane that the nearest neighbour goes to."""
        graph, links = self.net.graph, self.net.links
        lines = ["<connections>\n"]
        for edge in sorted(graph.index[name] for name in names):
            ways_on = graph.slots[edge, : graph.n_successors[edge]].tolist()
            lanes = sorted({lane for after in ways_on for lane, _ in links[edge, after]})
            for after in ways_on:
                target = dict(links[edge, after])
                for lane in (lane for lane in lanes if lane not in target):
                    nearest = min(target, key=lambda other: abs(other - lane))
                    ends = f'from="{graph.edge_ids[edge]}" to="{graph.edge_ids[after]}"'
                    lines.append(f'<connection {ends} fromLane="{lane}" toLane="{target[nearest]}"/>\n')
        patch = self.work / "lanes.con.xml"
        patch.write_text("".join([*lines, "</connections>\n"]), encoding="utf-8")
        self._netconvert("--sumo-net-file", self.net.file, "--connection-files", patch, "--tls.rebuild", "true")
        self.opened |= names

    def _netconvert(self, *options: str | Path) -> None:
        file = self.work / f"{self.versions}.net.xml"
        always = ["--no-turnarounds.except-deadend", "true", "--tls.default-type", "actuated", "--no-warnings", "true"]
        names = ["--output.street-names", "true", "--output.original-names", "true"]
        try:
            sumo.run("netconvert", [*options, *always, *names, "--output-file", file])
        except SimulationError as error:
            raise InputError(f"{self.source}: no network can be made of it: {error}") from None
        self.versions += 1
        self.net = read(file)


def _metres(net: RoadNet, edges: Iterable[int]) -> dict[int, float]:
    """Return the length of some edges by OSM way."""
    metres: dict[int, float] = {}
    for edge in edges:
        ways = net.ways[edge]
        for way, times in ways.items():
            metres[way] = metres.get(way, 0.0) + float(net.graph.length[edge]) * times / ways.total()
    return metres


def limit_cycles(file: Path, target: Path) -> None:
    """Copy a network with the longest green times of actuated signals cut so that no cycle exceeds `LONGEST_CYCLE_S`.

    netconvert gives every green phase up to 50 s, which at large joined junctions adds up to cycles of six minutes.
    """
    with file.open(encoding="utf-8") as source, target.open("w", encoding="utf-8") as out:
        phases: list[dict[str, str]] = []
        for line in source:
            if "<phase " in line:
                phases.append(dict(re.findall(r'(\w+)="([^"]*)"', line)))
                continue
            if phases:
                out.writelines(_limited(phases))
                phases = []
            out.write(line)


def _limited(phases: list[dict[str, str]]) -> Iterator[str]:
    """Return the phases of one program as XML lines, their ``maxDur`` lowered where the cycle would be too long."""
    floor = sum(float(p.get("minDur", p["duration"])) for p in phases)
    spare = sum(float(p.get("maxDur", p["duration"])) for p in phases) - floor
    share = min(1.0, max(0.0, LONGEST_CYCLE_S - floor) / spare) if spare > 0 else 1.0
    for phase in phases:
        if "maxDur" in phase:
            low = float(phase["minDur"])
            phase["maxDur"] = f"{low + share * (float(phase['maxDur']) - low):.0f}"
            phase["duration"] = f"{min(float(phase['duration']), float(phase['maxDur'])):.0f}"
        yield "        <phase " + " ".join(f'{key}="{value}"' for key, value in phase.items()) + "/>\n"


def for_cars(attributes: dict[str, str]) -> bool:
    """Return whether a lane or connection with these allow/disallow attributes is open to passenger cars."""
    if "allow" in attributes:
        return attributes["allow"] == "all" or "passenger" in attributes["allow"].split()
    disallow = attributes.get("disallow", "")
    return disallow != "all" and "passenger" not in disallow.split()


def read(file: Path) -> RoadNet:
    """Read the roads for cars of a .net.xml."""
    location: dict[str, str] = {}
    left_hand = False
    signals = 0
    junctions: list[dict[str, str]] = []
    edges: list[Edge] = []
    connections: list[dict[str, str]] = []
    for _, tag in ElementTree.iterparse(file):
        if tag.tag == "location":
            location = tag.attrib
        elif tag.tag == "net":
            left_hand = tag.attrib.get("lefthand") in ("true", "1")
        elif tag.tag == "tlLogic":
            signals += 1
        elif tag.tag == "junction" and tag.attrib["type"] != "internal":
            junctions.append(tag.attrib)
        elif tag.tag == "connection" and not tag.attrib["from"].startswith(":"):
            connections.append(tag.attrib)
        elif tag.tag == "edge":
            lanes = [lane for lane in tag.iterfind("lane") if for_cars(lane.attrib)]
            if "function" not in tag.attrib and lanes:
                origin = next((p.attrib["value"] for p in tag.iter("param") if p.attrib["key"] == "origId"), "")
                edges.append((tag.attrib, [lane.attrib for lane in lanes], Counter(map(int, origin.split()))))
        if tag.tag in ("edge", "junction", "tlLogic"):
            tag.clear()
    links = _links(edges, connections)
    graph = _graph(location, left_hand, junctions, edges, links)
    return RoadNet(file, graph, [ways for _, _, ways in edges], links, signals)


def _links(edges: list[Edge], connections: list[dict[str, str]]) -> Links:
    index = {edge["id"]: i for i, (edge, _, _) in enumerate(edges)}
    lane_open = {(edge["id"], lane["index"]) for edge, lanes, _ in edges for lane in lanes}
    links: Links = {}
    for link in connections:
        start, end = (link["from"], link["fromLane"]), (link["to"], link["toLane"])
        if start in lane_open and end in lane_open and for_cars(link):
            pair = int(link["fromLane"]), int(link["toLane"])
            links.setdefault((index[link["from"]], index[link["to"]]), []).append(pair)
    return links


def _graph(
    location: dict[str, str],
    left_hand: bool,
    junctions: list[dict[str, str]],
    edges: list[Edge],
    links: Links,
) -> RoadGraph:
    successors: list[list[int]] = [[] for _ in edges]
    for start, end in links:
        successors[start].append(end)
    shapes = [_middle([_points(lane["shape"]) for lane in lanes]) for _, lanes, _ in edges]
    heads = np.array([_headings(shape) for shape in shapes]).reshape(-1, 2)
    junction = {j["id"]: i for i, j in enumerate(junctions)}
    projection = location.get("projParameter", "!")
    return RoadGraph(
        edge_ids=np.array([edge["id"] for edge, _, _ in edges], dtype=np.str_),
        length=np.array([float(lanes[0]["length"]) for _, lanes, _ in edges]),
        speed=np.array([max(float(lane["speed"]) for lane in lanes) for _, lanes, _ in edges]),
        lanes=np.array([len(lanes) for _, lanes, _ in edges], dtype=np.int32),
        slots=order_slots(successors, heads[:, 1], heads[:, 0], left_hand=left_hand),
        shape_xy=np.concatenate(shapes) if shapes else np.zeros((0, 2)),
        shape_start=np.cumsum([0, *(len(shape) for shape in shapes)], dtype=np.int32),
        from_junction=np.array([junction[edge["from"]] for edge, _, _ in edges], dtype=np.int32),
        to_junction=np.array([junction[edge["to"]] for edge, _, _ in edges], dtype=np.int32),
        junction_xy=np.array([(float(j["x"]), float(j["y"])) for j in junctions]).reshape(-1, 2),
        junction_signal=np.array([j["type"].startswith("traffic_light") for j in junctions], dtype=np.bool_),
        projection=np.array(["" if projection == "!" else projection]),
        offset=np.array([float(v) for v in location.get("netOffset", "0,0").split(",")]),
        left_hand=np.array([left_hand]),
    )


def _points(shape: str) -> Floats:
    return np.array([point.split(",")[:2] for point in shape.split()], dtype=np.float64)


def _middle(lanes: list[Floats]) -> Floats:
    """Return the middle line of an edge's lanes: of one lane, or between two with equally many points."""
    low, high = lanes[(len(lanes) - 1) // 2], lanes[len(lanes) // 2]
    return (low + high) / 2 if len(low) == len(high) else low


def _headings(shape: Floats) -> tuple[float, float]:
    """Return the directions at the start and at the end, rad counter-clockwise from the x axis."""
    step = np.hypot(*np.diff(shape, axis=0).T)
    reach = np.concatenate([[0.0], np.cumsum(step)])
    span = min(HEADING_M, float(reach[-1]))

    def at(s: float) -> Floats:
        return np.array([np.interp(s, reach, shape[:, 0]), np.interp(s, reach, shape[:, 1])])

    out = at(span) - shape[0]
    into = shape[-1] - at(float(reach[-1]) - span)
    return float(np.arctan2(out[1], out[0])), float(np.arctan2(into[1], into[0]))
