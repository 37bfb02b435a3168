"""Temporary folders that do not stay if their process is killed: the next process that makes one removes them.

A file next to a folder, ``NAME.lock``, is locked by the process that uses the folder. So each call first removes the
folders of this user whose lock is free.
"""

from __future__ import annotations

import atexit
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relid_sumo.base.cache import check_for_sumo
from relid_sumo.base.errors import InputError


@contextmanager
def folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Yield a new temporary folder, which is removed after the block.

    Parameters
    ----------
    prefix
        Start of its name, for this use alone.
    place
        The folder that it is made in. Default: that of the system.
    """
    made, lock = _made(prefix, place)
    try:
        yield made
    finally:
        _remove(made, os.getpid())
        os.close(lock)


def process_folder(prefix: str) -> Path:
    """Return a new temporary folder, which is removed when this process ends; see `folder`."""
    made, _ = _made(prefix, None)
    atexit.register(_remove, made, os.getpid())  # the lock is open until then
    return made


def _made(prefix: str, place: Path | None) -> tuple[Path, int]:
    """Return a new folder and its open lock."""
    root = _temporary() if place is None else place
    for lock in root.glob(f"{glob.escape(prefix)}*.lock"):
        with suppress(OSError):  # in use, of another user, or just removed by another process
            _remove_unused(lock)
    while True:
        number, name = tempfile.mkstemp(prefix=prefix, suffix=".lock", dir=root)
        with suppress(OSError):  # another process takes it for a free one: take another name
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if Path(name).stat().st_ino == os.fstat(number).st_ino:
                break
        os.close(number)
    made = Path(name).with_suffix("")
    made.mkdir(mode=0o700)
    return made, number


def _temporary() -> Path:
    """Return the system's folder for temporary files."""
    try:
        root = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise InputError(f"{error.strerror}; set TMPDIR to a folder that you may write to") from None
    check_for_sumo(root, "the folder for temporary files", "TMPDIR")
    return root


def _remove_unused(lock: Path) -> None:
    number = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if os.fstat(number).st_uid == os.geteuid():
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.with_suffix(""), os.getpid())
    finally:
        os.close(number)


def _remove(made: Path, maker: int) -> None:
    if os.getpid() == maker:  # not in a fork of it
        shutil.rmtree(made, ignore_errors=True)
        made.with_name(f"{made.name}.lock").unlink(missing_ok=True)
