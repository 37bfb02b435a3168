"""Road networks by name, and the location of their OSM extracts.

A named network is a folder ``networks/<name>`` with a ``network.toml``. Extracts are real map data and stay out of the
repository: they are found by file name and checksum in the folders of RELID_SUMO_OSM_PATH and the cache, or downloaded.
"""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from relid_sumo.base import files, temporary
from relid_sumo.base.cache import cache_folder, once, sha256
from relid_sumo.base.errors import InputError, did_you_mean, missing_extra
from relid_sumo.base.safe_paths import LONGEST_NAME, PLAIN, check_name, printable
from relid_sumo.base.toml import load_toml, validate
from relid_sumo.network import osm, sumo_net

PATH_VARIABLE = "RELID_SUMO_OSM_PATH"
SUMO_ENDINGS = (*sumo_net.ENDINGS, ".sumocfg", ".sumo.cfg")
WAY_TAGS = {f"{key}{direction}" for key in ("lanes", "turn:lanes") for direction in ("", ":forward", ":backward")} | {
    "access"
}


def _one_file(name: str) -> str:
    if not name.lower().endswith(osm.ENDINGS):
        raise ValueError("an extract is an .osm, .osm.gz or .osm.bz2 file")
    return check_name(name)


def _no_controls(text: str) -> str:
    if printable(text) != text or "\n" in text:
        raise ValueError("control characters cannot be shown; remove them")
    return text


Line = Annotated[str, AfterValidator(_no_controls)]


class NetworkSettings(BaseModel):
    """Options of building a network from an OSM file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    bbox: osm.Box | None = None
    """West, south, east, north in degrees. Default: the whole file."""
    left_hand: bool | None = None
    """Whether traffic drives on the left. Default: by position."""
    service_roads: bool = False
    """Whether cars use `highway=service` and `highway=track`: car parks, driveways, yards."""
    guess_signals: bool | None = None
    """Whether junctions of large roads without signals in the data get some. Default: only if the data has no signal at
    all. Signals in the data are always used."""
    rules: Literal[1, 2] = 2
    """Rules by which tags are read. 2: those of docs/scenarios.md. 1: those of earlier versions, for networks with
    published results: cars use bus lanes and pass closed barriers; directional access, odd speeds and lanes are
    ignored."""


class ExtractEntry(BaseModel):
    """The [extract] table of network.toml: the file the network is built from.

    Attributes
    ----------
    file
        File name.
    sha256
        Its checksum.
    date
        Date of the data.
    area
        West, south, east, north of the file, degrees; a download requests this area.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: Annotated[str, AfterValidator(_one_file)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    date: Line
    area: tuple[float, float, float, float]


class NetworkEntry(BaseModel):
    """A network.toml.

    Attributes
    ----------
    title
        Name of the area on maps and in tables.
    description
        Description of the area, shown with every result.
    extract
        The file it is built from.
    options
        Options of the build.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: Line
    description: Line
    extract: ExtractEntry
    options: NetworkSettings = NetworkSettings()


@dataclass(frozen=True)
class Located:
    """A network that can be built: its name, its OSM file, its settings, title and description."""

    name: str
    source: Path
    settings: NetworkSettings
    title: str
    description: str = ""


def catalogue(kind: str, file_name: str) -> dict[str, Path]:
    """Return the catalogue: the file of each name; earlier folders have precedence.

    Pipes, devices and links that lead out of the folder with the catalogue are no entries.

    Parameters
    ----------
    kind
        ``networks`` or ``scenarios``.
    file_name
        The file that a folder must contain.
    """
    package = Path(__file__).parents[1]
    found: dict[str, Path] = {}
    for folder in (Path.cwd() / kind, package.parent / kind, package / "catalog" / kind):
        for file in sorted(folder.glob(f"*/{file_name}")):
            own = file.is_file() and file.resolve().is_relative_to(folder.parent.resolve())
            if own and PLAIN.fullmatch(file.parent.name):
                found.setdefault(file.parent.name, file)
    return found


def known() -> dict[str, Path]:
    """Return the networks of the catalogue and their network.toml."""
    return catalogue("networks", "network.toml")


def remember(name: str, source: Path, settings: NetworkSettings) -> None:
    """Store the name of a network that is built from a file, so that `locate` finds it by that name."""
    file = cache_folder() / "names" / f"{name}.json"
    content = {"source": str(source.resolve()), "settings": settings.model_dump(mode="json")}
    files.write_json(file, content)


class _Named(BaseModel):
    """Content of a note of `remember`."""

    source: Annotated[str, Field(pattern=r"^[^\x00]+$")]
    settings: NetworkSettings


def locate(name_or_path: str) -> Located:
    """Return a network by its name, or by the path of an OSM file.

    Raises
    ------
    InputError
        If there is no such network or file, or its extract is not available.
    """
    path = Path(name_or_path)
    networks = known()
    if name_or_path in networks:
        file = networks[name_or_path]
        entry = load_toml(file, NetworkEntry)
        source, note = _extract(entry.extract, file)
        return Located(name_or_path, source, entry.options, entry.title, f"{entry.description} {note}".strip())
    noted = cache_folder() / "names" / f"{name_or_path}.json"
    if len(path.parts) == 1 and os.path.lexists(noted):
        fix = f"delete it, and build the network again: relid-sumo network build FILE --name {name_or_path}"
        try:
            content = validate(files.read_json(noted), _Named, str(noted))
            Path(content.source).stat()
        except InputError as error:
            raise InputError(f"{error}; {fix}") from None
        except OSError as error:
            raise InputError(f"{noted}: its source {error.filename[:300]}: {error.strerror}; {fix}") from None
        return Located(name_or_path, Path(content.source), content.settings, name_or_path)
    if osm.is_osm(path) or path.exists() or len(path.parts) > 1:
        return Located(plain_name(path), path, NetworkSettings(), plain_name(path))
    names = sorted({*networks, *(file.stem for file in noted.parent.glob("*.json"))})
    raise InputError(
        f"there is no network '{name_or_path}'{did_you_mean(name_or_path, names)}; known are "
        f"{', '.join(names) or 'none'}; a path to an OSM file (.osm, .osm.gz, .osm.bz2 ...) works too"
    )


def plain_name(source: Path) -> str:
    """Return the name of a file without its ending; characters other than letters, digits, - and . become _."""
    name = source.name
    for ending in sorted((*osm.ENDINGS, *SUMO_ENDINGS), key=len, reverse=True):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".-")[:LONGEST_NAME] or "area"
    try:
        return check_name(plain)
    except ValueError:
        return f"area_{plain.replace('.', '_')}"[:LONGEST_NAME]


def _extract(entry: ExtractEntry, toml: Path) -> tuple[Path, str]:
    """Return the extract of a named network, and a note where it is not the named one."""
    store, wrong = cache_folder() / "osm", ""
    for folder in [*(Path(part) for part in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if part), store]:
        file = folder / entry.file
        if file.is_file():
            found = sha256(file)
            if found == entry.sha256:
                return file, ""
            wrong = wrong or (
                f"{file}: wrong checksum: {toml} names {entry.sha256}, the file has {found}, so it is other map "
                "data; remove it, or give its path in place of the network's name"
            )
    if wrong:
        raise InputError(wrong)
    fetched = store / f"{plain_name(Path(entry.file))}_fetched.osm"
    once(fetched, lambda: _download(entry, fetched))
    day = datetime.datetime.fromtimestamp(fetched.stat().st_mtime, tz=datetime.UTC).date()
    return fetched, f"Map data fetched on {day}, not those of {entry.date}: figures differ from published ones."


def _download(entry: ExtractEntry, file: Path) -> None:
    """Download the drivable OSM ways of the area from OpenStreetMap (Overpass) with osmnx, and save them as .osm."""
    hint = (
        f"{entry.file} is needed (sha256 {entry.sha256}) and is in none of the folders of {PATH_VARIABLE}, nor in "
        f"{file.parent}; set {PATH_VARIABLE} to the folder that contains it"
    )
    import relid_sumo.base.own_matplotlib  # noqa: F401, PLC0415 - before osmnx, which imports matplotlib

    try:
        import osmnx  # noqa: PLC0415 - an extra: two seconds to import, and rarely needed
    except ImportError:
        raise InputError(f"{hint}; to download the area instead, {missing_extra('osmnx', 'osm')}") from None
    settings = osmnx.settings
    settings.all_oneway = True  # save_graph_xml requires it
    settings.use_cache = False
    settings.overpass_rate_limit = False  # a request for a slot waits a minute without internet
    settings.requests_timeout = 60
    settings.useful_tags_way = sorted({*settings.useful_tags_way, *WAY_TAGS})
    settings.useful_tags_node = sorted({*settings.useful_tags_node, *osm.NODE_TAGS})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        graph = osmnx.graph_from_bbox(entry.area, network_type="drive", simplify=False, retain_all=True)
        with temporary.folder(".fetch-", file.parent) as scratch:
            whole = Path(scratch) / file.name
            osmnx.save_graph_xml(graph, filepath=whole)
            files.put(whole, file)
    except OSError as error:  # requests raises one without internet
        raise InputError(f"{hint}; it could not be fetched either ({type(error).__name__})") from None
