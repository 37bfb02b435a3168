"""A key is hidden in every form in which it may be shown, and nothing else is."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from rich.markup import escape

from relid_sumo.base import redact
from relid_sumo.base.redact import Filtered, hide

KEYS = (
    "sk-plain0123456789",
    "sk-\"double\"'single'",
    "sk-back\\slash\\n\\\\",
    "sk-100%25%2Fpercent%",
    "sk+plus/slash/in+base64==",
    "sk-[red]markup[/red][/]",
    "sk-<b>&amp;</b>",
    "sk-{x}$y`z|~^",
    "ÿsk-not-ascii-é",
    "sk-two\nlines\tand a space",
)
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "of Python": repr,
    "of Python's bytes": lambda key: repr(key.encode()),
    "of Python twice": lambda key: repr(repr(key)),
    "of JSON": json.dumps,
    "of JSON, not ASCII": lambda key: json.dumps(key, ensure_ascii=False),
    "of JSON with slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "of JSON twice": lambda key: json.dumps(json.dumps(key)),
    "of JSON for HTML": lambda key: json.dumps(key).replace("<", "\\u003c").replace("&", "\\u0026"),
    "as code points": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "percent": lambda key: urllib.parse.quote(key, safe=""),
    "percent but slashes": urllib.parse.quote,
    "percent in small letters": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "percent twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "of a form": urllib.parse.quote_plus,
    "of HTML": html.escape,
    "of HTML twice": lambda key: html.escape(html.escape(key)),
    "of Python in HTML": lambda key: html.escape(repr(key)[1:-1]),
    "of XML": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "of rich": escape,
    "hexadecimal": lambda key: key.encode().hex(),
    **{
        f"base64 after {before} and before {after}": (
            lambda key, b=before, a=after: base64.b64encode(b"x" * b + key.encode() + b"y" * a).decode()  # type: ignore[misc]
        )
        for before in range(4)
        for after in range(3)
    },
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(b"user:" + key.encode()).decode(),
    "base64 in lines": lambda key: base64.encodebytes(b"x" * 50 + key.encode() + b"y" * 30).decode(),
}


def pieces(text: str) -> set[str]:
    return {text[i : i + 4] for i in range(len(text) - 3)}


def decoded(text: str) -> str:
    """Return a text, and what its words are in base64, wherever a group begins."""
    words = [word[i:] for word in re.findall(r"[A-Za-z0-9_+/-]{4,}", text) for i in range(4)]
    words = [word[: len(word) // 4 * 4] for word in words]
    plain = (base64.urlsafe_b64decode(word.replace("+", "-").replace("/", "_")) for word in words)
    return text + "".join(part.decode("latin-1") for part in plain)


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redact, "_patterns", {})
    yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
def test_no_form_of_a_key_comes_through(key: str, form: str) -> None:
    hide(key)
    shown = FORMS[form](key)
    text = redact.redact(f'before {shown} between "{shown}" after')
    assert text.count("***") == 2
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert not pieces(key) & pieces(decoded(text))


@pytest.mark.parametrize("key", KEYS)
def test_json_with_a_hidden_key_is_json(key: str) -> None:
    hide(key)
    content = {"a": [key, f"x{key}y"], "b": 'untouched \\ " / %41'}
    for ascii_only in (True, False):
        assert json.loads(redact.redact(json.dumps(content, ensure_ascii=ascii_only))) == {
            "a": ["***", "x***y"],
            "b": content["b"],
        }


def test_other_text_stays_as_it_is() -> None:
    hide("sk-plain0123456789")
    text = "sk-plain012345678 sk-plain %41 c2stcGxhaW4 \\x73\\x6b"
    assert redact.redact(text) == text


def test_bytes_of_a_text_are_filtered_whatever_is_between() -> None:
    hide("sk-plain0123456789")
    assert redact.redact_bytes(b"\0\xffsk-plain0123456789") == b"\0\xff***"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "key", ["sk-" + "\\" * 6 + "abcdefgh", "\\" * 6 + "abcdefgh", "sk-plain0123456789", "%" * 9, "&" * 9]
)
@pytest.mark.parametrize("unit", ["\\", "s\\", "\\u", "\\x5c", "&amp;", "%25", "&#0", "sk-\\\\\\\\\\\\"])
def test_no_text_takes_the_filter_long(key: str, unit: str) -> None:
    """Time that grows with more than the size of the text would exceed the limit of the test by far."""
    hide(key)
    text = unit * 10**5
    assert redact.redact(f"{text} {key} {text}").count("***") >= 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "key", ["\\\\sk-slashes\\\\first", "sk-\\5digit\\\\x5c", "'\\\\\\\"quotes\\\\", "\\u0073k\\\\\\n"]
)
def test_runs_of_backslashes_are_hidden(key: str, form: str) -> None:
    hide(key)
    assert not pieces(key.strip("\\")) & pieces(decoded(redact.redact(f"before {FORMS[form](key)} after")))


def test_a_placeholder_is_no_secret() -> None:
    for word in ("", " ", "none", "EMPTY", "x"):
        hide(word)
    assert redact.redact("none x EMPTY") == "none x EMPTY"
    hide("u:p@", short=True)
    assert redact.redact("http://u:p@host") == "http://***host"


def test_a_stream_is_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    hide("sk-plain0123456789")
    out = io.StringIO()
    print("a sk-plain0123456789 b", file=Filtered(out))
    assert out.getvalue() == "a *** b\n"


def test_a_traceback_and_a_log_are_filtered() -> None:
    """In a process of its own: what Python itself prints of a fault, and what a library logs."""
    code = (
        "import logging, os, threading\n"
        "from relid_sumo.base import redact\n"
        "redact.guard()\n"
        "logging.basicConfig(level='DEBUG')\n"
        "key = os.environ['OPENAI_API_KEY']\n"
        "logging.debug('%r %s', key, key)\n"
        "print(key, key.encode())\n"
        "thread = threading.Thread(target=lambda: 1 / 0 if not key else int(key)); thread.start(); thread.join()\n"
        "raise ValueError(key)\n"
    )
    key = "sk-\"quo\\te%+/=[red]x'"
    environment = {"OPENAI_API_KEY": key, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: ***" in done.stderr
    assert "invalid literal for int" in done.stderr
    assert "DEBUG:root:'***' ***" in done.stderr
    assert "quo" not in done.stdout + done.stderr
