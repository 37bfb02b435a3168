"""Damage files at random, as a broken disk, a broken program or a hostile person would; for the fuzz tools.

Each function takes a content and a `random.Random`, and returns a name of the damage and the damaged content.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Damaged = tuple[str, bytes]
Change = Callable[[bytes, random.Random], Damaged]

DEEP = "[" * 50_000
HOSTILE = ("[red]x[/red]", "\x1b[2J\x1b[31mred", "a\nb\rc", "\u202egnp.exe", "[/]", "\x00", "../../x", "-x", "x" * 5000)
VALUES: tuple[Any, ...] = (
    *(None, True, "", [], {}, [[]], {"x": {}}, -1, 0, 1.5, 10**30, -(10**400), 2**63, 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), "nan", "1", ["x"], [None], [[1.0]]),
    *HOSTILE,
)
TOML_VALUES = (
    *('""', "[]", "{}", "-1", "0", "1.5", "1e308", "nan", "inf", "true", '"x"', "[1, 2, 3]", "[[0, 0]]", "9" * 5000),
    *("1979-05-27", DEEP, '"[red]x[/red]"', '"\\u001b[2J"', '"../../x"', "{a = 1}", "0x7fffffffffffffff"),
)
CELLS = ("", "nan", "inf", "-inf", "1e999", "x", "-1", "0.5", "9" * 400, "[red]x[/red]", "\x1b[2J", '"', "1,2", "٣")
XML_VALUES = (
    *("", "nan", "inf", "-1", "0", "1e308", "9" * 400, "x", "1 2 3", "0,0 1,1", "&#x1b;[2J", "[red]x[/red]", "-x"),
    *("\u202ex", ":0", "true", "x" * 5000, "1e-320", "99999999999999999999", "0,0", "nan,nan 1,1"),
)
RAW = ("cut", "empty", "flips", "zeros", "noise", "insert", "delete", "twice", "tail", "utf-8", "random")
SHAPES = ("(70368744177664,)", "(1073741824, 1073741824)", "(8589934592,)", "(-1,)")  # more than any memory


def raw(content: bytes, rng: random.Random) -> Damaged:
    """Damage bytes without regard to what they mean."""
    size = len(content)
    kind = rng.choice(RAW)
    at = rng.randrange(size + 1)
    length = rng.choice((1, 16, 512, 4096))
    part = content[at : at + length]
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8)) if size else 0):
        flipped[rng.randrange(size)] ^= 1 << rng.randrange(8)
    other: dict[str, Callable[[], bytes]] = {
        "cut": lambda: content[:at],
        "empty": lambda: b"",
        "flips": lambda: bytes(flipped),
        "zeros": lambda: content[:at] + bytes(len(part)) + content[at + length :],
        "noise": lambda: content[:at] + rng.randbytes(len(part)) + content[at + length :],
        "insert": lambda: content[:at] + rng.randbytes(min(length, 512)) + content[at:],
        "delete": lambda: content[:at] + content[at + length :],
        "twice": lambda: content * 2,
        "tail": lambda: content + rng.choice((b"\n", b"\0" * 512, b"{}", b"<x>", b"\xff")),
        "utf-8": lambda: content[:at] + rng.choice((b"\xff\xfe", b"\x80", b"\x00", b"\x1b[2J")) + content[at:],
        "random": lambda: rng.randbytes(size),
    }
    return kind, other[kind]()


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """Yield the places of all values in nested content, outer ones first."""
    if place:
        yield place
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in parts:
        yield from _places(value, (*place, key))


def _chosen(content: Any, rng: random.Random) -> tuple[Any, Any]:  # noqa: ANN401 - JSON
    """Return a part of nested content and one of its keys; each depth is equally likely, as long lists lie deep."""
    places = list(_places(content))
    depth = rng.choice(sorted({len(place) for place in places}))
    *above, key = rng.choice([place for place in places if len(place) == depth])
    for part in above:
        content = content[part]
    return content, key


def nested(content: Any, rng: random.Random, values: tuple[Any, ...] = VALUES) -> str:  # noqa: ANN401 - JSON
    """Change one place of nested content, which has one at least, and return the name of the damage."""
    part, key = _chosen(content, rng)
    kind = rng.choice(("value", "value", "value", "without", "more", "twice", "swap"))
    if kind == "value":
        part[key] = copy.deepcopy(rng.choice(values))
        return f"{kind} of {key!r}"
    if kind == "without":
        del part[key]
    elif kind == "more" and isinstance(part, dict):
        part[rng.choice(("format", "extra", "[red]", "\x1b[2J", "__class__", ""))] = rng.choice(values)
    elif kind == "swap" and isinstance(part, dict):
        other = rng.choice(list(part))
        part[key], part[other] = part[other], part[key]
    elif isinstance(part, list):
        part.insert(rng.randrange(len(part) + 1), copy.deepcopy(part[key]))
    else:
        part[f"{key}2"] = part.pop(key)
    return f"{kind} at {key!r}"


def as_json(content: bytes, rng: random.Random) -> Damaged:
    """Damage a JSON file."""
    kind = rng.choice(("nested", "nested", "nested", "root", "deep", "digits", "names"))
    data = json.loads(content)
    if kind == "root" or not data:
        return "root", json.dumps(rng.choice(VALUES)).encode()
    if kind == "deep":
        return kind, f'{{"x": {DEEP}'.encode() if rng.random() < 0.5 else (DEEP + "]" * len(DEEP)).encode()
    if kind == "digits":
        return kind, re.sub(rb"\d+", b"9" * 5000, content, count=rng.randint(1, 5))
    if kind == "names":
        return kind, content.rstrip()[:-1] + b"," + content.lstrip()[1:]  # every key twice
    return nested(data, rng), json.dumps(data).encode()


def as_toml(content: bytes, rng: random.Random) -> Damaged:
    """Damage a TOML file."""
    lines = content.decode().splitlines()
    at = rng.choice([i for i, line in enumerate(lines) if line and not line.startswith("#")])
    kind = rng.choice(("value", "value", "value", "without", "twice", "more", "table"))
    name = lines[at].partition(" =")[0]
    if kind == "value" and "=" in lines[at]:
        lines[at] = f"{name} = {rng.choice(TOML_VALUES)}"
    elif kind == "without":
        del lines[at]
    elif kind == "more":
        lines.insert(at, rng.choice(("extra = 1", "format = 9", '"[red]" = 1', "[extra]", "[[trips]]", "[a.b.c]")))
    elif kind == "table":
        lines[at] = rng.choice(("[", "[x", "[[", "=", "x =", '"', "'''", "\t", "[demand]", "trips = 1"))
    else:
        lines.insert(at, lines[at])
    return f"{kind} at {name[:40]!r}", "\n".join(lines).encode() + b"\n"


def as_csv(content: bytes, rng: random.Random) -> Damaged:
    """Damage a table."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = rng.choice(rows)
    kind = rng.choice(("cell", "cell", "cell", "short", "long", "without", "header", "many"))
    at = rng.randrange(len(row))
    if kind == "cell":
        row[at] = rng.choice(CELLS)
    elif kind == "short":
        del row[at]
    elif kind == "long":
        row.insert(at, rng.choice(CELLS))
    elif kind == "without":
        rows.remove(row)
    elif kind == "header":
        rows[0] = rng.choice(([], ["x"], rows[0] * 2, rows[0][::-1], ["update"] * len(rows[0])))
    else:
        rows += [rows[-1]] * 500
    return kind, "\n".join(map(",".join, rows)).encode() + b"\n"


def as_xml(content: bytes, rng: random.Random) -> Damaged:
    """Damage an XML file: attributes, elements and nesting."""
    text = content.decode()
    kinds = ("attribute", "attribute", "attribute", "name", "line", "twice", "deep", "doctype", "swap", "nest")
    kind = rng.choice(kinds)
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if kind == "attribute" and (found := list(re.finditer(r'="([^"]*)"', text))):
        spot = rng.choice(found)
        return kind, (text[: spot.start(1)] + rng.choice(XML_VALUES) + text[spot.end(1) :]).encode()
    if kind == "name" and (found := list(re.finditer(r"([\w:]+)=", text))):
        spot = rng.choice(found)
        return kind, (text[: spot.start(1)] + "x" + text[spot.end(1) :]).encode()
    if kind == "deep":
        lines.insert(at, "<x>" * 20_000)
    elif kind == "doctype":
        lines.insert(rng.choice((0, 1, at)), '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n')
    elif kind == "twice":
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "nest":
        lines.insert(at, rng.choice(("<x/>", "</x>", "<osm>", "<way>", "<![CDATA[", "<!--", "text", "&x;")))
    else:
        del lines[at]
    return kind, "".join(lines).encode()


def _array(values: NDArray[Any], rng: random.Random) -> tuple[str, NDArray[Any]]:
    kind = rng.choice(("value", "value", "value", "type", "shape", "none", "objects", "scalar", "text"))
    flat = values.copy().reshape(-1)
    if kind == "value" and flat.size and flat.dtype.kind in "fiub":
        numbers: dict[str, tuple[float, ...]] = {"f": (np.nan, np.inf, -1.0, 1e30), "i": (-1, 10**6, 2**31 - 1)}
        flat[rng.randrange(flat.size)] = rng.choice(numbers.get(flat.dtype.kind, (0, 1)))
        return kind, flat.reshape(values.shape)
    others: dict[str, Callable[[], NDArray[Any]]] = {
        "type": lambda: np.zeros(values.shape, rng.choice(("f4", "i8", "u1", "c16", "U5", "M8[s]"))),
        "shape": lambda: rng.choice((values[None], flat, flat[:-1], flat[:0])),
        "objects": lambda: np.array([{"x": 1}], dtype=object),
        "scalar": lambda: np.array(rng.choice((0, 1.5, np.nan, True))),
        "text": lambda: np.array(rng.choice(("{}", "[]", "null", "nan", "[red]", '{"format": 1}', DEEP))),
    }
    return kind, others.get(kind, lambda: np.zeros((0, *values.shape[1:]), values.dtype))()


def _header(shape: str) -> bytes:
    """Return an array file with a header of a shape, and no values."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def as_npz(content: bytes, rng: random.Random) -> Damaged:
    """Damage a file of named arrays."""
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    name = rng.choice(list(arrays))
    kind = rng.choice(("array", "array", "array", "array", "without", "more", "twice", "huge", "pickle", "folder"))
    out = io.BytesIO()
    if kind == "array":
        kind, arrays[name] = _array(arrays[name], rng)
    elif kind == "without":
        del arrays[name]
    elif kind == "more":
        arrays["extra"] = np.zeros(3)
    if kind not in {"twice", "huge", "pickle", "folder"}:
        np.savez(out, **arrays)
        return f"{kind} of {name!r}", out.getvalue()
    with zipfile.ZipFile(out, "w") as packed:
        for one, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            if one == name and kind == "huge":
                member = io.BytesIO(_header(rng.choice(SHAPES)))
            if one == name and kind == "pickle":
                member = io.BytesIO(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.")
            packed.writestr(f"{one}{'/' if one == name and kind == 'folder' else '.npy'}", member.getvalue())
            if one == name and kind == "twice":
                again = io.BytesIO()
                np.save(again, np.zeros(2))
                packed.writestr(f"{one}.npy", again.getvalue())
    return f"{kind} of {name!r}", out.getvalue()


def as_checkpoint(content: bytes, rng: random.Random) -> Damaged:
    """Damage a checkpoint of torch."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    part, key = _chosen(state, rng)
    kind, value = "value", part[key]
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        kind = rng.choice(("nan", "shape", "type", "none", "cell"))
        if kind == "nan":
            value = torch.full_like(value.float(), rng.choice((float("nan"), float("inf"), 1e38)))
        elif kind == "shape":
            value = rng.choice((value[None], value.reshape(-1), value.reshape(-1)[:1]))
        elif kind == "type":
            value = value.to(rng.choice((torch.float64, torch.int64, torch.bool, torch.complex64, torch.float16)))
        elif kind == "cell" and value.numel():
            value = value.clone().float()
            value.reshape(-1)[rng.randrange(value.numel())] = rng.choice((float("nan"), float("inf"), -1e30))
        else:
            value = value[:0] if value.ndim else torch.zeros(0)
        part[key] = value
    else:
        kind = nested(state, rng)
    out = io.BytesIO()
    torch.save(state, out)
    return f"{kind} at {key!r}", out.getvalue()


BY_ENDING: dict[str, Change] = {
    ".json": as_json,
    ".toml": as_toml,
    ".csv": as_csv,
    ".xml": as_xml,
    ".osm": as_xml,
    ".npz": as_npz,
    ".pt": as_checkpoint,
}


def damage(name: str, content: bytes, rng: random.Random) -> Damaged:
    """Damage a file by what its name says it is, or its bytes; each half of the time."""
    change = BY_ENDING.get(name[name.rfind(".") :])
    if change is None or not content or rng.random() < 0.4:
        return raw(content, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a .zip has a part twice, and that torch discards imaginary parts
        return change(content, rng)
