"""Uses a SUMO network (.net.xml) as it is: reads its roads for cars and reports what agents cannot use.

The network is not rebuilt. SUMO gets a copy without parts that write or read other files. The agents' trips start and
end in the largest strongly connected part for cars, where every road can be reached from every other, unless it has
too few of them. Other roads are not removed: traffic uses them, and so do agents of a fleet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from relid_sumo.base import sumo, xml_parts
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.base.xml_parts import Rules, Values
from relid_sumo.network import netfile
from relid_sumo.network.graph import RoadGraph

FORMAT = 2  # part of the cache key: raise it when the copy or the graph changes
ENDINGS = (".net.xml", ".net.xml.gz", ".net.gz", ".net")
APART = "outside the largest strongly connected part for cars"
CLOSED = "closed to cars"
SHOWN = 5


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NET_ATTRIBUTES = _words(
    "version junctionCornerDetail junctionLinkDetail lefthand rectangularLaneCut walkingareas limitTurnSpeed "
    "checkLaneFoesAll checkLaneFoesRoundabout tlsIgnoreInternalJunctionJam spreadType avoidOverlap "
    "junctionHigherSpeed internalJunctionsVehicleWidth junctionsMinimalShape junctionsEndpointShape"
)
SIGNAL_TYPES = _words("static actuated delay_based NEMA off rail_signal rail_crossing")
SIGNAL_ATTRIBUTES: dict[str, frozenset[str]] = {
    "tlLogic": _words("id type programID offset"),
    "phase": _words(
        "duration state minDur maxDur name next earliestEnd latestEnd earlyTarget finalTarget yellow red vehext type "
        "targetLanes minDuration maxDuration"
    ),
    "condition": _words("id value"),
    "assignment": _words("id value check"),
    "function": _words("id nArgs"),
    "param": _words("key value"),
}
SIGNAL_CHILDREN: dict[str, frozenset[str]] = {
    "tlLogic": _words("phase param condition assignment function"),
    "function": _words("assignment"),
}
# Parameters of a signal program that make SUMO write a file.
SIGNAL_OUTPUTS = frozenset({"file", "freq", "period", "whetherOutputState", "extra-file", "output"})

ATTRIBUTES: dict[str, frozenset[str]] = SIGNAL_ATTRIBUTES | {
    "location": _words("netOffset convBoundary origBoundary projParameter"),
    "type": _words(
        "id priority numLanes speed allow disallow oneway width maxSpeed sidewalkWidth bikeLaneWidth discard"
    ),
    "restriction": _words("vClass speed"),
    "edge": _words(
        "id function from to name priority length bidi type routingType shape distance spreadType crossingEdges"
    ),
    "lane": _words(
        "id index allow disallow prefer speed friction length endOffset width acceleration shape customShape type "
        "changeRight changeLeft outlineShape maxSpeed vclasses depart arrival"
    ),
    "neigh": _words("lane"),
    "stopOffset": _words("value vClasses exceptions"),
    "junction": _words(
        "id x y z type incLanes intLanes shape name radius customShape rightOfWay fringe roundabout joined"
    ),
    "request": _words("index response foes cont"),
    "connection": _words(
        "from to fromLane toLane pass keepClear contPos visibility allow disallow speed length shape uncontrolled via "
        "tl linkIndex linkIndex2 changeRight changeLeft indirect type dir state"
    ),
    "conflict": _words("from to fromLane toLane startPos endPos flip index"),
    "prohibition": _words("prohibitor prohibited"),
    "roundabout": _words("nodes edges"),
}
CHILDREN: dict[str, frozenset[str]] = SIGNAL_CHILDREN | {
    "": _words("location type edge tlLogic junction connection prohibition roundabout"),
    "type": _words("restriction param"),
    "edge": _words("lane param stopOffset"),
    "lane": _words("neigh param stopOffset"),
    "junction": _words("request param"),
    "connection": _words("param conflict"),
}


def revise_signal(name: str, above: str, values: Values) -> Values | None:
    """Leave out parameters of a signal program that make SUMO write files.

    Raises
    ------
    InputError
        The type of the program is unknown, and may do anything.
    """
    if name == "param" and above == "tlLogic" and values.get("key", "") in SIGNAL_OUTPUTS:
        return None
    if name == "tlLogic" and values.get("type", "static") not in SIGNAL_TYPES:
        raise InputError(
            f"signal program '{values.get('id', '')}': the type '{values['type']}' is not supported; known are "
            f"{', '.join(sorted(SIGNAL_TYPES))}; change the type"
        )
    return values


RULES = Rules("a SUMO network", frozenset({"net"}), CHILDREN, ATTRIBUTES, revise_signal)


@dataclass(frozen=True, eq=False)
class GivenNet:
    """A SUMO network as it is used.

    Attributes
    ----------
    graph
        The roads for cars.
    signals
        Number of signal programs.
    outcome
        Number of edges, and their km, by use; edges only for other modes and junctions are not roads.
    left_out
        Parts that SUMO does not get, and how often.
    from_osm
        Whether the network was made from OpenStreetMap data.
    version
        The format of the file.
    """

    graph: RoadGraph
    signals: int
    outcome: dict[str, dict[str, float]]
    left_out: dict[str, int]
    from_osm: bool
    version: str


def is_net(file: Path) -> bool:
    """Return whether a file is a SUMO network, by its content."""
    return file.is_file() and xml_parts.root_of(file) == "net"


def use(source: Path, target: Path, used: str) -> GivenNet:
    """Write the copy of a network that SUMO gets, and return its roads.

    Parameters
    ----------
    source, target
        The network, and the copy.
    used
        Name of the roads that are used, in `GivenNet.outcome`.

    Raises
    ------
    InputError
        SUMO cannot load the network, or it has no strongly connected roads for cars.
    """
    account = xml_parts.Account()
    from_osm = False
    closed: list[float] = []
    with target.open("w", encoding="utf-8") as out:
        opened = False
        for part in xml_parts.parts(source, RULES, account):
            if not opened:
                root = {key: value for key, value in account.root.items() if key in NET_ATTRIBUTES}
                words = "".join(f" {key}={quoteattr(value)}" for key, value in root.items())
                out.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<net{words}>\n')
                opened = True
            from_osm = from_osm or (part.tag == "type" and part.values.get("id", "").startswith("highway."))
            out.write(part.text)
            if part.tag == "edge" and part.values.get("function", "normal") in netfile.ROADS:
                closed += _closed(part.text)
        out.write("</net>\n" if opened else "<net>\n</net>\n")
    version = account.root.get("version", "")
    _check_loads(source, target, version)
    net = netfile.read(target)
    keep = net.graph.strong_component()
    lengths = net.graph.length
    outcome = {
        used: _tally(lengths[keep]),
        APART: _tally(lengths[~keep]),
        CLOSED: _tally(np.array(closed)),
    }
    if not net.graph.m_out:
        raise InputError(
            f"{source}: no road network for cars: {outcome[APART]['ways']} edges are open to cars, and from none of "
            f"them can a car drive to another; {outcome[CLOSED]['ways']} edges are {CLOSED}; "
            + (
                "connect the edges in netedit"
                if outcome[APART]["ways"]
                else "agents are cars: allow passenger on roads"
            )
            + ", or give another network"
        )
    return GivenNet(
        net.graph.part(np.ones(net.graph.n_edges, dtype=bool)),
        net.signals,
        outcome,
        dict(account.left_out),
        from_osm,
        version,
    )


def _closed(text: str) -> list[float]:
    """Return the length of an edge in a list, where no car may use it, m."""
    lanes = [lane.attrib for lane in ElementTree.fromstring(text).iterfind("lane")]
    if not lanes or any(netfile.for_cars(lane) for lane in lanes):
        return []
    return [float(lanes[0].get("length", "0"))]


def _tally(metres: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    return {"ways": len(metres), "km": float(metres.sum()) / 1000}


def _check_loads(source: Path, copy: Path, version: str) -> None:
    """Raise InputError where SUMO cannot load a network."""
    options = ["--end", "0", "--no-step-log", "--no-warnings", "--xml-validation", "never"]
    try:
        sumo.run("sumo", ["-n", str(copy), *options])
    except SimulationError as error:
        raise InputError(
            f"{source}: SUMO {sumo.version()} cannot load this network (its format is "
            f"{version or 'unknown, without a version'}): {str(error).replace(str(copy), source.name)}; for a network "
            f"of another SUMO version: netconvert -s {source.name} -o new.net.xml; else correct it in netedit"
        ) from None


def listed(counts: dict[str, int] | Counter[str]) -> str:
    """Return counts as a list of words, the most frequent first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} ({count})" for name, count in most[:SHOWN]]
    return ", ".join([*shown, *([f"{len(most) - SHOWN} more kinds"] if len(most) > SHOWN else [])])
