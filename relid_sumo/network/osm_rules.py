"""Rules for the tags of OSM ways, nodes and turn restrictions, for a car.

Each rule is documented in docs/scenarios.md. Tags that a rule replaces, and tags that neither these rules nor
netconvert read, are counted in the summary of a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from relid_sumo.network import osm_lanes
from relid_sumo.network.osm_speeds import SPEED_KEYS, speed

Tags = dict[str, str]

STREETS = frozenset(
    name + link for name in ("motorway", "trunk", "primary", "secondary", "tertiary") for link in ("", "_link")
) | {"unclassified", "residential", "living_street", "road"}
SERVICE_ROADS = frozenset({"service", "track"})
PATHS = frozenset(
    {"footway", "cycleway", "path", "pedestrian", "steps", "bridleway", "corridor", "elevator", "platform", "crossing"}
)
NOT_BUILT = frozenset({"construction", "proposed", "planned", "abandoned", "disused", "razed", "demolished"})
ACCESS_KEYS = ("motorcar", "motor_vehicle", "vehicle", "access")  # the most specific first: it decides
OPEN_TO_CARS = frozenset({"yes", "permissive", "destination", "designated", "customers", "official", "unknown"})
DIRECTIONS = ("forward", "backward")

ONEWAY_KEYS = (*(f"oneway:{key}" for key in ACCESS_KEYS[:-1]), "oneway")
ONEWAYS = {
    **dict.fromkeys(("yes", "true", "1"), "yes"),
    **dict.fromkeys(("-1", "reverse"), "-1"),
    **dict.fromkeys(("no", "false", "0"), "no"),
}
CHANGING = frozenset({"reversible", "alternating"})
ONE_WAY_CLASSES = frozenset({"motorway", "motorway_link"})  # as in netconvert's types
ROUNDABOUTS = frozenset({"roundabout", "circular"})

# Barriers that are closed to cars unless a tag opens them. All others (gates, toll booths, kerbs ...) are open unless
# a tag closes them.
SOLID = frozenset(
    """
    bollard block chain cycle_barrier motorcycle_barrier stile turnstile kissing_gate full-height_turnstile horse_stile
    jersey_barrier log debris bus_trap sump_buster wall fence hedge ditch planter rope guard_rail city_wall
    retaining_wall wicket_gate hampshire_gate tyres barrier_board delineators spikes
    """.split()  # noqa: SIM905 - a list of words reads better so
)

NO_ACCESS = "no access for cars (private, no, ...)"
REVERSIBLE = "reversible or alternating: no fixed direction"
BARRIER = "at closed barriers (both sides end 3 m before them)"

# Tags of an OSM way that these rules or netconvert read.
READ = {
    "highway", "junction", "area", "name", "layer", "intersection", "traffic_signals", *SPEED_KEYS, *ONEWAY_KEYS,
    *ACCESS_KEYS, *(f"{key}:{direction}" for key in ACCESS_KEYS for direction in DIRECTIONS), *osm_lanes.KEYS,
}  # fmt: skip


@dataclass(frozen=True)
class Ruling:
    """Decision on an OSM way.

    Attributes
    ----------
    reason
        Why a car may not use it; empty where it may.
    tags
        Its tags for netconvert.
    notes
        The rules that replaced or left out a tag, each once.
    """

    reason: str
    tags: Tags
    notes: tuple[str, ...] = ()


def rule_way(given: Tags, *, service_roads: bool = False) -> Ruling:
    """Return the ruling on an OSM way for cars.

    Parameters
    ----------
    given
        Tags of an OSM way with a highway tag.
    service_roads
        Whether cars use ``highway=service`` and ``highway=track``.
    """
    highway = given["highway"]
    verdicts = {
        "footpath, cycleway or the like": highway in PATHS,
        "under construction, planned or gone": highway in NOT_BUILT,
        "an area, not a line": given.get("area") == "yes",
        "not a road for cars (busway, raceway, ...)": highway not in STREETS | SERVICE_ROADS,
        NO_ACCESS: not any(open_to_cars(given, direction) for direction in DIRECTIONS),
        "service road or track (setting service_roads)": highway in SERVICE_ROADS and not service_roads,
    }
    reason = next((reason for reason, true in verdicts.items() if true), "")
    if reason:
        return Ruling(reason, given)
    tags = dict(given)
    notes = _conditional(given)
    reason = _directions(tags, notes)
    if not reason:
        osm_lanes.tidy(tags, notes)
        if not osm_lanes.take_away(tags, notes, open_value):
            reason = NO_ACCESS
        for key in SPEED_KEYS & tags.keys():
            tags[key] = value = speed(tags[key], tags["highway"])
            if not value:
                del tags[key]
            if value != given[key]:
                notes.append(f"{key}: a list, another unit or no limit a road of its class has: bounded by its class")
    return Ruling(reason, tags, tuple(dict.fromkeys(notes)))


def earlier_ruling(given: Tags, *, service_roads: bool) -> Ruling:
    """Return the ruling of rules 1, which ignore directions, lanes and speeds."""
    ruling = rule_way({"highway": given["highway"], **({"area": given["area"]} if "area" in given else {})},
                      service_roads=service_roads)  # fmt: skip
    access = next((given[key] for key in ACCESS_KEYS if key in given), "yes")
    closed = "" if access in OPEN_TO_CARS else NO_ACCESS
    return Ruling(ruling.reason or closed, given, tuple(_conditional(given)))


def open_value(value: str) -> bool:
    """Return whether the value of an access tag (also a list: ``yes;destination``) permits cars."""
    return any(part.strip() in OPEN_TO_CARS for part in value.lower().split(";"))


def open_to_cars(tags: Tags, direction: str) -> bool:
    """Return whether cars may drive in a direction, by the most specific access tag; open where there is none."""
    for key in ACCESS_KEYS:
        for name in (f"{key}:{direction}", key):
            if tags.get(name, "").strip():
                return open_value(tags[name])
    return True


def closes_road(tags: Tags) -> bool:
    """Return whether a node is a barrier that cars do not pass."""
    kind = tags.get("barrier", "")
    if kind in ("", "no"):
        return False
    access = next((tags[key] for key in ACCESS_KEYS if tags.get(key, "").strip()), "")
    return not open_value(access) if access else kind in SOLID


def _conditional(tags: Tags) -> list[str]:
    return [f"{key} ignored: holds at times only" for key in tags if key.endswith(":conditional") and _of_cars(key)]


def _of_cars(key: str) -> bool:
    return key.startswith((*ACCESS_KEYS, "oneway", "maxspeed", "lanes", "turn"))


def _directions(tags: Tags, notes: list[str]) -> str:
    """Set the tag ``oneway`` from all tags about directions; return the reason where no direction is open, else ""."""
    key = next((key for key in ONEWAY_KEYS if tags.get(key, "").strip()), "oneway")
    value = tags.get(key, "").strip().lower()
    if value in CHANGING:
        return REVERSIBLE
    implied = tags.get("junction") in ROUNDABOUTS or tags["highway"] in ONE_WAY_CLASSES
    said = ONEWAYS.get(value, "")
    if "oneway" in tags and not tags["oneway"].strip() and key == "oneway":
        notes.append("oneway: value not understood: as without the tag")
        del tags["oneway"]
    elif value and not said:
        notes.append(f"{key}: value not understood: as without the tag")
        tags.pop("oneway", None)
    elif key != "oneway":
        tags["oneway"] = said
        notes.append(f"{key} decides the direction for cars")
    elif value and tags["oneway"] not in ONEWAYS:  # Yes, YES, " yes"
        tags["oneway"] = said
    directions = {"yes": {"forward"}, "-1": {"backward"}, "no": set(DIRECTIONS)}
    lawful = directions.get(said, {"forward"} if implied else set(DIRECTIONS))
    free = {direction for direction in lawful if open_to_cars(tags, direction)}
    if not free:
        return NO_ACCESS
    if free != lawful:
        notes.append("closed to cars in one direction: one way in the other")
        osm_lanes.keep_direction(tags, next(iter(free)))
        tags["oneway"] = "yes" if free == {"forward"} else "-1"
    return ""


WITHOUT = ("motorcar", "motor_vehicle", "vehicle")
RESTRICTION_TYPES = frozenset({"restriction", *(f"restriction:{key}" for key in WITHOUT)})
HOURS = ("hour_on", "hour_off", "day_on", "day_off", "date_on", "date_off")
KINDS = frozenset(
    f"{rule}_{turn}" for rule in ("no", "only") for turn in ("left_turn", "right_turn", "straight_on", "u_turn")
)
KINDS |= {"no_entry", "no_exit"}


def restriction_kind(tags: Tags) -> tuple[str, str]:
    """Return the kind of a turn restriction (``no_left_turn``), and why it does not bind cars; one of them is empty."""
    values = [tags[key] for key in (*(f"restriction:{key}" for key in WITHOUT), "restriction") if tags.get(key)]
    kind = values[0].strip().lower() if values else ""
    excepted = {part.strip().lower() for part in re.split("[;,]", tags.get("except", ""))}
    if tags.get("type") not in RESTRICTION_TYPES:
        return "", "for other vehicles"
    if excepted & set(WITHOUT):
        return "", "cars are excepted"
    if any(key in tags for key in HOURS) or (not kind and any(":conditional" in key for key in tags)) or "@" in kind:
        return "", "at certain hours or days only"
    if not kind:
        return "", "for other vehicles" if any(key.startswith("restriction:") for key in tags) else "without a kind"
    return (kind, "") if kind in KINDS else ("", f"of unknown kind ({kind[:30]})")


def ignored(tags: Iterable[str]) -> list[str]:
    """Return the keys of an OSM way that no rule reads."""
    return [key for key in tags if key not in READ and not (key.endswith(":conditional") and _of_cars(key))]


def earlier_restriction_kind(tags: Tags) -> str:
    """Return the kind of a turn restriction by rules 1; empty where they ignore it."""
    kind = tags.get("restriction:motorcar") or tags.get("restriction", "")
    bound = tags.get("type") == "restriction" and kind.startswith(("no_", "only_"))
    return kind if bound and "motorcar" not in tags.get("except", "") else ""
