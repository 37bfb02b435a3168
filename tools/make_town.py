"""Write the OSM file of an invented town, of any size.

The town is a bent, thinned grid on both sides of a river: primary streets about every kilometre, secondary streets
between them, a one-way pair, a diagonal avenue that ends at the old bridge, roundabouts, cul-de-sacs and a fast ring
road. Bridges are few. Bridges on direct routes have one lane per direction; near each of them is a bridge farther off
with two. The best route therefore depends on the traffic. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.errors import InputError
from relid_sumo.base.seeding import stream

Cell = tuple[int, int]  # a crossing of the grid: column (west to east), row (south to north)
Link = tuple[Cell, Cell]
Point = NDArray[np.float64]  # x (east), y (north) in m
Tags = dict[str, str]
Way = tuple[list[int], Tags]  # node numbers and tags

TOWN_FILE = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
TOWN_EDGES, TOWN_SEED = 240, 1
CENTRE_LAT, CENTRE_LON = 39.45, -2.95  # an empty part of the plain of La Mancha, Spain: drives on the right
METRES_PER_DEGREE = 111_320.0
MIN_EDGES = 150
RIVER_HALF_WIDTH = 22.0
ARTERIAL = ("primary", "secondary")
MINOR_KINDS = ("residential", "residential", "residential", "tertiary", "unclassified")
SPEED = {"primary": 50, "secondary": 50, "tertiary": 40, "unclassified": 40, "residential": 30, "living_street": 20}
NAMES = ["Alder", "Birch", "Chapel", "Dyer", "Elm", "Foundry", "Garden", "Harbour", "Iris", "Juniper", "King", "Linden"]
NAMES += ["Mill", "North", "Orchard", "Poplar", "Quarry", "Rowan", "Spring", "Tanner", "Union", "Vine", "Willow", "Yew"]
EXAMPLES = """examples:
  python tools/make_town.py                                        write the embedded town, scenarios/town/town.osm
  python tools/make_town.py --edges 2000 --seed 7 --out big.osm    write a town of about 2,000 drivable edges
"""


@dataclass(frozen=True)
class Street:
    """One street: a chain of crossings and its tags."""

    name: str
    kind: str
    path: tuple[Cell, ...]
    lanes: int = 2
    oneway: bool = False
    speed: int = 0

    @property
    def tags(self) -> Tags:
        """The street's OSM tags."""
        tags = {"highway": self.kind, "name": self.name, "maxspeed": str(self.speed or SPEED[self.kind])}
        if self.kind != "residential":
            tags["lanes"] = str(self.lanes)
        return tags | ({"oneway": "yes"} if self.oneway else {})


@dataclass
class Osm:
    """An OSM document under construction."""

    nodes: list[tuple[Point, Tags]] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)

    def node(self, xy: Point, **tags: str) -> int:
        """Add a node and return its number."""
        self.nodes.append((xy, tags))
        return len(self.nodes)

    def way(self, nodes: list[int], **tags: str) -> None:
        """Add an OSM way through numbered nodes."""
        self.ways.append((nodes, tags))

    def write(self, file: Path, comment: str) -> None:
        """Write the document. The file appears only when it is complete."""
        xy = np.array([point for point, _ in self.nodes])
        lat = CENTRE_LAT + xy[:, 1] / METRES_PER_DEGREE
        lon = CENTRE_LON + xy[:, 0] / (METRES_PER_DEGREE * np.cos(np.radians(CENTRE_LAT)))
        box = f'minlat="{lat.min():.7f}" minlon="{lon.min():.7f}" maxlat="{lat.max():.7f}" maxlon="{lon.max():.7f}"'
        part = file.with_name(file.name + ".part")
        try:
            with part.open("w", encoding="utf-8", newline="\n") as out:
                out.write('<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6" generator="relid_sumo">\n')
                out.write(f"  <!-- {comment} -->\n  <bounds {box}/>\n")
                for i, (_, tags) in enumerate(self.nodes):
                    head = f'  <node id="{i + 1}" version="1" lat="{lat[i]:.7f}" lon="{lon[i]:.7f}"'
                    out.write(f"{head}>\n{_tag_lines(tags)}  </node>\n" if tags else f"{head}/>\n")
                for i, (refs, tags) in enumerate(self.ways):
                    lines = "".join(f'    <nd ref="{ref}"/>\n' for ref in refs)
                    out.write(f'  <way id="{i + 1}" version="1">\n{lines}{_tag_lines(tags)}  </way>\n')
                out.write("</osm>\n")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def _tag_lines(tags: Tags) -> str:
    return "".join(f"    <tag k={quoteattr(key)} v={quoteattr(value)}/>\n" for key, value in tags.items())


class Town:
    """The plan of a town: positions of the crossings, and the streets between them."""

    def __init__(self, cols: int, rows: int, seed: int) -> None:
        self.cols, self.rows, self.seed = cols, rows, seed
        self.bank = 4 * round(rows / 8)  # first row north of the river
        self._survey()
        self.bridges = [*range(4, cols - 2, 4), cols - 1]
        self.streets = self._streets()
        self.links = {link: street for street in self.streets for link in pairwise(street.path)}
        self._thin()
        self.around: dict[Cell, dict[Cell, Street]] = defaultdict(dict)  # crossing -> neighbour -> street between
        for (a, b), street in self.links.items():
            self.around[a][b] = self.around[b][a] = street
        self.roundabouts = {c for c in self.around if c[0] % 8 == 2 and c[1] % 4 == 2 and len(self.around[c]) > 3}
        self.signals = {c for c in self.around if c not in self.roundabouts and self._is_busy(c)}
        self.turn_lanes = self._turn_lanes()

    def _survey(self) -> None:
        """Bend a grid of uneven blocks: long waves move whole districts, jitter moves single crossings."""
        rng = stream(self.seed, "survey")
        gaps_x, gaps_y = rng.uniform(215, 295, self.cols), rng.uniform(215, 295, self.rows)
        gaps_y[self.bank] = 290.0
        self.x, self.y = (np.cumsum(g) - g[0] - (g.sum() - g[0]) / 2 for g in (gaps_x, gaps_y))
        self._phase = rng.uniform(0, 2 * np.pi, 4)
        self._turn = rng.uniform(-0.2, 0.2)
        jitter = rng.normal(0, 13, (self.cols, self.rows, 2)).clip(-30, 30)
        self.xy = {
            (i, j): self.bend(self.x[i], self.y[j]) + jitter[i, j] for i in range(self.cols) for j in range(self.rows)
        }
        self.river_y = (self.y[self.bank - 1] + self.y[self.bank]) / 2

    def bend(self, x: float, y: float) -> Point:
        """Return the position of a point of the straight grid."""
        a, b, c, d = self._phase
        dx = 45 * np.sin(y / 230 + a) + 150 * np.sin(y / 1500 + b)
        dy = 45 * np.sin(x / 270 + c) + 150 * np.sin(x / 1500 + d)
        cos, sin = np.cos(self._turn), np.sin(self._turn)
        return np.array([cos * (x + dx) - sin * (y + dy), sin * (x + dx) + cos * (y + dy)])

    def river(self, x: float) -> Point:
        """Return the point of the river's centre line at grid coordinate x."""
        return self.bend(x, self.river_y + 18 * np.sin(x / 170))

    def _streets(self) -> list[Street]:
        rng = stream(self.seed, "streets")
        cols, rows, bank = self.cols, self.rows, self.bank
        names = (f"{name} {suffix}" for suffix in cycle(("Street", "Road", "Lane", "Way")) for name in NAMES)
        east, north = cols - 1, rows - 1
        ring = [(0, 1), *((i, 0) for i in range(1, east)), *((east, j) for j in range(1, north))]
        ring += [(i, north) for i in range(east - 1, 0, -1)] + [(0, north - 1)]
        streets = [Street("Ring Road", "primary", tuple(ring), lanes=4, speed=70)]
        for i in range(east):
            over = i in self.bridges
            kind = "primary" if over else "secondary" if i % 4 == 2 else str(rng.choice(MINOR_KINDS))
            low, high = (0, north) if i else (1, north - 1)
            south, upper = [(i, j) for j in range(low, bank)], [(i, j) for j in range(bank, high + 1)]
            if over:
                streets.append(Street(next(names), kind, (*south, *upper), 4 if i % 8 == 0 else 2))
                continue
            streets.append(Street(next(names), kind, tuple(south)))
            if i % 8 in (5, 6):  # a one-way pair: up one street, down the next
                path = tuple(upper if i % 8 == 5 else upper[::-1])
                streets.append(Street(next(names), "secondary", path, oneway=True))
            else:
                streets.append(Street(next(names), kind, tuple(upper)))
        for j in range(1, north):
            main = j % 4 == 0 and j < north - 1
            kind = "primary" if main else "secondary" if j % 4 == 2 else str(rng.choice(MINOR_KINDS))
            streets.append(Street(next(names), kind, tuple((i, j) for i in range(cols)), 4 if main else 2))
        for i in self.bridges[:-1]:
            if i % 8 == 4:
                reach = min(bank - 1, east - 1 - i, 12)
                path = tuple((i + k, bank - 1 - k) for k in range(reach + 1))
                streets.append(Street(f"{next(names).split()[0]} Avenue", "secondary", path))
        return streets

    def _thin(self) -> None:
        """Remove minor links where an avenue crosses, and at random; every crossing keeps at least three arms."""
        rng = stream(self.seed, "thin")
        degree = Counter(cell for link in self.links for cell in link)
        on_avenue = {cell for s in self.streets if s.name.endswith("Avenue") for cell in s.path}
        minor = [link for link, street in self.links.items() if street.kind not in ARTERIAL]
        order = [minor[k] for k in rng.permutation(len(minor))]
        order.sort(key=lambda link: not on_avenue.intersection(link))
        spare = 0.22 * len(minor)
        for a, b in order:
            if min(degree[a], degree[b]) > 3 and (spare > 0 or on_avenue.intersection((a, b))):
                del self.links[a, b]
                degree.subtract((a, b))
                spare -= 1

    def _is_busy(self, cell: Cell) -> bool:
        arterials = {street for street in self.around[cell].values() if street.kind in ARTERIAL}
        return len(arterials) > 1 or (cell[0] in self.bridges and cell[1] == self.bank - 1)

    def _turn_lanes(self) -> dict[Link, str]:
        """Choose signal approaches that get an extra lane for left turns; values are OSM turn-lane texts."""
        rng = stream(self.seed, "turn lanes")
        lanes = {}
        for cell in sorted(self.signals):
            for other, street in self.around[cell].items():
                ways = self._ways_on(other, cell)
                once = len(ways) > 1 and "left" in ways and None not in ways.values()
                goes_on = street.lanes == 2 or ways.get("through") is street  # otherwise two lanes would end in one
                if street.oneway or not (once and goes_on) or rng.random() > 0.3:
                    continue
                rest = ";".join(way for way in ("through", "right") if way in ways)
                lanes[other, cell] = "|".join(["left"] + ["through"] * (street.lanes // 2 - 1) + [rest])
        return lanes

    def _ways_on(self, start: Cell, cell: Cell) -> dict[str, Street | None]:
        """Return the streets left, through and right when coming from `start`; None if there are several."""
        ways: dict[str, Street | None] = {}
        arriving = self.xy[cell] - self.xy[start]
        for other, street in self.around[cell].items():
            if other != start and (not street.oneway or (cell, other) in self.links):
                leaving = self.xy[other] - self.xy[cell]
                cross, dot = arriving[0] * leaving[1] - arriving[1] * leaving[0], arriving @ leaving
                angle = np.degrees(np.arctan2(cross, dot))
                way = "left" if angle > 45 else "right" if angle < -45 else "through"
                ways[way] = None if way in ways else street
        return ways

    def edge_count(self) -> int:
        """Return the number of SUMO edges of the streets: one per direction, more where the number of lanes changes."""
        count = sum(len(self.around[cell]) for cell in self.roundabouts)
        for (a, b), street in self.links.items():
            parts = 2 if ((a, b) in self.turn_lanes or (b, a) in self.turn_lanes) else 1
            count += parts * (1 if street.oneway else 2)
        return count


def draw(town: Town, spurs: int) -> Osm:
    """Convert the plan into OSM nodes and OSM ways, with a number of cul-de-sacs."""
    osm = Osm()
    crossing, arms = _draw_crossings(osm, town)
    rng = stream(town.seed, "draw")
    inner: dict[Link, list[int]] = {}
    for a, b in town.links:
        start, end = town.xy[a], town.xy[b]
        if {a[1], b[1]} == {town.bank - 1, town.bank}:
            along = (end - start) / np.hypot(*(end - start)) * (RIVER_HALF_WIDTH + 14)
            water = town.river(town.x[a[0]])
            inner[a, b] = [osm.node(water - along), osm.node(water + along)]
        else:
            bow = (end - start)[::-1] * np.array([-1, 1]) * rng.normal(0, 0.02)
            inner[a, b] = [osm.node((start + end) / 2 + bow)]
    for street in town.streets:
        pieces: list[Way] = []
        for a, b in pairwise(street.path):
            if town.links.get((a, b)) is street:
                first, last = (arms.get((p, q), crossing[p]) for p, q in ((a, b), (b, a)))
                pieces += _pieces(town, street, a, b, [first, *inner[a, b], last])
        for refs, tags in _joined(pieces):
            osm.way(refs, **tags)
    _draw_blocks(osm, town, inner, spurs)
    _draw_river(osm, town)
    return osm


def _draw_crossings(osm: Osm, town: Town) -> tuple[dict[Cell, int], dict[Link, int]]:
    """Draw crossings and roundabouts; return the nodes of crossings, and of roundabouts by (crossing, neighbour)."""
    crossing: dict[Cell, int] = {}
    arms: dict[Link, int] = {}
    for cell in town.around:
        if cell not in town.roundabouts:
            crossing[cell] = osm.node(town.xy[cell], **({"highway": "traffic_signals"} if cell in town.signals else {}))
            continue
        ring = []
        toward = {other: town.xy[other] - town.xy[cell] for other in town.around[cell]}
        for other in sorted(toward, key=lambda o: float(np.arctan2(toward[o][1], toward[o][0]))):
            ring.append(osm.node(town.xy[cell] + 24 * toward[other] / np.hypot(*toward[other])))
            arms[cell, other] = ring[-1]
        crossing[cell] = ring[0]
        osm.way([*ring, ring[0]], highway="secondary", junction="roundabout", lanes="1", maxspeed="30")
    return crossing, arms


def _pieces(town: Town, street: Street, a: Cell, b: Cell, refs: list[int]) -> list[Way]:
    """Return the pieces of one link with their tags: bridge or not, with an extra lane before a signal or not."""
    if len(refs) == 4:  # the two inner nodes are the bridge's ends
        plain = street.tags
        return [(refs[:2], plain), (refs[1:3], plain | {"bridge": "yes", "layer": "1"}), (refs[2:], plain)]
    return [
        (refs[:2], street.tags | _wide(street, "backward", town.turn_lanes.get((b, a)))),
        (refs[1:], street.tags | _wide(street, "forward", town.turn_lanes.get((a, b)))),
    ]


def _wide(street: Street, way: str, turns: str | None) -> Tags:
    if turns is None:
        return {}
    other, half = "forward" if way == "backward" else "backward", street.lanes // 2
    lanes = {"lanes": str(street.lanes + 1), f"lanes:{way}": str(half + 1), f"lanes:{other}": str(half)}
    return lanes | {f"turn:lanes:{way}": turns}


def _joined(pieces: list[Way]) -> list[Way]:
    """Join consecutive pieces with the same tags, as mappers draw them."""
    ways: list[Way] = []
    for refs, tags in pieces:
        if ways and ways[-1][0][-1] == refs[0] and ways[-1][1] == tags:
            ways[-1][0].extend(refs[1:])
        else:
            ways.append((list(refs), tags))
    return ways


def _draw_blocks(osm: Osm, town: Town, inner: dict[Link, list[int]], spurs: int) -> None:
    """Fill blocks with cul-de-sacs until there are enough, then with car parks (service ways) and parks (footways)."""
    rng = stream(town.seed, "blocks")
    blocks = [(i, j) for i in range(town.cols - 1) for j in range(town.rows - 1) if j != town.bank - 1]
    for k in rng.permutation(len(blocks)):
        i, j = blocks[k]
        corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        if ((i, j + 1), (i + 1, j)) in town.links or not town.around.keys() >= set(corners):
            continue  # divided by an avenue, or cut off by the ring road
        sides = [side for a, b in pairwise([*corners, corners[0]]) for side in ((a, b), (b, a)) if side in inner]
        minor = [link for link in sides if town.links[link].kind not in ARTERIAL]
        centre = np.mean([town.xy[cell] for cell in corners], axis=0)
        choice = minor or sides
        if not choice:
            continue
        gate = inner[choice[rng.integers(len(choice))]][0]
        door = osm.nodes[gate - 1][0]
        share = rng.uniform(0.5, 0.8)
        if minor and spurs > 0:
            spurs -= 1
            bend = osm.node(door + 0.6 * share * (centre - door))
            end = osm.node(door + share * (centre - door) + rng.uniform(-22, 22, 2), highway="turning_circle")
            kind = "living_street" if rng.random() < 0.3 else "residential"
            osm.way([gate, bend, end], highway=kind, name=f"{NAMES[k % len(NAMES)]} Close", maxspeed=str(SPEED[kind]))
        elif rng.random() < 0.4:
            osm.way([gate, osm.node(door + share * (centre - door))], highway="service", service="parking_aisle")
        elif rng.random() < 0.5:
            green = [osm.node(centre + 0.5 * (town.xy[cell] - centre)) for cell in corners]
            osm.way([*green, green[0]], leisure="park", name=f"{NAMES[k % len(NAMES)]} Park")
            osm.way([gate, green[0], green[2]], highway="footway")


def _draw_river(osm: Osm, town: Town) -> None:
    """Draw the river beyond both ends of the town: its centre line, and its water as areas of about 1 km length."""
    xs = np.arange(town.x[0] - 300, town.x[-1] + 300, 40.0)
    line = np.array([town.river(x) for x in xs])
    along = np.gradient(line, axis=0)
    side = np.column_stack([-along[:, 1], along[:, 0]]) / np.hypot(along[:, 0], along[:, 1])[:, None]
    osm.way([osm.node(point) for point in line], waterway="river", name="Relid")
    banks = [[osm.node(point) for point in line + way * RIVER_HALF_WIDTH * side] for way in (-1, 1)]
    for k in range(0, len(xs) - 1, 25):
        south, north = (bank[k : k + 26] for bank in banks)
        osm.way([*south, *north[::-1], south[0]], natural="water", water="river")


def grid_size(edges: float) -> tuple[int, int]:
    """Return columns and rows of a grid with about this many edges: 4.4 per crossing, fewer at the border."""
    side = (7 + np.sqrt(49 + 4 * 4.4 * edges)) / (2 * 4.4)
    cols = int(np.ceil(side))
    return cols, round(side * side / cols)


def make_town(edges: int, seed: int, out: Path) -> None:
    """Write a town of about `edges` strongly connected drivable SUMO edges.

    Raises
    ------
    InputError
        The town would be too small for two bridges, or `out` cannot be written.
    """
    if edges < MIN_EDGES:
        raise InputError(f"--edges {edges}: too few for a town with two bridges; give {MIN_EDGES} or more")
    town = Town(*grid_size(0.88 * edges), seed)
    osm = draw(town, spurs=max(0, round((edges - town.edge_count()) / 4)))  # a cul-de-sac adds two edges and splits two
    try:
        osm.write(out, f"An invented town: make_town.py, {edges} edges, seed {seed}. It shows no real place.")
    except OSError as err:
        raise InputError(f"{out}: the file cannot be written ({err.strerror}); give another one with --out") from err


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--edges", type=int, default=TOWN_EDGES, help="approximate number of drivable SUMO edges (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=TOWN_SEED, help="seed of the town (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=TOWN_FILE, help="file to write (default: the embedded town)")
    args = parser.parse_args()
    try:
        make_town(args.edges, args.seed, args.out)
    except InputError as err:
        parser.error(str(err))


if __name__ == "__main__":
    main()
