"""Boxes of longitude and latitude, and the lines of OSM ways in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.errors import InputError
from relid_sumo.network.osm_file import QUERY, Contents

Box = tuple[float, float, float, float]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EARTH_RADIUS_KM = 6371.0088


@dataclass(frozen=True)
class Line:
    """The nodes of an OSM way and the segments between them.

    Attributes
    ----------
    nodes
        Node numbers, shape (n,).
    use
        Whether a segment is used: both of its nodes are in the file, one of them in the box; shape (n - 1,).
    km
        Length of each segment, 0 where a node is missing; shape (n - 1,).
    gap_km
        Straight length across missing nodes. The length beyond the first and the last known node is unknown.
    missing
        Number of nodes that are missing.
    """

    nodes: NDArray[np.int64]
    use: Bools
    km: Floats
    gap_km: float
    missing: int

    @property
    def outside(self) -> bool:
        """Whether it has known nodes, and none of its segments is in the box."""
        return self.missing < len(self.nodes) and not self.use.any() and len(self.use) > 0

    def runs(self) -> list[tuple[int, int]]:
        """Return the half-open ranges of the used segments."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.use, [False]]).astype(np.int8)))
        return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def lines(contents: Contents, box: Box | None) -> tuple[list[Line], Box, dict[int, tuple[float, float]]]:
    """Return the line of each OSM way, the area of all of them, and the position of each of their nodes.

    Raises
    ------
    InputError
        The nodes are missing from the file, or no road lies in the box.
    """
    source = contents.source
    refs = np.concatenate([np.frombuffer(way.refs, dtype=np.int64) for way in contents.ways])
    begin = np.cumsum([0, *(len(way.refs) for way in contents.ways)])
    at, known = contents.find(refs)
    if not known.any():
        raise InputError(f"{source}: the roads' nodes are missing from this file; {QUERY}{contents.said()}")
    lon, lat = contents.lon[at], contents.lat[at]
    area = bounds(lon[known], lat[known])
    inside = known.copy()
    if box is not None:
        inside &= _within(lon, lat, box)
        if not inside.any():
            found, wanted = ",".join(f"{v:.4f}" for v in area), ",".join(f"{v:g}" for v in box)
            raise InputError(f"{source}: no road lies in bbox {wanted}; the file covers {found} (W,S,E,N)")
    both = known[:-1] & known[1:]
    km = np.where(both, segment_km(lon, lat), 0.0)
    use = both & (inside[:-1] | inside[1:])
    made = []
    for first, last in pairwise(begin):
        segments = slice(first, max(first, last - 1))
        gap, missing = _gaps(lon[first:last], lat[first:last], known[first:last])
        made.append(Line(refs[first:last], use[segments], km[segments], gap, missing))
    places = {int(refs[i]): (float(lon[i]), float(lat[i])) for i in np.flatnonzero(known)}
    return made, area, places


def bounds(lon: Floats, lat: Floats) -> Box:
    """Return west, south, east, north of points, degrees; west > east where they lie across the 180th meridian."""
    west, east = float(lon.min()), float(lon.max())
    if east - west > 180:
        west, east = float(lon[lon > 0].min()), float(lon[lon <= 0].max())
    return west, float(lat.min()), east, float(lat.max())


def centre(box: Box) -> tuple[float, float]:
    """Return longitude and latitude of the middle of a box, degrees."""
    west, south, east, north = box
    middle = (west + east + 360 * (west > east)) / 2
    return middle - 360 * (middle > 180), (south + north) / 2


def check_box(box: Box) -> None:
    """Raise InputError unless `box` is west < east, south < north in degrees; west > east across the 180th meridian."""
    west, south, east, north = box
    across = west > east and west - east > 180
    if not (-180 <= west <= 180 and -180 <= east <= 180 and (west < east or across) and -90 <= south < north <= 90):
        text = ",".join(f"{v:g}" for v in box)
        raise InputError(f"bbox {text}: expected W,S,E,N in degrees with W < E (but across 180 degrees) and S < N")


def parse_box(text: str) -> Box:
    """Return the box of a text ``W,S,E,N``.

    Raises
    ------
    InputError
        The text is not such a box.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"bbox {text!r}: expected four numbers W,S,E,N, e.g. 114.16,22.30,114.18,22.32") from None
    box = (west, south, east, north)
    check_box(box)
    return box


def segment_km(lon: Floats, lat: Floats) -> Floats:
    """Return great-circle lengths between neighbours (haversine)."""
    lam, phi = np.radians(lon), np.radians(lat)
    a = np.sin(np.diff(phi) / 2) ** 2 + np.cos(phi[:-1]) * np.cos(phi[1:]) * np.sin(np.diff(lam) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(a, 1.0))))


def _within(lon: Floats, lat: Floats, box: Box) -> Bools:
    west, south, east, north = box
    between = (lon >= west) & (lon <= east) if west < east else (lon >= west) | (lon <= east)
    return between & (lat >= south) & (lat <= north)


def _gaps(lon: Floats, lat: Floats, known: Bools) -> tuple[float, int]:
    """Return the straight length across the missing nodes between known ones, km, and how many nodes are missing."""
    if known.all():
        return 0.0, 0
    here = np.flatnonzero(known)
    straight = segment_km(lon[here], lat[here])[np.diff(here) > 1]
    return float(straight.sum()), int((~known).sum())
