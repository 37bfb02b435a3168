"""Demonstrations as arrays: each decision's observation, action and reward, and the programs that planned them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from relid_sumo.base import files
from relid_sumo.base.arrays import Bools, Float32s, Floats
from relid_sumo.base.errors import InputError
from relid_sumo.base.npz import read_npz
from relid_sumo.base.toml import validate
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.settings import Simulator
from relid_sumo.scenario.task import RoutingTask

FORMAT = 3  # 1, until 0.1.0, and 2: another definition of rewards and observations; see runs.layout
WHOLE = {"episode", "agent", "edge", "action", "traffic_seed"}  # arrays of whole numbers


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Driven plans of N agents over K traffic seeds: n decisions, grouped by seed and in time order within one.

    Attributes
    ----------
    episode, agent, edge, action : array of int, shape (n,)
        Index of the episode (of K), the agent, its edge, and the chosen slot.
    time, reward : array, shape (n,)
        Simulation time [s], and the reward of the decision [s].
    position : array, shape (n, 2)
        Start of the edge, network coordinates, m.
    observation : array, shape (n, 2 m_out + 2)
    mask : array of bool, shape (n, m_out)
    traffic_seed : array of int, shape (K,)
    returns, travel_time : array, shape (K, N)
        As in `EpisodeRecord`, s.
    arrived : array of bool, shape (K, N)
    meta : dict
        JSON: scenario, network_key, simulator; ``subsets``: for each its ``vehicles``, ``routes`` (edge names by
        vehicle), ``program`` and ``numbers``; ``episodes``: the number driven to make them.
    """

    episode: NDArray[np.int32]
    agent: NDArray[np.int32]
    edge: NDArray[np.int32]
    action: NDArray[np.int32]
    time: Floats
    reward: Floats
    position: Floats
    observation: Float32s
    mask: Bools
    traffic_seed: NDArray[np.int64]
    returns: Floats
    travel_time: Floats
    arrived: Bools
    meta: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hash of the whole content."""
        text = json.dumps(self.meta, sort_keys=True)
        arrays = (np.ascontiguousarray(getattr(self, f.name)).tobytes() for f in fields(self) if f.name != "meta")
        return hashlib.sha256(b"".join([text.encode(), *arrays])).hexdigest()[:16]

    def save(self, file: Path) -> None:
        """Write one .npz file."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "meta"}
        files.write_npz(file, {"meta": np.array(json.dumps({"format": FORMAT, **self.meta})), **arrays})

    @classmethod
    def load(cls, file: Path) -> Demonstrations:
        """Return demonstrations from a file of `save`.

        Raises
        ------
        InputError
            The file does not exist, or was not written by this version.
        """
        fix = "make it with: relid-sumo sed run SCENARIO --out DIR"
        arrays = read_npz(file, {f.name for f in fields(cls)}, "a file of demonstrations", fix)
        try:
            meta = json.loads(str(arrays.pop("meta")))
            if meta.pop("format") != FORMAT:
                raise InputError(f"{file}: its observations or rewards have another definition; make it again")
            read = cls(meta=meta, **arrays)
            read._check()
            return read
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise InputError(f"{file}: not a file of demonstrations: {error}; make it again") from None

    def _check(self) -> None:
        """Raise ValueError where shapes, kinds or values of the arrays do not match."""
        n, (k, agents) = len(self.episode), self.arrived.shape
        m_out = self.mask.shape[-1]
        shapes = {"position": (n, 2), "observation": (n, 2 * m_out + 2), "mask": (n, m_out), "traffic_seed": (k,)}
        shapes |= dict.fromkeys(("episode", "agent", "edge", "action", "time", "reward"), (n,))
        shapes |= dict.fromkeys(("returns", "travel_time", "arrived"), (k, agents))
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
            kinds = "b" if name in {"mask", "arrived"} else "iu" if name in WHOLE else "f"
            if array.dtype.kind not in kinds or not np.isfinite(array).all():
                raise ValueError(f"{name} has values of another kind")
        for name, end in (("episode", k), ("agent", agents), ("action", m_out), ("edge", None)):
            array = getattr(self, name)
            if n and (array.min() < 0 or (end is not None and array.max() >= end)):
                raise ValueError(f"{name} has a value out of its range")

    def check_meta(self, source: Path) -> None:
        """Check the meta of demonstrations of plans; demonstrations of given routes have none.

        Raises
        ------
        InputError
            An entry is missing or has another kind.
        """
        validate(dict(self.meta), _Meta, str(source))


class _Subset(BaseModel):
    vehicles: list[str]
    routes: dict[str, list[str]]


class _Meta(BaseModel):
    scenario: str
    network_key: str
    simulator: Simulator
    subsets: list[_Subset]
    episodes: int = 0


def collect(task: RoutingTask, records: Sequence[EpisodeRecord], meta: Mapping[str, Any]) -> Demonstrations:
    """Return the episodes of experts as demonstrations."""
    graph = task.graph
    edge = np.concatenate([record.edge for record in records])
    return Demonstrations(
        episode=np.repeat(np.arange(len(records), dtype=np.int32), [len(record.agent) for record in records]),
        agent=np.concatenate([record.agent for record in records]),
        edge=edge,
        action=np.concatenate([record.action for record in records]),
        time=np.concatenate([record.time for record in records]),
        reward=np.concatenate([record.reward for record in records]),
        position=graph.shape_xy[graph.shape_start[edge]],
        observation=np.concatenate([record.observation for record in records]),
        mask=np.concatenate([record.mask for record in records]),
        traffic_seed=np.array([record.traffic_seed for record in records], dtype=np.int64),
        returns=np.array([record.returns for record in records]),
        travel_time=np.array([record.travel_time for record in records]),
        arrived=np.array([[status == "arrived" for status in record.status] for record in records]),
        meta=dict(meta),
    )
