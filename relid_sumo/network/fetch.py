"""Fetches the roads of an area from OpenStreetMap: places through osmnx (Nominatim), roads from an Overpass server.

osmnx looks up places and makes boxes. It keeps no turn restrictions, so the roads are fetched here, with a query for
all that `relid_sumo.network.osm` reads.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relid_sumo.base import cache, files
from relid_sumo.base.errors import InputError, missing_extra
from relid_sumo.network import osm
from relid_sumo.network.osm import Box

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

OVERPASS, NOMINATIM = "https://overpass-api.de/api", "https://nominatim.openstreetmap.org/"
QUERY = """[out:xml][timeout:{timeout}];
way["highway"]({south:.7f},{west:.7f},{north:.7f},{east:.7f})->.roads;
rel(bw.roads)["type"~"^restriction"]->.turns;
(.roads; node(w.roads); .turns;);
out body;
"""
MOST_KM2 = 2500.0  # a server of the public should not be asked for more
SMALLEST_M, LARGEST_M = 50.0, 50_000.0  # distance from a point to the sides of its box
TRIES = 5  # requests to a server that is busy or fails
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0  # the pause doubles each time, unless the server names one
SERVER_S, ANSWER_S = 180, 240  # time limit of the query on the server, and of each wait for bytes
NOTED_MIB, MOST_MIB = 10, 2048
FREE_AT = re.compile(r"in (-?\d+) seconds")
EARTH_KM = 6371.0


@dataclass(frozen=True)
class Servers:
    """The servers to ask.

    Attributes
    ----------
    overpass, nominatim
        Their addresses.
    """

    overpass: str = OVERPASS
    nominatim: str = NOMINATIM


def area_km2(box: Box) -> float:
    """Return the area of a box on a sphere, km2."""
    west, south, east, north = box
    height = math.sin(math.radians(north)) - math.sin(math.radians(south))
    return EARTH_KM**2 * height * math.radians((east - west) % 360)


def box_of_place(place: str, servers: Servers) -> Box:
    """Return the box of a place, by its name.

    Raises
    ------
    InputError
        There is no such place, or only a point; the server cannot be reached; or osmnx is not installed.
    """
    with _osmnx(servers) as osmnx:
        from osmnx._errors import InsufficientResponseError, ResponseStatusCodeError  # noqa: PLC0415 - as osmnx

        try:
            found = osmnx.geocode_to_gdf(place).iloc[0]
        except InsufficientResponseError:
            raise InputError(
                f"--place '{place}': OpenStreetMap knows no such place; check its name, add region and country, "
                "or give --bbox W,S,E,N"
            ) from None
        except TypeError:
            raise InputError(
                f"--place '{place}': OpenStreetMap knows no border of this place, only a point; give --point LAT,LON "
                "--dist METRES, or --bbox W,S,E,N"
            ) from None
        except (ResponseStatusCodeError, OSError) as error:  # requests' errors are OSErrors
            raise InputError(
                f"{_host(servers.nominatim)} cannot look up '{place}': {_line(error)}; try later, or give "
                "--bbox W,S,E,N"
            ) from None
    log.info(f"{place}: {found['display_name']}")
    west, south, east, north = (float(found[f"bbox_{side}"]) for side in ("west", "south", "east", "north"))
    return west, south, east, north


def box_of_point(lat: float, lon: float, dist_m: float) -> Box:
    """Return the box around a point.

    Raises
    ------
    InputError
        The point or the distance is out of range, or osmnx is not installed.
    """
    if not (-90 < lat < 90 and -180 <= lon <= 180):
        raise InputError(f"--point {lat:g},{lon:g}: expected LAT,LON in degrees, e.g. 22.3193,114.1694")
    if not SMALLEST_M <= dist_m <= LARGEST_M:
        raise InputError(f"--dist {dist_m:g}: expected {SMALLEST_M:.0f} to {LARGEST_M:.0f} m")
    with _osmnx(Servers()) as osmnx:
        west, south, east, north = osmnx.utils_geo.bbox_from_point((lat, lon), dist_m)
    return float(west), float(south), float(east), float(north)


@contextmanager
def _osmnx(servers: Servers) -> Iterator[ModuleType]:
    """Yield osmnx with our settings; its own, which are global, come back afterwards."""
    import relid_sumo.base.own_matplotlib  # noqa: F401, PLC0415 - before osmnx, which imports matplotlib

    try:
        import osmnx  # noqa: PLC0415 - an extra: two seconds to import, and rarely needed
    except ImportError:
        raise missing_extra("osmnx", "fetch") from None
    ours = {
        "nominatim_url": servers.nominatim.rstrip("/") + "/",
        "http_user_agent": user_agent(),
        "use_cache": True,
        "cache_folder": cache.cache_folder() / "osmnx",
        "requests_timeout": 60,
    }
    before = {name: getattr(osmnx.settings, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(osmnx.settings, name, value)
        yield osmnx
    finally:
        for name, value in before.items():
            setattr(osmnx.settings, name, value)


def user_agent() -> str:
    """Return how requests name this program, which the servers' rules ask for."""
    return f"relid_sumo/{version('relid_sumo')} (https://github.com/relid-sumo/relid_sumo)"


def fetch(box: Box, file: Path, servers: Servers, *, refresh: bool = False) -> None:
    """Fetch the roads in a box, and write them to a file; an answer of an earlier call comes from the cache.

    Parameters
    ----------
    refresh
        Ask the server even if the answer is in the cache.

    Raises
    ------
    InputError
        The box is not valid or too large; the file exists; the server cannot be reached, is busy, or gives no roads; or
        an extra is not installed.
    """
    osm.check_box(box)
    if file.exists():
        raise InputError(f"{file} exists; choose another --out, or delete it")
    if (size := area_km2(box)) > MOST_KM2:
        raise InputError(
            f"the area has {size:.0f} km2, and {MOST_KM2:.0f} km2 are the most that is fetched; choose a smaller box, "
            "or cut a .osm.pbf extract of the region (download.geofabrik.de) with: osmium extract -b W,S,E,N"
        )
    west, south, east, north = box
    query = QUERY.format(timeout=SERVER_S, west=west, south=south, east=east, north=north)
    cached = cache.cache_file("fetched", "roads", [servers.overpass, query], ".osm")
    if refresh:
        cached.unlink(missing_ok=True)
    elif cached.is_file():
        log.info("the answer is in the cache; ask the server again with --refresh")
    cache.once(cached, lambda: _save(cached, query, servers.overpass))
    files.write(file, cached.read_bytes())


def _save(file: Path, query: str, server: str) -> None:
    """Ask a server, check that the answer is complete and has roads, and save it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = _asked(query, server)
    files.write(file, content)
    try:
        extract = osm.read(file)
        if extract.contents.remarks:
            raise InputError(f"the answer is not complete{extract.contents.said()}")
    except InputError as error:
        file.unlink()
        reason = str(error).replace(f"{file}: ", "").replace(f"{file}, ", "its answer, ")
        raise InputError(f"{_host(server)}: {reason}; choose another area, or try later") from None


def _asked(query: str, server: str) -> bytes:
    """Return the answer of a server to a query; wait and ask again where it is busy."""
    try:
        import requests  # noqa: PLC0415 - comes with osmnx
    except ImportError:
        raise missing_extra("requests", "fetch") from None
    name, reason = _host(server), ""
    with requests.Session() as session:
        session.headers.update({"User-Agent": user_agent(), "Accept-Encoding": "gzip, deflate"})
        for number in range(TRIES):
            log.info(f"asking {name}" + (f" again ({number + 1} of {TRIES})" if number else ""))
            pause: float | None = None
            try:
                url = f"{server.rstrip('/')}/interpreter"
                with session.post(url, data={"data": query}, timeout=ANSWER_S, stream=True) as answer:
                    if answer.status_code == 200:
                        return _received(answer)
                    reason, pause = f"HTTP {answer.status_code}", _retry_after(answer)
                    if answer.status_code not in {429, 500, 502, 503, 504}:
                        raise InputError(f"{name} refuses the request ({reason}); check --overpass")
                    if answer.status_code == 429:
                        reason = "it limits the rate (HTTP 429)"
                        pause = pause if pause is not None else _free_in(session, server)
            except (requests.RequestException, OSError) as error:
                reason = f"it cannot be reached, or broke off ({_line(error)})"
            if number + 1 < TRIES:
                wait = FIRST_PAUSE_S * 2**number if pause is None else pause
                if wait > LONGEST_PAUSE_S:
                    raise InputError(f"{name}: {reason}, and asks for a pause of {wait:.0f} s; try later")
                log.info(f"{name}: {reason}; waiting {wait:.0f} s")
                time.sleep(wait)
    raise InputError(
        f"{name} gave no map data: {reason}, {TRIES} times; check the connection, try later, or name another server: "
        "--overpass URL"
    )


def _received(answer: requests.Response) -> bytes:
    parts, noted, size = list[bytes](), 0, 0
    for part in answer.iter_content(2**16):
        parts.append(part)
        size += len(part)
        if size >> 20 >= noted + NOTED_MIB:
            noted = size >> 20
            log.info(f"received {noted} MiB")
        if size >> 20 > MOST_MIB:
            raise InputError(f"{_host(answer.url)} sends more than {MOST_MIB} MiB; choose a smaller area")
    return b"".join(parts)


def _retry_after(answer: requests.Response) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"\d{1,9}", value) else None


def _free_in(session: requests.Session, server: str) -> float | None:
    """Return the time until a server has a slot for us, by its status page, s."""
    try:
        status = session.get(f"{server.rstrip('/')}/status", timeout=30).text
    except OSError:
        return None
    times = [max(1, int(seconds)) for seconds in FREE_AT.findall(status)]
    return float(min(times)) if times else None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
