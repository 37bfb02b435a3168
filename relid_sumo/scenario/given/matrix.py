"""Traffic from a matrix of trips between zones, through SUMO's od2trips.

A matrix is a CSV table with the columns ``from,to,count`` and, where given, ``begin,end`` (s or h:m:s; default: the
first hour), or a file of VISUM in V or O format (``$V``, ``$O``). Zones are those of a TAZ file, or names of edges.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from relid_sumo.base import cache, files, safe_paths, seeding, sumo, temporary, xml_parts
from relid_sumo.base.errors import InputError, SimulationError, did_you_mean
from relid_sumo.base.safe_paths import printable
from relid_sumo.network.network import Network
from relid_sumo.scenario.given import additional
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.traffic.demand import ROUTE_SPREAD

log = logging.getLogger(__name__)

FORMAT = 1  # part of the cache key: raise it when the routes change
HOUR_S = 3600.0
SHOWN = 5
MOST_MIB = 64


@dataclass(frozen=True)
class Relation:
    """Trips from a zone to another one in a time, s."""

    origin: str
    destination: str
    count: float
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Traffic:
    """Routes made from data, and the time that they are for, s."""

    routes: Path
    begin_s: float
    end_s: float


def routes(network: Network, matrix: Path, taz: Path | None, zones_of: tuple[Path, ...] = ()) -> Traffic:
    """Return the routes of a matrix; cached.

    Parameters
    ----------
    taz
        File of the zones. Default: those of `zones_of`; without any, zones are names of edges.
    zones_of
        Additional files of the configuration.

    Raises
    ------
    InputError
        A file cannot be read, or the matrix names unknown zones or has no trips; the message says what to do.
    """
    relations = read(matrix)
    begin_s, end_s = min(one.begin_s for one in relations), max(one.end_s for one in relations)
    zones, source = _zones(taz, zones_of)
    named = sorted({one.origin for one in relations} | {one.destination for one in relations})
    if not zones:
        source = f"network '{network.name}'; without --taz, the name of a zone is that of an edge"
        edges = network.graph.index
        zones = {name: f"<taz id={quoteattr(name)} edges={quoteattr(name)}/>" for name in named if name in edges}
    known = zones or network.graph.index
    if unknown := [name for name in named if name not in zones]:
        shown = ", ".join(f"'{printable(name)}'{did_you_mean(name, known)}" for name in unknown[:SHOWN])
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise InputError(f"{matrix}: zones {shown}{more} are not in {source}; correct the names, or add the zones")
    content = [FORMAT, network.key, sumo.version(), [vars(one) for one in relations], sorted(zones.items())]
    file = cache.cache_file("demand", f"{network.name}-matrix", content, ".rou.xml")
    cache.once(file, lambda: _make(network, relations, list(zones.values()), file))
    return Traffic(file, begin_s, end_s)


def read(file: Path) -> list[Relation]:
    """Return the relations of a matrix with trips.

    Raises
    ------
    InputError
        The file cannot be read, or a row is not usable; the message names the line.
    """
    try:
        text = safe_paths.read_text(file, MOST_MIB).lstrip("\ufeff")
    except FileNotFoundError:
        raise InputError(f"--od {file}: there is no such file; correct the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}; give a table in UTF-8") from None
    found = list(_visum(file, text) if text.lstrip().startswith("$") else _table(file, text))
    if not any(one.count > 0 for one in found):
        raise InputError(f"{file}: the matrix has no trips; correct the counts")
    return [one for one in found if one.count > 0]


def _table(file: Path, text: str) -> Iterator[Relation]:
    for line, row in rows(file, text, ("from", "to", "count"), "--od"):
        begin_s, end_s = span(file, line, row)
        yield Relation(row["from"], row["to"], number(file, line, row["count"]), begin_s, end_s)


def rows(file: Path, text: str, needed: tuple[str, ...], option: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line numbers and the values of a CSV table with a header, separated by commas, semicolons or tabs.

    Raises
    ------
    InputError
        A column is missing, or a row is incomplete.
    """
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [name.strip().lower() for name in next(reader, [])]
    if missing := [name for name in needed if name not in header]:
        raise InputError(
            f"{option} {file}, line 1: the column {missing[0]} is missing; write a header such as "
            f"{','.join(needed)} or {','.join((*needed, 'begin', 'end'))}"
        )
    for row in reader:
        if not any(word.strip() for word in row):
            continue
        if len(row) != len(header):
            raise InputError(f"{file}, line {reader.line_num}: {len(row)} values under {len(header)} names; correct it")
        yield reader.line_num, {name: word.strip() for name, word in zip(header, row, strict=True)}


def span(file: Path, line: int, row: dict[str, str]) -> tuple[float, float]:
    """Return begin and end of a row, s: the first hour where it names none.

    Raises
    ------
    InputError
        They are no times, or the end is not after the begin.
    """
    begin_s = seconds(row.get("begin") or "0")
    end_s = seconds(row.get("end") or f"{begin_s + HOUR_S:g}")
    if not 0 <= begin_s < end_s < math.inf:
        raise InputError(f"{file}, line {line}: begin and end are no times in order; give s, or h:m:s")
    return begin_s, end_s


def number(file: Path, line: int, text: str) -> float:
    """Return a count of at least 0.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise InputError(f"{file}, line {line}: '{printable(text)[:40]}' is not a count of at least 0; correct it")
    return value


def _visum(file: Path, text: str) -> Iterator[Relation]:
    """Yield the relations of a matrix in V or O format: comments begin with ``*``, times are hours.minutes."""
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    kind = lines[0][1][0].upper()
    content = [(n, words) for n, words in lines[1:] if not words[0].startswith("*")]
    if "M" in kind.split(";")[0][2:]:
        content = content[1:]  # the vehicle type
    try:
        (at, times), (_, factors), *rest = content
        begin_s, end_s = (_clock(word) for word in times[:2])
        factor = float(factors[0])
    except (ValueError, IndexError):
        raise InputError(f"{file}: not a matrix in V or O format; give a CSV table: from,to,count") from None
    if not begin_s < end_s:
        raise InputError(f"{file}, line {at}: begin and end are no times in order; correct them")
    if kind.startswith("$O"):
        for n, words in rest:
            if len(words) < 3:
                raise InputError(f"{file}, line {n}: a row needs from, to and a count; complete it")
            yield Relation(words[0], words[1], factor * number(file, n, words[2]), begin_s, end_s)
        return
    every = [(n, word) for n, row in rest for word in row]
    size = int(number(file, *every[0])) if every else 0
    names, cells = [word for _, word in every[1 : size + 1]], every[size + 1 :]
    if not size or len(cells) != size * size:
        raise InputError(f"{file}: {len(cells)} values for {size} zones, which need {size * size}; complete the matrix")
    for i, (n, word) in enumerate(cells):
        yield Relation(names[i // size], names[i % size], factor * number(file, n, word), begin_s, end_s)


def _clock(word: str) -> float:
    hours, _, minutes = word.partition(".")
    return int(hours) * HOUR_S + int((minutes + "00")[:2]) * 60.0


def _zones(taz: Path | None, others: tuple[Path, ...]) -> tuple[dict[str, str], str]:
    """Return the zones of a file by name, as XML, and where they come from."""
    if taz is not None and not taz.is_file():
        raise InputError(f"--taz {taz}: there is no such file; correct the path")
    zones = dict[str, str]()
    for file in others if taz is None else (taz,):
        for part in xml_parts.parts(file, additional.RULES, xml_parts.Account()):
            if part.tag == "taz":
                zones[part.values.get("id", "")] = part.text
    if taz is not None and not zones:
        raise InputError(f"--taz {taz}: it has no zones (<taz id=... edges=...>); give another file, or leave it out")
    return zones, str(taz) if taz is not None else "the additional files"


def _make(network: Network, relations: list[Relation], zones: list[str], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary.folder("relid-sumo-", file.parent) as folder:
        taz, matrix, trips = (folder / name for name in ("taz.xml", "matrix.xml", "trips.xml"))
        taz.write_text(f"<tazs>{''.join(zones)}</tazs>", encoding="utf-8")
        intervals: dict[tuple[float, float], list[str]] = {}
        for one in relations:
            words = f"<tazRelation from={quoteattr(one.origin)} to={quoteattr(one.destination)} count='{one.count:g}'/>"
            intervals.setdefault((one.begin_s, one.end_s), []).append(words)
        data = "".join(
            f"<interval id='{i}' begin='{begin:g}' end='{end:g}'>{''.join(words)}</interval>"
            for i, ((begin, end), words) in enumerate(sorted(intervals.items()))
        )
        matrix.write_text(f"<data>{data}</data>", encoding="utf-8")
        seed = ["--seed", str(seeding.sumo_seed(0, "matrix")), "--no-step-log"]
        options = ["-n", str(taz), "-z", str(matrix), "-o", str(trips), "--different-source-sink", "true", *seed]
        try:
            sumo.run("od2trips", options)
        except SimulationError as error:
            raise InputError(f"SUMO's od2trips cannot use the matrix: {error}; correct the zones") from None
        route(network, trips, file, folder)


def route(network: Network, trips: Path, file: Path, folder: Path) -> None:
    """Route trips once, each with its own random factors on the free-flow times, and write a complete file."""
    result = folder / "out.rou.xml"
    options = ["--weights.random-factor", str(ROUTE_SPREAD), "--seed", str(seeding.sumo_seed(0, "given routes"))]
    options += ["--ignore-errors", "--no-warnings", "--no-step-log", "--junction-taz"]
    sumo.run("duarouter", ["-n", str(network.net_file), "-r", str(trips), "-o", str(result), *options])
    files.put(result, file)
