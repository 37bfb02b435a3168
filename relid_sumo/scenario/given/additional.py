"""Additional files of SUMO: what affects traffic passes, and what writes, reads or only draws is left out.

Stops, parking areas, signal programs, rerouters, speed signs, calibrators and zones pass. Detectors pass only where a
signal program names them, without their output. Polygons, measurements and events are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from relid_sumo.base import cache, temporary, xml_parts
from relid_sumo.base.errors import InputError
from relid_sumo.base.xml_parts import Account, Part, Rules, Values
from relid_sumo.network import sumo_net
from relid_sumo.scenario.traffic import own_demand

FORMAT = 1  # part of the cache key: raise it when the lists or the rewriting change
NO_FILE = "NUL"  # SUMO writes nothing to a file of this name


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETECTORS = _words("inductionLoop e1Detector laneAreaDetector e2Detector entryExitDetector e3Detector")
TYPES = _words("vType vTypeDistribution route routeDistribution")
VEHICLES = _words("vehicle trip flow interval person personFlow container containerFlow")
_STOP = _words(
    "id name color lane startPos endPos angle friendlyPos lines personCapacity containerCapacity parkingLength power "
    "totalPower efficiency chargeInTransit chargeDelay chargeType waitingTime parkingArea"
)
_DETECTOR = _words(
    "id lane lanes pos endPos length period freq file tl to cont timeThreshold speedThreshold jamThreshold vTypes "
    "nextEdges detectPersons name friendlyPos show openEntry expectArrival mesoTLS type"
)
ATTRIBUTES: dict[str, frozenset[str]] = (
    own_demand.ATTRIBUTES
    | sumo_net.SIGNAL_ATTRIBUTES
    | dict.fromkeys(("busStop", "trainStop", "containerStop", "chargingStation"), _STOP)
    | dict.fromkeys(DETECTORS, _DETECTOR)
    | {
        "access": _words("lane pos friendlyPos length"),
        "parkingArea": _words(
            "id lane roadsideCapacity onRoad startPos endPos friendlyPos lines width length angle name departPos "
            "lefthand acceptedBadges reservable"
        ),
        "space": _words("x y z name width length angle slope"),
        "detEntry": _words("lane pos friendlyPos"),
        "detExit": _words("lane pos friendlyPos"),
        "WAUT": _words("id refTime startProg period"),
        "wautSwitch": _words("time to"),
        "wautJunction": _words("wautID junctionID procedure synchron"),
        "variableSpeedSign": _words("id lanes edges pos vTypes name"),
        "step": _words("time speed"),
        "rerouter": _words("id edges pos probability timeThreshold vTypes off radius name visible optional"),
        "interval": _words("id begin end"),
        "closingReroute": _words("id allow disallow until"),
        "closingLaneReroute": _words("id allow disallow until"),
        "destProbReroute": _words("id probability"),
        "routeProbReroute": _words("id probability"),
        "parkingAreaReroute": _words("id probability visible"),
        "viaProbReroute": _words("id probability"),
        "overtakingReroute": _words("main siding minSaving defer"),
        "stationReroute": _words("id minSaving"),
        "calibrator": _words(
            "id edge lane node pos friendlyPos local period freq routeProbe jamThreshold vTypes name begin end"
        ),
        "flow": own_demand.ATTRIBUTES["flow"] | {"speed"},
        "routeProbe": _words("id edge begin period freq file vTypes name"),
        "vaporizer": _words("id begin end name"),
        "railSignalConstraints": _words("id"),
        "taz": _words("id edges"),
        "tazSource": _words("id weight"),
        "tazSink": _words("id weight"),
    }
    | dict.fromkeys(
        ("predecessor", "insertionPredecessor", "foeInsertion", "insertionOrder", "bidiPredecessor"),
        _words("tripId tl foes limit active"),
    )
)
CHILDREN: dict[str, frozenset[str]] = (
    own_demand.CHILDREN
    | sumo_net.SIGNAL_CHILDREN
    | dict.fromkeys(("busStop", "trainStop", "containerStop", "chargingStation"), _words("access param"))
    | dict.fromkeys(DETECTORS, _words("detEntry detExit param"))
    | {
        "": _words(
            "busStop trainStop containerStop chargingStation parkingArea tlLogic WAUT wautJunction variableSpeedSign "
            "rerouter calibrator routeProbe vaporizer railSignalConstraints taz"
        )
        | DETECTORS
        | TYPES
        | VEHICLES,
        "parkingArea": _words("space access param"),
        "WAUT": _words("wautSwitch"),
        "variableSpeedSign": _words("step param"),
        "rerouter": _words("interval param"),
        "interval": own_demand.CHILDREN["interval"]
        | _words(
            "closingReroute closingLaneReroute destProbReroute routeProbReroute parkingAreaReroute viaProbReroute "
            "overtakingReroute stationReroute param"
        ),
        "calibrator": _words("flow route param"),
        "routeProbe": _words("param"),
        "railSignalConstraints": _words(
            "predecessor insertionPredecessor foeInsertion insertionOrder bidiPredecessor param"
        ),
        "taz": _words("tazSource tazSink param"),
    }
)
_VALUE = re.compile(r"[^/\\]*")


def revise(name: str, above: str, values: Values) -> Values | None:
    """Leave out parameters that SUMO may take for files, and outputs of detectors; see `Rules.revise`."""
    if "file" in values:
        values["file"] = NO_FILE
    if name == "param" and not _VALUE.fullmatch(values.get("value", "")):
        return None
    if name == "param" and above in ("flow", *own_demand.CHILDREN) and not own_demand.parameter_fits(values):
        return None
    if name == "vType" and not own_demand.emissions_fit(values.get("emissionClass", "")):
        del values["emissionClass"]
    return sumo_net.revise_signal(name, above, values)


RULES = Rules("an additional file", frozenset({"*"}), CHILDREN, ATTRIBUTES, revise)
STRICT = replace(RULES, roots=frozenset({"additional"}))


def named_in_signals(part: Part) -> Iterator[str]:
    """Yield the values of the parameters of a signal program, which may name detectors."""
    if part.tag == "tlLogic":
        yield from re.findall(r'<param [^>]*value="([^"]*)"', part.text)


def needs_types(part: Part) -> bool:
    """Return whether an additional part names vehicle types or routes, which must then be in the same file."""
    return part.tag == "calibrator" or "<routeProbReroute" in part.text


def needed(part: Part, detectors: Collection[str]) -> bool:
    """Return whether an additional part changes traffic: all but detectors that no signal program names."""
    return part.tag not in DETECTORS or part.values.get("id") in detectors


def of_scenario(folder: Path, name: str | None) -> Path | None:
    """Return the additional file of a scenario that SUMO may read, checked and cached at first use.

    Raises
    ------
    InputError
        There is no such file, or a part of it is not on the lists; the message names the part.
    """
    if name is None:
        return None
    file = folder / name
    if not file.is_file():
        raise InputError(f"{file}: no such file (demand.additional_file); correct the path")
    target = cache.cache_file("demand", "additional", [FORMAT, own_demand.digest(file)], ".add.xml")

    def make() -> None:
        account = Account()
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(".tmp-", target.parent) as scratch:
            part = scratch / "own.add.xml"
            texts = (one.text for one in xml_parts.parts(file, STRICT, account))
            part.write_text(f"<additional>\n{''.join(texts)}</additional>\n", encoding="utf-8")
            if account.left_out:
                raise InputError(
                    f"{file}: not allowed in an additional file: {sumo_net.listed(account.left_out)}; remove it"
                )
            part.replace(target)

    cache.once(target, make)
    return target
