"""What a junction tells, and observations of the user's own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.env.episode import Episode
from relid_sumo.env.observation import Junction, observation, observer, scaled, times_free_flow
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.settings import Observation
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.toy import ToyBridge

OWN = """
import numpy as np
from relid_sumo import InputError, observation

@observation(per_slot=1, own=1)
def ones(junction):
    return np.ones((len(junction.mask), 1)), [0.5]

@observation(per_slot=1, own=1)
def refuses(junction):
    raise InputError("this junction is refused")

@observation(per_slot=1, own=1)
def fails(junction):
    return junction.no_such_attribute

@observation(per_slot=1, own=1)
def wide(junction):
    return np.ones((len(junction.mask), 2)), [0.5]

@observation(per_slot=1, own=1)
def infinite(junction):
    return np.ones((len(junction.mask), 1)), [np.inf]
"""


@pytest.fixture
def junction(crossing: RoutingTask) -> Junction:
    """Return the first junction at which an agent decides."""
    episode = Episode(crossing, ToyBridge(crossing.graph))
    return episode.junction(episode.advance()[0])


def test_a_junction_tells_distances_and_times_of_its_agent(junction: Junction, crossing: RoutingTask) -> None:
    row, edge = crossing.row[junction.agent], junction.next_edge(junction.open_slots[0])
    assert junction.to_go(edge) == crossing.to_go[row, edge] > 0
    assert junction.free_flow_to_go(edge) == crossing.free_to_go[row, edge] > 0
    assert [bool(junction.mask[slot]) for slot in range(len(junction.mask))] == [
        slot in junction.open_slots for slot in range(len(junction.mask))
    ]
    asked: list[tuple[str, str | None, bool]] = []

    class Asked(ToyBridge):
        def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
            asked.append((edge, vehicle, smoothed))
            return 7.0

    told = replace(junction, bridge=Asked(crossing.graph))
    assert told.travel_time(junction.open_slots[0]) == told.travel_time(junction.open_slots[0], smoothed=False) == 7.0
    name = str(crossing.graph.edge_ids[edge])
    assert asked == [(name, crossing.names[junction.agent], True), (name, crossing.names[junction.agent], False)]


def test_widths_are_at_least_one() -> None:
    for per_slot, own in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="both must be at least 1"):
            observation(per_slot=per_slot, own=own)
    observation(per_slot=1, own=1)


def test_an_own_observation_is_checked(junction: Junction, crossing: RoutingTask, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)

    def of(name: str) -> RoutingTask:
        scenario = crossing.scenario.model_copy(update={"observation": Observation(kind=f"{file}:{name}")})
        return replace(crossing, scenario=scenario, layout=Layout(1, 1))

    for name, message in {
        "refuses": "^this junction is refused$",
        "fails": r"observation '.*own.py:fails'.*no_such_attribute",
        "wide": r"own.py:wide': it returns shapes \(\d, 2\) and \(1,\), but declares \(\d, 1\) and \(1,\)",
        "infinite": r"own.py:infinite': at .* s it returns a value that is not finite",
    }.items():
        with pytest.raises(InputError, match=message):
            observer(of(name))(junction)
    seen = observer(of("ones"))(junction)
    assert seen.dtype == np.float32
    assert seen.tolist() == [1.0] * len(junction.mask) + [0.5]


@pytest.mark.parametrize(("times", "scale"), [(1.0, -1.0), (2.0**1.5, 0.0), (64.0, 1.0)])
def test_congestion_on_the_scale_and_back(times: float, scale: float) -> None:
    assert float(scaled(np.log2(times))) == pytest.approx(scale)
    assert float(times_free_flow(scale)) == pytest.approx(times)
