"""Lanes of an OSM way for cars: counts within the limits of the road's class, without lanes that are closed to cars."""

from __future__ import annotations

import re
from collections.abc import Callable

Tags = dict[str, str]

COUNTS = ("lanes", "lanes:forward", "lanes:backward")
LISTS = ("motorcar", "motor_vehicle", "vehicle", "access")  # the most specific first: it decides
BUS_LISTS = ("bus", "psv", "taxi")
BUSWAYS = ("busway", "busway:both", "busway:left", "busway:right")
SIDES = ("", ":forward", ":backward")
KEYS = frozenset(
    {
        *COUNTS,
        "lanes:both_ways",
        *(f"{key}:lanes{side}" for key in (*LISTS, *BUS_LISTS, "turn") for side in SIDES),
        *(f"lanes:{key}{side}" for key in BUS_LISTS[:2] for side in SIDES),
        *BUSWAYS,
    }
)
MOST = {"motorway": 16, "trunk": 16, "primary": 12, "motorway_link": 8, "trunk_link": 8, "secondary": 10}
MOST |= {"tertiary": 8, "unclassified": 6, "residential": 6, "living_street": 4, "service": 4, "track": 2}
MOST_ELSEWHERE = 8
COUNT = re.compile(r"0*(\d{1,3})(?:\.\d+)?")

BAD_COUNT = "lanes: no count a road of its class has: as without the tag"
READ_COUNT = "lanes: a list or a fraction: the lowest, rounded down"
CLOSED = "lanes closed to cars (bus lanes and the like) taken away"
UNCLEAR = "access by lane ignored: it does not fit the number of lanes"


def tidy(tags: Tags, notes: list[str]) -> None:
    """Replace lane counts that are not whole numbers, and remove those outside the limits of the road's class."""
    for key in COUNTS:
        if key in tags:
            matches = [COUNT.fullmatch(part.strip()) for part in tags[key].split(";")]
            counts = [int(match[1]) for match in matches if match is not None]
            most = MOST.get(tags["highway"], MOST_ELSEWHERE)
            if len(counts) < len(matches) or not 1 <= min(counts) <= most:
                del tags[key]
                notes.append(BAD_COUNT)
            elif tags[key] != str(min(counts)):
                tags[key] = str(min(counts))
                notes.append(READ_COUNT)


def keep_direction(tags: Tags, direction: str) -> None:
    """Set the lanes of an OSM way that becomes one-way to those of the remaining direction."""
    other = "backward" if direction == "forward" else "forward"
    lanes = lanes_of(tags, f":{direction}")
    for key in [key for key in tags if key.endswith(f":lanes:{other}") or key == f"lanes:{other}"]:
        del tags[key]
    for key in [key for key in tags if key.endswith(f":lanes:{direction}")]:
        tags[key.removesuffix(f":{direction}")] = tags.pop(key)
    tags.pop(f"lanes:{direction}", None)
    if lanes:
        tags["lanes"] = str(lanes)


def lanes_of(tags: Tags, side: str) -> int:
    """Return the number of lanes of a direction (``":forward"``), or of a one-way road (``""``); 0 where unknown."""
    both = _count(tags.get("lanes", ""))
    if not side:
        return both or _count(tags.get("lanes:forward", "")) or _count(tags.get("lanes:backward", ""))
    other = _count(tags.get("lanes:backward" if side == ":forward" else "lanes:forward", ""))
    given = _count(tags.get(f"lanes{side}", ""))
    return given or (max(both - other, 1) if both and other else (both + 1) // 2)


def _count(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,3}", text) else 0


def take_away(tags: Tags, notes: list[str], open_value: Callable[[str], bool]) -> bool:
    """Remove the lanes that are closed to cars; return whether a direction remains.

    A lane is closed where the most specific access list closes it, or, without an entry in such lists, where it is
    designated to buses. Without lists, ``lanes:bus``, ``lanes:psv`` and ``busway=lane`` give the number of bus lanes.
    """
    one_way = tags.get("oneway") in ("yes", "true", "1", "-1", "reverse") or (
        "oneway" not in tags
        and (tags.get("junction") in ("roundabout", "circular") or tags["highway"] in ("motorway", "motorway_link"))
    )
    left: dict[str, int] = {}
    for side in [""] if one_way else [":forward", ":backward"]:
        forms = ["", ":backward" if tags.get("oneway") in ("-1", "reverse") else ":forward"] if one_way else [side]
        total = lanes_of(tags, side)
        shut = _closed_by_lists(tags, forms, open_value)
        if shut is not None and any(shut):
            if total and len(shut) != total:
                notes.append(UNCLEAR)
                continue
            left[side] = shut.count(False)
            _filter(tags, forms, shut)
        elif shut is None and (bus := _bus_lanes(tags, forms, one_way=one_way)):
            if total <= bus:
                notes.append(UNCLEAR)
                continue
            left[side] = total - bus
            for form in forms:
                tags.pop(f"turn:lanes{form}", None)  # the position of the bus lane is unknown
    if not one_way and any(f"{key}:lanes" in tags for key in (*LISTS, *BUS_LISTS)):
        notes.append(UNCLEAR)  # on a street with two directions a list needs one
    if not left and any("lane" in tags.get(key, "") for key in BUSWAYS):
        notes.append(UNCLEAR)  # on one side of two directions, or against the direction
    if left:
        notes.append(CLOSED)
        return _apply(tags, left, one_way=one_way)
    return True


def _closed_by_lists(tags: Tags, forms: list[str], open_value: Callable[[str], bool]) -> list[bool] | None:
    """Return which lanes are closed to cars; None without lists, or where lists have different lengths."""
    lists = {
        key: tags[f"{key}:lanes{form}"].split("|")
        for form in reversed(forms)
        for key in (*LISTS, *BUS_LISTS)
        if f"{key}:lanes{form}" in tags
    }
    if len({len(values) for values in lists.values()}) != 1:
        return None
    shut = []
    for lane in range(len(next(iter(lists.values())))):
        said = next((lists[key][lane].strip() for key in LISTS if key in lists and lists[key][lane].strip()), "")
        reserved = any(lists[key][lane].strip().lower() == "designated" for key in BUS_LISTS if key in lists)
        shut.append(not open_value(said) if said else reserved)
    return shut


def _bus_lanes(tags: Tags, forms: list[str], *, one_way: bool) -> int:
    """Return the number of bus lanes of a direction, by counts."""
    counted = max(_count(tags.get(f"lanes:{key}{form}", "")) for key in BUS_LISTS[:2] for form in forms)
    if counted:
        return counted
    sides = BUSWAYS if one_way else BUSWAYS[:2]
    return int(any(tags.get(key) == "lane" for key in sides))


def _filter(tags: Tags, forms: list[str], shut: list[bool]) -> None:
    """Remove closed lanes from the lists by lane (``turn:lanes``)."""
    for form in forms:
        for key in [key for key in tags if key.endswith(f":lanes{form}")]:
            values = tags[key].split("|")
            if len(values) == len(shut):
                tags[key] = "|".join(value for value, closed in zip(values, shut, strict=True) if not closed)


def _apply(tags: Tags, left: dict[str, int], *, one_way: bool) -> bool:
    if one_way:
        tags["lanes"] = str(left[""])
        for key in COUNTS[1:]:
            tags.pop(key, None)
        return left[""] > 0
    lanes = {side: left.get(side, lanes_of(tags, side) or 1) for side in (":forward", ":backward")}
    free = [side for side, count in lanes.items() if count > 0]
    tags.update({f"lanes{side}": str(count) for side, count in lanes.items()}, lanes=str(sum(lanes.values())))
    if len(free) == 1:
        keep_direction(tags, free[0][1:])
        tags["oneway"] = "yes" if free == [":forward"] else "-1"
    return bool(free)
