"""Read, write and lock files. Writes are complete or have no effect; errors name the file."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from relid_sumo.base import redact, safe_paths
from relid_sumo.base.errors import InputError

log = logging.getLogger(__name__)

PART = re.compile(r"\.\d+-\d+\.part$")  # end of the name of an unfinished file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the limit of a file's size
RIGHTS = "; choose another place, or change its permissions"
FIXES = {  # by error of the system
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), RIGHTS),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR), "; remove it, or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "; raise the limit of open files: ulimit -n"),
    errno.EIO: "; the disk reports a fault: check it, and restore the file from a copy",
}

RESTORE = "restore the file from a copy, or make it again"
COUNTS = {"update", "episodes", "round"}  # whole numbers

Columns = dict[str, list[float]]


def nearest(folder: Path) -> Path:
    """Return a folder, or its nearest existing parent."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def check_writable(file: Path, option: str) -> None:
    """Raise InputError if a file cannot be written; `option` names the option with its path."""
    above = nearest(file.parent)
    if file.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{option} {file}: it is a folder, or {above} cannot be written; choose another file")


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; then flush it to disk and rename it to the file.

    Readers see the old file or the new one, never a part, and two processes may write the same file. If the block
    raises, the file does not change.
    """
    part = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.part")
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            put(part, file)
        finally:
            part.unlink(missing_ok=True)


def put(made: Path, place: Path) -> None:
    """Flush a file, or a folder of files, to disk and rename it to `place`, on the same disk."""
    for path in [made] if made.is_file() else [*made.rglob("*"), made]:
        _flush(path)
    made.replace(place)
    _flush(place.parent)


def _flush(path: Path) -> None:
    """Flush a file's content, or a folder's names, to disk."""
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network disks flush no folders
            raise
    finally:
        os.close(number)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name a file in an error of the system that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from None


def explained(error: OSError, again: str = "run the same command again") -> str:
    """Return an error of the system as a message for users: the path, the reason and what to do.

    Parameters
    ----------
    again
        What to do once a full disk has room.
    """
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in FULL:
        return f"{where}{error.strerror}; free some space, or raise the quota, and {again}"
    return f"{where}{error.strerror or error}{FIXES.get(error.errno or 0, '')}"


def write(file: Path, content: bytes, *, binary: bool = False) -> None:
    """Write a file completely or not at all; see `whole`. Keys are hidden (`relid_sumo.base.redact`).

    Parameters
    ----------
    binary
        The content is arrays or pictures, in which nothing is replaced.
    """
    with whole(file) as part:
        part.write_bytes(content if binary else redact.redact_bytes(content))


def append(file: Path, content: bytes) -> None:
    """Append text to a file completely or not at all, and flush it to disk; keys are hidden."""
    with naming(file), file.open("ab", buffering=0) as out:
        size = os.fstat(out.fileno()).st_size
        try:
            rest = memoryview(redact.redact_bytes(content))
            while rest:
                rest = rest[out.write(rest) :]
            os.fsync(out.fileno())
        except OSError:
            os.ftruncate(out.fileno(), size)
            raise


def write_npz(file: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> None:
    """Write named arrays as one .npz file; see `whole`."""
    with whole(file) as part, part.open("wb") as out:
        (np.savez_compressed if compressed else np.savez)(out, **arrays)  # type: ignore[arg-type] # names are not options


def write_json(file: Path, content: object) -> None:
    """Write a JSON file; see `whole`."""
    write(file, (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode())


class LockedError(InputError):
    """Another process has a lock; `holder` names it."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


@contextmanager
def locked(file: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a file. The system releases the lock however this process ends.

    Parameters
    ----------
    wait
        Wait for the process that has the lock instead of raising an error.

    Raises
    ------
    LockedError
        Another process has the lock.
    InputError
        The lock file is a link.
    OSError
        The lock file cannot be made.
    """
    safe_paths.check_own(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip() or "another process"
        if not wait:
            raise LockedError(f"{file} is locked by {holder}; wait for it, or end it", holder) from None
        log.info(f"waiting for {holder}, which has locked {file}")
        lock.acquire()
    try:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def locked_folder(folder: Path, name: str, in_use: str, another: str = "--out") -> Iterator[None]:
    """Lock a folder by a file in it, with messages for the user.

    Parameters
    ----------
    name
        The lock file in the folder.
    in_use
        Says that another process, ``{holder}``, uses the folder.
    another
        What the user can choose another of.

    Raises
    ------
    InputError
        Another process has the lock, the lock file is a link, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / name))
        except LockedError as error:
            reason = in_use.format(holder=error.holder)
            raise InputError(f"{folder}: {reason}; wait for it, end it, or choose another {another}") from None
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror}; choose another {another}") from None
        _remove_parts(folder)
        yield


def _remove_parts(folder: Path) -> None:
    """Remove the unfinished files (`whole`) of processes that were killed, in a folder that this process has locked."""
    for pattern in ("*.part", "*/*.part"):
        for part in folder.glob(pattern):
            if is_part(part):
                part.unlink(missing_ok=True)


def is_part(file: Path) -> bool:
    """Return whether a file is an unfinished one of `whole`."""
    return PART.search(file.name) is not None and file.is_file()


def is_locked(file: Path) -> bool:
    """Return whether a process has locked a file.

    Raises
    ------
    InputError
        The lock file is a link.
    """
    safe_paths.check_own(file)
    if not file.is_file():
        return False
    try:
        with FileLock(file).acquire(timeout=0):
            return False
    except Timeout:
        return True


def read_json(file: Path, number: int | None = None, advice: str = "") -> dict[str, Any]:
    """Return the content of a JSON file. `number` is the required format; `advice` says what to do with another one.

    Raises
    ------
    InputError
        There is no such file, it is incomplete, or it is of another version.
    """
    try:
        content = json.loads(safe_paths.read_text(file))
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON, it may be cut short: {error}; {RESTORE}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: contains no JSON object; {RESTORE}")
    if number is not None and content.get("format") != number:
        raise InputError(
            f"{file}: written by another version of relid_sumo (format {content.get('format')}, here {number})"
            + (f": {advice}" if advice else "")
        )
    return content


def read_columns(file: Path) -> Columns:
    """Return the complete rows of a CSV file of numbers, by column.

    Raises
    ------
    InputError
        There is no such file, or a value is not a number.
    """
    try:
        header, *rows = list(csv.reader(io.StringIO(safe_paths.read_text(file), newline=""))) or [[]]
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if rows and len(rows[-1]) < len(header):
        rows.pop()  # incomplete: being written
    columns: Columns = {name: [] for name in header}
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{file}, line {line}: {len(row)} values under {len(header)} names; {RESTORE}")
        for name, text in zip(header, row, strict=True):
            try:
                columns[name].append(float(text))
                if name in COUNTS:
                    int(columns[name][-1])
            except (ValueError, OverflowError):
                shown = safe_paths.printable(text[:60])
                raise InputError(f"{file}, line {line}, {name} = '{shown}': not a number; {RESTORE}") from None
    return columns


def read(file: Path) -> str:
    """Return the text of a file unchanged.

    Raises
    ------
    InputError
        The file is larger than any text of a run, or not UTF-8.
    """
    try:
        return safe_paths.read_text(file)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text (byte {error.start}); restore it, or delete it") from None
