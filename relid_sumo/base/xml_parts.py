"""Reads XML files of SUMO in parts, from lists of known elements and attributes, so that SUMO may read the rest.

SUMO writes and reads files that its input names (outputs of detectors, ``<include>``, pictures), so a file of another
person is a program. Parts on the lists pass unchanged; all else is left out and counted, for a message.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import open_file, printable

MOST_MIB = 4096  # of a file, unpacked
LONGEST_VALUE = 2**24  # characters of an attribute
HEAD_BYTES = 2**20  # the first element is searched in this many
_PIECE = 1 << 18
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SCHEMA = re.compile(r"xmlns(:\w+)?|xsi:\w+")
_PACKED: dict[bytes, Callable[..., object]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)

Values = dict[str, str]
Revise = Callable[[str, str, Values], Values | None]


@dataclass(frozen=True)
class Rules:
    """Lists of what may be in a file.

    Attributes
    ----------
    what
        The kind of file, for messages.
    roots
        Names of the first element; ``*`` is any.
    children
        Elements by the element around them; "" is the first element.
    attributes
        Attributes by element.
    revise
        Returns the attributes of an element to write, from its name, the name of the element around it and its
        attributes; None leaves the element out.
    """

    what: str
    roots: frozenset[str]
    children: Mapping[str, frozenset[str]]
    attributes: Mapping[str, frozenset[str]]
    revise: Revise = lambda name, above, values: values


@dataclass(frozen=True)
class Part:
    """An element below the first one, with all that it contains."""

    tag: str
    values: Values
    text: str
    line: int


@dataclass
class Account:
    """What a file contains.

    Attributes
    ----------
    root
        Attributes of the first element.
    left_out
        Elements, attributes and parameters that are not on the lists, and how often.
    """

    root: Values = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


@contextmanager
def unpacked(file: Path) -> Iterator[IO[bytes]]:
    """Open a file, plain or packed with gzip, bzip2 or xz, to read its content."""
    with open_file(file) as raw:
        head = raw.read(6)
        raw.seek(0)
        opener = next((way for magic, way in _PACKED.items() if head.startswith(magic)), None)
        yield raw if opener is None else cast("IO[bytes]", opener(raw))


def root_of(file: Path) -> str | None:
    """Return the name of the first element of an XML file; None where it is no XML file."""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: found.append(name)
    read = 0
    try:
        with unpacked(file) as stream:
            while not found and read < HEAD_BYTES and (piece := stream.read(4096)):
                read += len(piece)
                parser.Parse(piece, False)
    except (*BROKEN, InputError, expat.ExpatError, LookupError, ValueError):
        return found[0] if found else None
    return found[0] if found else None


def parts(file: Path, rules: Rules, account: Account) -> Iterator[Part]:
    """Yield the elements below the first one; what is not on the lists is left out.

    Raises
    ------
    InputError
        The file cannot be read, is no XML, is too large, has a document type or another first element; the message
        names the line.
    """
    reader = _Reader(file, rules, account)
    try:
        with unpacked(file) as stream:
            read = 0
            while piece := stream.read(_PIECE):
                read += len(piece)
                if read > MOST_MIB * 2**20:
                    raise InputError(f"{file}: more than {MOST_MIB} MiB; use a part of it")
                reader.parser.Parse(piece, False)
                yield from reader.ready
                reader.ready.clear()
            reader.parser.Parse(b"", True)
            yield from reader.ready
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(f"{file}: not XML: {error}; restore the file") from None
    except BROKEN as error:
        raise InputError(f"{file}: cannot be read: {error}") from None


class _Reader:
    """One pass over a file: complete parts are in `ready`."""

    def __init__(self, file: Path, rules: Rules, account: Account) -> None:
        self._file, self._rules, self._account = file, rules, account
        self.ready: list[Part] = []
        self._open: list[str] = []
        self._skipped = 0  # depth within an element that is left out
        self._text: list[str] = []
        self._closed = True  # whether the last start tag has its '>'
        self._first: tuple[str, Values, int] = ("", {}, 0)
        self.parser = expat.ParserCreate()
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _refuse(self, what: str) -> None:
        raise InputError(f"{self._file}, line {self.parser.CurrentLineNumber}: {printable(what)[:300]}")

    def _doctype(self, *_: object) -> None:
        self._refuse("a document type (<!DOCTYPE ...>) is refused: it may define entities; remove it")

    def _start(self, name: str, given: list[str]) -> None:
        if self._skipped:
            self._skipped += 1
            return
        values = {k: v for k, v in zip(given[::2], given[1::2], strict=True) if not _SCHEMA.fullmatch(k)}
        if not self._open:
            if name not in self._rules.roots and "*" not in self._rules.roots:
                self._refuse(
                    f"<{name}> is not the first element of {self._rules.what}, which is "
                    f"{' or '.join(f'<{root}>' for root in sorted(self._rules.roots))}; give another file"
                )
            self._open.append("")
            if name not in self._rules.children[""]:
                self._account.root = values
                return
        above = self._open[-1]
        if name not in self._rules.children.get(above, ()):
            self._leave_out(f"<{name}>" + (f" in <{above}>" if above else ""))
            return
        known = self._rules.attributes[name]
        for key in [key for key in values if key not in known]:
            self._account.left_out[f"{key} of <{name}>"] += 1
            del values[key]
        revised = self._rules.revise(name, above, values)
        if revised is None:
            label = f"parameter {values.get('key', '')}" if name == "param" else f"<{name}>"
            self._leave_out(label + (f" in <{above}>" if above else ""))
            return
        for key, value in revised.items():
            if len(value) > LONGEST_VALUE or _CONTROL.search(value):
                self._refuse(f"the value of {key} of <{name}> has control characters, or is too long")
        if len(self._open) == 1:
            self._first = name, revised, self.parser.CurrentLineNumber
        if not self._closed:
            self._text.append(">\n")
        words = "".join(f" {key}={quoteattr(value)}" for key, value in revised.items())
        self._text.append(f"{'    ' * len(self._open)}<{name}{words}")
        self._closed = False
        self._open.append(name)

    def _leave_out(self, what: str) -> None:
        self._account.left_out[printable(what)[:80]] += 1
        self._skipped = 1

    def _end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        self._open.pop()
        if not self._open:
            return
        self._text.append("/>\n" if not self._closed else f"{'    ' * len(self._open)}</{name}>\n")
        self._closed = True
        if len(self._open) == 1:
            tag, values, line = self._first
            self.ready.append(Part(tag, values, "".join(self._text), line))
            self._text = []
