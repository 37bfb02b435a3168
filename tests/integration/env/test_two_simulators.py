"""The same traffic looks alike to an agent in both simulators: `tools/bench_observation.py` in validation traffic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_observation import SIMULATORS, background, decisions, distance

from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.traffic import readings
from relid_sumo.sim.bridge import SumoBridge

pytestmark = pytest.mark.sumo

MOST = 0.1  # Kolmogorov-Smirnov distance
ALIKE = ("congestion", "distance", "own distance")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_sample_is_what_an_agent_reads(town_ready: PreparedScenario, simulator: Simulator) -> None:
    scenario, network = town_ready.scenario, town_ready.network
    every = readings.sample(scenario, network, 1, simulator)
    bridge = SumoBridge(town_ready.options(1, simulator), window_s=scenario.observation.window_s)
    try:
        assert bridge.mesoscopic == (simulator == "meso")
        while bridge.step() < 300.0:
            pass
        edges = [str(name) for name in network.graph.edge_ids]
        read = np.array([bridge.travel_time(name, smoothed=True) for name in edges])
    finally:
        bridge.close()
    differs = np.abs(every - read).mean(axis=1)
    now = round((300.0 - scenario.start_s) / 10)
    assert int(np.argmin(differs)) == now
    assert differs[now] < 0.5 * np.delete(differs, now).min()
    assert np.median(np.abs(every[now] - read)) < 0.02  # SUMO prints 0.01 s


def check(name: str, seeds: int) -> None:
    """Compare the observations of a scenario in both simulators."""
    ready = prepare(load_scenario(name), simulators=SIMULATORS)
    chosen = ready.scenario.seeds.validation[:seeds]
    edges = background(ready, chosen)
    assert distance(edges["micro"], edges["meso"]) < MOST
    assert distance(edges["micro"], edges["raw"]) > MOST  # so that the translation is what makes them alike
    seen = decisions(ready, chosen)
    assert {entry: distance(seen["micro"][entry], seen["meso"][entry]) for entry in ALIKE} == {
        entry: pytest.approx(0, abs=MOST) for entry in ALIKE
    }


def test_the_town(cache_dir: Path) -> None:
    del cache_dir  # requested because it sets the cache
    check("town", 2)


@pytest.mark.slow
@pytest.mark.osm
@pytest.mark.parametrize("city", ["orlando", "hong_kong"])
def test_the_cities(city: str, osm_dir: Path) -> None:
    del osm_dir  # requested because it checks that there are extracts
    check(city, 1)
