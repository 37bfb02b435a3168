"""Two baselines: one chooses at each junction, one plans whole routes before anybody drives.

relid-sumo evaluate runs/town --baselines shortest,examples/baseline.py:next_edge,examples/baseline.py:main_roads
"""

from __future__ import annotations

from relid_sumo import Junction, PreparedScenario, planner

LANE_FACTOR = 0.8


def next_edge(junction: Junction) -> int:
    """Choose the slot with the shortest time: present travel time of the edge, then free flow."""
    return min(
        junction.open_slots,
        key=lambda slot: junction.travel_time(slot) + junction.free_flow_to_go(junction.next_edge(slot)),
    )


@planner
def main_roads(ready: PreparedScenario) -> list[list[int]]:
    """Plan the free-flow fastest route of every agent, each additional lane making an edge a fifth cheaper."""
    graph, task = ready.network.graph, ready.task
    cost = graph.free_flow_s * LANE_FACTOR ** (graph.lanes - 1)
    ends = zip(task.origin.tolist(), task.destination.tolist(), strict=True)
    return [graph.path(origin, destination, cost) for origin, destination in ends]
