"""The side of the road that traffic drives on, by position, offline.

`timezonefinder` has the outlines of the time zones, which follow the borders of countries, without simplification. In
one zone alone, Asia/Bangkok, traffic drives on both sides: in Thailand on the left, in northern Vietnam on the right.
Laos lies between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


THAI_ZONE = "Asia/Bangkok"


def of_roads(places: Iterable[tuple[float, float, float]]) -> tuple[bool, str, float]:
    """Return whether traffic drives on the left on most of some roads, which zone says so, and the share elsewhere.

    Parameters
    ----------
    places
        Longitude, latitude (degrees) and length of each road.

    Returns
    -------
    left : bool
        Whether traffic drives on the left.
    zone : str
        Time zone of most of the roads on that side.
    other_side : float
        Share of the length on which traffic drives on the other side.
    """
    km: dict[tuple[bool, str], float] = {}
    zones = _zones()
    for lon, lat, length in places:
        zone = zones(lon, lat)
        vietnam = zone == THAI_ZONE and _in_vietnam(lon, lat)
        found = (zone in LEFT_HAND_ZONES and not vietnam, f"{zone}, northern Vietnam" if vietnam else zone)
        km[found] = km.get(found, 0.0) + length
    left, right = (sum(length for (side, _), length in km.items() if side is wanted) for wanted in (True, False))
    side = left > right or all(on_left for on_left, _ in km)  # roads may have no length
    zone = max((length, zone) for (on_left, zone), length in km.items() if on_left is side)[1]
    return side, zone, min(left, right) / max(left + right, 1e-9)


def drives_left(lon: float, lat: float) -> tuple[bool, str]:
    """Return whether traffic drives on the left at a position, and the name of the time zone that decides it."""
    return of_roads([(lon, lat, 1.0)])[:2]


def by_time_zone(lon: float, lat: float) -> bool:
    """Return whether traffic drives on the left by the time zone alone, without the exception of northern Vietnam."""
    return _zones()(lon, lat) in LEFT_HAND_ZONES


def _zones() -> Callable[[float, float], str]:
    from timezonefinder import TimezoneFinder  # noqa: PLC0415 - 0.3 s to import, only for building

    finder = TimezoneFinder()
    return lambda lon, lat: finder.timezone_at(lng=lon, lat=lat) or "unknown"


def _in_vietnam(lon: float, lat: float) -> bool:
    """Return whether a position in the zone Asia/Bangkok lies in Vietnam.

    Thailand reaches to 20.5 N and, north of 16.9 N, to 104.9 E; Vietnam begins at 102.1 E, and south of 18.6 N at
    105 E.
    """
    return lat > 16.9 and (lon > 105.0 or (lat > 18.6 and lon > 102.0))
