"""What an agent observes at a junction. `roads` is built in; docs/extend/observation.md shows how to write another.

`roads` is float32 with shape (2 m_out + 2,); all values are scaled to about [-1, 1]:

====================  =============================================================================================
index                 value
====================  =============================================================================================
2 j                   congestion of the edge in slot j: ``2 sqrt(log2(travel time / free-flow time) / 6) - 1``; -1
                      is free flow, -0.18 twice its time, 0.41 eight times, 1 is 64 times and more
2 j + 1               distance to the destination from the end of that edge: ``2 d / d_max - 1``
2 m_out               distance from the end of the present edge, on the same scale
2 m_out + 1           time since the scheduled departure: ``2 t / horizon - 1``
====================  =============================================================================================

The travel time is that of the edge's smoothed mean speed. In the mesoscopic simulation it is translated, so that the
same traffic reads alike in both simulators (`relid_sumo.scenario.traffic.readings`). An instant travel time
(``observation.congestion = "instant"``) is not: do not move a policy that reads it to the other simulator.

An absent or masked slot has the values (1, 1). ``d_max`` is the largest initial distance of any agent.
`Observation.distance` selects how distance is measured [m]. Slots are ordered left to right in driving direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base import extension
from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.base.errors import InputError, RelidSumoError
from relid_sumo.scenario import kinds
from relid_sumo.scenario.kinds import Layout
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import Bridge

if TYPE_CHECKING:
    from relid_sumo.env.connected import Connected

MOST_OCTAVES = 6.0  # travel times above 64 times free flow read alike
EMPTY = 1.0  # value of masked and of empty slots in `roads`
Values = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Junction:
    """The situation of an agent that must choose its next edge, as observations and baselines see it.

    Attributes
    ----------
    task : RoutingTask
        Network, trips and distances; ``task.scenario`` has the settings.
    bridge : Bridge
        The running simulation. Read from it, but do not step it.
    agent : int
        Index of the agent.
    edge : int
        Index of the edge just entered; ``task.graph.edge_ids[edge]`` is its SUMO id.
    mask : array of bool, shape (m_out,)
        Slots that may be chosen; ``task.graph.slots[edge]`` contains their edges.
    time_s, elapsed_s : float
        Simulation time, and time since the agent's scheduled departure, s.
    speed_factor : float
        The vehicle's factor on speed limits.
    avoid : frozenset of int
        Closed edges that the agent has seen.
    connected : Connected or None
        What the agents know of all roads; with the observation ``connected`` only.

    Examples
    --------
    >>> def least_congested(junction):
    ...     return min(junction.open_slots, key=lambda slot: junction.travel_time(slot))
    """

    task: RoutingTask
    bridge: Bridge
    agent: int
    edge: int
    mask: Bools
    time_s: float
    elapsed_s: float
    speed_factor: float
    avoid: frozenset[int] = frozenset()
    connected: Connected | None = None

    @property
    def open_slots(self) -> list[int]:
        """Slots that may be chosen, left to right in driving direction."""
        return [int(slot) for slot in np.flatnonzero(self.mask)]

    def next_edge(self, slot: int) -> int:
        """Return the index of the edge in a slot."""
        return int(self.task.graph.slots[self.edge, slot])

    def travel_time(self, slot: int, *, smoothed: bool = True) -> float:
        """Return the present travel time of the edge in a slot, s; smoothed over ``observation.window_s``."""
        name = self.task.graph.names[self.next_edge(slot)]
        return self.bridge.travel_time(name, self.task.names[self.agent], smoothed=smoothed)

    def delay(self, slot: int, *, smoothed: bool = True) -> float:
        """Return log2 of the present over the free-flow travel time of the edge in a slot, at least 0.

        Unlike `travel_time`, it does not depend on the vehicle, and the smoothed one means the same in both simulators.

        Raises
        ------
        InputError
            The simulation is mesoscopic, and the scenario is not prepared for that.
        """
        edge, graph, readings = self.next_edge(slot), self.task.graph, self.task.readings
        seconds = self.bridge.travel_time(str(graph.edge_ids[edge]), smoothed=smoothed)
        octaves = math.log2(max(seconds / graph.free_flow_s[edge], 1.0))
        if not smoothed or not self.bridge.mesoscopic:
            return octaves
        if readings is None:
            raise InputError(
                f"scenario '{self.task.scenario.name}': its mesoscopic readings of congestion are not measured; "
                'prepare it with simulators=("meso",)'
            )
        return readings.translate(edge, octaves)

    def to_go(self, edge: int) -> float:
        """Return the distance from the end of an edge to the agent's destination, m (``observation.distance``)."""
        return float(self.task.to_go[self.task.row[self.agent], edge])

    def free_flow_to_go(self, edge: int) -> float:
        """Return the free-flow time from the end of an edge to the agent's destination, s."""
        return float(self.task.free_to_go[self.task.row[self.agent], edge])


Observe = Callable[[Junction], Values]


def observation(*, per_slot: int, own: int) -> Callable[[Observe], Observe]:
    """Declare the width of a function's observations.

    Parameters
    ----------
    per_slot
        Number of values per slot, at least 1. The built-in networks see the last of them at a finer resolution
        (``octaves``): put the distance there.
    own
        Number of values of the vehicle itself, at least 1. The first is seen at a finer resolution.

    Returns
    -------
    decorator
        For a function that takes a `Junction` and returns two arrays, of shapes (m_out, per_slot) and (own,).

    Examples
    --------
    >>> import numpy as np
    >>> @observation(per_slot=1, own=1)
    ... def destination(junction):
    ...     slots = np.ones((len(junction.mask), 1))
    ...     for slot in junction.open_slots:
    ...         slots[slot] = junction.to_go(junction.next_edge(slot)) / junction.task.distance_scale_m
    ...     return slots, np.array([junction.to_go(junction.edge) / junction.task.distance_scale_m])
    """
    if per_slot < 1 or own < 1:
        raise InputError(f"observation(per_slot={per_slot}, own={own}): both must be at least 1")

    def declare(function: Observe) -> Observe:
        function.layout = Layout(per_slot, own)  # type: ignore[attr-defined]
        return function

    return declare


def scaled(octaves: float | Floats) -> Floats:
    """Return `Junction.delay` on the scale of `roads`, from -1 (free flow) to 1."""
    return np.asarray(2.0 * np.sqrt(np.minimum(1.0, np.asarray(octaves) / MOST_OCTAVES)) - 1.0)


def times_free_flow(scale: float | Floats) -> Floats:
    """Return travel times relative to free flow from values of `roads`: the inverse of `scaled`, at most 64."""
    return np.asarray(2.0 ** (MOST_OCTAVES * ((np.asarray(scale) + 1.0) / 2.0) ** 2))


@observation(per_slot=2, own=2)
def roads(junction: Junction) -> Values:
    """Observe the next edges; see the module's docstring."""
    task, graph = junction.task, junction.task.graph
    smoothed = task.scenario.observation.congestion == "ewma"
    to_go, scale = task.to_go[task.row[junction.agent]], 2.0 / task.distance_scale_m
    slots = np.full((graph.m_out, 2), EMPTY, dtype=np.float32)
    for slot in junction.open_slots:
        edge = graph.slots[junction.edge, slot]
        slots[slot, 0] = scaled(junction.delay(slot, smoothed=smoothed))
        slots[slot, 1] = scale * to_go[edge] - 1.0
    own = np.empty(2, dtype=np.float32)
    own[0] = scale * to_go[junction.edge] - 1.0
    own[1] = 2.0 * junction.elapsed_s / task.scenario.horizon_s - 1.0
    return slots, own


def observer(task: RoutingTask) -> Callable[[Junction], Float32s]:
    """Return the function that makes a task's observations, float32, shape (width,)."""
    kind = task.scenario.observation.kind
    function = kinds.observation(kind)
    layout, m_out = task.layout, task.graph.m_out
    wanted = [(m_out, layout.per_slot), (layout.own,)]

    def observe(junction: Junction) -> Float32s:
        slots, own = function(junction)
        return np.concatenate([slots.ravel(), own])

    def checked(junction: Junction) -> Float32s:
        try:
            parts = [np.asarray(part, dtype=np.float32) for part in function(junction)]
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(kind, "observation", error) from error
        if [part.shape for part in parts] != wanted:
            shapes = " and ".join(str(part.shape) for part in parts)
            declared = " and ".join(map(str, wanted))
            raise InputError(f"observation '{kind}': it returns shapes {shapes}, but declares {declared}")
        seen = np.concatenate([part.ravel() for part in parts])
        if not np.isfinite(seen).all():
            raise InputError(f"observation '{kind}': at {junction.time_s:g} s it returns a value that is not finite")
        return seen

    return checked if extension.is_path(kind) else observe
