"""Reads what a user gives as a scenario: a SUMO network or configuration, with route files."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from relid_sumo.base import xml_parts
from relid_sumo.base.errors import InputError
from relid_sumo.network import catalogue, network, sumo_net
from relid_sumo.scenario.given import configuration, counts, matrix, merge
from relid_sumo.scenario.given.configuration import Configuration
from relid_sumo.scenario.given.merge import Merged
from relid_sumo.scenario.traffic.sumo_options import JAM

log = logging.getLogger(__name__)

WARMUP_S = 600.0  # of a demand that is long enough ...
WARMUP_SHARE = 0.25  # ... and else this share of its duration
LONGEST_S = 7200.0  # of an episode; a longer configuration is cut ...
BUSIEST_S = 3600.0  # ... to its busiest time of this duration
CONFIGURATIONS = frozenset({"configuration", "sumoConfiguration"})


@dataclass(frozen=True)
class Inputs:
    """What a user gives besides a SUMO network or configuration.

    Attributes
    ----------
    routes
        Route or trip files for a network, or instead of those of a configuration.
    allow
        Files and folders outside its own folder that a configuration may name.
    od, taz
        A matrix of trips between zones, and the file of the zones (`relid_sumo.scenario.given.matrix`).
    counts
        Counts of vehicles on edges (`relid_sumo.scenario.given.counts`).
    """

    routes: tuple[Path, ...] = ()
    allow: tuple[Path, ...] = ()
    od: Path | None = None
    taz: Path | None = None
    counts: Path | None = None


@dataclass(frozen=True)
class Given:
    """A scenario of a user, before the agents' trips are chosen.

    Attributes
    ----------
    net
        The SUMO network.
    settings
        Values of the scenario: ``demand``, ``step_length_s``, ``teleport_after_s``, ``simulator``, ``meso``.
    duration_s
        Time from the start of the warm-up to the end; None where the agents' trips decide.
    prefix
        Start of the agents' ids.
    """

    net: Path
    settings: dict[str, Any] = field(default_factory=dict)
    duration_s: float | None = None
    prefix: str = "agent"

    @property
    def left_s(self) -> float | None:
        """Time from the end of the warm-up to the end, s."""
        return None if self.duration_s is None else self.duration_s - float(self.settings["demand"]["warmup_s"])


def is_given(path: Path) -> bool:
    """Return whether a file is a SUMO network or a SUMO configuration, by its content."""
    return path.is_file() and path.suffix != ".toml" and xml_parts.root_of(path) in {"net", *CONFIGURATIONS}


def read(source: Path, inputs: Inputs, window: Mapping[str, float], name: str = "") -> Given:
    """Read a SUMO network or configuration.

    Parameters
    ----------
    inputs
        The user's own demand.
    window
        Times that the user has set: ``begin_s``, ``warmup_s`` or ``horizon_s``.
    name
        Name of the network. Default: that of the file.

    Raises
    ------
    InputError
        A file is missing or not usable; the message says which, and the fix.
    """
    if sum(map(bool, (inputs.routes, inputs.od, inputs.counts))) > 1:
        raise InputError("--routes, --od and --counts are different sources of the same traffic; give one of them")
    if inputs.taz and not inputs.od:
        raise InputError("--taz gives the zones of a matrix; add --od MATRIX, or leave it out")
    for file in inputs.routes:
        if not file.is_file():
            raise InputError(f"--routes {file}: there is no such file; correct the path")
    if sumo_net.is_net(source):
        if not (inputs.routes or inputs.od or inputs.counts):
            return Given(source)
        made = Configuration(source, source)
    else:
        made = configuration.read(source, inputs.allow)
    made.routes = list(inputs.routes) or made.routes
    counted = _from_data(made, inputs, name or catalogue.plain_name(source))
    for note in made.notes:
        log.info(f"{source.name}: {note}")
    for warning in made.warnings:
        log.warning(f"{source.name}: {warning}")
    if not made.routes and not made.additional:
        log.info(f"{source.name}: it has no demand, so traffic is generated")
        return Given(made.net)
    return _with_demand(source, made, window, counted)


def _from_data(made: Configuration, inputs: Inputs, name: str) -> Path | None:
    """Replace the routes of a configuration by those made of a matrix or of counts; return the counts."""
    if inputs.od is None and inputs.counts is None:
        return None
    roads = network.build(made.net, name=name)
    kept = None
    if inputs.od is not None:
        traffic = matrix.routes(roads, inputs.od, inputs.taz, tuple(made.additional))
    else:
        traffic, kept = counts.traffic(roads, cast("Path", inputs.counts))
    made.routes, made.sorted_routes = [traffic.routes], False
    made.begin_s, made.end_s = traffic.begin_s, traffic.end_s
    return kept


def _with_demand(source: Path, made: Configuration, window: Mapping[str, float], counted: Path | None) -> Given:
    name = catalogue.plain_name(source)
    whole = merge.merge(name, made.routes, made.additional, in_order=made.sorted_routes)
    _report(source, whole)
    begin_s, end_s = _times(source, made, whole, window)
    if not whole.vehicles and not whole.persons:
        log.info(f"{source.name}: it has no vehicles, so traffic is generated")
        return Given(made.net)
    cut = (made.end_s is not None and end_s < made.end_s) or begin_s > made.begin_s
    merged = whole
    if made.end_s is not None or cut:
        merged = merge.merge(
            name,
            made.routes,
            made.additional,
            in_order=made.sorted_routes,
            window=(begin_s if cut else 0.0, end_s if cut or made.end_s is None else made.end_s),
        )
    duration_s = end_s - begin_s
    warmup_s = window.get("warmup_s", min(WARMUP_S, math.floor(WARMUP_SHARE * duration_s)))
    demand = {
        "route_file": merged.routes,
        "additional_file": merged.additional,
        "counts_file": None if counted is None else str(counted),
        "begin_s": begin_s,
        "warmup_s": warmup_s,
        "sumo": {JAM: -1.0, **made.options},
    }
    settings: dict[str, Any] = {
        "demand": {key: value for key, value in demand.items() if value is not None},
        "step_length_s": made.step_length_s,
        "teleport_after_s": made.teleport_after_s,
    }
    if made.meso is not None:
        settings |= {"simulator": "meso", "meso": made.meso}
    return Given(made.net, settings, duration_s, merged.prefix)


def _times(source: Path, made: Configuration, whole: Merged, window: Mapping[str, float]) -> tuple[float, float]:
    """Return begin and end of an episode, s: those of the configuration, or its busiest time where it is long."""
    begin_s = made.begin_s
    if made.net == source and not begin_s and whole.departures:  # no configuration says when traffic begins
        begin_s = min(float(at) for at in whole.departures)
    end_s = made.end_s if made.end_s is not None else max(whole.last_s, begin_s + 1.0)
    if "begin_s" in window:
        return window["begin_s"], max(end_s, window["begin_s"] + 1.0)
    if end_s - begin_s <= LONGEST_S:
        return begin_s, end_s
    busiest = _busiest(whole, begin_s, end_s)
    log.info(
        f"{source.name}: it runs {(end_s - begin_s) / 3600:.1f} h; an episode is its busiest hour, from {busiest:g} s "
        "on (--set demand.begin_s=SECONDS chooses another one)"
    )
    return busiest, busiest + BUSIEST_S


def _busiest(whole: Merged, begin_s: float, end_s: float) -> float:
    """Return the start of the hour with most departures, s."""
    counts = {float(at): count for at, count in whole.departures.items()}
    steps = round(BUSIEST_S / merge.BIN_S)

    def within(start_s: float) -> float:
        return sum(counts.get(start_s + k * merge.BIN_S, 0.0) for k in range(steps))

    first, last = math.ceil(begin_s / merge.BIN_S), math.floor((end_s - BUSIEST_S) / merge.BIN_S)
    starts = [k * merge.BIN_S for k in range(first, last + 1)]
    return max(starts, key=within, default=begin_s)


def _report(source: Path, merged: Merged) -> None:
    if merged.left_out:
        listed = sumo_net.listed(merged.left_out)
        log.info(f"{source.name}: left out, because it only draws, writes or is unknown: {listed}")
    for file, count in merged.out_of_order.items():
        log.warning(
            f"{file}: SUMO ignores {count} vehicles that depart before an earlier one of the file; sort it: "
            f"python $SUMO_HOME/tools/route/sort_routes.py {Path(file).name} -o sorted.rou.xml"
        )
    if merged.renamed:
        renamed = ", ".join(merged.renamed)
        log.info(f"{source.name}: vehicle types {renamed} get the prefix {merge.OWN}: agents need the names")
