"""Arrays as short text: differences, zlib and base64. The page's script reads them again (codec.js).

Positions are quantised to 16 bits. A vehicle's speed hardly changes from frame to frame, so that the second differences
are small numbers, which compress to a few bits each.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Floats

FINEST_M = 0.25  # quantum of positions in areas up to 16 km
LARGEST = 2**16 - 1


@dataclass(frozen=True)
class Grid:
    """The grid to which positions are rounded: its lower left corner (x, y) and the distance of its points, m."""

    x: float
    y: float
    quantum: float

    @classmethod
    def around(cls, *points: Floats) -> Grid:
        """Return the finest grid that covers points, each array of shape (n, 2), m."""
        every = np.concatenate(points)
        low, high = every.min(axis=0), every.max(axis=0)
        return cls(float(low[0]), float(low[1]), max(FINEST_M, float((high - low).max()) / LARGEST))

    def rounded(self, xy: Floats) -> NDArray[np.uint16]:
        """Return positions, shape (n, 2), in quanta from the corner."""
        steps = np.rint((xy - (self.x, self.y)) / self.quantum)
        return np.clip(steps, 0, LARGEST).astype(np.uint16)


def packed(values: NDArray[np.generic] | str) -> str:
    """Return an array (little-endian) or a text, compressed and in base64."""
    content = values.encode() if isinstance(values, str) else values.astype(values.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(zlib.compress(content, 9)).decode()


def second_differences(values: NDArray[np.uint16], starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the second differences of tracks, zigzag-coded: all low bytes, then all high bytes.

    Parameters
    ----------
    values
        The tracks one after the other, shape (n,). Before its start a track is 0.
    starts
        Index of the first value of each track.
    """
    wide = values.astype(np.int64)
    once = np.roll(wide, 1)
    once[starts] = 0
    twice = np.roll(once, 1)
    twice[starts] = 0
    wrapped = (wide - 2 * once + twice).astype(np.int16)
    zigzag = ((wrapped << 1) ^ (wrapped >> 15)).view(np.uint16)
    return np.concatenate([zigzag & 255, zigzag >> 8]).astype(np.uint8)
