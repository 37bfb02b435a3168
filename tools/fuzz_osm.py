"""Damage small OSM files, and build networks and scenarios from them.

    python tools/fuzz_osm.py --cases 2000
    python tools/fuzz_osm.py --seed 0 --case 17    # one case again, with all it prints

The inputs are invented towns and the included one; with RELID_SUMO_OSM_PATH, also small boxes of the extracts there.
Most cases change what the file says (nodes, OSM ways, tags, references), the others its bytes. `forked` says what is
right.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import mutate

TOWN = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
BOXES = {  # of extracts: a few streets each
    "hong_kong_yau_tsim_mong_20260305.osm": "114.1680,22.3180,114.1710,22.3210",
    "orlando_ucf_waterford_20241202.osm": "-81.2040,28.5400,-81.1960,28.5460",
}
PACKED: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    *((("", bytes),) * 3),
    *((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)),
)
STEP = 0.0015  # degrees between the junctions of an invented town
KEYS = (
    *("highway", "oneway", "lanes", "maxspeed", "access", "motor_vehicle", "junction", "turn:lanes", "name", "layer"),
    *("lanes:forward", "access:lanes", "barrier", "restriction", "type", "railway", "bridge", "\u202e", "a" * 300),
)
VALUES = (
    *(
        "residential",
        "motorway",
        "footway",
        "yes",
        "no",
        "-1",
        "0",
        "99",
        "1e308",
        "nan",
        "none",
        "",
        "|||",
        "reversible",
    ),
    *(
        "roundabout",
        "traffic_signals",
        "gate",
        "no_u_turn",
        "9" * 400,
        "[red]x[/red]",
        "\x9b2J",
        "a\u202eb",
        "&amp;lt;",
    ),
    *("--output-file=x", "../../x", "through|left;right", "50 mph", "-5", "0.5", "forward", "x" * 2000),
)
NUMBERS = (
    *("0", "1", "-1", "nan", "inf", "90", "-90", "180", "181", "1e9", "", "x", "9" * 30, "0.0000001", "22.3"),
    "1e-320",
)
STATES = (' visible="false"', ' action="delete"', ' version="9"')


def town(rng: random.Random) -> str:
    """Return an invented town: a grid with gaps, signals, one-way streets and a turn restriction."""
    side, tags = rng.randint(2, 5), ("residential", "tertiary", "primary", "service", "motorway_link", "footway")
    lat, lon = rng.uniform(-60, 60), rng.uniform(-179, 179)
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", '<osm version="0.6" generator="fuzz">']
    for i in range(side * side):
        y, x = divmod(i, side)
        place = f'lat="{lat + STEP * y + rng.uniform(0, STEP / 4):.7f}" lon="{lon + STEP * x:.7f}"'
        signal = '><tag k="highway" v="traffic_signals"/></node>' if rng.random() < 0.1 else "/>"
        lines.append(f'<node id="{i + 1}" {place}{signal}')
    for k in range(side):
        for row in (True, False):
            nodes = [k * side + j + 1 if row else j * side + k + 1 for j in range(side)]
            refs = "".join(f'<nd ref="{node}"/>' for node in nodes)
            street = f'<tag k="highway" v="{rng.choice(tags[: rng.choice((1, 3, 6))])}"/><tag k="name" v="Street {k}"/>'
            one_way = '<tag k="oneway" v="yes"/>' if rng.random() < 0.1 else ""
            lines.append(f'<way id="{100 + 2 * k + row}">\n{refs}\n{street}\n{one_way}</way>')
    members = '<member type="way" ref="100" role="from"/><member type="node" ref="1" role="via"/>'
    members += '<member type="way" ref="101" role="to"/>'
    kind = '<tag k="type" v="restriction"/><tag k="restriction" v="no_left_turn"/>'
    return "\n".join([*lines, f'<relation id="900">\n{members}{kind}</relation>', "</osm>"])


def _spots(text: str, pattern: str, rng: random.Random) -> list[re.Match[str]]:
    """Return a few places of a pattern in a text, the last first."""
    found = list(re.finditer(pattern, text))
    chosen = rng.sample(found, min(len(found), rng.choice((1, 2, 10, len(found) or 1))))
    return sorted(chosen, key=lambda one: -one.start())


def restructure(text: str, rng: random.Random) -> tuple[str, str]:
    """Change what an OSM file says, and return the name of the change and the text."""
    kinds: dict[str, tuple[str, Callable[[re.Match[str]], str]]] = {
        "references": (r'ref="([^"]*)"', lambda _: rng.choice((*NUMBERS, *map(str, range(1, 26))))),
        "ids": (r' id="([^"]*)"', lambda _: rng.choice((*NUMBERS, "1", "100"))),
        "latitudes": (r'lat="([^"]*)"', lambda _: rng.choice(NUMBERS)),
        "places": (r'lon="([^"]*)"', lambda m: rng.choice((m[1], *NUMBERS[:9]))),
        "keys": (r'k="([^"]*)"', lambda _: rng.choice(KEYS)),
        "values": (r'v="([^"]*)"', lambda _: rng.choice(VALUES)),
        "roles": (r'role="([^"]*)"', lambda _: rng.choice(("via", "from", "to", "", "x"))),
        "elements": (r"(<(?:node|way|relation|nd|tag|member)\b[^>]*/>)", lambda m: rng.choice(("", m[1] * 2, "<x/>"))),
        "visible": (
            r'( id="[^"]*")',
            lambda m: m[1] + rng.choice((' visible="false"', ' action="delete"', ' version="9"')),
        ),
        "tags": (r"(</way>)", lambda _: f'<tag k="{rng.choice(KEYS)}" v="{rng.choice(VALUES)}"/></way>'),
    }
    kind = rng.choice((*kinds, "coincident", "huge", "reversed", "long"))
    if kind == "coincident":
        place = re.search(r'lat="[^"]*" lon="[^"]*"', text)
        share = rng.choice((0.05, 0.5, 1.0))
        here = place[0] if place else ""
        return kind, re.sub(r'lat="[^"]*" lon="[^"]*"', lambda m: here if rng.random() < share else m[0], text)
    if kind == "huge":
        return kind, re.sub(r'lat="([^"]*)"', lambda _: f'lat="{rng.uniform(-89, 89):.7f}"', text)
    if kind == "reversed":
        return kind, "\n".join(reversed(text.split("\n")))
    if kind == "long":
        refs = "".join(f'<nd ref="{rng.randint(1, 9)}"/>' for _ in range(2500))
        return kind, text.replace("</way>", f"{refs}</way>", 1)
    pattern, new = kinds[kind]
    for spot in _spots(text, pattern, rng):
        text = text[: spot.start(1)] + new(spot) + text[spot.end(1) :]
    return kind, text


def _extracts() -> list[tuple[Path, str]]:
    """Return the extracts and boxes that are there."""
    folders = [Path(part) for part in os.environ.get("RELID_SUMO_OSM_PATH", "").split(os.pathsep) if part]
    return [(folder / name, box) for folder in folders for name, box in BOXES.items() if (folder / name).is_file()]


def cut(source: Path, box: str) -> str:
    """Return the elements of an extract in a box, and what they refer to, as text."""
    west, south, east, north = map(float, box.split(","))
    text = source.read_text(encoding="utf-8")
    found = re.finditer(r'<node id="(\d+)"[^>]*?(?:/>|>.*?</node>)', text, re.DOTALL)
    nodes = {node[1]: node[0] for node in found}
    inside = {
        name
        for name, node in nodes.items()
        if south <= float(_number(node, "lat")) <= north and west <= float(_number(node, "lon")) <= east
    }
    ways = [m[0] for m in re.finditer(r"<way .*?</way>", text, re.DOTALL)]
    ways = [way for way in ways if '"highway"' in way and inside & set(re.findall(r'ref="(\d+)"', way))]
    needed = {ref for way in ways for ref in re.findall(r'ref="(\d+)"', way)}
    return "\n".join(['<osm version="0.6">', *(nodes[ref] for ref in sorted(needed & nodes.keys())), *ways, "</osm>"])


def _number(node: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', node)
    return found[1] if found else "nan"


def case_maker(seed: int) -> Callable[[int, Path], forked.Case]:
    """Return the function that makes the case with a number in a folder."""
    known = [TOWN.read_text(encoding="utf-8"), *(cut(source, box) for source, box in _extracts())]

    def case(number: int, place: Path) -> forked.Case:
        rng = random.Random(f"{seed}-{number}")
        place.mkdir()
        choice = rng.random()
        base, text = ("invented", town(rng)) if choice < 0.75 else ("town", known[0])
        if choice > 0.9 and len(known) > 1:
            base, text = "extract", rng.choice(known[1:])
        ending, pack = rng.choice(PACKED)
        if rng.random() < 0.6:
            what, names = "change", []
            for _ in range(rng.choice((1, 1, 3))):
                name, text = restructure(text, rng)
                names.append(name)
            detail, content = ", ".join(names), pack(text.encode("utf-8", "surrogatepass"))
        elif ending and rng.random() < 0.3:
            what, (detail, content) = "packed bytes", mutate.raw(pack(text.encode()), rng)
        else:
            what, (detail, content) = "bytes", mutate.damage("x.osm", text.encode(), rng)
            content = pack(content)
        file = place / f"map.osm{ending}"
        file.write_bytes(content)
        words = ["network", "build", file.name]
        if rng.random() < 0.12:
            words = ["scenario", "new", "s", "--osm", file.name, "--agents", "2", "--set", "demand.level=0"]
        elif rng.random() < 0.05:
            words += ["--bbox", rng.choice(("0,0,1,1", "-180,-90,180,90", "1,1,0,0", "nan,0,1,1"))]
        return forked.Case(
            number=number,
            kind=f"{base}: {what}",
            what=f"{detail} ({ending or 'plain'})",
            words=words,
            place=place,
            names=[file.name, "bbox"],
            watched=[file],
            environment={"RELID_SUMO_CACHE": str(place / "cache")},
        )

    return case


def main() -> None:
    """Run the cases; exit code 1 if one is wrong."""
    options = forked.parser(__doc__ or "").parse_args()
    forked.warm()
    sys.exit(forked.fuzz("tools/fuzz_osm.py", options, case_maker(options.seed)))


if __name__ == "__main__":
    main()
