"""The routes that an evaluation stores for maps: routes.json of a run, of its first traffic seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from relid_sumo.base.files import read_json
from relid_sumo.base.toml import validate
from relid_sumo.runs.summary import Read

Index = Annotated[int, Field(ge=0, le=2**31)]


class StoredRoutes(Read):
    """The network and the edges that each policy's agents drove."""

    network: str
    network_key: str
    attribution: str
    roads: list[list[Annotated[int, Field(ge=-(2**31), le=2**31)]]]
    """Centre line of each edge as x, y, x, y, ..., m."""
    speed_class: list[Annotated[int, Field(ge=0, le=100)]]
    streets: Sequence[str] = ()
    """Names of streets; in files of earlier versions none."""
    street: Sequence[Annotated[int, Field(ge=-1)]] = ()
    """Index of each edge's street, -1 for none."""
    traffic_seed: int
    incidents: Sequence[tuple[Index, str]] = ()
    """Edge and description of each incident."""
    agents: list[str]
    origin: list[Index]
    destination: list[Index]
    routes: dict[str, list[list[Index]]]
    """Edges by policy and agent."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        edges, agents = len(self.roads), len(self.agents)
        if len(self.speed_class) != edges or len(self.street) not in {0, edges}:
            raise ValueError(f"speed_class and street need one value for each of {edges} roads")
        if any(len(road) < 4 or len(road) % 2 for road in self.roads):
            raise ValueError("a road needs two points or more, as x, y, x, y")
        if max(self.street, default=-1) >= len(self.streets):
            raise ValueError("street names a street that is not in streets")
        if {len(self.origin), len(self.destination), *map(len, self.routes.values())} != {agents}:
            raise ValueError(f"origin, destination and routes need one value for each of {agents} agents")
        if wrong := [edge for edge, _ in self.incidents if edge >= edges]:
            raise ValueError(f"it has no edge {wrong[0]}, which an incident names")
        driven = (edge for rows in self.routes.values() for route in rows for edge in route)
        if max((*self.origin, *self.destination, *driven), default=-1) >= edges:
            raise ValueError(f"a route has an edge outside 0 to {edges - 1}")
        return self


def read_routes(file: Path) -> StoredRoutes:
    """Return the content of a routes.json.

    Raises
    ------
    InputError
        It cannot be read, or is damaged.
    """
    return validate(read_json(file), StoredRoutes, str(file))
