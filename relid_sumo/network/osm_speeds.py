"""Speed limits of OSM: numbers with units, zones and words, within the limits of the road's class."""

from __future__ import annotations

import re

SPEED_KEYS = frozenset({"maxspeed", "maxspeed:forward", "maxspeed:backward"})
UNITS = {"": 1.0, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "knots": 1.852}
NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(km/h|kmh|kph|mph|knots|)", re.IGNORECASE)
AS_IT_IS = re.compile(r"\d+( ?mph)?")  # netconvert reads these correctly
ZONE = re.compile(r"(?:[a-z]{2}(?:-[a-z]+)?:)?(?:zone:?)?(\d+)", re.IGNORECASE)
WALK_KMH, LIVING_STREET_KMH, URBAN_KMH = 5.0, 20.0, 50.0
URBAN = {"ru": 60.0, "by": 60.0, "kz": 60.0, "gb": 48.28}  # countries with another limit than 50 km/h
SLOWEST_KMH = 5.0
FASTEST_KMH = {"motorway": 150.0, "trunk": 150.0, "motorway_link": 130.0, "trunk_link": 130.0, "primary": 130.0}
FASTEST_ELSEWHERE_KMH = 110.0


def speed(value: str, highway: str) -> str:
    """Return a speed limit for netconvert, in km/h or mph; empty where the road's class decides.

    The lowest of a list counts. ``none``, ``signals``, ``variable``, names other than ``urban``, ``walk``,
    ``living_street`` and ``zone30``, and numbers outside the limits of the class give the limit of the class.
    """
    limits = [_kmh(part.strip().lower()) for part in re.split("[;,|]", value)]
    known = [limit for limit in limits if limit is not None]
    if not known or not SLOWEST_KMH <= min(known) <= FASTEST_KMH.get(highway, FASTEST_ELSEWHERE_KMH):
        return ""
    return value if AS_IT_IS.fullmatch(value) else f"{min(known):.0f}"


def _kmh(text: str) -> float | None:
    """Return a limit in km/h; None where the text has no known limit."""
    if number := NUMBER.fullmatch(text):
        return float(number[1]) * UNITS[number[2].lower()]
    if zone := ZONE.fullmatch(text):
        return float(zone[1])
    country, _, word = text.rpartition(":")
    if word == "urban":
        return URBAN.get(country, URBAN_KMH)
    return {"walk": WALK_KMH, "living_street": LIVING_STREET_KMH}.get(word)
