"""Reads OpenStreetMap files, packed or plain: one record of each element, without deleted elements.

It takes one streaming pass. The memory stores a position of each node, the OSM ways with a highway tag, and a number
of each other OSM way. This module needs no SUMO and does not interpret tags.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import IO, cast
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.errors import InputError
from relid_sumo.network import osm_other

ENDINGS = tuple(f".osm{kind}{packed}" for kind in ("", ".xml", ".json") for packed in ("", ".gz", ".bz2", ".xz"))
ENDINGS = (*ENDINGS, ".osm.pbf", ".pbf")
PACKED: dict[bytes, Callable[..., object]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# First bytes of other files, their kind, and the fix.
OTHERS = {
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "unpack it with `unzstd`"),
    b"\xff\xe0": ("in o5m format", "convert it with `osmconvert area.o5m -o=area.osm`"),
    b"SQLite": ("a database", "export it as .osm"),
}
ROOTS = {
    "osmChange": "it is a change file, not an extract; apply it to one with `osmium apply-changes`",
    "html": "it is a web page, perhaps a server's error message; fetch the file again",
}
MOST_UNPACKED = 100  # largest ratio of unpacked to packed size, after ...
SPARE_BYTES = 64 * 2**20  # ... this allowance; map data have a ratio of about 15
QUERY = "ask Overpass for the nodes too: `(way[highway](S,W,N,E);>;);out body;`, or for `out body geom;`"

NODE_TAGS = frozenset(
    {"highway", "crossing", "crossing:signals", "traffic_signals", "traffic_signals:direction", "direction"}
)
BARRIER_TAGS = frozenset({"barrier", "motorcar", "motor_vehicle", "vehicle", "access"})
EDITS = frozenset(
    {"modify", "delete"}
)  # JOSM's marks of elements that are not uploaded yet: they are newer than their version
REPEATED, CONFLICT, OLDER = "repeated", "with the same version and other content", "older versions"
FROM_GEOMETRY = -1  # rank of a position in an OSM way, without a node element

Tags = dict[str, str]
Member = tuple[str, str, int]  # role, type, number


@dataclass(frozen=True)
class Way:
    """An OSM way that is tagged as a road: its number, tags and node numbers."""

    id: int
    tags: Tags
    refs: array[int]


@dataclass(frozen=True)
class Contents:
    """Content of an OSM file that concerns roads.

    Attributes
    ----------
    source
        The file.
    generator
        Program that wrote the file, by its ``<osm>`` tag.
    remarks
        The server's remarks; Overpass reports incomplete answers here.
    node_id, lon, lat
        Numbers, rising, and degrees of the nodes, shape (N,).
    node_tags
        Tags of nodes that concern signals, crossings and barriers.
    other_node_keys
        Keys of the other tags of nodes.
    ways
        OSM ways with a highway tag, in the order in which they first appear.
    restrictions
        Tags and members of turn restrictions.
    elements
        By node, way and relation: number of valid ``elements``, and number of records that are ``repeated``, of the
        same version as the valid one (``with the same version and other content``), ``older versions`` or ``deleted``.
    relation_types
        Relations that are no turn restriction, by their type.
    """

    source: Path
    generator: str
    remarks: tuple[str, ...]
    node_id: NDArray[np.int64]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    node_tags: dict[int, Tags]
    other_node_keys: dict[int, tuple[str, ...]]
    ways: tuple[Way, ...]
    restrictions: tuple[tuple[Tags, list[Member]], ...]
    elements: dict[str, dict[str, int]]
    relation_types: dict[str, int]

    def find(self, refs: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the index of each referenced node, and whether the file has it."""
        if not len(self.node_id):
            return np.zeros(len(refs), dtype=np.intp), np.zeros(len(refs), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self.node_id, refs), len(self.node_id) - 1)
        return at, self.node_id[at] == refs

    def said(self) -> str:
        """Return the server's remarks as the end of a message; empty where there are none."""
        return f"; the server remarks: {' / '.join(self.remarks)}" if self.remarks else ""


def is_osm(path: Path) -> bool:
    """Return whether a path is an OSM file, by its ending or by its first bytes."""
    if path.name.lower().endswith(ENDINGS):
        return True
    if path.suffix == ".toml" or not path.is_file():
        return False
    try:
        head = _head(path)
        return b"<osm" in head or osm_other.is_pbf(head) or osm_other.is_overpass(head)
    except (InputError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def check_file(source: Path) -> None:
    """Raise InputError unless `source` is a file."""
    if source.is_dir():
        raise InputError(f"{source}: this is a folder; an OSM file (.osm, .osm.gz, .osm.bz2 ...) is needed")
    if not source.exists():
        raise InputError(f"{source}: there is no such file")
    if not source.is_file():
        raise InputError(
            f"{source}: a pipe or a device, not a file; an OSM file (.osm, .osm.gz, .osm.bz2 ...) is needed"
        )


def parse(source: Path) -> Contents:
    """Read an OSM file: XML or Overpass's JSON, plain or packed with gzip, bzip2 or xz, or PBF, with any name.

    Of several records of an element, the highest version is valid, and the last one of equal versions (a history lists
    them in order). Positions in OSM ways, as Overpass writes them with ``out geom``, are also read.

    Raises
    ------
    InputError
        The file is missing, of another kind, or broken; the message names the line and what to do.
    """
    records, head = _Records(source), _head(source)
    if osm_other.is_pbf(head):
        osm_other.read_pbf(source, records.start, records.end)
    elif osm_other.is_json(head):
        with _open(source) as stream, _broken_packing(source):
            records.remarks += osm_other.read_json(source, _Bounded(source, stream).read(), records.start, records.end)
    elif source.name.lower().endswith(".pbf") and b"<" not in head:
        raise InputError(f"{source}: its name ends in .pbf, and its content is not in PBF format; fetch the file again")
    else:
        _parse_xml(source, records)
    return records.contents()


@contextlib.contextmanager
def _broken_packing(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{source}: the compressed file is broken or cut off ({error}); fetch it again") from None


def _parse_xml(source: Path, records: _Records) -> None:
    """Read an OSM file in XML into records."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = records.start
    parser.EndElementHandler = records.end
    parser.CharacterDataHandler = records.text

    def refuse() -> None:
        line = parser.CurrentLineNumber
        raise InputError(f"{source}, line {line}: a document type (<!DOCTYPE>), which no OSM file has; remove it")

    def doctype(name: str, _system: str | None, _public: str | None, has_entities: int) -> None:
        if name.lower() != "html" or has_entities:
            refuse()
        parser.StartElementHandler = page

    def page(name: str, attrs: Tags) -> None:  # the root tag of a web page has a clearer message
        if name.lower() != "html":
            refuse()
        records.start(name, attrs)

    parser.StartDoctypeDeclHandler = doctype
    with _open(source) as stream, _broken_packing(source):
        try:
            parser.ParseFile(_Bounded(source, stream))
        except expat.ExpatError as error:
            what = "broken or cut off" if records.root else "not XML"
            reason = expat.ErrorString(error.code)
            raise InputError(f"{source}, line {error.lineno}: {what} ({reason}); fetch the file again") from None
        except KeyError as error:
            raise InputError(f"{source}, line {parser.CurrentLineNumber}: attribute {error} is missing") from None
        except (ValueError, OverflowError, LookupError) as error:
            raise InputError(f"{source}, line {parser.CurrentLineNumber}: {error}") from None


class _Bounded:
    """A packed file with a limit on its unpacked size."""

    def __init__(self, source: Path, stream: IO[bytes]) -> None:
        self._source, self._stream = source, stream
        self._left = MOST_UNPACKED * source.stat().st_size + SPARE_BYTES

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise InputError(
                f"{self._source}: more than {MOST_UNPACKED} times its size when unpacked: no map data; "
                "fetch the file again"
            )
        return content


def _head(source: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    with _open(source) as stream, _broken_packing(source):
        return stream.read(osm_other.HEAD_BYTES)


def _open(source: Path) -> IO[bytes]:
    """Open a file by its kind, which its first bytes show."""
    check_file(source)
    try:
        with source.open("rb") as stream:
            head = stream.read(64)
        for magic, opener in PACKED.items():
            if head.startswith(magic):
                return cast("IO[bytes]", opener(source, "rb"))
        what, fix = next((note for magic, note in OTHERS.items() if head.lstrip().startswith(magic)), ("", ""))
        if what:
            raise InputError(f"{source}: this file is {what}; OSM XML is needed: {fix}")
        return source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be opened: {error.strerror}") from None


@dataclass
class _Records:
    """Records that the parser collects; `start`, `end` and `text` are its handlers."""

    source: Path
    root: str = ""
    generator: str = ""
    remarks: list[str] = field(default_factory=list)
    node_id: array[int] = field(default_factory=lambda: array("q"))
    node_rank: array[int] = field(default_factory=lambda: array("q"))
    lon: array[float] = field(default_factory=lambda: array("d"))
    lat: array[float] = field(default_factory=lambda: array("d"))
    node_tags: dict[int, tuple[int, Tags, tuple[str, ...]]] = field(default_factory=dict)
    key_lists: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)  # shared by nodes with equal lists
    newest: dict[str, dict[int, int]] = field(default_factory=lambda: {"way": {}, "relation": {}})
    deleted: dict[str, set[int]] = field(default_factory=lambda: {"way": set(), "relation": set()})
    ways: dict[int, Way] = field(default_factory=dict)
    restrictions: dict[int, tuple[Tags, list[Member]]] = field(default_factory=dict)
    relation_types: dict[int, str] = field(default_factory=dict)
    lost: dict[str, Counter[str]] = field(default_factory=lambda: {"way": Counter(), "relation": Counter()})
    _kind: str = ""
    _id: int = 0
    _rank: int = 0
    _gone: bool = False
    _tags: Tags = field(default_factory=dict)
    _refs: array[int] = field(default_factory=lambda: array("q"))
    _members: list[Member] = field(default_factory=list)
    _remark: list[str] | None = None

    def start(self, name: str, attrs: Tags) -> None:
        if name == "nd":
            if self._kind == "way":
                self._nd(attrs)
        elif name == "tag":
            self._tags[attrs["k"]] = attrs["v"]
        elif name == "member":
            self._members.append((attrs.get("role", ""), attrs.get("type", ""), int(attrs["ref"])))
        elif name in ("node", "way", "relation"):
            self._element(name, attrs)
        elif name == "remark":
            self._remark = []
        elif name == "action":
            raise ValueError("this is a difference between two states (<action>), not an extract; fetch an extract")
        elif not self.root:
            self.root, self.generator = name, attrs.get("generator", "")
            if name != "osm":
                why = ROOTS.get(name, "use an extract of OpenStreetMap")
                raise InputError(f"{self.source}: not OpenStreetMap data: its first tag is <{name}>, not <osm>: {why}")

    def text(self, text: str) -> None:
        if self._remark is not None:
            self._remark.append(text)

    def _element(self, name: str, attrs: Tags) -> None:
        self._kind, self._id = name, int(attrs["id"])
        self._tags, self._refs, self._members = {}, array("q"), []
        action = attrs.get("action", "")
        self._gone = action == "delete" or attrs.get("visible") == "false"
        self._rank = 2 * int(attrs.get("version") or 0) + (action in EDITS)
        if name == "node":
            if self._gone or "lat" not in attrs:
                self._position(self._id, nan, nan, self._rank)
            else:
                self._position(self._id, float(attrs["lon"]), float(attrs["lat"]), self._rank)

    def _nd(self, attrs: Tags) -> None:
        if "ref" not in attrs and "lat" in attrs:
            raise ValueError("a node of a way has a position and no number (`out tags geom`); ask for `out body geom;`")
        ref = int(attrs["ref"])
        self._refs.append(ref)
        if "lat" in attrs:
            self._position(ref, float(attrs["lon"]), float(attrs["lat"]), FROM_GEOMETRY)

    def _position(self, node: int, lon: float, lat: float, rank: int) -> None:
        if not (-180 <= lon <= 180 and -90 <= lat <= 90) and not (rank >= 0 and isnan(lon) and isnan(lat)):
            raise ValueError(f"node {node} lies at longitude {lon:g}, latitude {lat:g}")
        self.node_id.append(node)
        self.node_rank.append(rank)
        self.lon.append(lon)
        self.lat.append(lat)

    def end(self, name: str) -> None:
        if name == "node":
            self._end_node()
        elif name in ("way", "relation"):
            if self._counts(name):
                (self._end_way if name == "way" else self._end_relation)()
            self._kind = ""
        elif name == "remark":
            self.remarks.append(" ".join("".join(self._remark or ()).split()))
            self._remark = None

    def _end_node(self) -> None:
        if self._tags and self._rank >= self.node_tags.get(self._id, (-1,))[0]:
            read = {k: v for k, v in self._tags.items() if k in NODE_TAGS or k in BARRIER_TAGS}
            others = tuple(k for k in self._tags if k not in read)
            self.node_tags[self._id] = self._rank, read, self.key_lists.setdefault(others, others)

    def _counts(self, name: str) -> bool:
        """Return whether this record of a way or relation replaces the ones before it, and count lost records."""
        before = self.newest[name].get(self._id)
        if before is not None:
            self.lost[name][self._lost(name) if before // 2 == self._rank // 2 else OLDER] += 1
            if self._rank < before:
                return False
        self.newest[name][self._id] = self._rank
        (self.deleted[name].add if self._gone else self.deleted[name].discard)(self._id)
        return True

    def _lost(self, name: str) -> str:
        """Return the kind of a second record of the same version."""
        if name == "relation":
            before = self.restrictions.get(self._id)
            same = before is None or before == (self._tags, self._members)
        else:
            road = self.ways.get(self._id)
            same = road == Way(self._id, self._tags, self._refs) if road else "highway" not in self._tags
        return REPEATED if same else CONFLICT

    def _end_way(self) -> None:
        if "highway" in self._tags and not self._gone:
            self.ways[self._id] = Way(self._id, self._tags, self._refs)
        else:
            self.ways.pop(self._id, None)

    def _end_relation(self) -> None:
        self.restrictions.pop(self._id, None)
        self.relation_types.pop(self._id, None)
        kind = self._tags.get("type", "")
        if self._gone:
            return
        if kind.partition(":")[0] == "restriction":
            self.restrictions[self._id] = (self._tags, self._members)
        else:
            self.relation_types[self._id] = kind or "no type"

    def contents(self) -> Contents:
        ids, rank = (np.frombuffer(a, dtype=np.int64) for a in (self.node_id, self.node_rank))
        order = np.lexsort((-np.arange(len(ids)), -rank, ids))  # the valid record of each node first
        first = np.ones(len(ids), dtype=np.bool_)
        first[1:] = ids[order][1:] != ids[order][:-1]
        chosen = order[first]
        winner = chosen[np.cumsum(first) - 1]
        spare = ~first & (rank[order] >= 0)
        same = rank[order] // 2 == rank[winner] // 2
        moved = (np.frombuffer(self.lon)[order] != np.frombuffer(self.lon)[winner]) | (
            np.frombuffer(self.lat)[order] != np.frombuffer(self.lat)[winner]
        )
        lon, lat = np.frombuffer(self.lon)[chosen], np.frombuffer(self.lat)[chosen]
        gone = np.isnan(lon)
        nodes = {
            "elements": int((~gone & (rank[chosen] >= 0)).sum()),
            REPEATED: int((spare & same & ~moved).sum()),
            CONFLICT: int((spare & same & moved).sum()),
            OLDER: int((spare & ~same).sum()),
            "deleted": int(gone.sum()),
        }
        live, best = ids[chosen][~gone], rank[chosen][~gone]
        contents = Contents(
            source=self.source,
            generator=self.generator,
            remarks=tuple(self.remarks),
            node_id=live,
            lon=lon[~gone],
            lat=lat[~gone],
            node_tags={},
            other_node_keys={},
            ways=tuple(self.ways.values()),
            restrictions=tuple(self.restrictions.values()),
            elements={"node": nodes, **{kind: self._element_counts(kind) for kind in ("way", "relation")}},
            relation_types=dict(Counter(self.relation_types.values())),
        )
        tagged = np.array(list(self.node_tags), dtype=np.int64)
        at, known = contents.find(tagged)
        for node, i, here in zip(tagged.tolist(), at.tolist(), known.tolist(), strict=True):
            if here and best[i] == self.node_tags[node][0]:  # else its newest version has no such tag
                _, read, others = self.node_tags[node]
                contents.node_tags.update({node: read} if read else {})
                contents.other_node_keys.update({node: others} if others else {})
        return contents

    def _element_counts(self, kind: str) -> dict[str, int]:
        lost = {name: self.lost[kind][name] for name in (REPEATED, CONFLICT, OLDER)}
        deleted = len(self.deleted[kind])
        return {"elements": len(self.newest[kind]) - deleted, **lost, "deleted": deleted}
