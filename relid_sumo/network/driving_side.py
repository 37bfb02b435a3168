"""The side of the road that traffic drives on, by position, offline.

`timezonefinder` has the outlines of the time zones, which follow the borders of countries, without simplification. In
one zone alone, Asia/Bangkok, traffic drives on both sides: in Thailand on the left, in northern Vietnam on the right.
Laos lies between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from timezonefinder import TimezoneFinder

# Time zones (names of the IANA database) of the countries and territories with left-hand traffic.
LEFT_HAND_ZONES = frozenset(
    """
    Africa/Blantyre Africa/Dar_es_Salaam Africa/Gaborone Africa/Harare Africa/Johannesburg Africa/Kampala
    Africa/Lusaka Africa/Maputo Africa/Maseru Africa/Mbabane Africa/Nairobi Africa/Windhoek America/Anguilla
    America/Antigua America/Barbados America/Cayman America/Dominica America/Grand_Turk America/Grenada
    America/Guyana America/Jamaica America/Montserrat America/Nassau America/Paramaribo America/Port_of_Spain
    America/St_Kitts America/St_Lucia America/St_Thomas America/St_Vincent America/Tortola Antarctica/Macquarie
    Asia/Bangkok Asia/Brunei Asia/Colombo Asia/Dhaka Asia/Dili Asia/Famagusta Asia/Hong_Kong Asia/Jakarta
    Asia/Jayapura Asia/Karachi Asia/Kathmandu Asia/Kolkata Asia/Kuala_Lumpur Asia/Kuching Asia/Macau
    Asia/Makassar Asia/Nicosia Asia/Pontianak Asia/Singapore Asia/Thimphu Asia/Tokyo Atlantic/Bermuda
    Atlantic/South_Georgia Atlantic/St_Helena Atlantic/Stanley Australia/Adelaide Australia/Brisbane
    Australia/Broken_Hill Australia/Darwin Australia/Eucla Australia/Hobart Australia/Lindeman
    Australia/Lord_Howe Australia/Melbourne Australia/Perth Australia/Sydney Europe/Dublin Europe/Guernsey
    Europe/Isle_of_Man Europe/Jersey Europe/London Europe/Malta Indian/Christmas Indian/Cocos Indian/Mahe
    Indian/Maldives Indian/Mauritius Pacific/Apia Pacific/Auckland Pacific/Bougainville Pacific/Chatham
    Pacific/Fakaofo Pacific/Fiji Pacific/Funafuti Pacific/Guadalcanal Pacific/Kanton Pacific/Kiritimati
    Pacific/Nauru Pacific/Niue Pacific/Norfolk Pacific/Pitcairn Pacific/Port_Moresby Pacific/Rarotonga
    Pacific/Tarawa Pacific/Tongatapu
    """.split()  # noqa: SIM905 - ninety names read better so
)


NORTH_VIETNAM = "northern Vietnam"


def drives_left(lon: float, lat: float) -> tuple[bool, str]:
    """Return whether traffic drives on the left at a position, and the name of the time zone that says so."""
    zone = _zone(lon, lat)
    if zone == "Asia/Bangkok" and _in_vietnam(lon, lat):
        return False, f"{zone}, {NORTH_VIETNAM}"
    return zone in LEFT_HAND_ZONES, zone


def of_roads(places: Iterable[tuple[float, float, float]]) -> tuple[bool, str, float]:
    """Return on which side traffic drives on most of some roads, which zone says so, and the share on the other side.

    Parameters
    ----------
    places
        Longitude, latitude (degrees) and length of each road.
    """
    left, km = {True: 0.0, False: 0.0}, dict[tuple[bool, str], float]()
    for lon, lat, length in places:
        found = drives_left(lon, lat)
        left[found[0]] += length
        km[found] = km.get(found, 0.0) + length
    side = left[True] > left[False]
    zone = max((length, zone) for (on_left, zone), length in km.items() if on_left == side)[1]
    return side, zone, left[not side] / max(sum(left.values()), 1e-9)


@cache
def _finder() -> TimezoneFinder:
    from timezonefinder import TimezoneFinder  # noqa: PLC0415 - 0.3 s to import, only for building

    return TimezoneFinder()


def _zone(lon: float, lat: float) -> str:
    return _finder().timezone_at(lng=lon, lat=lat) or "unknown"


def _in_vietnam(lon: float, lat: float) -> bool:
    """Return whether a position in the zone Asia/Bangkok lies in Vietnam.

    Thailand reaches to 20.5 N and, north of 16.9 N, to 104.9 E; Vietnam begins at 102.1 E, and south of 18.6 N at
    105 E.
    """
    return lat > 16.9 and (lon > 105.0 or (lat > 18.6 and lon > 102.0))  # noqa: PLR2004 - see above
