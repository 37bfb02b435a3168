"""Hide keys in everything that is printed, logged or written.

A key is hidden in every form in which a service, a library or a traceback may show it: unchanged, with any of its
characters escaped (JSON, Python, percent, HTML), in base64 at any offset, in hexadecimal, in capitals or small letters.
"""

from __future__ import annotations

import base64
import binascii
import html
import io
import os
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import IO, Any, cast

HIDDEN = "***"
VARIABLES = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY")  # read by the official client
SHORTEST = 8  # characters; a shorter key is a placeholder ("none", "EMPTY"), and hiding it would garble words
_TURNS = re.compile("[\x80-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # C1 controls, and direction of writing
_BASE64 = {"+": "[+-]", "/": "[/_]"}  # and the alphabet for URLs

_patterns: dict[str, re.Pattern[str]] = {}
_lock = threading.Lock()


def hide(secret: str, *, short: bool = False) -> None:
    """Hide a secret in this process from now on.

    Parameters
    ----------
    short
        Hide it even if it is short.
    """
    forms = {secret, secret.strip()}
    with _lock:
        for form in forms:
            if form not in _patterns and form and (short or len(form) >= SHORTEST):
                _patterns[form] = _pattern(form)


def hide_environment() -> None:
    """Hide the keys in the environment. Call this when a process starts."""
    for name in VARIABLES:
        hide(os.environ.get(name, ""))


def redact(text: str) -> str:
    """Return a text with every form of every hidden secret replaced by ``***``."""
    for pattern in tuple(_patterns.values()):
        text = pattern.sub(HIDDEN, text)
    return text


def redact_bytes(content: bytes) -> bytes:
    """Return UTF-8 text with hidden secrets; bytes that are no UTF-8 stay."""
    if not _patterns:
        return content
    return redact(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _pattern(secret: str) -> re.Pattern[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    parts = re.findall(r"\\+|[^\\]", secret)
    forms = [
        "".join(
            _backslashes(len(part), first=i == 0)
            if part[0] == "\\"
            else _any_form(part, first=i == 0, after_backslashes=i > 0 and parts[i - 1][0] == "\\")
            for i, part in enumerate(parts)
        )
    ]
    if len(raw) >= SHORTEST:
        forms += [
            "".join(_BASE64.get(c, re.escape(c)) + "(?:\\\\?\r?\n)?" for c in core) for core in _base64_cores(raw)
        ]
        forms.append(binascii.hexlify(raw).decode())
    return re.compile("|".join(forms), re.IGNORECASE)


# Time grows in proportion to the text: a run of backslashes in it is read from its first one only, and as a whole (the
# possessive ``++``), because a text may consist of backslashes.


def _any_form(character: str, *, first: bool, after_backslashes: bool) -> str:
    """Return a pattern for a character in all its escaped forms.

    Parameters
    ----------
    first
        It is the first one of the secret.
    after_backslashes
        The pattern before it matches all backslashes, also those that escape this character.
    """
    escaped, others = _escapes(character), _entities(character)
    before = r"\\*+" if after_backslashes else r"(?<!\\)\\++" if first else r"\\++"
    both = [*escaped, *others[1:]]  # a page may show a text that has backslashes already
    return f"(?:{before}(?:{'|'.join(both)})|{'|'.join(others)})"


def _backslashes(count: int, *, first: bool) -> str:
    """Return a pattern for a run of backslashes in all escaped forms; it matches backslashes after the run too."""
    start = r"(?<!\\)" if first else ""
    tails, others = _escapes("\\")[1:], _entities("\\")[1:]
    one = f"(?:{start}\\\\++(?:{'|'.join(tails)})|{'|'.join(others)})"
    return f"(?:{start}\\\\{{{count},}}+|{one}{{{count}}})"


def _escapes(character: str) -> list[str]:
    """Return patterns for a character, itself first, as it stands after the backslashes that escape it."""
    code, raw = ord(character), character.encode("utf-8", "surrogateescape")
    forms = [re.escape(character), rf"u0*{code:x}", rf"u\{{0*{code:x}\}}"]
    forms.append(r"\\++".join(f"x{byte:02x}" for byte in raw))
    forms.append(r"\\++".join(rf"0*{byte:o}(?![0-7])" for byte in raw))
    named = {"\n": "n", "\r": "r", "\t": "t"}.get(character)
    return [*forms, *([named] if named else [])]


def _entities(character: str) -> list[str]:
    """Return patterns for a character, itself first, in forms without backslashes: of HTML, percent, a form."""
    code, raw = ord(character), character.encode("utf-8", "surrogateescape")
    forms = [re.escape(character), rf"&(?:amp;)*#0*{code};", rf"&(?:amp;)*#x0*{code:x};"]
    forms.append("".join(f"%(?:25)*{byte:02x}" for byte in raw))
    if (named := html.escape(character)) != character:
        forms.append(named.replace("&", "&(?:amp;)*"))
    if character == "'":
        forms.append("&(?:amp;)*apos;")
    if character == " ":
        forms.append(r"\+")
    return forms


def _base64_cores(raw: bytes) -> list[str]:
    """Return the part of the base64 that every text with these bytes has, for each start in a group of three."""
    cores = []
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        first = -(-8 * before // 6)  # characters before it contain bits of the preceding bytes
        last = 8 * (before + len(raw)) // 6  # characters after it contain bits of the following bytes
        cores.append(coded[first:last])
    return cores


def guard() -> None:
    """Filter all that this process prints from now on, the traceback of a fault included."""
    hide_environment()
    sys.stdout, sys.stderr = (cast("Any", Filtered(stream)) for stream in (sys.stdout, sys.stderr))
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    from relid_sumo.base.safe_paths import printable  # noqa: PLC0415 - pydantic, which --help does without

    text = redact("".join(traceback.format_exception(kind, error, where)))
    print(printable(text), end="", file=sys.stderr)


class Filtered(io.TextIOBase):
    """A text stream that hides secrets; each written text is filtered as a whole."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without secrets, and without characters that no message needs and that change a terminal."""
        self._stream.write(_TURNS.sub(lambda one: one[0].encode("unicode_escape").decode(), redact(text)))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return str(getattr(self._stream, "encoding", "utf-8"))
