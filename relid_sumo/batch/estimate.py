"""Estimate the time of cells from one episode of each scenario."""

from __future__ import annotations

import time

from relid_sumo.batch.store import Standing
from relid_sumo.env.play import job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Simulator

Speeds = dict[Simulator, float]  # wall-clock seconds per simulated second

START_S = 8.0  # start of a cell: its process, torch, the scenario from the cache (docs/scaling.md)


def speed(ready: PreparedScenario, simulator: Simulator) -> float:
    """Return the wall-clock seconds per simulated second, measured in one episode."""
    seed = ready.scenario.seeds.training[0]
    episode = job(ready, seed, Policy("shortest"), simulator)
    with Rollouts(ready.task, 1, fork=False) as rollouts:
        start = time.perf_counter()
        (record,) = rollouts.run([episode])
        return (time.perf_counter() - start) / (ready.scenario.demand.warmup_s + record.simulated_s)


def seconds(standing: Standing, ready: PreparedScenario, speeds: Speeds, workers: int) -> float:
    """Return the estimated wall-clock time of the rest of a cell, s.

    The estimate assumes that every episode lasts to the horizon, as at the start of training, and that each traffic
    seed is warmed up once. It excludes the learner's time (about one percent with ten agents) and the additional
    episodes of experts.
    """
    scenario, cell = ready.scenario, standing.cell
    left = cell.train.episodes - standing.episodes
    evaluated = cell.evaluation.seeds or len(scenario.seeds.evaluation)
    warmup_s, whole_s = scenario.demand.warmup_s, scenario.horizon_s
    spent = speeds["micro"] * evaluated * (warmup_s + (1 + len(cell.evaluation.baselines)) * whole_s)
    for simulator, share in cell.train.stages(scenario):
        warmed = min(left * share, len(scenario.seeds.training))
        spent += speeds[simulator] * (warmed * warmup_s + left * share * whole_s)
    return START_S + spent / workers
