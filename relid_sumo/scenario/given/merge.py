"""Makes one route file and one additional file of the files of a SUMO scenario, so that SUMO drives the same traffic.

Vehicle types and routes come first, then vehicles, flows and persons by departure, those of equal departures in the
order of their files. Nothing is routed, renamed or changed, with two exceptions: types with the names of the agents'
types get another name, and parts that SUMO could take for outputs or other files are left out.
"""

from __future__ import annotations

import heapq
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from relid_sumo.base import cache, files, temporary, xml_parts
from relid_sumo.base.errors import InputError
from relid_sumo.base.settings import WEEK_S
from relid_sumo.base.xml_parts import Account, Part, Revise, Rules, Values
from relid_sumo.scenario.given import additional
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.traffic import own_demand

FORMAT = 3  # part of the cache key: raise it when the merged files change
DEFAULT_TYPE = "DEFAULT_VEHTYPE"
TAKEN_TYPES = frozenset({"agent", "agent_rerouting", DEFAULT_TYPE})  # the agents' types, and the one they derive from
OWN = "own_"  # put before the name of a type that the agents need
PREFIXES = ("agent", "rl_agent", "routed_agent", "relid_sumo_agent")  # of the agents' ids: the first that is free
WITH_TYPE = frozenset({"vehicle", "trip", "flow"})
RAIL = frozenset({"rail", "rail_fast", "rail_electric", "rail_urban", "subway", "tram", "cable_car"})
BIN_S = 300.0  # of the counts of departures
MOST_S = 2.0 * WEEK_S  # of a flow without an end
ROUTES = Rules(
    "a route file", frozenset({"*"}), own_demand.CHILDREN | {"": own_demand.CHILDREN["routes"]}, own_demand.ATTRIBUTES
)
OTHERS = {
    "net": "a SUMO network",
    "osm": "an OSM file",
    "configuration": "a configuration",
    "sumoConfiguration": "a configuration",
}


@dataclass(frozen=True)
class Merged:
    """The demand of a SUMO scenario in one route file.

    Attributes
    ----------
    routes, additional
        The files, in the cache; None where there is nothing additional.
    vehicles, persons
        Vehicles that the files describe, those of flows included, and persons.
    departures
        Vehicles by their time of departure, in bins of `BIN_S` from 0.
    last_s
        The last departure, or end of a flow, s.
    prefix
        Start of the agents' ids that no vehicle has.
    left_out
        Parts that SUMO does not get, and how often.
    out_of_order
        Vehicles by file that SUMO ignores, as they depart before an earlier one of their file.
    renamed
        Vehicle types with another name.
    rail
        Whether there are trains, trams or other rail vehicles.
    """

    routes: str
    additional: str | None
    vehicles: int
    persons: int
    departures: dict[str, float]
    last_s: float
    prefix: str
    left_out: dict[str, int]
    out_of_order: dict[str, int]
    renamed: list[str]
    rail: bool


@dataclass
class _Seen:
    """What is counted while the files are read."""

    account: Account = field(default_factory=Account)
    taken: set[str] = field(default_factory=set)  # prefixes of ids
    renamed: set[str] = field(default_factory=set)
    out_of_order: Counter[str] = field(default_factory=Counter)
    departures: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    vehicles: float = 0.0
    persons: int = 0
    last_s: float = 0.0
    rail: bool = False


def merge(
    name: str,
    routes: Sequence[Path],
    additional_files: Sequence[Path] = (),
    *,
    in_order: bool = True,
    window: tuple[float, float] | None = None,
) -> Merged:
    """Merge the files of a SUMO scenario; cached by their content.

    Parameters
    ----------
    name
        Name of the scenario, for the names of files.
    in_order
        Leave out vehicles that depart before an earlier one of their file, as SUMO does by default.
    window
        Leave out departures before the first and from the second time on, s.

    Raises
    ------
    InputError
        A file is of another kind, or cannot be read.
    """
    for file in (*routes, *additional_files):
        if (root := xml_parts.root_of(file)) in OTHERS:
            raise InputError(
                f"{file}: {OTHERS[str(root)]}, where routes or additional elements are needed; correct the path"
            )
    digests = [[own_demand.digest(file) for file in group] for group in (routes, additional_files)]
    content = [FORMAT, own_demand.FORMAT, additional.FORMAT, *digests, in_order, window]
    places = [cache.cache_file("demand", f"{name}-merged", content, f".{kind}.xml") for kind in ("rou", "add")]

    def make() -> dict[str, object]:
        merged = _Merger(routes, additional_files, in_order=in_order, window=window)
        places[0].parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(".tmp-", places[0].parent) as scratch:
            own, other = scratch / "own.rou.xml", scratch / "own.add.xml"
            has_other = merged.write(own, other)
            files.put(own, places[0])
            if has_other:
                files.put(other, places[1])
        own_demand.note_clean(places[0])
        return asdict(merged.result(places[0], places[1] if has_other else None))

    return cache.cached_json("merged", name, content, make, Merged, places)


class _Merger:
    def __init__(
        self,
        routes: Sequence[Path],
        additional_files: Sequence[Path],
        *,
        in_order: bool,
        window: tuple[float, float] | None,
    ) -> None:
        self._routes, self._additional = routes, additional_files
        self._in_order, self._window = in_order, window
        self._seen = _Seen()
        self._default_is_own = any(_has_default(file) for file in (*routes, *additional_files))

    def write(self, own: Path, other: Path) -> bool:
        """Write the route file and the additional file; return whether the latter has content."""
        rules = replace(additional.RULES, revise=self._revising(additional.revise))
        every = [part for file in self._additional for part in xml_parts.parts(file, rules, self._seen.account)]
        detectors = {name for part in every for name in additional.named_in_signals(part)}
        with_types = any(additional.needs_types(part) for part in every)
        moved = list[Part]()
        has_other = False
        with other.open("w", encoding="utf-8") as out:
            out.write("<additional>\n")
            for part in every:
                if part.tag in additional.VEHICLES or (part.tag in additional.TYPES and not with_types):
                    moved.append(part)
                elif additional.needed(part, detectors):
                    self._note_type(part)
                    out.write(part.text)
                    has_other = True
                else:
                    self._seen.account.left_out[f"<{part.tag}>"] += 1
            out.write("</additional>\n")
        rules = replace(ROUTES, revise=self._revising(_revise))
        types, vehicles = own.with_suffix(".types"), own.with_suffix(".vehicles")
        with types.open("w", encoding="utf-8") as types_out, vehicles.open("w", encoding="utf-8") as vehicles_out:
            streams = [self._timed(moved, None, types_out)]
            for file in self._routes:
                streams.append(self._timed(xml_parts.parts(file, rules, self._seen.account), file, types_out))
            for _, text in heapq.merge(*streams, key=lambda item: item[0]):
                vehicles_out.write(text)
        with own.open("w", encoding="utf-8") as out:
            out.write("<routes>\n")
            for part_file in (types, vehicles):
                with part_file.open(encoding="utf-8") as content:
                    shutil.copyfileobj(content, out)
            out.write("</routes>\n")
        return has_other

    def result(self, routes: Path, other: Path | None) -> Merged:
        """Return the account of what `write` wrote."""
        seen = self._seen
        return Merged(
            routes=str(routes),
            additional=None if other is None else str(other),
            vehicles=round(seen.vehicles),
            persons=round(seen.persons),
            departures={f"{at * BIN_S:g}": round(count, 2) for at, count in sorted(seen.departures.items())},
            last_s=seen.last_s,
            prefix=next((one for one in PREFIXES if one not in seen.taken), f"agent_{len(PREFIXES)}_"),
            left_out=dict(seen.account.left_out),
            out_of_order=dict(seen.out_of_order),
            renamed=sorted(seen.renamed),
            rail=seen.rail,
        )

    def _timed(self, parts: Iterable[Part], file: Path | None, types: IO[str]) -> Iterator[tuple[float, str]]:
        """Yield vehicles and the like with rising times of departure; write types and routes to `types`."""
        last_s, sort = -math.inf, self._in_order and file is not None
        for part in parts:
            if part.tag in additional.TYPES:
                self._note_type(part)
                types.write(part.text)
                continue
            begin_s, end_s = _span(part.values)
            if math.isnan(begin_s):  # it waits for another one
                begin_s = end_s = max(last_s, 0.0)
            elif begin_s < last_s and sort:
                self._seen.out_of_order[str(file)] += 1
                continue
            last_s = max(last_s, begin_s)
            if self._window is not None and (begin_s >= self._window[1] or end_s < self._window[0]):
                continue
            self._count(part, begin_s, end_s)
            yield last_s, part.text

    def _count(self, part: Part, begin_s: float, end_s: float) -> None:
        seen, name = self._seen, part.values.get("id", "")
        seen.taken |= {prefix for prefix in PREFIXES if name.startswith(prefix)}
        if part.tag in ("person", "personFlow", "container", "containerFlow"):
            seen.persons += 1
            return
        flows = ET.fromstring(part.text).findall("flow") if part.tag == "interval" else []
        for values in [part.values | flow.attrib for flow in flows] or [part.values]:
            stop_s = min(end_s, begin_s + MOST_S)
            count = _vehicles(values, begin_s, stop_s)
            if math.isfinite(count):
                seen.vehicles += count
                seen.last_s = max(seen.last_s, end_s if math.isfinite(end_s) else begin_s)
                bins = range(int(begin_s // BIN_S), max(int(begin_s // BIN_S), math.ceil(stop_s / BIN_S) - 1) + 1)
                for at in bins:
                    seen.departures[at] += count / len(bins)

    def _note_type(self, part: Part) -> None:
        if part.tag in ("vType", "vTypeDistribution") and any(f'vClass="{one}"' in part.text for one in RAIL):
            self._seen.rail = True

    def _revising(self, revise: Revise) -> Revise:
        """Return a function that also renames types with the names of the agents' types."""

        def renaming(name: str, above: str, values: Values) -> Values | None:
            if name in ("vType", "vTypeDistribution"):
                for key in ("id", "refId"):
                    if values.get(key) in TAKEN_TYPES:
                        self._seen.renamed.add(values[key])
                        values[key] = OWN + values[key]
                if "vTypes" in values:
                    values["vTypes"] = " ".join(self._own(one) for one in values["vTypes"].split())
            elif name in WITH_TYPE and above != "calibrator":
                if "type" in values:
                    values["type"] = self._own(values["type"])
                elif self._default_is_own:
                    values["type"] = OWN + DEFAULT_TYPE
            elif "type" in values and name == "flow":
                values["type"] = self._own(values["type"])
            return revise(name, above, values)

        return renaming

    def _own(self, name: str) -> str:
        return OWN + name if name in TAKEN_TYPES and (name != DEFAULT_TYPE or self._default_is_own) else name


def _revise(name: str, above: str, values: Values) -> Values | None:
    """Leave out parameters and emission classes that SUMO may take for files."""
    del above
    if name == "param" and not own_demand.parameter_fits(values):
        return None
    if not own_demand.emissions_fit(values.get("emissionClass", "")):
        del values["emissionClass"]
    return values


def _has_default(file: Path) -> bool:
    """Return whether a file defines the type of vehicles without a type."""
    wanted = re.compile(rb"""\bid\s*=\s*["']DEFAULT_VEHTYPE["']""")
    tail = b""
    try:
        with xml_parts.unpacked(file) as stream:
            while piece := stream.read(1 << 20):
                if wanted.search(tail + piece):
                    return True
                tail = piece[-64:]
    except xml_parts.BROKEN as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    return False


def _span(values: Values) -> tuple[float, float]:
    """Return the first and the last departure of a vehicle, a flow or a person, s; nan where it waits for another."""
    begin_s = seconds(values.get("depart", values.get("begin", "0")))
    if "depart" in values:
        return begin_s, begin_s
    end_s = seconds(values.get("end", "inf"))
    if "number" in values and "period" in values and math.isinf(end_s):
        end_s = begin_s + seconds(values["number"]) * seconds(values["period"])
    return begin_s, math.inf if math.isnan(end_s) else end_s


def _vehicles(values: Mapping[str, str], begin_s: float, end_s: float) -> float:
    """Return the number of vehicles that an element describes."""
    if "depart" in values:
        return 1.0
    spent = end_s - begin_s
    if "number" in values:
        return seconds(values["number"])
    if "period" in values:
        text = values["period"].strip()
        if text.startswith("exp("):
            return seconds(text[4:].rstrip(")")) * spent
        return spent / max(seconds(text), 1e-3)
    for key, per_s in (("vehsPerHour", 3600.0), ("perHour", 3600.0), ("probability", 1.0)):
        if key in values:
            return seconds(values[key]) / per_s * spent
    return 1.0
