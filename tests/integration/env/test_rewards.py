"""Returns in SUMO, for every end of a trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from relid_sumo.env.episode import Episode, warm_up
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.sim.bridge import SumoBridge

pytestmark = pytest.mark.sumo

LOST_S = 110.0


class Losing(SumoBridge):
    """SUMO, in which one vehicle is removed at `LOST_S` and another one finds no room to depart."""

    removed, waits = "", ""

    def step(self) -> float:
        now = super().step()
        if now == LOST_S and self.road(self.removed) is not None:
            self.api.vehicle.remove(self.removed)
        return now

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        super().add(vehicle, route, 1e6 if vehicle == self.waits else depart_s, rerouting=rerouting, kind=kind)


@pytest.fixture(scope="module")
def driven(town_ready: PreparedScenario) -> Iterator[tuple[PreparedScenario, dict[str, EpisodeRecord]]]:
    """Return the town with a horizon that not all of its agents reach, and the same episode with and without losses."""
    scenario = town_ready.scenario.model_copy(update={"horizon_s": 330.0})
    ready = replace(town_ready, scenario=scenario, task=replace(town_ready.task, scenario=scenario))
    records = {}
    for name, events in (("plain", ("", "")), ("lossy", ready.task.names[:2])):
        bridge = Losing(ready.options(0), program="sumo")
        bridge.removed, bridge.waits = str(events[0]), str(events[1])
        try:
            warm_up(bridge, scenario)
            episode = Episode(ready.task, bridge, observe=False)
            choose = Policy("shortest").start()
            while decisions := episode.advance():
                for decision in decisions:
                    episode.act(decision, choose(episode, decision))
            records[name] = episode.record()
        finally:
            bridge.close()
    yield ready, records


def test_rewards_telescope(driven: tuple[PreparedScenario, dict[str, EpisodeRecord]]) -> None:
    ready, records = driven
    task, w_d = ready.task, ready.scenario.reward.w_d
    seen = set()
    for record in records.values():
        for i, status in enumerate(record.status):
            seen.add(status)
            d_0, to_go, route = float(task.start_to_go[i]), task.to_go[task.row[i]], record.routes[i]
            d_t = float(to_go[route[-1]]) if len(route) else d_0
            d_t = {"arrived": 0.0, "horizon": d_t, "lost": max(d_0, d_t), "never inserted": d_0}[status]
            took = record.travel_time[i] if status == "arrived" else ready.scenario.horizon_s - task.depart_s[i]
            assert record.returns[i] == pytest.approx(w_d * (d_0 - d_t) - took)
            mine = np.flatnonzero(record.agent == i)
            if len(mine):
                before = w_d * (d_0 - to_go[record.edge[mine[0]]])
                before -= record.time[mine[0]] - ready.scenario.start_s - task.depart_s[i]
                assert before + record.reward[mine].sum() == pytest.approx(record.returns[i])
    assert seen == {"arrived", "horizon", "lost", "never inserted"}


def test_the_lost_vehicle_does_worse(driven: tuple[PreparedScenario, dict[str, EpisodeRecord]]) -> None:
    _, records = driven
    assert records["lossy"].status[:2] == ("lost", "never inserted")
    assert (records["lossy"].returns[:2] < records["plain"].returns[:2]).all()
