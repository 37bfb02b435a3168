"""A reward: minus the travel time, and a toll for each metre of fast road.

relid-sumo train town --set reward.kind=examples/reward.py:toll --algo ippo --episodes 40 --out runs/toll
"""

from __future__ import annotations

from relid_sumo import Leg

FAST_MPS = 60 / 3.6
TOLL_S_PER_M = 0.01


def toll(leg: Leg) -> float:
    """Return the reward of what was driven since the last decision, s."""
    graph = leg.task.graph
    fast_m = sum(float(graph.length[edge]) for edge in leg.edges if graph.speed[edge] > FAST_MPS)
    return leg.begin_s - leg.end_s - TOLL_S_PER_M * fast_m
