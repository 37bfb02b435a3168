"""Reads SUMO's network file."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.network.graph import RoadGraph, order_slots

Edge = tuple[dict[str, str], list[dict[str, str]], Counter[int]]  # attributes, lanes for cars, OSM ways


WAY = re.compile(r"-?\d+")  # an OSM way in ``origId``, where networks of others may have other words


Links = dict[tuple[int, int], list[tuple[int, int]]]


ROADS = frozenset({"normal", "connector"})  # functions of edges that are no part of a junction


HEADING_M = 8.0  # length over which the direction at an edge's ends is measured: longer than the kinks at junctions


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
        The OSM ways (or pieces of ways, see `relid_sumo.network.osm.Piece`) of each edge and how often, shape (E,).
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
            lanes = [lane for lane in tag.iterfind("lane") if for_cars(lane.attrib) and float(lane.attrib["speed"]) > 0]
            if tag.attrib.get("function", "normal") in ROADS and lanes:
                origin = next((p.attrib["value"] for p in tag.iter("param") if p.attrib["key"] == "origId"), "")
                ways = [int(word) for word in origin.split() if WAY.fullmatch(word)]
                edges.append((tag.attrib, [lane.attrib for lane in lanes], Counter(ways)))
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
    """Return the middle line of an edge's lanes: one lane's, or the mean of two with equally many points."""
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
