"""Road networks: builds a SUMO network for simulation from an OSM file, and caches it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pyproj import Proj
from pyproj.exceptions import CRSError

from relid_sumo.base import cache, files, safe_paths, sumo, temporary, trusted
from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import InputError
from relid_sumo.base.npz import read_npz
from relid_sumo.base.progress import phase
from relid_sumo.network import account, catalogue, driving_side, netconvert, osm, signals, streets, sumo_net
from relid_sumo.network.catalogue import NetworkSettings
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.lanes import Lane, read_lanes

log = logging.getLogger(__name__)

__all__ = ["Network", "NetworkSettings", "build", "find", "match_edge"]

FORMAT = 4  # raise it when a build has another result for the same input
# For the key of a network that rules 1 and rules 2 (see NetworkSettings.rules) read equally: the network has not
# changed, so that measurements on it stay valid.
SAME_FORMAT = 2
MATCH_M = 200.0
MATCH_DEG = 60.0
NET, GRAPH, SUMMARY = "network.net.xml", "graph.npz", "summary.json"
LEFT_OUT = "left_out.npz"  # lines of the roads that cars could drive on and the network does not have
OSM_ATTRIBUTION = "© OpenStreetMap contributors (ODbL)"


@dataclass(frozen=True, eq=False)
class Network:
    """A built road network.

    Attributes
    ----------
    name
        Its name.
    folder
        Its folder in the cache.
    graph
        The road graph as arrays.
    summary
        Input, result and left-out parts of the build, with reasons; the content of summary.json.
    title, description
        Title on maps, and description of the area.
    """

    name: str
    folder: Path
    graph: RoadGraph
    summary: dict[str, Any]
    title: str = ""
    description: str = ""

    @property
    def net_file(self) -> Path:
        """SUMO's network file, .net.xml."""
        return self.folder / NET

    @property
    def key(self) -> str:
        """Hash of the OSM file's content, the settings and SUMO's version."""
        return str(self.summary["key"])

    @property
    def attribution(self) -> str:
        """Attribution that every picture of this network must show."""
        return str(self.summary["attribution"])

    @property
    def is_given(self) -> bool:
        """Whether it is a SUMO network that is used as it is."""
        return bool(self.summary.get("given"))

    @property
    def has_lonlat(self) -> bool:
        """Whether points have a longitude and a latitude: a SUMO network may have no projection."""
        return bool(self.graph.projection[0])

    @cached_property
    def streets(self) -> dict[str, str]:
        """Street name of each edge that has one, by SUMO's name of the edge."""
        return streets.read_names(self.net_file)

    @cached_property
    def left_out(self) -> list[Floats]:
        """Lines (n, 2), m, of the roads that cars could drive on and the network does not have; none where unknown."""
        file = self.folder / LEFT_OUT
        if not file.is_file():
            return []
        lines = read_npz(file, ("lonlat", "starts"), "lines of roads", "delete its folder, and build the network again")
        return [self.xy(line) for line in np.split(lines["lonlat"], lines["starts"][1:-1]) if len(line) > 1]

    @cached_property
    def _projection(self) -> Proj:
        return Proj(str(self.graph.projection[0]))

    def lonlat(self, xy: Floats) -> Floats:
        """Return longitude and latitude (degrees) of points in m, both of shape (n, 2)."""
        x, y = (np.asarray(xy, dtype=np.float64) - self.graph.offset).T
        return np.column_stack(self._projection(x, y, inverse=True))

    def xy(self, lonlat: Floats) -> Floats:
        """Return network coordinates (m) of longitudes and latitudes in degrees, both of shape (n, 2)."""
        lon, lat = np.asarray(lonlat, dtype=np.float64).T
        return np.column_stack(self._projection(lon, lat)) + self.graph.offset

    @cached_property
    def _lanes(self) -> tuple[dict[int, list[Lane]], dict[int, frozenset[str]]]:
        return read_lanes(self.net_file, self.graph.index)

    @property
    def lanes(self) -> dict[int, list[Lane]]:
        """The lanes for cars of each edge, by edge index; read from `net_file` at first use."""
        return self._lanes[0]

    @property
    def before(self) -> dict[int, frozenset[str]]:
        """Names of the edges that lead to each edge, by edge index, also of those that are not in the graph."""
        return self._lanes[1]

    @cached_property
    def _segments(self) -> tuple[Floats, Floats, Floats, Floats]:
        """All pieces of centre line: start and step (S, 2), bearing in degrees (S,), edge (S,)."""
        start = self.graph.shape_xy[:-1]
        step = np.diff(self.graph.shape_xy, axis=0)
        edge = np.repeat(np.arange(self.graph.n_edges), np.diff(self.graph.shape_start))
        real = (edge[:-1] == edge[1:]) & (np.abs(step).sum(axis=1) > 0)
        start, step = start[real], step[real]
        return start, step, np.degrees(np.arctan2(step[:, 0], step[:, 1])), edge[:-1][real]


def match_edge(network: Network, lon: float, lat: float, bearing: float) -> int:
    """Return the nearest edge with about a given direction.

    Parameters
    ----------
    network
        The network.
    lon, lat
        Position, degrees.
    bearing
        Direction of travel, degrees clockwise from north; edges may differ from it by up to 60 degrees.

    Raises
    ------
    InputError
        If the nearest such edge is farther than 200 m.
    """
    if not network.has_lonlat:
        raise InputError(
            f"network '{network.name}' has no projection, so it has no longitudes and latitudes; name the edge "
            'instead: origin = { edge = "ID" }'
        )
    point = network.xy(np.array([[lon, lat]]))[0]
    start, step, heading, edge = network._segments
    share = ((point - start) * step).sum(axis=1) / (step**2).sum(axis=1)
    away = np.hypot(*(start + np.clip(share, 0.0, 1.0)[:, None] * step - point).T)
    off = np.abs((heading - bearing + 180.0) % 360.0 - 180.0)
    away = np.where(off <= MATCH_DEG, away, np.inf)
    best = int(np.argmin(away))
    if not away[best] <= MATCH_M:
        west, south, east, north = network.summary["area"]
        raise InputError(
            f"network '{network.name}': no road runs towards {bearing:.0f} degrees within {MATCH_M:.0f} m of "
            f"longitude {lon:.5f}, latitude {lat:.5f}; the network covers {west:.4f},{south:.4f},{east:.4f},{north:.4f}"
        )
    return int(edge[best])


def find(
    name_or_path: str,
    *,
    name: str | None = None,
    bbox: osm.Box | None = None,
    left_hand: bool | None = None,
) -> Network:
    """Return a network by its name in the catalogue or by the path of an OSM file; build it if it is not cached.

    Parameters
    ----------
    name
        Name of the network. Default: that of the catalogue or of the file.
    bbox
        West, south, east, north in degrees, instead of its own area.
    left_hand
        Whether traffic drives on the left. Default: by position.

    Raises
    ------
    InputError
        If there is no such network or file, or it cannot be built.
    """
    try:
        safe_paths.check_name(name or "unnamed")
    except ValueError as error:
        raise InputError(f"'{safe_paths.printable(str(name))}' cannot be a network's name: {error}") from None
    located = catalogue.locate(name_or_path)
    if name_or_path not in catalogue.known() and Path(name_or_path).is_file():
        trusted.note(name_or_path)
    changes = {"bbox": bbox, "left_hand": left_hand}
    settings = located.settings.model_copy(update={key: value for key, value in changes.items() if value is not None})
    network = build(located.source, settings, name=name or located.name)
    if name is not None or name_or_path not in catalogue.known():
        catalogue.remember(name or located.name, located.source, settings)
    return replace(network, title=located.title, description=located.description)


def build(source: Path, settings: NetworkSettings | None = None, *, name: str) -> Network:
    """Build a network from an OSM file, or use a SUMO network as it is; or return it from the cache.

    Parameters
    ----------
    source
        An OSM file, or a SUMO network (.net.xml).
    settings
        Options of the build.
    name
        Name of the network.

    Raises
    ------
    InputError
        If the file is not usable, or has no strongly connected roads.
    """
    settings = settings or NetworkSettings()
    osm.check_file(source)
    digest = cache.sha256(source)
    given = sumo_net.is_net(source)
    if given and settings != NetworkSettings():
        raise InputError(
            f"{source}: a SUMO network is used as it is; remove --bbox, --left-hand and network_options, which are for "
            "OSM files"
        )
    key = _given_key(digest) if given else _key(FORMAT, digest, settings)
    folder = cache.cache_folder() / "networks" / f"{name}-{key[:12]}"

    def make() -> None:
        with temporary.folder(f".{name}-", folder.parent) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            with phase("network built"):
                summary = (
                    _use(source, digest, whole) if given else _make(source, digest, settings, Path(scratch), whole)
                )
            (whole / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            files.put(whole, folder)

    def load(folder: Path) -> Network:
        summary = files.read_json(folder / SUMMARY)
        if not (folder / NET).is_file() or "key" not in summary:
            raise InputError(f"{folder}: not a complete network")
        return Network(name, folder, RoadGraph.load(folder / GRAPH), summary, title=name)

    if not folder.is_dir():
        _make_folder(folder.parent)
    return cache.sound(folder, make, load)


def _key(number: int, digest: str, settings: NetworkSettings) -> str:
    """Return the hash of an OSM file's content, the settings, SUMO's version and a format."""
    chosen = settings.model_dump(mode="json", exclude={"rules"} if number == SAME_FORMAT else None)
    return hashlib.sha256(json.dumps([number, digest, chosen, sumo.version()]).encode()).hexdigest()


def _given_key(digest: str) -> str:
    """Return the hash of a SUMO network's content, SUMO's version and the formats."""
    return hashlib.sha256(json.dumps([FORMAT, sumo_net.FORMAT, digest, sumo.version()]).encode()).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({error.strerror}); set {cache.CACHE_VARIABLE} to a folder that can be written"
        ) from None


def _use(source: Path, digest: str, whole: Path) -> dict[str, Any]:
    """Use a SUMO network: write its copy and its graph into the folder `whole`, and return its summary."""
    log.info(f"reading {source.name}")
    net = sumo_net.use(source, whole / NET, netconvert.KEPT)
    graph = net.graph
    try:
        corners = Network("", whole, graph, {}).lonlat(graph.shape_xy).T if graph.projection[0] else None
    except CRSError:
        graph, corners = replace(graph, projection=np.array([""])), None
    graph.save(whole / GRAPH)
    return {
        "key": _given_key(digest),
        "sha256": digest,
        "source": source.name,
        "given": True,
        "sumo": sumo.version(),
        "version": net.version,
        "attribution": OSM_ATTRIBUTION if net.from_osm else f"SUMO network {source.name}",
        "area": None if corners is None else [round(degrees, 6) for degrees in osm.bounds(*corners)],
        "left_hand": bool(graph.left_hand[0]),
        "remarks": [],
        "left_out": {},
        "missing_nodes": 0,
        "other_side": 0.0,
        "outcome": net.outcome,
        "not_for_sumo": net.left_out,
        "edges": graph.n_edges,
        "junctions": len(graph.junction_xy),
        "signals": net.signals,
        "km": float(graph.length.sum()) / 1000,
        "lane_km": float((graph.length * graph.lanes).sum()) / 1000,
        "most_ways_on": graph.m_out,
    }


def _make(source: Path, digest: str, settings: NetworkSettings, work: Path, whole: Path) -> dict[str, Any]:
    """Build a network into the folder `whole` and return its summary."""
    log.info(f"reading {source.name}")
    extract = osm.read(source, box=settings.bbox, service_roads=settings.service_roads, rules=settings.rules)
    ledger = extract.account
    left_hand, decided, other_side = settings.left_hand, "set", 0.0
    if left_hand is None:
        left_hand, zone, other_side = driving_side.of_roads(extract.places())
        decided = f"by position (time zone {zone})"
        ledger.differ("driving side", left_hand != driving_side.by_time_zone(*extract.centre))
    guess = extract.signals == 0 if settings.guess_signals is None else settings.guess_signals
    osm.write(extract, work / "clean.osm")
    log.info(f"netconvert: {len(extract.pieces)} ways, {'left' if left_hand else 'right'}-hand traffic")
    builder = netconvert.Builder(source, work, len(extract.node_position))
    builder.convert(work / "clean.osm", left_hand=left_hand, guess_signals=guess)
    builder.reduce()
    log.info(f"trial run on {builder.net.graph.n_edges} edges")
    trials = builder.repair()

    net = builder.net
    signals.limit_cycles(net.file, whole / NET)
    net.graph.save(whole / GRAPH)
    network = Network("", whole, net.graph, {})
    _save_left_out(whole / LEFT_OUT, extract, builder.fate[netconvert.KEPT])
    area = osm.bounds(*network.lonlat(net.graph.shape_xy).T)
    made_here = extract.contents.generator.startswith("relid_sumo")
    across = extract.bounds[0] > extract.bounds[2]
    ledger.differ("meridian", across)
    same = not ledger.differences or (settings.rules < osm.RULES and not ledger.differences.keys() - osm.BY_RULES)
    return {
        "key": _key(SAME_FORMAT if same else FORMAT, digest, settings),
        "sha256": digest,
        "source": source.name,
        "sumo": sumo.version(),
        "attribution": "generated by relid_sumo" if made_here else OSM_ATTRIBUTION,
        "settings": settings.model_dump(mode="json"),
        "area": [round(degrees, 6) for degrees in area],
        "left_hand": left_hand,
        "left_hand_decided": decided,
        "other_side": other_side,
        "remarks": list(extract.contents.remarks),
        "elements": extract.contents.elements,
        "relation_types": extract.contents.relation_types,
        "roads_in_file": ledger.came_in,
        "left_out": ledger.left_out,
        "missing_nodes": ledger.missing_nodes,
        "barriers": ledger.barriers,
        "rules": dict(ledger.rules.most_common()),
        "ignored_tags": dict(ledger.ignored_tags.most_common()),
        "ignored_node_tags": dict(sorted(ledger.ignored_node_tags.items(), key=lambda item: (-item[1], item[0]))),
        "differences": ledger.differences,
        "into_netconvert": account.totals(ledger.usable),
        "outcome": _outcome(extract, builder.fate),
        "restrictions": {"used": len(extract.restrictions), "left_out": ledger.restrictions_left_out},
        "edges": net.graph.n_edges,
        "junctions": len(net.graph.junction_xy),
        "signals": net.signals,
        "signals_guessed": guess,
        "km": float(net.graph.length.sum()) / 1000,
        "lane_km": float((net.graph.length * net.graph.lanes).sum()) / 1000,
        "most_ways_on": net.graph.m_out,
        "lanes_opened": sorted(builder.opened),
        "closed": sorted(builder.closed),
        "trial": {
            "runs": len(trials),
            "vehicles": trials[-1].vehicles,
            "wrong_lane_left": dict(trials[-1].wrong_lane),
        },
    }


def _save_left_out(file: Path, extract: osm.Extract, kept: dict[int, float]) -> None:
    """Write the lines of the pieces that are not in the network, longitudes and latitudes, degrees."""
    gone = [piece for piece in extract.pieces if piece.id not in kept]
    lines = [np.array([extract.node_position[node] for node in piece.nodes]) for piece in gone]
    starts = np.cumsum([0, *(len(line) for line in lines)])
    np.savez_compressed(file, lonlat=np.concatenate([np.zeros((0, 2)), *lines]), starts=starts)


def _outcome(extract: osm.Extract, fate: dict[str, dict[int, float]]) -> osm.Tally:
    """Return the number of OSM ways, and their km, that netconvert read, by outcome.

    An OSM way that is only partly in the network counts once, as part of it; its km are divided by the length of its
    edges. So the sums of OSM ways and km are those of the input.
    """
    tally: osm.Tally = {reason: {"ways": 0, "km": 0.0} for reason in (*fate, netconvert.DROPPED)}
    best: dict[int, str] = {}
    order = list(tally)
    for piece in extract.pieces:
        metres = {reason: lengths[piece.id] for reason, lengths in fate.items() if piece.id in lengths}
        metres = metres or {netconvert.DROPPED: 1.0}
        for reason, length in metres.items():
            tally[reason]["km"] += piece.km * length / sum(metres.values())
        best[piece.way] = min([*metres, *([best[piece.way]] if piece.way in best else [])], key=order.index)
    for reason in best.values():
        tally[reason]["ways"] += 1
    return tally
