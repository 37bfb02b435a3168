"""The reward of an agent between two decisions. `progress` is built in; docs/extend/reward.md shows how to write one.

`progress`, s: ``R_k = -(t_k - t_(k-1)) + w_d (d_(k-1) - d_k)``. The rewards of a trip sum to its return

    w_d (d_0 - d_T) - (T - scheduled departure),

with the end T of the trip and its distance d_T by status:

===============  ==============  ===================================================================================
status           T               d_T
===============  ==============  ===================================================================================
arrived          the arrival     0
horizon          the horizon     measured from the end of the vehicle's edge, as at a decision
lost             the horizon     the same where the vehicle left the simulation, but at least d_0
never inserted   the horizon     d_0
===============  ==============  ===================================================================================

A lost vehicle thus never does better than one that is still there at the horizon. The public summary of arXiv
2511.19368 gives the form of the reward, the width of the observation and the discrete actions; everything else is this
project's interpretation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, RelidSumoError
from relid_sumo.scenario import kinds
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import Bridge


@dataclass(frozen=True, eq=False)
class Leg:
    """The part of a trip between two decisions, or between the last decision and the end of the trip.

    Attributes
    ----------
    task : RoutingTask
        Network, trips and distances; ``task.scenario`` has the settings.
    bridge : Bridge
        The running simulation. Read from it, but do not step it.
    agent : int
        Index of the agent.
    edges : tuple of int
        Edges entered since the last decision, or since the departure.
    begin_s, end_s : float
        Simulation time of the last decision (before the first one: the scheduled departure), and present time, s. The
        latter is the horizon for a trip that does not arrive.
    begin_to_go_m, end_to_go_m : float
        Distance to the destination at these times, m, from the end of the edge. Of a vehicle that is lost, the second
        is at least the distance at the start of its trip.
    status : str or None
        How the trip ended: ``arrived``, ``horizon``, ``lost`` or ``never inserted``; None during the trip.

    Examples
    --------
    >>> def minus_time(leg):
    ...     return leg.begin_s - leg.end_s
    """

    task: RoutingTask
    bridge: Bridge
    agent: int
    edges: tuple[int, ...]
    begin_s: float
    end_s: float
    begin_to_go_m: float
    end_to_go_m: float
    status: str | None


def progress(leg: Leg) -> float:
    """Return minus the time plus the weighted gain of distance, s; see the module's docstring."""
    return leg.begin_s - leg.end_s + leg.task.scenario.reward.w_d * (leg.begin_to_go_m - leg.end_to_go_m)


def rewarder(task: RoutingTask) -> Callable[[Leg], float]:
    """Return the function that computes the rewards of a task's agents."""
    kind = task.scenario.reward.kind
    function: Callable[[Leg], float] = kinds.reward(kind)

    def checked(leg: Leg) -> float:
        try:
            value = float(function(leg))
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(kind, "reward", error) from error
        if not np.isfinite(value):
            raise InputError(f"reward '{kind}': at {leg.end_s:g} s it returns {value}, which is not finite")
        return value

    return checked if extension.is_path(kind) else function
