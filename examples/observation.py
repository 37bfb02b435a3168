"""An observation: each next edge's travel time and remaining free-flow time, and the vehicle's own remaining time.

relid-sumo train town --algo ippo --set observation.kind=examples/observation.py:minutes --episodes 40 --out runs/m
"""

from __future__ import annotations

from typing import Any

import numpy as np

from relid_sumo import Junction, observation

SCALE_S = 300.0


@observation(per_slot=3, own=2)
def minutes(junction: Junction) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return values of each slot, shape (m_out, 3), and of the vehicle, shape (2,); closed slots are -1."""
    slots = np.full((len(junction.mask), 3), -1.0)
    for slot in junction.open_slots:
        edge = junction.next_edge(slot)
        lanes_free = junction.task.graph.free_flow_s[edge] / max(junction.travel_time(slot), 1e-3)
        slots[slot] = (lanes_free, junction.travel_time(slot) / SCALE_S, junction.free_flow_to_go(edge) / SCALE_S)
    own = np.array([junction.free_flow_to_go(junction.edge), junction.elapsed_s]) / SCALE_S
    return np.clip(slots, -1.0, 5.0), np.clip(own, -1.0, 5.0)
