"""OpenStreetMap files: read, checked, sorted into roads a car may use and the rest, and written clean for netconvert.

One streaming pass over .osm, .osm.gz or .osm.bz2; what is kept in memory is a position per node and the ways that are
tagged as roads. Nothing here needs SUMO.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.errors import InputError

Box = tuple[float, float, float, float]
Tally = dict[str, dict[str, float]]

EARTH_RADIUS_KM = 6371.0088
ENDINGS = (".osm", ".osm.gz", ".osm.bz2")

STREETS = frozenset(
    name + link for name in ("motorway", "trunk", "primary", "secondary", "tertiary") for link in ("", "_link")
) | {"unclassified", "residential", "living_street", "road"}
SERVICE_ROADS = frozenset({"service", "track"})
PATHS = frozenset(
    {"footway", "cycleway", "path", "pedestrian", "steps", "bridleway", "corridor", "elevator", "platform", "crossing"}
)
NOT_BUILT = frozenset({"construction", "proposed", "planned", "abandoned", "disused", "razed", "demolished"})
ACCESS_KEYS = ("motorcar", "motor_vehicle", "vehicle", "access")  # the most specific first: it decides
OPEN_TO_CARS = frozenset({"yes", "permissive", "destination", "designated", "customers", "official", "unknown"})
NODE_TAGS = frozenset(
    {"highway", "crossing", "crossing:signals", "traffic_signals", "traffic_signals:direction", "direction"}
)
UNWANTED = ("change", "placement")  # change:lanes and the like; netconvert does not know placement
CUT_ID = 10**13  # the second and later pieces of a way cut by the box are numbered way + k * CUT_ID

OUTSIDE = "outside the box"
INCOMPLETE = "nodes missing from the file"


@dataclass(frozen=True)
class Piece:
    """A way, or the part of a way inside the box, that a car may use.

    Attributes
    ----------
    id
        The way's number; a second and later piece of one way gets a number of its own (see `way`).
    nodes
        Node numbers in order.
    tags
        The way's tags.
    km
        Length.
    """

    id: int
    nodes: tuple[int, ...]
    tags: dict[str, str]
    km: float

    @property
    def way(self) -> int:
        """The number of the OSM way this is a piece of."""
        return self.id % CUT_ID if self.id >= 0 else self.id


@dataclass(frozen=True)
class Extract:
    """The roads of an OSM file.

    Attributes
    ----------
    source
        The file that was read.
    generator
        What its ``<osm>`` tag names as the writer.
    bounds
        West, south, east, north of all road nodes in the file, degrees, whatever the box.
    pieces
        What a car may use, in file order.
    node_position
        Longitude and latitude of every node of the pieces.
    node_tags
        Tags of those nodes that say something about signals.
    restrictions
        Turn restrictions as (from piece, via node, to piece, kind).
    came_in
        Ways and km of everything tagged as a road, by highway class.
    usable
        The same for what a car may use.
    left_out
        Ways and km that are not used, by reason. A way cut by the box counts once, where its inside went; its
        kilometres outside count as `OUTSIDE`. So ways and km of `usable` and `left_out` add up to `came_in`.
    restrictions_left_out
        Number of turn restrictions not used, by reason.
    """

    source: Path
    generator: str
    bounds: Box
    pieces: tuple[Piece, ...]
    node_position: dict[int, tuple[float, float]]
    node_tags: dict[int, dict[str, str]]
    restrictions: tuple[tuple[int, int, int, str], ...]
    came_in: Tally
    usable: Tally
    left_out: Tally
    restrictions_left_out: dict[str, int]

    @property
    def signals(self) -> int:
        """Number of nodes with traffic signals on the usable roads, pedestrian crossings included."""
        marks = {"highway": "traffic_signals", "crossing": "traffic_signals"}
        return sum(any(tags.get(key) == mark for key, mark in marks.items()) for tags in self.node_tags.values())

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the middle of the usable roads."""
        position = np.array(list(self.node_position.values()))
        west, south = position.min(axis=0)
        east, north = position.max(axis=0)
        return float(west + east) / 2, float(south + north) / 2


@dataclass
class _Roads:
    """What the parser collects; `start` and `end` are its handlers."""

    source: Path
    root: str = ""
    generator: str = ""
    node_id: array[int] = field(default_factory=lambda: array("q"))
    lon: array[float] = field(default_factory=lambda: array("d"))
    lat: array[float] = field(default_factory=lambda: array("d"))
    node_tags: dict[int, dict[str, str]] = field(default_factory=dict)
    ways: list[tuple[int, dict[str, str], array[int]]] = field(default_factory=list)
    restrictions: list[tuple[dict[str, str], list[tuple[str, str, int]]]] = field(default_factory=list)
    _id: int = 0
    _tags: dict[str, str] = field(default_factory=dict)
    _refs: array[int] = field(default_factory=lambda: array("q"))
    _members: list[tuple[str, str, int]] = field(default_factory=list)

    def start(self, name: str, attrs: dict[str, str]) -> None:
        if name == "nd":
            self._refs.append(int(attrs["ref"]))
        elif name == "tag":
            self._tags[attrs["k"]] = attrs["v"]
        elif name == "member":
            self._members.append((attrs.get("role", ""), attrs.get("type", ""), int(attrs["ref"])))
        elif name in ("node", "way", "relation"):
            self._id, self._tags, self._refs, self._members = int(attrs["id"]), {}, array("q"), []
            if name == "node" and "lat" in attrs:  # deleted nodes of a change file have no place
                lon, lat = float(attrs["lon"]), float(attrs["lat"])
                if not (-180 <= lon <= 180 and -90 <= lat <= 90):
                    raise ValueError(f"node {self._id} lies at longitude {lon:g}, latitude {lat:g}")
                self.node_id.append(self._id)
                self.lon.append(lon)
                self.lat.append(lat)
        elif not self.root:
            self.root, self.generator = name, attrs.get("generator", "")
            if name != "osm":
                raise InputError(f"{self.source}: not OpenStreetMap data: its first tag is <{name}>, not <osm>")

    def end(self, name: str) -> None:
        tags = self._tags
        if name == "node" and tags:
            kept = {k: v for k, v in tags.items() if k in NODE_TAGS}
            if kept:
                self.node_tags[self._id] = kept
        elif name == "way" and "highway" in tags:
            self.ways.append((self._id, tags, self._refs))
        elif name == "relation" and tags.get("type") == "restriction":
            self.restrictions.append((tags, self._members))


def read(source: Path, *, box: Box | None = None, service_roads: bool = False) -> Extract:
    """Read the roads of an OSM file.

    Parameters
    ----------
    source
        A .osm, .osm.gz or .osm.bz2 file.
    box
        West, south, east, north in degrees. A stretch between two nodes is inside where one of them is.
    service_roads
        Whether cars use ``highway=service`` and ``highway=track``.

    Raises
    ------
    InputError
        If the file is missing, of another kind, broken, without roads for cars, or has none inside the box.
    """
    if box is not None:
        check_box(box)
    roads = _parse(source)
    if not roads.ways:
        raise InputError(f"{source}: there are no roads in this file (no way with a highway tag)")
    return _sort(source, roads, box, service_roads)


def check_file(source: Path) -> None:
    """Raise InputError unless `source` is a file whose name says that it is OSM data that can be read."""
    if source.is_dir():
        raise InputError(f"{source}: this is a folder; an .osm, .osm.gz or .osm.bz2 file is needed")
    if not source.exists():
        raise InputError(f"{source}: there is no such file")
    if not source.name.lower().endswith(ENDINGS):
        hint = "; convert it with `osmium cat file.osm.pbf -o file.osm.gz`" if source.name.endswith(".pbf") else ""
        raise InputError(f"{source}: not an OSM file name; .osm, .osm.gz and .osm.bz2 can be read{hint}")


def check_box(box: Box) -> None:
    """Raise InputError unless `box` is west < east, south < north in degrees."""
    west, south, east, north = box
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        text = ",".join(f"{v:g}" for v in box)
        raise InputError(f"bbox {text}: expected W,S,E,N in degrees with W < E and S < N")


def parse_box(text: str) -> Box:
    """Return the box that ``W,S,E,N`` spells.

    Raises
    ------
    InputError
        If it is anything else.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"bbox {text!r}: expected four numbers W,S,E,N, e.g. 114.16,22.30,114.18,22.32") from None
    box = (west, south, east, north)
    check_box(box)
    return box


def write(extract: Extract, file: Path) -> None:
    """Write the usable roads as plain .osm for netconvert; the same extract gives the same bytes.

    Left out are access tags, on which `read` has decided (netconvert weighs them differently), and ``change:lanes``: a
    vehicle that learns its next turn when it enters an edge cannot keep to solid lines, and ends in the wrong lane (on
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
            tags = {k: v for k, v in piece.tags.items() if k not in ACCESS_KEYS and not k.startswith(UNWANTED)}
            if tags["highway"] == "road":  # OSM's "class not known", which netconvert does not know either
                tags["highway"] = "unclassified"
            out.writelines(_tags(tags))
            out.write("</way>\n")
        for number, (start, via, end, kind) in enumerate(extract.restrictions, start=1):
            out.write(f'<relation id="{number}" version="1"><member type="way" ref="{start}" role="from"/>')
            out.write(f'<member type="node" ref="{via}" role="via"/><member type="way" ref="{end}" role="to"/>')
            out.writelines(_tags({"restriction": kind, "type": "restriction"}))
            out.write("</relation>\n")
        out.write("</osm>\n")


def _tags(tags: dict[str, str]) -> Iterator[str]:
    return (f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in tags.items())


def _open(source: Path) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    check_file(source)
    name = source.name.lower()
    try:
        if name.endswith(".gz"):
            return gzip.open(source, "rb")
        return bz2.open(source, "rb") if name.endswith(".bz2") else source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be opened: {error.strerror}") from None


def _parse(source: Path) -> _Roads:
    """Collect road nodes and ways in one pass; memory does not grow with buildings and the like."""
    roads = _Roads(source)
    parser = expat.ParserCreate()
    parser.StartElementHandler = roads.start
    parser.EndElementHandler = roads.end
    with _open(source) as stream:
        try:
            parser.ParseFile(stream)
        except expat.ExpatError as error:
            what = "broken or cut off" if roads.root else "not XML"
            reason = expat.ErrorString(error.code)
            raise InputError(f"{source}, line {error.lineno}: {what} ({reason}); fetch the file again") from None
        except KeyError as error:
            raise InputError(f"{source}, line {parser.CurrentLineNumber}: attribute {error} is missing") from None
        except (ValueError, OverflowError) as error:
            raise InputError(f"{source}, line {parser.CurrentLineNumber}: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{source}: the compressed file is broken or cut off ({error}); fetch it again") from None
    return roads


def _verdict(tags: dict[str, str], service_roads: bool) -> str:
    """Return why a car may not use a way, or an empty string where it may."""
    highway = tags["highway"]
    access = next((tags[key] for key in ACCESS_KEYS if key in tags), "yes")
    verdicts = {
        "footpath, cycleway or the like": highway in PATHS,
        "under construction, planned or gone": highway in NOT_BUILT,
        "an area, not a line": tags.get("area") == "yes",
        "not a road for cars (busway, raceway, ...)": highway not in STREETS | SERVICE_ROADS,
        "no access for cars (private, no, ...)": access not in OPEN_TO_CARS,
        "service road or track (setting service_roads)": highway in SERVICE_ROADS and not service_roads,
    }
    return next((reason for reason, holds in verdicts.items() if holds), "")


def _sort(source: Path, roads: _Roads, box: Box | None, service_roads: bool) -> Extract:
    ids = np.frombuffer(roads.node_id, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    refs = np.concatenate([np.frombuffer(ref, dtype=np.int64) for _, _, ref in roads.ways])
    begin = np.concatenate([[0], np.cumsum([len(ref) for _, _, ref in roads.ways])])
    at, known = _find(ids, order, refs)
    if not known.any():
        raise InputError(f"{source}: the roads' nodes are missing from this file")
    lon, lat = np.frombuffer(roads.lon)[at], np.frombuffer(roads.lat)[at]
    bounds = (
        float(lon[known].min()),
        float(lat[known].min()),
        float(lon[known].max()),
        float(lat[known].max()),
    )
    inside = known.copy()
    if box is not None:
        inside &= (lon >= box[0]) & (lat >= box[1]) & (lon <= box[2]) & (lat <= box[3])
        if not inside.any():
            found = ",".join(f"{v:.4f}" for v in bounds)
            wanted = ",".join(f"{v:g}" for v in box)
            raise InputError(f"{source}: no road lies in bbox {wanted}; the file covers {found} (W,S,E,N)")
    length = _segment_km(lon, lat)
    length[~(known[:-1] & known[1:])] = 0.0
    use = known[:-1] & known[1:] & (inside[:-1] | inside[1:])

    came_in: Tally = {}
    usable: Tally = {}
    left_out: Tally = {}
    pieces: list[Piece] = []
    for number, (way, tags, _) in enumerate(roads.ways):
        first, last = int(begin[number]), int(begin[number + 1])
        total = float(length[first : last - 1].sum()) if last > first else 0.0
        _count(came_in, tags["highway"], 1, total)
        used = use[first : last - 1] if last > first else use[:0]
        reason = _verdict(tags, service_roads)
        if not used.any():
            if box is not None and known[first:last].any():
                reason = OUTSIDE
            _count(left_out, reason or INCOMPLETE, 1, total)
            continue
        cut = total - float(length[first : last - 1][used].sum())
        if cut > 0:
            _count(left_out, OUTSIDE, 0, cut)
        if reason:
            _count(left_out, reason, 1, total - cut)
            continue
        _count(usable, tags["highway"], 1, total - cut)
        for k, (a, b) in enumerate(_runs(used)):
            nodes = tuple(int(node) for node in refs[first + a : first + b + 1])
            pieces.append(Piece(way + k * CUT_ID, nodes, tags, float(length[first + a : first + b].sum())))
    if not pieces:
        why = ", ".join(f"{v['ways']:.0f} {k}" for k, v in sorted(left_out.items(), key=lambda i: -i[1]["ways"]))
        raise InputError(f"{source}: there is no road for cars; its ways are: {why}")

    needed = {node for piece in pieces for node in piece.nodes}
    positions = {int(refs[i]): (float(lon[i]), float(lat[i])) for i in np.flatnonzero(known) if int(refs[i]) in needed}
    restrictions, restrictions_left_out = _restrictions(roads, pieces)
    return Extract(
        source=source,
        generator=roads.generator,
        bounds=bounds,
        pieces=tuple(pieces),
        node_position=positions,
        node_tags=_with_signals({node: tags for node, tags in roads.node_tags.items() if node in needed}, pieces),
        restrictions=tuple(restrictions),
        came_in=came_in,
        usable=usable,
        left_out=left_out,
        restrictions_left_out=restrictions_left_out,
    )


def _with_signals(node_tags: dict[int, dict[str, str]], pieces: list[Piece]) -> dict[int, dict[str, str]]:
    """Add the signals that are mapped on ways inside an intersection (as in Hong Kong) to the nodes where those end."""
    result = dict(node_tags)
    for piece in pieces:
        inside = piece.tags.get("junction") == "intersection" or piece.tags.get("intersection") == "yes"
        if inside and piece.tags.get("traffic_signals") == "signal":
            for node in (piece.nodes[0], piece.nodes[-1]):
                result[node] = {**result.get(node, {}), "highway": "traffic_signals"}
    return result


def _find(
    ids: NDArray[np.int64], order: NDArray[np.intp], refs: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return where each reference stands among the node numbers, and whether it does."""
    if not len(ids):
        return np.zeros(len(refs), dtype=np.intp), np.zeros(len(refs), dtype=np.bool_)
    at = order[np.minimum(np.searchsorted(ids, refs, sorter=order), len(ids) - 1)]
    return at, ids[at] == refs


def _segment_km(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return great-circle lengths between neighbours (haversine)."""
    lam, phi = np.radians(lon), np.radians(lat)
    a = np.sin(np.diff(phi) / 2) ** 2 + np.cos(phi[:-1]) * np.cos(phi[1:]) * np.sin(np.diff(lam) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(a, 1.0))))


def _runs(used: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open ranges in which `used` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], used, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _count(tally: Tally, key: str, ways: int, km: float) -> None:
    entry = tally.setdefault(key, {"ways": 0, "km": 0.0})
    entry["ways"] += ways
    entry["km"] += km


def _restrictions(roads: _Roads, pieces: list[Piece]) -> tuple[list[tuple[int, int, int, str]], dict[str, int]]:
    """Return the turn restrictions between usable pieces, and how many others there are, by reason."""
    ends: dict[tuple[int, int], int] = {}
    for piece in pieces:
        for node in piece.nodes:
            ends.setdefault((piece.way, node), piece.id)
    kept: list[tuple[int, int, int, str]] = []
    left_out: dict[str, int] = {}
    for tags, members in roads.restrictions:
        kind = tags.get("restriction:motorcar") or tags.get("restriction", "")
        via = [(kind_, ref) for role, kind_, ref in members if role == "via"]
        starts = [ref for role, _, ref in members if role == "from"]
        stops = [ref for role, _, ref in members if role == "to"]
        reason = ""
        if not kind.startswith(("no_", "only_")) or "motorcar" in tags.get("except", ""):
            reason = "not for cars, or only at times"
        elif len(via) != 1 or via[0][0] != "node":
            reason = "goes over a way, not one node"
        elif not all((way, via[0][1]) in ends for way in starts + stops) or not (starts and stops):
            reason = "on roads that are not used"
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        node = via[0][1]
        kept += [(ends[start, node], node, ends[stop, node], kind) for start in starts for stop in stops]
    return kept, left_out
