"""What a window shows of its agents: routes driven and planned, decisions, destinations, incidents, and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np

from relid_sumo.base.arrays import Floats
from relid_sumo.env.choices import Choice
from relid_sumo.env.records import ARRIVED
from relid_sumo.network.graph import RoadGraph
from relid_sumo.viewer.together import Side

Points = list[tuple[float, float]]

INCIDENT = (200, 30, 30, 255)
MARKED = 50  # agents whose destinations are marked; the names of more would cover the roads
TRAIL, PLAN, ARROW, GOAL = 20, 30, 40, 50  # drawing layers: above the roads, below the vehicles
FADED, PLANNED = 110, 150  # opacity of the route of an agent that has arrived, and of a planned one; 255 is opaque
SHOWN_S = 20.0  # a decision is shown for this long, unless the agent decides again
THIN = 0.15  # width of the arrow of an edge with probability 0, as a share of that with probability 1


def line(graph: RoadGraph, edges: Sequence[int]) -> Points:
    """Return the centre line of a route, m."""
    return [(float(x), float(y)) for x, y in chain.from_iterable(graph.shape(edge) for edge in edges)]


def first_metres(points: Points, metres: float) -> Points:
    """Return the start of a line, of this length, m, or the whole line where it is shorter."""
    kept, left = points[:1], metres
    for (x, y), (x2, y2) in pairwise(points):
        step = float(np.hypot(x2 - x, y2 - y))
        if step >= left:
            share = left / max(step, 1e-9)
            return [*kept, (x + share * (x2 - x), y + share * (y2 - y))]
        kept.append((x2, y2))
        left -= step
    return kept


def beside(points: Points, metres: float) -> Points:
    """Return a line moved to its left by a distance, m."""
    xy = np.array(points)
    if len(xy) < 2:
        return points
    along = np.gradient(xy, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    moved = xy + metres * np.column_stack([-along[:, 1], along[:, 0]])
    return [(float(x), float(y)) for x, y in moved]


def arrow(start: Sequence[float], tip: Sequence[float], half: float) -> Points:
    """Return an arrow as an area: from a point to another, m, with half the width of its shaft, m."""
    a, b = np.array(start), np.array(tip)
    length = max(float(np.hypot(*(b - a))), 1e-6)
    along = (b - a) / length
    across = np.array([-along[1], along[0]])
    neck = b - along * min(0.45 * length, 4.0 * half)
    corners = [a + across * half, neck + across * half, neck + across * 2.2 * half, b]
    corners += [neck - across * 2.2 * half, neck - across * half, a - across * half]
    return [(float(x), float(y)) for x, y in corners]


class Drawing:
    """The drawing in one window, updated as its episode goes on.

    Parameters
    ----------
    side
        The episode and its window.
    plans
        Route of each agent's expert; of other agents, the route it follows at present is drawn.
    low, high
        Corners of the area, m.
    agents
        Agents whose routes, decisions and labels are drawn.
    """

    def __init__(
        self, side: Side, plans: Mapping[int, Sequence[int]], low: Floats, high: Floats, agents: Sequence[int]
    ) -> None:
        self._side, self._plans, self._agents = side, plans, agents
        self._graph, self._window = side.task.graph, side.window
        self._span_m = float((high - low).max())
        self._drawn: dict[int, tuple[int, bool]] = {}
        self._decided: dict[int, int] = {}
        self._labelled: int | None = None

    def marks(self, events: Sequence[tuple[int, str]]) -> None:
        """Mark destinations, incidents and surges, the latter as edges with their descriptions."""
        names, colours = self._side.task.names, self._window.colours
        for i in self._agents if len(names) <= MARKED else ():
            (x, y), radius = self._goal(i), 0.011 * self._span_m
            circle = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24)]
            self._window.draw(f"to {names[i]}", circle, (*colours[names[i]], 255), layer=GOAL, fill=True)
            self._relabel(i, names[i])
        for number, (edge, said) in enumerate(events):
            x, y, _ = self._graph.point_along(edge, 0.5)
            self._window.mark(f"incident {number}", x, y, said, INCIDENT)

    def update(self, *, labels: bool) -> None:
        """Draw the present state; with `labels`, the travel time of each agent at its destination."""
        episode, choices = self._side.episode, self._side.choices
        assert episode is not None  # since the warm-up
        drawn = [i for i in self._agents if i in choices]
        latest = max(drawn, key=lambda i: (choices[i].time_s, -i), default=None)
        for i in drawn:
            self._decision(i, labelled=i == latest)
        self._labelled = latest
        for i in self._agents:
            vehicle = episode.vehicles[i]
            if not vehicle.inserted:
                continue
            self._routes(i)
            if labels and self._side.task.n_agents <= MARKED:
                seconds = vehicle.travel_time if vehicle.status else self._side.now - vehicle.scheduled_s
                state = "" if vehicle.status == ARRIVED else f" {vehicle.status}" if vehicle.status else " ..."
                self._relabel(i, f"{vehicle.name} {seconds:.0f} s{state}")

    def _goal(self, agent: int) -> tuple[float, float]:
        """Return the place of an agent's destination; those on one edge lie side by side."""
        task = self._side.task
        there = np.flatnonzero(task.destination == task.destination[agent]).tolist()
        x, y, _ = self._graph.point_along(int(task.destination[agent]), (there.index(agent) + 1) / (len(there) + 1))
        return x, y

    def _relabel(self, agent: int, label: str) -> None:
        """Write a label below an agent's destination."""
        x, y = self._goal(agent)
        self._window.mark(f"label {self._side.task.names[agent]}", x, y - 0.022 * self._span_m, label)

    def _routes(self, agent: int) -> None:
        """Draw the route driven, up to the vehicle, and the route ahead."""
        assert self._side.episode is not None
        vehicle, window = self._side.episode.vehicles[agent], self._window
        name, colour = vehicle.name, window.colours[vehicle.name]
        ended = vehicle.status is not None
        driven = line(self._graph, vehicle.route[: vehicle.at])
        window.erase(f"at {name}")
        if ended:
            driven = line(self._graph, vehicle.route[: vehicle.at + 1])
        elif window.has(name) and vehicle.at >= 0 and vehicle.road == self._graph.names[vehicle.on]:
            here_m = float(window.api.vehicle.getLanePosition(name))
            driven += first_metres(line(self._graph, [vehicle.on]), here_m)
            if len(self._agents) <= MARKED:
                x, y = driven[-1]
                window.mark(f"at {name}", x, y + 0.02 * self._span_m, name)
        opacity = FADED if ended else 255
        width_m = 0.0035 * self._span_m
        driven = beside(driven, (agent % 5 - 2) * width_m)  # so that agents on one road do not hide each other
        window.draw(f"trail {name}", driven, (*colour, opacity), width_m=width_m, layer=TRAIL)
        if self._drawn.get(agent) == (vehicle.at, ended):
            return
        self._drawn[agent] = vehicle.at, ended
        ahead = vehicle.route[max(0, vehicle.at) :]
        plan = self._plans.get(agent, ahead)
        if ended or (agent not in self._plans and self._side.episode.rerouting):
            window.erase(f"plan {name}")
        else:
            window.draw(
                f"plan {name}", line(self._graph, plan), (*colour, PLANNED), width_m=0.0018 * self._span_m, layer=PLAN
            )

    def _decision(self, agent: int, *, labelled: bool) -> None:
        """Draw the last decision of an agent as arrows, with labels or without, or remove it after a while."""
        assert self._side.episode is not None
        choice, vehicle = self._side.choices[agent], self._side.episode.vehicles[agent]
        old = vehicle.status is not None or self._side.now - choice.time_s > SHOWN_S
        state = -1 if old else choice.number
        if self._decided.get(agent) == state and labelled == (agent == self._labelled):
            return
        self._decided[agent] = state
        for k in range(self._graph.m_out):
            self._window.erase(f"arrow {vehicle.name} {k}")
            self._window.erase(f"share {vehicle.name} {k}")
        self._window.erase(f"value {vehicle.name}")
        if not old:
            self._arrows(choice, vehicle.name, labelled=labelled)

    def _arrows(self, choice: Choice, name: str, *, labelled: bool) -> None:
        colour = self._window.colours[name]
        shares = choice.probabilities or [float(k == choice.chosen) for k in range(len(choice.edges))]
        for k, (edge, share) in enumerate(zip(choice.edges, shares, strict=True)):
            begin = line(self._graph, [edge])
            tip = first_metres(begin, 0.045 * self._span_m)[-1]
            area = arrow(begin[0], tip, 0.006 * self._span_m * (THIN + (1 - THIN) * share))
            opacity = 255 if k == choice.chosen else PLANNED
            self._window.draw(f"arrow {name} {k}", area, (*colour, opacity), layer=ARROW + 1, fill=True)
            if choice.probabilities is not None and labelled:
                self._window.mark(f"share {name} {k}", *tip, _candidate(choice, k))
        if choice.remaining_s is not None and labelled:
            x, y, _ = self._graph.point_along(choice.edge, 0.0)
            text = f"{name} expects {choice.remaining_s:.0f} s more"
            self._window.mark(f"value {name}", x, y - 0.02 * self._span_m, text)


def _candidate(choice: Choice, k: int) -> str:
    """Return the label of a candidate edge: its probability, and how congested the agent sees it."""
    assert choice.probabilities is not None
    seen = "" if choice.congestion is None or choice.congestion[k] < 1.05 else f", {choice.congestion[k]:.1f}x time"
    return f"{choice.probabilities[k]:.0%}{seen}"
