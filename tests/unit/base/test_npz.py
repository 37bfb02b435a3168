"""Damaged .npz files give one message, run no code and take no memory that the file does not have."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutate
import numpy as np
import pytest
from numpy.typing import NDArray

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.base.npz import read_npz

ARRAYS: dict[str, NDArray[Any]] = {
    "numbers": np.arange(6, dtype=np.float64).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "names": np.array(["a", "bc"]),
    "flags": np.zeros((0, 4), dtype=np.bool_),
    "one": np.array("text"),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_read_as_they_were_written(compressed: bool, tmp_path: Path) -> None:
    files.write_npz(tmp_path / "a.npz", ARRAYS, compressed=compressed)
    read = read_npz(tmp_path / "a.npz", ARRAYS, "a file of numbers", "make it again")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert (read[name] == array).all()
        assert read[name].flags.writeable


def _npz(change: Callable[[zipfile.ZipFile], object], without: str = "") -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as packed:
        warnings.simplefilter("ignore")
        for name, array in ARRAYS.items():
            if name != without:
                member = io.BytesIO()
                np.save(member, array)
                packed.writestr(f"{name}.npy", member.getvalue())
        change(packed)
    return out.getvalue()


def _objects() -> bytes:
    member = io.BytesIO()
    np.save(member, np.array([{}], dtype=object))
    return member.getvalue()


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (70368744177664,), }".ljust(117) + "\n"
FAULTS = {
    "huge": (
        _npz(lambda z: z.writestr("one.npy", b"\x93NUMPY\x01\x00\x76\x00" + HUGE.encode()), "one"),
        "not as long as its shape",
    ),
    "pickle": (_npz(lambda z: z.writestr("one.npy", b"\x80\x04N."), "one"), "not a file of numbers, or damaged"),
    "objects": (_npz(lambda z: z.writestr("one.npy", _objects()), "one"), "Python objects"),
    "twice": (_npz(lambda z: z.writestr("one.npy", b"")), "it has the parts"),
    "more": (_npz(lambda z: z.writestr("more.npy", b"")), "it has the parts"),
    "without": (_npz(lambda z: None, "one"), "it has the parts"),
    "empty": (b"", "not a zip file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_message_with_the_file_and_the_fix(name: str, tmp_path: Path) -> None:
    content, said = FAULTS[name]
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.npz: .*{said}.*; make it again"):
        read_npz(tmp_path / "a.npz", ARRAYS, "a file of numbers", "make it again")


def test_no_damage_is_another_error(tmp_path: Path) -> None:
    content, refused = _npz(lambda z: None), 0
    for seed in range(500):
        rng = random.Random(seed)
        (tmp_path / "a.npz").write_bytes(mutate.damage("a.npz", content, rng)[1])
        try:
            read_npz(tmp_path / "a.npz", ARRAYS, "a file of numbers", "make it again")
        except InputError:
            refused += 1
    assert refused > 250
    (tmp_path / "a.npz").unlink()
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(InputError, match="Is a directory; make it again"):
        read_npz(tmp_path / "a.npz", ARRAYS, "a file of numbers", "make it again")
