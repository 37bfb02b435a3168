"""The records of an episode: decisions, branches and the whole episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relid_sumo.base.arrays import Bools, Float32s, Floats

ARRIVED, HORIZON, LOST, NEVER_INSERTED = "arrived", "horizon", "lost", "never inserted"


@dataclass(frozen=True, eq=False)
class Decision:
    """A decision of an agent at a junction.

    Attributes
    ----------
    agent, number : int
        Index of the agent, and index of this decision among the agent's decisions of the episode (from 0).
    time : float
        Simulation time, s.
    edge : int
        The edge just entered.
    mask : array of bool, shape (m_out,)
        Slots that may be chosen.
    observation : array, shape (2 m_out + 2,)
        Observation of the agent; zeros if the episode does not observe.
    known : frozenset of int
        Closed edges that the agent knows (`relid_sumo.env.closures`).
    """

    agent: int
    number: int
    time: float
    edge: int
    mask: Bools
    observation: Float32s
    known: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Branch:
    """Outcomes of every open slot at one decision, after the same past.

    Attributes
    ----------
    decision : int
        Index of the decision in the record.
    slots : array of int, shape (k,)
        The open slots.
    returns, travel_time : array, shape (k, N)
        As in `EpisodeRecord`, s, for the episode continued with each slot.
    """

    decision: int
    slots: NDArray[np.int32]
    returns: Floats
    travel_time: Floats


@dataclass(frozen=True, eq=False)
class Measures:
    """What SUMO measures of the trips of N agents; see `relid_sumo.sim.trip_output.TripMeasures`.

    Each attribute has the shape (N,). It is nan for an agent that never departed, and where the simulator does not
    measure it.
    """

    duration_s: Floats
    time_loss_s: Floats
    distance_m: Floats
    waiting_s: Floats
    stops: Floats
    co2_g: Floats
    fuel_g: Floats


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """A whole episode with n decisions in time order and N agents.

    Attributes
    ----------
    traffic_seed : int
        Traffic seed of the episode.
    agent, edge, action : array of int, shape (n,)
        Who decided, on which edge, and the slot chosen.
    time, reward : array, shape (n,)
        Time of the decision, s, and the reward that follows it, s.
    observation : array, shape (n, 2 m_out + 2)
    mask : array of bool, shape (n, m_out)
    status : tuple of str, length N
        ``arrived``, ``horizon`` (still driving at the end), ``lost`` or ``never inserted``.
    returns : array, shape (N,)
        Sum of all rewards, s, including those before the first decision.
    travel_time : array, shape (N,)
        From the scheduled departure to the arrival, s. For a vehicle that does not arrive: the time to the horizon plus
        the remaining free-flow time.
    teleports, crossed, one_way, diverted : array of int, shape (N,)
        Number of teleports; edges crossed within one step; edges with less than two open successors; times at which the
        next edge of the vehicle's route was closed.
    routes : tuple of arrays of int, length N
        Edges driven, per agent.
    background_vehicle_s : float
        Time that background vehicles drive or wait for insertion in the first 900 s (or to the horizon), s; nan if not
        measured.
    vehicle_s : float
        The same of all vehicles, agents included.
    simulated_s : float
        Simulated time after the warm-up, s.
    digest : str
        Hash of all decisions and arrivals of the agents, and of the final position of every vehicle. Equal episodes
        have equal hashes.
    branches : tuple of Branch
        Decisions at which every open slot was tried; empty by default.
    measures : Measures or None
        What SUMO measures of the agents' trips; None if not measured.
    known : tuple of frozenset of int
        Closed edges that the agent knows at each decision; empty where no agent knows any.
    closed : int
        Edge that was closed in this episode alone; -1 for none.
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
    diverted: NDArray[np.int32]
    routes: tuple[NDArray[np.int32], ...]
    background_vehicle_s: float
    vehicle_s: float
    simulated_s: float
    digest: str
    branches: tuple[Branch, ...] = ()
    measures: Measures | None = None
    known: tuple[frozenset[int], ...] = ()
    closed: int = -1

    @property
    def arrival_rate(self) -> float:
        """Share of the agents that arrived."""
        return self.status.count(ARRIVED) / len(self.status)
