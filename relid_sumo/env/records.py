"""What an episode hands out: decisions, branches, and the record of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats

ARRIVED, HORIZON, LOST, NEVER_INSERTED = "arrived", "horizon", "lost", "never inserted"


@dataclass(frozen=True, eq=False)
class Decision:
    """An agent at a junction.

    Attributes
    ----------
    agent, number : int
        Who decides, and its how manyth decision of the episode (from 0).
    time : float
        Simulation time, s.
    edge : int
        The road just entered.
    mask : array of bool, shape (m_out,)
        Slots it may choose.
    observation : array, shape (2 m_out + 2,)
        See the module's text; zeros where the episode does not observe.
    """

    agent: int
    number: int
    time: float
    edge: int
    mask: Bools
    observation: Float32s


@dataclass(frozen=True, eq=False)
class Branch:
    """What each way would have come to at one decision, all else until then being the same.

    Attributes
    ----------
    decision : int
        Which decision of the record.
    slots : array of int, shape (k,)
        The open slots.
    returns, travel_time : array, shape (k, N)
        As in `EpisodeRecord`, of the episode that goes on by each slot, s.
    """

    decision: int
    slots: NDArray[np.int32]
    returns: Floats
    travel_time: Floats


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """One whole episode; n decisions in time order, N agents.

    Attributes
    ----------
    traffic_seed : int
        The traffic it was driven in.
    agent, edge, action : array of int, shape (n,)
        Who decided, on which road, and the slot chosen.
    time, reward : array, shape (n,)
        When [s], and the reward that followed [s].
    observation : array, shape (n, 2 m_out + 2)
    mask : array of bool, shape (n, m_out)
    status : tuple of str, length N
        ``arrived``, ``horizon`` (under way at the end), ``lost`` or ``never inserted``.
    returns : array, shape (N,)
        Sum of all rewards, the one before the first decision included, s.
    travel_time : array, shape (N,)
        From the wished departure to arrival, s; who does not arrive counts to the horizon, and the free-flow time that
        then remained.
    teleports, crossed, one_way : array of int, shape (N,)
        How often SUMO moved the vehicle on; roads crossed within one step; roads with one way on.
    routes : tuple of arrays of int, length N
        Edges driven.
    background_vehicle_s : float
        Time the background traffic spent driving or waiting to be inserted in the first 900 s (or to the horizon), s;
        nan where it was not measured.
    simulated_s : float
        Simulated time after the warm-up, s.
    digest : str
        Hash of all decisions and arrivals of the agents, and of where all vehicles are at the end: equal for equal
        episodes.
    branches : tuple of Branch
        Decisions at which every way was tried; none unless asked for.
    """

    traffic_seed: int
    agent: NDArray[np.int32]
    edge: NDArray[np.int32]
    action: NDArray[np.int32]
    time: Floats
    reward: Floats
    observation: Float32s
    mask: Bools
    status: tuple[str, ...]
    returns: Floats
    travel_time: Floats
    teleports: NDArray[np.int32]
    crossed: NDArray[np.int32]
    one_way: NDArray[np.int32]
    routes: tuple[NDArray[np.int32], ...]
    background_vehicle_s: float
    simulated_s: float
    digest: str
    branches: tuple[Branch, ...] = ()

    @property
    def arrival_rate(self) -> float:
        """Share of the agents that arrived."""
        return self.status.count(ARRIVED) / len(self.status)
