"""Named random streams: every random number of a run comes from its seed and a name."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends only on `seed` and the names.

    The derivation is BLAKE2 over the text of the names, so it is the same on every machine and version.
    """
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a fresh generator for the stream of `seed` with these names."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))


def sumo_seed(seed: int, *names: str | int) -> int:
    """Return a seed in the range SUMO takes (31 bits)."""
    return derive(seed, *names) & 0x7FFFFFFF
