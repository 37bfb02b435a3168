"""Checks of files from others: plain names, paths inside their folder, folders without links to the outside."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator

from relid_sumo.base.errors import InputError

LONGEST_NAME = 80  # characters: the name of a cell has two names and a seed, and a file name has at most 255
LONGEST_PATH = 4000
MOST_MIB = 256  # size limit of a settings or text file that is read as a whole
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
PART = ".part"  # ending of files being written


def check_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return the name of a scenario, a network, a label or a cell, if it is suitable for files and folders.

    Raises
    ------
    ValueError
        The name has other characters than letters, digits, ``_``, ``-`` and ``.``, begins with ``-`` or ``.``, is
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
    """Return a text with control characters escaped, because they could change the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def place(folder: Path, name: str, what: str) -> Path:
    """Return the path of a name in a folder.

    Parameters
    ----------
    folder
        A folder that a stranger may have made. Links in the path to it are the user's own.
    name
        A relative path, or an absolute one into the folder.
    what
        Source of the name, for the message: a file and its key.

    Raises
    ------
    InputError
        The path or the target of a link is outside the folder, or it is neither a file nor a folder.
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
            f"{what} = '{name}': lies outside {folder}, and a file may name only files in its own folder; copy it there"
        )
    if not within:
        raise InputError(f"{what} = '{name}': a link in {folder} leads out to {real}; copy the file in its place")
    if real.exists() and not (real.is_file() or real.is_dir()):
        raise InputError(f"{what} = '{name}': neither a file nor a folder; remove it")
    return file


def check_own(file: Path) -> None:
    """Check that a file to be written in place, such as a lock, is no link and no device.

    Raises
    ------
    InputError
        It is something else than a file; the message names it.
    """
    if file.is_symlink():
        raise InputError(f"{printable(str(file))}: a link in place of a file that is written here; remove it")
    if file.exists() and not file.is_file():
        raise InputError(f"{printable(str(file))}: not a file, which is needed here; remove it")


def check_folder(folder: Path) -> None:
    """Check that a folder contains only files, folders and links to its inside.

    Raises
    ------
    InputError
        It contains something else; the message names it.
    """
    root = folder.resolve()
    waiting = [root]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue  # a folder that does not exist yet, or a file of a run being written
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


def open_file(file: Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises
    ------
    OSError
        As `Path.open`.
    InputError
        It is a pipe, a device or another thing that is not a file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # without it, a pipe blocks here
    number = os.open(file, flags)
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(number, "rb")
    os.close(number)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    raise InputError(f"{printable(str(file))}: a pipe or a device, not a file; give a file")


def read_text(file: Path, most_mib: float = MOST_MIB) -> str:
    """Return a text file of a bounded size.

    Raises
    ------
    OSError, UnicodeDecodeError
        As `Path.read_text`.
    InputError
        The file is larger, or it is a pipe or a device, from which reading may never end.
    """
    with open_file(file) as stream:
        content = stream.read(int(most_mib * 2**20) + 1)
    if len(content) > most_mib * 2**20:
        raise InputError(f"{file}: larger than {most_mib:g} MiB, the limit of such a file; use a smaller one")
    return content.decode("utf-8")
