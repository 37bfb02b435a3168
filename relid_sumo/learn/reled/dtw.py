"""Distance between an agent's route and its demonstration: dynamic time warping of both as points on the map.

Sakoe & Chiba 1978, with the Euclidean distance between points, through dtaidistance.
"""

from __future__ import annotations

from dtaidistance import dtw_ndim

from relid_sumo.base.arrays import Floats


def distance(one: Floats, other: Floats) -> float:
    """Return the distance between two routes, shapes (n, 2) and (m, 2), in metres per point.

    The sum of distances along the best alignment, divided by the points of the longer route; 0 where both are equal.
    """
    return float(dtw_ndim.distance(one, other, inner_dist="euclidean")) / max(len(one), len(other))
