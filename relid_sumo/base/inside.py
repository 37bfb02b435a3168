"""What others made: plain names, paths that stay in their folder, folders without links that lead out."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from relid_sumo.base.errors import InputError

LONGEST_NAME = 80  # characters: a cell is named after two names and a seed, and a file name may have 255
LONGEST_PATH = 4000
MOST_MIB = 256  # of a settings or text file that is read as a whole
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
PART = ".part"  # the ending of what is being written


def check_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name of a scenario, a network, a label or a cell, which names files and folders.

    Raises
    ------
    ValueError
        It is not letters, digits, ``_``, ``-`` and ``.`` alone, begins with ``-`` or ``.``, is reserved or too long.
    """
    if not PLAIN.fullmatch(name):
        raise ValueError(
            "a name names files: use letters, digits, '_', '-' and '.' alone, and begin with a letter, a digit or '_'"
        )
    if len(name) > longest:
        raise ValueError(f"a name has at most {longest} characters: it names files")
    if name.endswith((".", PART)) or name.partition(".")[0].lower() in RESERVED:
        raise ValueError(
            f"this name is reserved: choose one that no system reserves and that does not end in '.' or '{PART}'"
        )
    return name


def _check_cell(name: str) -> str:
    return check_name(name, 2 * LONGEST_NAME + 22)  # two names, and a seed


Name = Annotated[str, AfterValidator(check_name)]
CellName = Annotated[str, AfterValidator(_check_cell)]


def printable(text: str) -> str:
    """Return a text with control characters, which could move the cursor or recolour a terminal, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def place(folder: Path, name: str, what: str) -> Path:
    """Return the path of what a name means in a folder.

    Parameters
    ----------
    folder
        The folder that a stranger may have made; a link in the path to it is the user's own.
    name
        A relative path, or an absolute one into the folder.
    what
        What names it, for the message: a file and its key.

    Raises
    ------
    InputError
        It lies outside the folder, a link leads there, or it is neither a file nor a folder.
    """
    if (
        not name
        or len(name) > LONGEST_PATH
        or any(len(part) > 255 for part in name.split("/"))
        or printable(name) != name
    ):
        raise InputError(f"{what} = {name[:60]!r}: no path; give the name of a file in {folder}")
    root = folder.resolve()
    file = root / name
    real = file.resolve()
    within = real.is_relative_to(root)
    if ".." in Path(name).parts or (Path(name).is_absolute() and not within):
        raise InputError(
            f"{what} = '{name}': lies outside {folder}, and what a file names must lie in its own folder; copy it there"
        )
    if not within:
        raise InputError(f"{what} = '{name}': a link in {folder} leads out to {real}; copy the file in its place")
    if real.exists() and not (real.is_file() or real.is_dir()):
        raise InputError(f"{what} = '{name}': neither a file nor a folder; remove it")
    return file


def check_folder(folder: Path) -> None:
    """Check that nothing in a folder is a link that leads out of it, or neither a file nor a folder.

    Raises
    ------
    InputError
        Something is; the message names it.
    """
    root = folder.resolve()
    waiting = [root]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue  # a folder that is not there yet, or a file of a run that is being written
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
        for entry in entries:
            shown = printable(str(folder / Path(entry.path).relative_to(root)))
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(mode):
                if not Path(entry.path).resolve().is_relative_to(root):
                    raise InputError(
                        f"{shown}: a link that leads out of {folder}, where nothing is read or written; remove it, or "
                        "copy in its place what it leads to"
                    )
            elif stat.S_ISDIR(mode):
                waiting.append(Path(entry.path))
            elif not stat.S_ISREG(mode):
                raise InputError(f"{shown}: neither a file nor a folder; remove it")


def read_text(file: Path, most_mib: float = MOST_MIB) -> str:
    """Return a text file of a bounded size.

    Raises
    ------
    OSError, UnicodeDecodeError
        As `Path.read_text`.
    InputError
        It is larger.
    """
    with file.open("rb") as stream:
        content = stream.read(int(most_mib * 2**20) + 1)
    if len(content) > most_mib * 2**20:
        raise InputError(f"{file}: larger than {most_mib:g} MiB, which no file of its kind is")
    return content.decode("utf-8")
