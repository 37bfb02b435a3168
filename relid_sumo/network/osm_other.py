"""Reads OpenStreetMap data that are not XML: PBF, and the JSON of Overpass.

Each reader calls the handlers that read XML with the same elements and attributes, so that the same data in another
format give the same network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from relid_sumo.base.errors import InputError, missing_extra

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]

KINDS = {"n": "node", "w": "way", "r": "relation"}
PBF_HEAD, JSON_HEADS = b"OSMHeader", (b'"elements"', b'"osm3s"')
HEAD_BYTES = 4096


def is_pbf(head: bytes) -> bool:
    """Return whether a file is in PBF format, by its first bytes."""
    return PBF_HEAD in head[:64]


def is_json(head: bytes) -> bool:
    """Return whether a file is JSON, of whatever content, by its first bytes."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def is_overpass(head: bytes) -> bool:
    """Return whether a file is Overpass's JSON, by its first bytes."""
    return is_json(head) and any(mark in head for mark in JSON_HEADS)


def read_pbf(source: Path, start: Start, end: End) -> None:
    """Read a file in PBF format.

    Raises
    ------
    InputError
        The reader is not installed, or the file is broken.
    """
    try:
        import osmium  # noqa: PLC0415 - an extra: only for this format
    except ImportError:
        raise missing_extra("osmium", "pbf") from None
    try:
        elements = osmium.FileProcessor(osmium.io.File(str(source), "pbf"))
        start("osm", {"generator": elements.header.get("generator", "")})
        for element in elements:
            _send(element, start, end)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{source}: the PBF file is broken or cut off ({error}); fetch it again") from None


def _send(element: Any, start: Start, end: End) -> None:  # noqa: ANN401 - one of three classes of osmium
    kind = KINDS.get(element.type_str())
    if kind is None:
        return  # an area, which no file has
    attrs = {"id": str(element.id), "version": str(element.version)}
    if element.deleted:
        attrs["visible"] = "false"
    start(kind, attrs | (_position(element.location) if kind == "node" else {}))
    if kind == "way":
        for node in element.nodes:
            start("nd", {"ref": str(node.ref), **_position(node.location)})
    elif kind == "relation":
        for member in element.members:
            start("member", {"type": KINDS.get(member.type, ""), "ref": str(member.ref), "role": member.role})
    for tag in element.tags:
        start("tag", {"k": tag.k, "v": tag.v})
    end(kind)


def _position(location: Any) -> dict[str, str]:  # noqa: ANN401 - osmium's
    if not location.valid():
        return {}
    return {"lon": str(location.lon), "lat": str(location.lat)}


def read_json(source: Path, text: bytes, start: Start, end: End) -> tuple[str, ...]:
    """Read Overpass's JSON; return the server's remarks.

    Raises
    ------
    InputError
        The file is broken, or other JSON.
    """
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: the JSON is broken or cut off ({error}); fetch the file again") from None
    elements = content.get("elements") if isinstance(content, dict) else None
    if not isinstance(elements, list):
        geo = isinstance(content, dict) and content.get("type") == "FeatureCollection"
        what = "GeoJSON, which has no junctions" if geo else "JSON without elements of OpenStreetMap"
        raise InputError(f"{source}: this file is {what}; ask Overpass for [out:json] or [out:xml]")
    start("osm", {"generator": str(content.get("generator", ""))})
    for number, element in enumerate(elements, 1):
        try:
            for name, attrs in _json_events(element):
                if attrs is None:
                    end(name)
                else:
                    start(name, attrs)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{source}, element {number}: {what}; fetch the file again") from None
    remark = content.get("remark")
    return (" ".join(str(remark).split()),) if remark else ()


def _json_events(element: dict[str, Any]) -> Iterator[tuple[str, dict[str, str] | None]]:
    """Yield the start tags of an element with their attributes, and its end tag with None."""
    kind = element["type"]
    if kind not in KINDS.values():
        return  # a count, or an area
    names = ("id", "version", "lat", "lon", "visible", "action")
    yield kind, {name: _text(element[name]) for name in names if element.get(name) is not None}
    shape = element.get("geometry") or []
    nodes = element.get("nodes")
    if kind == "way":
        for i in range(len(shape) if nodes is None else len(nodes)):
            place = shape[i] if i < len(shape) and shape[i] is not None else {}
            position = {name: _text(place[name]) for name in ("lat", "lon") if name in place}
            yield "nd", ({} if nodes is None else {"ref": str(nodes[i])}) | position
    for member in element.get("members") or []:
        yield "member", {name: str(member.get(name, "")) for name in ("type", "ref", "role")}
    for key, value in (element.get("tags") or {}).items():
        yield "tag", {"k": key, "v": str(value)}
    yield kind, None


def _text(value: object) -> str:
    """Return a JSON value as an attribute of XML."""
    return str(value).lower() if isinstance(value, bool) else str(value)
