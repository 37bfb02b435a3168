"""OpenStreetMap files: selects the roads that a car may use, and writes them for netconvert.

`relid_sumo.network.osm_file` reads files, `relid_sumo.network.osm_rules` interprets tags. This module needs no SUMO.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from relid_sumo.base.errors import InputError
from relid_sumo.network import osm_file, osm_rules
from relid_sumo.network.osm_barriers import Piece, cut_at_barriers
from relid_sumo.network.osm_file import ENDINGS, NODE_TAGS, Contents, Tags, Way, check_file, is_osm
from relid_sumo.network.osm_geometry import Box, Line, bounds, centre, check_box, lines, parse_box
from relid_sumo.network.osm_rules import ACCESS_KEYS, BARRIER, DIRECTIONS, Ruling

__all__ = [
    "ENDINGS",
    "NODE_TAGS",
    "Box",
    "Extract",
    "Piece",
    "Tally",
    "bounds",
    "check_box",
    "check_file",
    "is_osm",
    "parse_box",
    "read",
    "write",
]

Tally = dict[str, dict[str, float]]

UNWANTED = ("change", "placement", "busway")  # change:lanes and similar tags; lanes of buses are already removed
UNREAD = {*ACCESS_KEYS, *(f"{key}:{direction}" for key in ACCESS_KEYS for direction in DIRECTIONS)}
# Of one position: nodes of roads, and times that roads pass it. Real extracts have 2 and 6;
# netconvert takes minutes from 16 nodes, or 16 roads between few nodes.
MOST_COINCIDENT, MOST_PASSES = 8, 16
CUT_ID = 10**13  # the second and later pieces of a way are numbered way + k * CUT_ID, away from 0
ROUNDING_KM = 1e-6

RULES = 2  # the newest rules for tags (`NetworkSettings.rules`)
BY_RULES = frozenset({"ways", "barriers", "restrictions"})  # differences that depend on them
OUTSIDE = "outside the box"
INCOMPLETE = "nodes missing from the file (straight lines across the gaps)"
LOSSES = (INCOMPLETE, BARRIER, osm_rules.REVERSIBLE)  # roads that cars would use with more complete data


@dataclass
class Account:
    """Account of all OSM ways that are tagged as roads.

    Attributes
    ----------
    came_in
        Number and km of all OSM ways with a highway tag, by highway class.
    usable
        The same for OSM ways that a car may use.
    left_out
        Number and km of unused OSM ways, by reason. A partly used OSM way counts once, as usable; the km of its other
        parts count by their reasons. So `usable` and `left_out` add up to `came_in`.
    restrictions_left_out
        Number of turn restrictions not used, by reason.
    missing_nodes
        Nodes that are missing, of OSM ways that a car may use.
    barriers
        Nodes with barriers on the usable roads: ``closed`` and ``open``.
    rules
        OSM ways by the rule that replaced one of their tags.
    ignored_tags, ignored_node_tags
        OSM ways a car may use, and their nodes, by the key of a tag that nothing reads.
    differences
        Differences from rules 1: number of OSM ways, barriers, restrictions and records.
    """

    came_in: Tally = field(default_factory=dict)
    usable: Tally = field(default_factory=dict)
    left_out: Tally = field(default_factory=dict)
    restrictions_left_out: dict[str, int] = field(default_factory=dict)
    missing_nodes: int = 0
    barriers: dict[str, int] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    ignored_tags: Counter[str] = field(default_factory=Counter)
    ignored_node_tags: Counter[str] = field(default_factory=Counter)
    differences: dict[str, int] = field(default_factory=dict)

    def differ(self, what: str, count: int = 1) -> None:
        """Count a difference from rules 1."""
        if count:
            self.differences[what] = self.differences.get(what, 0) + count


@dataclass(frozen=True)
class Extract:
    """The roads of an OSM file.

    Attributes
    ----------
    contents
        Content of the file.
    bounds
        West, south, east, north of all road nodes in the file, degrees, not only of those in the box; west > east where
        the roads lie across the 180th meridian.
    pieces
        Parts of OSM ways that a car may use, in file order.
    node_position
        Longitude and latitude of every node of the pieces.
    node_tags
        Tags of those nodes that concern signals.
    restrictions
        Turn restrictions as (from piece, via node, to piece, kind).
    account
        Account of used and unused OSM ways.
    """

    contents: Contents
    bounds: Box
    pieces: tuple[Piece, ...]
    node_position: dict[int, tuple[float, float]]
    node_tags: dict[int, Tags]
    restrictions: tuple[tuple[int, int, int, str], ...]
    account: Account

    @property
    def signals(self) -> int:
        """Number of nodes with traffic signals on the usable roads, pedestrian crossings included."""
        marks = {"highway": "traffic_signals", "crossing": "traffic_signals"}
        return sum(any(tags.get(key) == mark for key, mark in marks.items()) for tags in self.node_tags.values())

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the middle of the usable roads."""
        lon, lat = np.array(list(self.node_position.values())).T
        return centre(bounds(lon, lat))

    def places(self, most: int = 200) -> list[tuple[float, float, float]]:
        """Return longitude, latitude and km of evenly picked pieces."""
        chosen = self.pieces[:: max(1, len(self.pieces) // most)]
        return [(*self.node_position[piece.nodes[0]], piece.km) for piece in chosen]


def read(source: Path, *, box: Box | None = None, service_roads: bool = False, rules: int = RULES) -> Extract:
    """Read the roads of an OSM file.

    Parameters
    ----------
    source
        An OSM file (XML), plain or packed with gzip, bzip2 or xz.
    box
        West, south, east, north in degrees. A segment between two nodes is inside if one of them is.
    service_roads
        Whether cars use ``highway=service`` and ``highway=track``.
    rules
        The rules by which tags are read: 2, or the earlier 1 (see `NetworkSettings.rules`).

    Raises
    ------
    InputError
        If the file is missing, of another kind, broken, without roads for cars, or has none inside the box.
    """
    if box is not None:
        check_box(box)
    contents = osm_file.parse(source)
    said = contents.said()
    if not contents.ways:
        raise InputError(f"{source}: there are no roads in this file (no way with a highway tag){said}")
    made, area, places = lines(contents, box)
    account = Account()
    pieces = [
        piece
        for way, line in zip(contents.ways, made, strict=True)
        for piece in _pieces(way, line, account, service_roads=service_roads, rules=rules)
    ]
    if not pieces:
        reasons = sorted(account.left_out.items(), key=lambda item: -item[1]["ways"])
        why = ", ".join(f"{entry['ways']:.0f} {reason}" for reason, entry in reasons)
        raise InputError(f"{source}: there is no road for cars; its ways are: {why}{said}")
    pieces = _without_barriers(contents, pieces, places, account, rules)
    if not pieces:
        raise InputError(f"{source}: closed barriers cut every road for cars; use a larger area{said}")
    records = contents.elements.values()
    account.differ("records", sum(sum(found.values()) - found["elements"] for found in records))
    needed = {node for piece in pieces for node in piece.nodes}
    _check_possible(source, pieces, places)
    for node in needed & contents.other_node_keys.keys():
        account.ignored_node_tags.update(contents.other_node_keys[node])
    return Extract(
        contents=contents,
        bounds=area,
        pieces=tuple(pieces),
        node_position={node: place for node, place in places.items() if node in needed},
        node_tags=_signals(contents, pieces, needed),
        restrictions=tuple(_restrictions(contents, pieces, account, rules)),
        account=account,
    )


def _check_possible(source: Path, pieces: Iterable[Piece], places: Mapping[int, tuple[float, float]]) -> None:
    """Raise InputError where roads pass a position so often, or by so many nodes, that netconvert would not end."""
    passed = Counter(places[node] for piece in pieces for node in piece.nodes)
    nodes = Counter(places[node] for node in {node for piece in pieces for node in piece.nodes})
    for found, most, what in (
        (nodes, MOST_COINCIDENT, "nodes of roads have this position"),
        (passed, MOST_PASSES, "times roads pass this position"),
    ):
        ((lon, lat), count), *_ = found.most_common(1)
        if count > most:
            raise InputError(
                f"{source}: longitude {lon:.7g}, latitude {lat:.7g}: {count} {what}, more than any junction has "
                f"({most}); the file is damaged, so export the area again"
            )


def _pieces(way: Way, line: Line, account: Account, *, service_roads: bool, rules: int) -> list[Piece]:
    """Return the parts of an OSM way that a car may use, and add it to the account."""
    highway = way.tags["highway"]
    inner, known = float(line.km[line.use].sum()), float(line.km.sum())
    whole = known + line.gap_km
    _count(account.came_in, highway, 1, whole)
    ruling = osm_rules.rule_way(way.tags, service_roads=service_roads)
    if not line.use.any():
        _count(account.left_out, OUTSIDE if line.outside and known else ruling.reason or INCOMPLETE, 1, whole)
        if not ruling.reason and not known:
            account.missing_nodes += line.missing
        return []
    earlier = osm_rules.earlier_ruling(way.tags, service_roads=service_roads)
    account.differ("ways", _differs(ruling, earlier))
    chosen = ruling if rules >= RULES else earlier
    if known > inner:
        _count(account.left_out, OUTSIDE, 0, known - inner)
    if chosen.reason:
        _count(account.left_out, chosen.reason, 1, inner + line.gap_km)
        return []
    if line.missing:
        _count(account.left_out, INCOMPLETE, 0, line.gap_km)
        account.missing_nodes += line.missing
    _count(account.usable, highway, 1, inner)
    account.rules.update(chosen.notes)
    account.ignored_tags.update(osm_rules.ignored(way.tags))
    return [
        Piece(
            _piece_id(way.id, k), way.id, tuple(line.nodes[a : b + 1].tolist()), chosen.tags, float(line.km[a:b].sum())
        )
        for k, (a, b) in enumerate(line.runs())
    ]


def _piece_id(way: int, k: int) -> int:
    """Return the number of the k-th piece of an OSM way."""
    return way + (k if way >= 0 else -k) * CUT_ID


def _without_barriers(
    contents: Contents, pieces: list[Piece], places: dict[int, tuple[float, float]], account: Account, rules: int
) -> list[Piece]:
    """Return the pieces cut at closed barriers, and count the lost length."""
    needed = {node for piece in pieces for node in piece.nodes}
    tags = {node: tags for node, tags in contents.node_tags.items() if node in needed and "barrier" in tags}
    closed = {node for node in tags if osm_rules.closes_road(tags[node])}
    account.barriers = {"closed": len(closed), "open": len(tags) - len(closed)}
    cuts, parts = cut_at_barriers(pieces, places, closed)
    account.differ("barriers", len(cuts))
    if not cuts or rules < RULES:
        return pieces
    left = {piece.way for piece in parts}
    lost = dict.fromkeys((piece.way for piece in pieces), 0.0)
    for sign, some in ((1, pieces), (-1, parts)):
        for piece in some:
            lost[piece.way] += sign * piece.km
    highway = {piece.way: piece.tags["highway"] for piece in pieces}
    for way, km in lost.items():
        if way not in left or km > ROUNDING_KM:
            gone = int(way not in left)
            _count(account.usable, highway[way], -gone, -km)
            _count(account.left_out, BARRIER, gone, km)
    return [Piece(_piece_id(p.way, k), p.way, p.nodes, p.tags, p.km) for p, k in _numbered(parts)]


def _numbered(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, int]]:
    """Yield pieces, each with its index among the pieces of its way."""
    seen = Counter[int]()
    for piece in pieces:
        yield piece, seen[piece.way]
        seen[piece.way] += 1


def _signals(contents: Contents, pieces: list[Piece], needed: set[int]) -> dict[int, Tags]:
    """Return the tags that concern signals, with those mapped on ways inside an intersection (as in Hong Kong)."""
    result = {}
    for node, tags in contents.node_tags.items():
        found = {key: value for key, value in tags.items() if key in NODE_TAGS}
        if found and node in needed:
            result[node] = found
    for piece in pieces:
        inside = piece.tags.get("junction") == "intersection" or piece.tags.get("intersection") == "yes"
        if inside and piece.tags.get("traffic_signals") == "signal":
            for node in (piece.nodes[0], piece.nodes[-1]):
                result[node] = {**result.get(node, {}), "highway": "traffic_signals"}
    return result


def _restrictions(
    contents: Contents, pieces: list[Piece], account: Account, rules: int
) -> list[tuple[int, int, int, str]]:
    """Return the turn restrictions between usable pieces, and count the others."""
    ends: dict[tuple[int, int], int] = {}
    for piece in pieces:
        for node in piece.nodes:
            ends.setdefault((piece.way, node), piece.id)
    used: list[tuple[int, int, int, str]] = []
    left_out = Counter[str]()
    for tags, members in contents.restrictions:
        kind, reason = osm_rules.restriction_kind(tags)
        earlier = osm_rules.earlier_restriction_kind(tags)
        via = [(kind_, ref) for role, kind_, ref in members if role == "via"]
        starts = [ref for role, _, ref in members if role == "from"]
        stops = [ref for role, _, ref in members if role == "to"]
        over_node = len(via) == 1 and via[0][0] == "node"
        usable = over_node and bool(starts and stops) and all((way, via[0][1]) in ends for way in starts + stops)
        account.differ("restrictions", usable and kind != earlier)
        if rules < RULES:
            kind, reason = earlier, "" if earlier else "not for cars, or only at times"
        if not reason and not usable:
            reason = "on roads that are not used" if over_node else "goes over a way, not one node"
        if reason:
            left_out[reason] += 1
            continue
        node = via[0][1]
        used += [(ends[start, node], node, ends[stop, node], kind) for start in starts for stop in stops]
    account.restrictions_left_out = dict(left_out)
    return used


def _count(tally: Tally, key: str, ways: int, km: float) -> None:
    entry = tally.setdefault(key, {"ways": 0, "km": 0.0})
    entry["ways"] += ways
    entry["km"] += km


def _differs(ruling: Ruling, earlier: Ruling) -> bool:
    """Return whether two rulings give netconvert different roads."""
    if ruling.reason or earlier.reason:
        return bool(ruling.reason) != bool(earlier.reason)
    return _written(ruling.tags) != _written(earlier.tags)


def write(extract: Extract, file: Path) -> None:
    """Write the usable roads as plain .osm for netconvert; the same extract gives the same bytes.

    Left out are access tags, which `read` has applied (netconvert reads them differently), and ``change:lanes``: a
    vehicle that chooses its next edge when it enters an edge cannot obey solid lines, and ends in the wrong lane (on
    Mong Kok 60 times as often).
    """
    with file.open("w", encoding="utf-8") as out:
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6" generator="relid_sumo">\n')
        for node, (lon, lat) in extract.node_position.items():
            out.write(f'<node id="{node}" lat="{lat:.7f}" lon="{lon:.7f}" version="1">')
            out.writelines(_tags(extract.node_tags.get(node, {})))
            out.write("</node>\n")
        for piece in extract.pieces:
            out.write(f'<way id="{piece.id}" version="1">')
            out.writelines(f'<nd ref="{node}"/>' for node in piece.nodes)
            out.writelines(_tags(_written(piece.tags)))
            out.write("</way>\n")
        for number, (start, via, end, kind) in enumerate(extract.restrictions, start=1):
            out.write(f'<relation id="{number}" version="1"><member type="way" ref="{start}" role="from"/>')
            out.write(f'<member type="node" ref="{via}" role="via"/><member type="way" ref="{end}" role="to"/>')
            out.writelines(_tags({"restriction": kind, "type": "restriction"}))
            out.write("</relation>\n")
        out.write("</osm>\n")


def _written(tags: Tags) -> Tags:
    """Return the tags of an OSM way for netconvert."""
    written = {k: v for k, v in tags.items() if k not in UNREAD and not k.startswith(UNWANTED)}
    if tags["highway"] == "road":  # OSM's "class not known", which netconvert does not know either
        written["highway"] = "unclassified"
    return written


def _tags(tags: Tags) -> Iterator[str]:
    return (f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in tags.items())
