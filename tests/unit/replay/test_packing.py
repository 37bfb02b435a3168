"""Packed arrays of a replay, and tracks from the frames of a recording."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from relid_sumo.replay.packing import FINEST_M, Grid, packed, second_differences
from relid_sumo.replay.recording import Frames

TRACKS = st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=9), max_size=6)


def undone(coded: NDArray[np.uint8], starts: list[int]) -> list[int]:
    """Return the values of second differences, computed as the page does (codec.js)."""
    n = len(coded) // 2
    values, speed, value = [], 0, 0
    for i in range(n):
        if i in starts:
            speed = value = 0
        zigzag = int(coded[i]) | int(coded[n + i]) << 8
        speed = (speed + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535
        value = (value + speed) & 65535
        values.append(value)
    return values


@given(TRACKS)
def test_second_differences_can_be_undone(tracks: list[list[int]]) -> None:
    values = [value for track in tracks for value in track]
    starts = np.cumsum([0, *map(len, tracks)])[:-1].astype(np.int64)
    coded = second_differences(np.array(values, np.uint16), starts)
    assert undone(coded, starts.tolist()) == values


def test_a_steady_drive_takes_less_than_half_a_byte_per_position() -> None:
    metres = np.linspace(0.0, 9000.0, 900)
    grid = Grid.around(np.array([[0.0, 0.0], [10000.0, 10000.0]]))
    x = grid.rounded(np.column_stack([metres, metres]))[:, 0]
    assert len(packed(second_differences(x, np.array([0])))) < 450


@pytest.mark.parametrize(("size_m", "quantum_m"), [(5000.0, FINEST_M), (65535.0, 1.0)])
def test_positions_are_rounded_to_the_finest_grid_that_covers_the_area(size_m: float, quantum_m: float) -> None:
    corners = np.array([[-100.0, 40.0], [size_m - 100.0, 40.0]])
    grid = Grid.around(corners)
    assert grid.quantum == quantum_m
    back = grid.rounded(corners) * grid.quantum + (grid.x, grid.y)
    assert np.abs(back - corners).max() <= quantum_m / 2


def test_texts_and_arrays_are_packed_as_little_endian_zlib() -> None:
    assert zlib.decompress(base64.b64decode(packed("Straße"))) == "Straße".encode()
    assert zlib.decompress(base64.b64decode(packed(np.array([1, 258], ">u2")))) == b"\x01\x00\x02\x01"


class Vehicles:
    """Positions as SUMO gives them: vehicles by name, in each step."""

    def __init__(self) -> None:
        self.now: dict[str, tuple[float, float]] = {}

    def getIDList(self) -> list[str]:  # noqa: N802 - SUMO's interface
        return list(self.now)

    def getPosition(self, name: str) -> tuple[float, float]:  # noqa: N802
        return self.now[name]


def test_a_vehicle_that_teleports_has_two_tracks() -> None:
    frames, vehicles = Frames(1.0), Vehicles()
    nowhere = -1073741824.0
    for x, y in [(0.0, 5.0), (10.0, 5.0), (nowhere, nowhere), (500.0, 5.0)]:
        vehicles.now = {"a": (x, y), "b": (1.0, 2.0)}
        frames.read(vehicles)
    tracks = frames.tracks()
    assert [tracks.names[v] for v in tracks.vehicle] == ["a", "a", "b"]
    assert tracks.first.tolist() == [0, 3, 0]
    assert tracks.length.tolist() == [2, 1, 4]
    assert tracks.xy[:3].tolist() == [[0.0, 5.0], [10.0, 5.0], [500.0, 5.0]]


def test_short_steps_are_recorded_once_per_second() -> None:
    frames, vehicles = Frames(0.25), Vehicles()
    for step in range(9):
        vehicles.now = {"a": (float(step), 0.0)}
        frames.read(vehicles)
    tracks = frames.tracks()
    assert tracks.frame_s == 1.0
    assert tracks.xy[:, 0].tolist() == [0.0, 4.0, 8.0]
