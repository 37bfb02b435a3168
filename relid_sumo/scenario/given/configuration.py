"""Reads a SUMO configuration (.sumocfg): its files, its times, and the options that change traffic.

Files must be in the folder of the configuration, or named by the user. Outputs, GUI settings, remote control and
reports are not used. Options that SUMO does not know are reported, not guessed.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from relid_sumo.base import safe_paths, sumo, temporary, trusted
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.safe_paths import printable
from relid_sumo.base.settings import MOST_FACTOR
from relid_sumo.scenario.given import allowed
from relid_sumo.scenario.given.times import seconds

MOST_MIB = 16
ROOTS = ("configuration", "sumoConfiguration")
TELEPORT_S = 300.0  # SUMO's default
TRUE, FALSE = frozenset({"true", "1", "yes", "on", "x", "t"}), frozenset({"false", "0", "no", "off", "-", "f"})
# Options that this package sets itself, and the reason.
OURS = {
    "seed": "traffic seeds vary it",
    "random": "traffic seeds vary it",
    "thread-rngs": "traffic seeds vary it",
    "threads": "one simulation runs on one core",
    "device.rerouting.threads": "one simulation runs on one core",
    "device.rerouting.adaptation-interval": "travel times are smoothed as agents see them",
    "device.rerouting.adaptation-weight": "travel times are smoothed as agents see them",
    "device.rerouting.adaptation-steps": "travel times are smoothed as agents see them",
    "route-steps": "all routes are loaded at the start",
    "ignore-route-errors": "vehicles without a route are dropped and counted",
    "remote-port": "no other program controls the simulation",
    "num-clients": "no other program controls the simulation",
    "load-state": "an episode starts with an empty network and its warm-up",
    "load-state.offset": "an episode starts with an empty network and its warm-up",
    "load-state.remove-vehicles": "an episode starts with an empty network and its warm-up",
    "weight-files": "drivers know free-flow times, or those of their rerouting device",
    "weight-attribute": "drivers know free-flow times, or those of their rerouting device",
}
IMPORTANT = ("load-state", "weight-files")  # leaving these out changes the traffic
QUIET = frozenset({"route-steps", "ignore-route-errors", "threads", "thread-rngs", "weight-attribute", "num-clients"})
MESO = {
    "meso-junction-control": "junction_control",
    "meso-tls-penalty": "tls_penalty",
    "meso-tls-flow-penalty": "tls_flow_penalty",
    "meso-minor-penalty": "minor_penalty_s",
    "meso-tauff": "tauff",
    "meso-taufj": "taufj",
    "meso-taujf": "taujf",
    "meso-taujj": "taujj",
}
UNSEEN_SECTIONS = frozenset({"report", "gui_only", "configuration"})


@dataclass(frozen=True)
class Option:
    """An option that SUMO knows: its name, its section, its type and its default."""

    name: str
    section: str
    kind: str
    default: str


@dataclass
class Configuration:
    """A SUMO configuration as it is used.

    Attributes
    ----------
    source
        The file.
    net, routes, additional
        Its files.
    begin_s, end_s
        Its times, s; None for the end where it names none.
    step_length_s, teleport_after_s
        As in a scenario.
    sorted_routes
        Whether SUMO reads routes step by step, and then drops vehicles out of order.
    meso
        Whether it asks for the mesoscopic simulation, and that one's parameters.
    options
        Options that are taken over.
    notes, warnings
        What the user should know, one line each.
    """

    source: Path
    net: Path
    routes: list[Path] = field(default_factory=list)
    additional: list[Path] = field(default_factory=list)
    begin_s: float = 0.0
    end_s: float | None = None
    step_length_s: float = 1.0
    teleport_after_s: float = TELEPORT_S
    sorted_routes: bool = True
    meso: dict[str, bool | float] | None = None
    options: dict[str, bool | float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@lru_cache(maxsize=1)
def known_options() -> tuple[dict[str, Option], dict[str, str]]:
    """Return SUMO's options by name, and the name of each synonym."""
    with temporary.folder("relid-sumo-") as folder:
        template = folder / "template.xml"
        sumo.run("sumo", ["--save-template", str(template)])
        root = ET.parse(template).getroot()
    options, synonyms = dict[str, Option](), dict[str, str]()
    for section in root:
        for one in section:
            options[one.tag] = Option(one.tag, section.tag, one.get("type", "STR"), one.get("value", ""))
            synonyms |= dict.fromkeys(one.get("synonymes", "").split(), one.tag)
    return options, synonyms


def read(file: Path, allow: Sequence[Path] = ()) -> Configuration:
    """Read a configuration.

    Parameters
    ----------
    allow
        Files and folders outside the configuration's folder that it may name.

    Raises
    ------
    InputError
        It is not a configuration, names no network, or a file that is missing or outside its folder, or a value is not
        usable; the message names the option.
    """
    given, synonyms = dict[str, str](), known_options()[1]
    for name, value in _written(file):
        given[synonyms.get(name, name)] = value
    files = _Files(file, allow)
    net = files.one("net-file", given.pop("net-file", ""))
    made = Configuration(file, net)
    made.routes = files.several("route-files", given.pop("route-files", ""))
    made.additional = files.several("additional-files", given.pop("additional-files", ""))
    _times(made, given)
    _meso(made, given)
    made.sorted_routes = seconds(given.get("route-steps", "200")) > 0
    _options(made, given)
    return made


def _written(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the options of a file with their values."""
    try:
        text = safe_paths.read_text(file, MOST_MIB)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{file}: a document type (<!DOCTYPE ...>) is refused: it may define entities; remove it")
        root = ET.fromstring(text.lstrip("\ufeff").encode())
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text (byte {error.start})") from None
    except (ET.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{file}: not XML: {error}; restore the file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    if root.tag not in ROOTS:
        raise InputError(
            f"{file}: <{printable(root.tag)[:40]}> is not the first element of a SUMO configuration; give a .sumocfg"
        )
    for one in root.iter():
        if one is not root and (len(one) == 0) and (value := _value(one)) is not None:
            yield one.tag, value


def _value(one: ET.Element) -> str | None:
    for key in ("value", "v"):
        if key in one.attrib:
            return one.attrib[key].strip()
    return (one.text or "").strip() or None


class _Files:
    """The files that a configuration names."""

    def __init__(self, source: Path, allow: Sequence[Path]) -> None:
        self._source, self._folder = source, source.parent
        self._allowed = [one.resolve() for one in allow]

    def one(self, option: str, name: str) -> Path:
        """Return the file of an option.

        Raises
        ------
        InputError
            There is none, or it may not be read.
        """
        if not name:
            raise InputError(
                f"{self._source}: names no network ({option}); add <{option} value='my.net.xml'/>, or give a .net.xml "
                "with --routes"
            )
        return self._file(option, name)

    def several(self, option: str, names: str) -> list[Path]:
        """Return the files of an option: names separated by commas or spaces."""
        found = []
        for name in filter(None, (part.strip() for part in re.split(r"[,;]", names))):
            whole = (self._folder / name).is_file() or " " not in name
            found += [self._file(option, part) for part in ([name] if whole else name.split())]
        return found

    def _file(self, option: str, name: str) -> Path:
        where = f"{printable(str(self._source))}: {option}"
        if "${" in name:
            raise InputError(
                f"{where} = '{printable(name)[:200]}': an environment variable; write the path of the file instead"
            )
        file = self._folder / name
        if safe_paths.printable(name) == name and any(file.resolve().is_relative_to(one) for one in self._allowed):
            place = file
        else:
            place = trusted.allowed(self._folder, name, where, f"--allow {printable(str(file))}")
        if not place.is_file():
            raise InputError(
                f"{where} = '{printable(name)[:200]}': there is no such file; restore it, or correct the path"
            )
        return place


def _number(file: Path, name: str, text: str) -> float:
    found = seconds(text)
    if math.isnan(found):
        raise InputError(f"{file}: {name} = '{printable(text)[:60]}': not a time; give s, or h:m:s")
    return found


def _times(made: Configuration, given: dict[str, str]) -> None:
    file = made.source
    made.begin_s = _number(file, "begin", given.pop("begin", "0"))
    end_s = _number(file, "end", given.pop("end", "-1"))
    made.end_s = end_s if end_s >= 0 else None
    if made.begin_s < 0 or (made.end_s is not None and made.end_s <= made.begin_s):
        raise InputError(
            f"{file}: begin = {made.begin_s:g}, end = {end_s:g}: the end must follow the begin; correct it"
        )
    step_s = _number(file, "step-length", given.pop("step-length", "1"))
    made.step_length_s = min(max(step_s, 0.001), 1.0)
    if made.step_length_s != step_s:
        made.warnings.append(f"step-length = {step_s:g} s is not possible; {made.step_length_s:g} s is used")
    teleport_s = _number(file, "time-to-teleport", given.pop("time-to-teleport", f"{TELEPORT_S:g}"))
    made.teleport_after_s = min(teleport_s, MOST_FACTOR) if teleport_s > 0 else MOST_FACTOR


def _meso(made: Configuration, given: dict[str, str]) -> None:
    asked = given.pop("mesosim", "false").lower() in TRUE
    options = known_options()[0]
    numbers = dict[str, bool | float]()
    for name, key in MESO.items():
        text = given.pop(name, options[name].default)
        numbers[key] = (
            text.lower() in TRUE if options[name].kind == "BOOL" else max(0.0, _number(made.source, name, text))
        )
    if asked:
        made.meso = numbers
        made.notes.append(
            "mesosim: training uses the mesoscopic simulation, with the configuration's parameters; evaluation is "
            "always microscopic"
        )


def _options(made: Configuration, given: Mapping[str, str]) -> None:
    """Sort the other options into those that are taken over, and those that are not."""
    known = known_options()[0]
    not_written, not_used, unknown = list[str](), list[str](), list[str]()
    for name, text in given.items():
        option = known.get(name)
        if option is None:
            unknown.append(f"{printable(name)[:60]}{did_you_mean(name, known)}")
        elif name in IMPORTANT:
            made.warnings.append(f"{name} is left out: {OURS[name]}")
        elif name in OURS:
            not_used += [] if name in QUIET else [f"{name} ({OURS[name]})"]
        elif name in allowed.ALLOWED:
            _take_over(made, option, text)
        elif option.section == "output" or "output" in name or option.kind == "FILE":
            (not_used if option.section in UNSEEN_SECTIONS else not_written).append(name)
        else:
            not_used.append(name)
    if unknown:
        made.warnings.append(
            f"SUMO {sumo.version()} has no option {', '.join(unknown)}; it is left out: correct or remove it"
        )
    if made.options:
        taken = ", ".join(f"{name} = {allowed.as_text(value)}" for name, value in made.options.items())
        made.notes.append(f"taken over: {taken}")
    if not_written:
        made.notes.append(f"outputs are not written: {', '.join(not_written)}")
    if not_used:
        made.notes.append(f"not used: {', '.join(not_used)}")


def _take_over(made: Configuration, option: Option, text: str) -> None:
    value = _typed(made.source, option, text)
    if (wrong := allowed.fault(option.name, value)) is not None:
        made.warnings.append(f"{option.name} is left out: {wrong}")
    else:
        made.options[option.name] = value


def _typed(file: Path, option: Option, text: str) -> bool | float | str:
    if option.kind == "BOOL":
        if text.lower() not in TRUE | FALSE:
            raise InputError(f"{file}: {option.name} = '{printable(text)[:60]}': give true or false")
        return text.lower() in TRUE
    if option.kind in ("INT", "FLOAT", "TIME"):
        return _number(file, option.name, text)
    return text
