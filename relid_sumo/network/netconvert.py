"""SUMO road networks: netconvert builds them from clean OSM, and the strongly connected part is read as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.network import trial
from relid_sumo.network.netfile import RoadNet, read
from relid_sumo.network.trial import Trial

KEPT = "kept"
CLOSED = "closed: vehicles end in the wrong lane"
CUT_OFF = "not strongly connected with the rest"
DROPPED = "inside a joined junction, or dropped by netconvert"

LIMIT_S, OF_NODE_S, MOST_S = 40.0, 0.05, 600.0  # time limit of a run of netconvert: by nodes of roads, at most the last
CLEAN_RUNS = 2  # trial runs in a row without a vehicle in the wrong lane
MOST_RUNS = 12


# netconvert's OSM types are German country roads; the second file has town speeds (50 km/h) where there is no
# maxspeed tag; this one lets cars use service roads, which osm.py has already selected or left out.
SERVICE_TYPES = """<types>
    <type id="highway.service" numLanes="1" speed="5.56" priority="1" oneway="false" allow="passenger delivery"/>
    <type id="highway.track" numLanes="1" speed="5.56" priority="1" oneway="false" allow="passenger delivery"/>
</types>
"""


class Builder:
    """Builds a network step by step, and records the outcome of every OSM way.

    Attributes
    ----------
    net
        The network as it is now.
    opened
        Edges on which every successor can be reached from every lane.
    closed
        Edges that are removed because vehicles still ended in the wrong lane there.
    """

    def __init__(self, source: Path, work: Path, nodes: int) -> None:
        self.source = source
        self.work = work
        self.versions = 0
        self._limit_s = min(LIMIT_S + OF_NODE_S * nodes, MOST_S)
        self.net: RoadNet
        self.opened: set[str] = set()
        self.closed: set[str] = set()
        self._gone: dict[str, dict[int, float]] = {CLOSED: {}, CUT_OFF: {}}

    @property
    def fate(self) -> dict[str, dict[int, float]]:
        """Metres of edge by outcome and OSM way."""
        return {KEPT: _metres(self.net, range(self.net.graph.n_edges)), **self._gone}

    def convert(self, clean: Path, *, left_hand: bool, guess_signals: bool) -> None:
        """Build the first version from clean OSM.

        Raises
        ------
        InputError
            netconvert fails; the message contains its error line.
        """
        types = self.work / "service.typ.xml"
        types.write_text(SERVICE_TYPES)
        maps = sumo.home() / "data" / "typemap"
        self._netconvert(
            *("--osm-files", clean),
            *("--type-files", f"{maps / 'osmNetconvert.typ.xml'},{maps / 'osmNetconvertUrbanDe.typ.xml'},{types}"),
            *("--geometry.remove", "true"),
            *("--junctions.join", "true"),
            *("--junctions.corner-detail", "5"),
            *("--roundabouts.guess", "true"),
            *("--ramps.guess", "true"),
            *("--osm.turn-lanes", "true"),
            *("--keep-edges.by-vclass", "passenger"),
            # Signals at stop lines are merged with the junction behind them. Nothing else is joined (--tls.join):
            # programs over several junctions get a dozen phases, and Mong Kok then loses half as much time again.
            *("--tls.guess-signals", "true"),
            *("--tls.discard-simple", "true"),
            *("--tls.guess", str(guess_signals).lower()),
            *("--lefthand", str(left_hand).lower()),
        )

    def reduce(self) -> None:
        """Reduce the network to its largest strongly connected part.

        Raises
        ------
        InputError
            There is no such part.
        """
        while not (keep := self.net.graph.strong_component()).all():
            if not keep.any():
                raise InputError(
                    f"{self.source}: no two edges can be driven there and back (no strongly connected part); "
                    "use a larger area"
                )
            self._remove(np.flatnonzero(~keep).tolist(), CUT_OFF)

    def repair(self) -> list[Trial]:
        """Drive trial runs, repair or close the edges on which vehicles end in the wrong lane, and return the runs."""
        trials: list[Trial] = []
        clean = 0
        while clean < CLEAN_RUNS and len(trials) < MOST_RUNS:
            trials.append(trial.run(self.net.graph, self.net.file, self.work, seed=len(trials)))
            found = set(trials[-1].wrong_lane)
            clean = 0 if found else clean + 1
            again = found & self.opened
            if found - again:
                self._open_lanes(found - again)
            if again:
                self.closed |= again
                self._remove([self.net.graph.index[edge] for edge in sorted(again)], CLOSED)
                self.reduce()
        self.opened &= set(self.net.graph.index)
        return trials

    def _remove(self, edges: list[int], why: str) -> None:
        gone = set(edges)
        for way, metres in _metres(self.net, edges).items():
            self._gone[why][way] = self._gone[why].get(way, 0.0) + metres
        kept = self.work / "keep.txt"
        names = (str(name) for i, name in enumerate(self.net.graph.edge_ids) if i not in gone)
        kept.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        self._netconvert("--sumo-net-file", self.net.file, "--keep-edges.input-file", kept, "--tls.rebuild", "true")

    def _open_lanes(self, names: set[str]) -> None:
        """Let every successor be reached from every lane, through the lane that the nearest lane leads to."""
        graph, links = self.net.graph, self.net.links
        lines = ["<connections>\n"]
        for edge in sorted(graph.index[name] for name in names):
            successors = graph.slots[edge, : graph.n_successors[edge]].tolist()
            lanes = sorted({lane for after in successors for lane, _ in links[edge, after]})
            for after in successors:
                target = dict(links[edge, after])
                for lane in (lane for lane in lanes if lane not in target):
                    nearest = min(target, key=lambda other: abs(other - lane))
                    ends = f'from="{graph.edge_ids[edge]}" to="{graph.edge_ids[after]}"'
                    lines.append(f'<connection {ends} fromLane="{lane}" toLane="{target[nearest]}"/>\n')
        patch = self.work / "lanes.con.xml"
        patch.write_text("".join([*lines, "</connections>\n"]), encoding="utf-8")
        self._netconvert("--sumo-net-file", self.net.file, "--connection-files", patch, "--tls.rebuild", "true")
        self.opened |= names

    def _netconvert(self, *options: str | Path) -> None:
        file = self.work / f"{self.versions}.net.xml"
        always = ["--no-turnarounds.except-deadend", "true", "--tls.default-type", "actuated", "--no-warnings", "true"]
        names = ["--output.street-names", "true", "--output.original-names", "true"]
        try:
            sumo.run("netconvert", [*options, *always, *names, "--output-file", file], timeout_s=self._limit_s)
        except SimulationError as error:
            raise InputError(
                f"{self.source}: netconvert cannot build a network from it: {error}; check the file, or use a smaller "
                "area"
            ) from None
        self.versions += 1
        self.net = read(file)


def _metres(net: RoadNet, edges: Iterable[int]) -> dict[int, float]:
    """Return the length of some edges by OSM way."""
    metres: dict[int, float] = {}
    for edge in edges:
        ways = net.ways[edge]
        for way, times in ways.items():
            metres[way] = metres.get(way, 0.0) + float(net.graph.length[edge]) * times / ways.total()
    return metres
