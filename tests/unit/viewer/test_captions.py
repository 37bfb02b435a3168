"""The texts of a show, without windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.viewer.captions import clock, summary
from relid_sumo.viewer.drawing import arrow, beside, first_metres
from relid_sumo.viewer.gui import Shown


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((594.4, 589.6), "a is 4 s slower than b in this traffic"),
        ((400.0, 500.0), "a is 100 s (20%) faster than b in this traffic"),
        ((400.0, 400.4), "a and b need the same time on average"),
    ],
)
def test_the_difference_is_that_of_the_times_that_are_shown(
    crossing: RoutingTask, toy_drive: Callable[..., EpisodeRecord], times: tuple[float, float], said: str
) -> None:
    record = toy_drive(crossing, Policy("shortest"))
    records = [replace(record, travel_time=np.full(crossing.n_agents, seconds)) for seconds in times]
    shown = [cast(Shown, SimpleNamespace(name=name)) for name in "ab"]
    lines = summary(shown, records)
    assert lines[0] == f"a: {times[0]:.0f} s on average, 6 of 6 agents arrived"
    assert lines[-1] == said


def test_a_time_is_given_in_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0, 61.9, 3600)] == ["0:00", "1:01", "60:00"]


def test_the_start_of_a_line_has_its_length() -> None:
    corner: Any = [(0.0, 0.0), (3.0, 0.0), (3.0, 4.0)]
    assert first_metres(corner, 5.0) == [(0.0, 0.0), (3.0, 0.0), (3.0, 2.0)]
    assert first_metres(corner, 50.0) == corner


def test_a_line_is_moved_to_its_left() -> None:
    assert beside([(0.0, 0.0), (10.0, 0.0)], 2.0) == [(0.0, 2.0), (10.0, 2.0)]


def test_an_arrow_points_from_its_start_to_its_tip() -> None:
    area = np.array(arrow((0.0, 0.0), (10.0, 0.0), 0.5))
    assert area[:, 0].max() == 10.0
    assert sorted(area[area[:, 0] == 0.0][:, 1]) == [-0.5, 0.5]
