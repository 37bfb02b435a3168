"""Read .npz files that may be damaged: one message, no code from the file, no more memory than the file is large."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from relid_sumo.base.errors import InputError
from relid_sumo.base.safe_paths import open_file

MOST_MIB = 4096  # of all arrays of a file
ENDING = ".npy"
DAMAGE = (
    *(EOFError, ValueError, TypeError, KeyError, AttributeError, MemoryError, NotImplementedError, RuntimeError),
    *(RecursionError, OverflowError, SyntaxError, zipfile.BadZipFile, zlib.error),
)


def read_npz(file: Path, names: Collection[str], what: str, fix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name.

    Parameters
    ----------
    names
        The names that the file has, and no others.
    what
        What the file should be, for the message.
    fix
        How the user can fix a damaged file, for the message.

    Raises
    ------
    InputError
        The file is missing or damaged, or has other arrays.
    """
    try:
        with open_file(file) as source, zipfile.ZipFile(source) as packed:
            members = packed.infolist()
            if sum(one.file_size for one in members) > MOST_MIB * 2**20:
                raise ValueError(f"it has more than {MOST_MIB} MiB of arrays")
            if sorted(one.filename for one in members) != sorted(f"{name}{ENDING}" for name in names):
                shown = ", ".join(repr(one.filename[:60]) for one in members[:20])
                raise ValueError(f"it has the parts {shown}, and should have {', '.join(sorted(names))}")
            return {one.filename.removesuffix(ENDING): _array(packed, one) for one in members}
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file; {fix}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}; {fix}") from None
    except DAMAGE as error:
        raise InputError(f"{file}: not {what}, or damaged: {str(error)[:300] or type(error).__name__}; {fix}") from None


def _array(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Return one array, whose header must describe exactly the bytes that follow: numpy allocates what it says."""
    with packed.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} has an unknown version")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, in_columns, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} contains Python objects, which are not read")
        count = 1
        for length in shape:
            count *= length
        if min(shape, default=0) < 0 or stream.tell() + count * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename} is not as long as its shape {shape} says")
        content = bytearray(stream.read())
    if not content:
        return np.empty(shape, dtype)
    flat: NDArray[Any] = np.frombuffer(content, dtype=dtype, count=count)
    return flat.reshape(shape[::-1]).transpose() if in_columns else flat.reshape(shape)
