"""Files that are written whole, and read with an error that names them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from relid_sumo.base.errors import InputError

Columns = dict[str, list[float]]


def nearest(folder: Path) -> Path:
    """Return a folder, or what there is nearest above it: where it would lie."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def write(file: Path, content: bytes) -> None:
    """Write a file whole: beside its place, and then renamed; two processes may write the same one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(file)


def write_json(file: Path, content: object) -> None:
    """Write a file whole."""
    write(file, (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode())


def read_json(file: Path, number: int | None = None) -> dict[str, Any]:
    """Return what a file holds; `number` is the format it has to be of.

    Raises
    ------
    InputError
        There is no such file, it is cut short, or it is of another version.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not JSON, it may be cut short: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no JSON object")
    if number is not None and content.get("format") != number:
        raise InputError(
            f"{file}: written by another version of relid_sumo (format {content.get('format')}, here {number})"
        )
    return content


def read_columns(file: Path) -> Columns:
    """Return a CSV file of numbers by column, as many rows as are whole.

    Raises
    ------
    InputError
        There is no such file, or a value is no number.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if rows and len(rows[-1]) < len(header):
        rows.pop()  # being written
    columns: Columns = {name: [] for name in header}
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{file}, line {line}: {len(row)} values under {len(header)} names")
        for name, text in zip(header, row, strict=True):
            try:
                columns[name].append(float(text))
            except ValueError:
                raise InputError(f"{file}, line {line}, {name} = '{text}': not a number") from None
    return columns


def read(file: Path) -> str:
    """Return a text, byte for byte as it was written."""
    return file.read_bytes().decode("utf-8")
