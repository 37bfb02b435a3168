"""The side of the road that traffic drives on, told from the position, offline."""

from __future__ import annotations

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


def drives_left(lon: float, lat: float) -> tuple[bool, str]:
    """Return whether traffic drives on the left at a position, and the name of the time zone that says so.

    Time zones follow borders, never cross between driving sides, and `timezonefinder` carries their outlines, so this
    needs no internet and is exact at the border of Hong Kong and Shenzhen.
    """
    from timezonefinder import TimezoneFinder  # noqa: PLC0415 - 0.3 s to import, only for building

    zone = TimezoneFinder().timezone_at(lng=lon, lat=lat) or "unknown"
    return zone in LEFT_HAND_ZONES, zone
