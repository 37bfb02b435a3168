"""The Dec-POMDP, event-driven: vehicles that choose the next edge at each junction.

Agent i decides when its vehicle enters an edge that is not its destination and has at least two successors from which
the destination can be reached. Agents decide asynchronously. `Episode` runs one episode in a running simulation
(`relid_sumo.sim.bridge`); `relid_sumo.env.pettingzoo` wraps it for PettingZoo.

`relid_sumo.env.observation` defines what an agent observes, `relid_sumo.env.reward` its reward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from relid_sumo.base.arrays import Bools
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.env.closures import Closures
from relid_sumo.env.connected import Connected, known_key
from relid_sumo.env.observation import Junction, observer
from relid_sumo.env.records import ARRIVED, HORIZON, LOST, NEVER_INSERTED, Decision, EpisodeRecord
from relid_sumo.env.reward import Leg, rewarder
from relid_sumo.scenario.settings import CONNECTED, Scenario
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sim.bridge import Bridge

HASTE, HASTE_S = 1.1, 2.0  # bounds: factor on the speed limit, and s driven on an edge when it is seen there
BACKGROUND_S = 900.0  # time after the warm-up in which the background traffic is measured


@dataclass(eq=False)
class _Vehicle:
    """The state of one agent in an episode."""

    name: str
    scheduled_s: float
    destination: int
    route: list[int]
    at: int = -1
    road: str = ""
    on: int = -1
    status: str | None = None
    inserted: bool = False
    speed_factor: float = 1.0
    look: int = 0
    last_time: float = 0.0
    last_to_go: float = 0.0
    last_at: int = -1
    decisions: list[int] = field(default_factory=list)
    total: float = 0.0
    travel_time: float = 0.0
    teleports: int = 0
    crossed: int = 0
    one_way: int = 0
    diverted: int = 0


class Episode:
    """One episode in a simulation after its warm-up.

    Use: ``while decisions := episode.advance(): ...; episode.act(decision, slot)``, then `record`. Every decision that
    `advance` returns must be answered before the next call.

    Parameters
    ----------
    task, bridge
        The task, and a simulation after its warm-up (see `warm_up`).
    traffic_seed
        Traffic seed: its incidents, and for the record.
    observe
        Whether decisions contain observations. Without them the traffic is not read, which is faster.
    rerouting
        SUMO's rerouting device chooses the routes; agents do not decide.
    background
        Measure the background traffic too. The episode then lasts at least as long as this measurement.
    """

    def __init__(
        self,
        task: RoutingTask,
        bridge: Bridge,
        *,
        traffic_seed: int = 0,
        observe: bool = True,
        rerouting: bool = False,
        background: bool = False,
    ) -> None:
        scenario = task.scenario
        if not task.names:
            raise ValueError("the task of a fleet has no agents; use that of a traffic seed (PreparedScenario.on)")
        self.task, self.bridge = task, bridge
        self.traffic_seed, self.observe, self.rerouting = traffic_seed, observe, rerouting
        self.time = scenario.start_s
        self.closures = Closures(task, traffic_seed)
        self._measure_until = scenario.start_s + min(BACKGROUND_S, scenario.horizon_s) if background else 0.0
        self._background_s = self._all_s = 0.0 if background else float("nan")
        self._observe, self._rewarded = observer(task), rewarder(task)
        connected = observe and scenario.observation.kind == CONNECTED
        self.connected = Connected(task, bridge) if connected else None
        self._free_s = task.graph.free_flow_s
        self._rows: list[tuple[Decision, int]] = []
        self._rewards: list[float] = []
        self._asked: dict[int, Decision] = {}
        self._hash = hashlib.blake2b(digest_size=16)
        self._digest: str | None = None
        self.vehicles: list[_Vehicle] = []
        for i, name in enumerate(task.names):
            scheduled = scenario.start_s + float(task.depart_s[i])
            route = task.route(i, int(task.origin[i]))
            vehicle = _Vehicle(
                name, scheduled, int(task.destination[i]), [] if rerouting else route, last_time=scheduled
            )
            vehicle.last_to_go = float(task.start_to_go[i])
            kind = task.types[i] if task.types else ""
            bridge.add(name, self._names(route), scheduled, rerouting=rerouting, kind=kind)
            self.vehicles.append(vehicle)
        self._waiting = {v.name: i for i, v in enumerate(self.vehicles)}
        self._live: dict[str, int] = {}
        self._look_at: dict[int, list[int]] = {}
        self._steps = 0

    def _names(self, edges: Sequence[int]) -> list[str]:
        names = self.task.graph.names
        return [names[edge] for edge in edges]

    @property
    def open_decisions(self) -> list[Decision]:
        """Decisions that wait for an answer."""
        return list(self._asked.values())

    @property
    def n_decisions(self) -> int:
        """Decisions answered so far."""
        return len(self._rows)

    @property
    def over(self) -> bool:
        """Whether the trip of every agent has ended."""
        return not self._live and not self._waiting

    def advance(self) -> list[Decision]:
        """Run the simulation until an agent must decide; return the decisions of that moment, or [] at the end."""
        if self._asked:
            raise RuntimeError(f"{len(self._asked)} decisions are still open; answer each with act() first")
        bridge, scenario, vehicles = self.bridge, self.task.scenario, self.vehicles
        end_s, step_s, live = scenario.end_s, scenario.step_length_s, self._live
        while not self.over or self.time < self._measure_until:
            if self.time >= end_s:
                self._cut_off()
                break
            now = bridge.step()
            self.time = now + step_s
            self._steps += 1
            changed = self.closures.update(now)
            if changed:
                begun, closed = (self._names(sorted(edges)) for edges in (self.closures.begun, self.closures.now))
                bridge.turn_away(begun, closed)
            if self._waiting:
                self._note_departures(bridge.departed())
            for name in bridge.teleported():
                if name in live:
                    vehicles[live[name]].teleports += 1
                    self._look_again(live[name], self._steps)
            asked = self._look(now)
            if changed:
                asked = self._ask_again(asked, now)
            if now < self._measure_until:
                self._measure_background(now)
            if asked:
                self._asked = {d.agent: d for d in asked}
                return asked
        if self._digest is None:
            self._hash.update(bridge.fingerprint().encode())
            self._digest = self._hash.hexdigest()
        return []

    def _look(self, now: float) -> list[Decision]:
        """Check the vehicles that may be on another edge now, and return their decisions."""
        asked, road, vehicles, steps = [], self.bridge.road, self.vehicles, self._steps
        in_next_step = self._look_at.setdefault(steps + 1, [])
        for i in self._look_at.pop(steps, ()):
            vehicle = vehicles[i]
            if vehicle.look != steps:
                continue
            on = road(vehicle.name)
            if on == vehicle.road:  # the most frequent case: it stands in a queue
                vehicle.look = steps + 1
                in_next_step.append(i)
                continue
            if on is None:
                self._end(i, now, ARRIVED if self._completed(i) else LOST)
                continue
            decision, again = self._moved(i, on, now)
            if decision is not None:
                asked.append(decision)
            self._look_again(i, again)
        return sorted(asked, key=lambda decision: decision.agent)

    def _ask_again(self, asked: list[Decision], now: float) -> list[Decision]:
        """Add decisions of the agents that stand before a closed edge on their route, as closed edges have changed."""
        deciding = {decision.agent for decision in asked}
        for i in sorted(set(self._live.values()) - deciding):
            vehicle = self.vehicles[i]
            edge = vehicle.on
            if self.rerouting or edge < 0 or vehicle.road != str(self.task.graph.edge_ids[edge]):
                continue
            if self._next(vehicle) in self.closures.now and (decision := self._decide(i, edge, now)) is not None:
                asked.append(decision)
        return sorted(asked, key=lambda decision: decision.agent)

    @staticmethod
    def _next(vehicle: _Vehicle) -> int:
        """Return the next edge on a vehicle's route; -1 at its end."""
        return vehicle.route[vehicle.at + 1] if vehicle.at + 1 < len(vehicle.route) else -1

    def _look_again(self, agent: int, step: int) -> None:
        self.vehicles[agent].look = step
        self._look_at.setdefault(step, []).append(agent)

    def _measure_background(self, now: float) -> None:
        overdue = sum(self.vehicles[i].scheduled_s <= now for i in self._waiting.values())
        every, step_s = self.bridge.running() + self.bridge.waiting(), self.task.scenario.step_length_s
        self._all_s += every * step_s
        self._background_s += (every - len(self._live) - overdue) * step_s

    def _note_departures(self, departed: Sequence[str]) -> None:
        for name in departed:
            i = self._waiting.pop(name, None)
            if i is not None:
                self._live[name] = i
                self.vehicles[i].inserted = True
                self.vehicles[i].speed_factor = self.bridge.speed_factor(name)
                self._look_again(i, self._steps)

    def _completed(self, agent: int) -> bool:
        """Return whether a vehicle that left the simulation was at its destination, or would be within one step."""
        vehicle = self.vehicles[agent]
        if vehicle.on == vehicle.destination or (vehicle.teleports and not vehicle.road):  # it may teleport there
            return True
        if vehicle.on < 0:
            return False
        rest = self.task.route(agent, vehicle.on)[1:] if self.rerouting else vehicle.route[vehicle.at + 1 :]
        return float(self._free_s[rest].sum()) <= 2 * self.task.scenario.step_length_s

    def _moved(self, agent: int, road: str, now: float) -> tuple[Decision | None, int]:
        """Update a vehicle that may be on another edge.

        Returns
        -------
        decision
            The vehicle's decision, or None.
        again
            The step in which to check the vehicle again.
        """
        vehicle, task = self.vehicles[agent], self.task
        again = self._steps + 1
        vehicle.road = road
        edge = task.graph.index.get(road)
        if edge is None or edge == vehicle.on:  # in a junction or teleporting
            return None, again
        self._follow(vehicle, edge)
        again = self._steps + self._steps_on(edge, vehicle.speed_factor)
        if edge == vehicle.destination or self.rerouting:
            return None, again
        decision = self._decide(agent, edge, now)
        vehicle.one_way += decision is None
        return decision, again

    def _decide(self, agent: int, edge: int, now: float) -> Decision | None:
        """Return an agent's decision on its edge; None with less than two open slots, of which it takes the only one.

        Without an open slot it keeps its route, and waits.
        """
        vehicle, task = self.vehicles[agent], self.task
        mask = self.closures.look(agent, edge)
        vehicle.diverted += self._next(vehicle) in self.closures.now
        if mask.sum() < 2:
            if self.closures.known(agent) and mask.any():
                self._turn(agent, edge, int(np.flatnonzero(mask)[0]))
            return None
        self._reward(agent, now, float(task.to_go[task.row[agent], edge]))
        if self.observe:
            seen = self._observe(self._junction(agent, edge, mask, now))
        else:
            seen = np.zeros(task.observation_size, dtype=np.float32)
        return Decision(agent, len(vehicle.decisions), now, edge, mask, seen, self.closures.known(agent))

    def _steps_on(self, edge: int, speed_factor: float) -> int:
        """Return the number of steps (at least 1) during which a vehicle that just entered an edge must be on it."""
        fastest_s = float(self._free_s[edge]) / max(1.0, HASTE * speed_factor)
        # A halting vehicle teleports no sooner than teleport_after_s after it entered the edge.
        sure_s = min(fastest_s, self.task.scenario.teleport_after_s) - HASTE_S
        return max(1, int(sure_s / self.task.scenario.step_length_s))

    def _follow(self, vehicle: _Vehicle, edge: int) -> None:
        """Advance the vehicle's position in its route, and count the edges crossed within one step."""
        vehicle.on = edge
        if self.rerouting:
            vehicle.route.append(edge)
        try:
            at = vehicle.route.index(edge, vehicle.at + 1)
        except ValueError:
            name = self.task.graph.edge_ids[edge]
            raise SimulationError(f"SUMO moved '{vehicle.name}' to edge '{name}', which is not on its route") from None
        vehicle.crossed += at - vehicle.at - 1
        vehicle.at = at

    def junction(self, decision: Decision) -> Junction:
        """Return the situation of an open decision."""
        return self._junction(decision.agent, decision.edge, decision.mask, decision.time)

    def _junction(self, agent: int, edge: int, mask: Bools, now: float) -> Junction:
        vehicle = self.vehicles[agent]
        return Junction(
            task=self.task,
            bridge=self.bridge,
            agent=agent,
            edge=edge,
            mask=mask,
            time_s=now,
            elapsed_s=now - vehicle.scheduled_s,
            speed_factor=vehicle.speed_factor,
            avoid=self.closures.known(agent),
            connected=self.connected,
        )

    def act(self, decision: Decision, slot: int) -> None:
        """Route the agent over the edge in a slot, and from there on the free-flow fastest route.

        The route avoids closed edges that the agent has seen, where that is possible.
        """
        i = decision.agent
        if self._asked.get(i) is not decision:
            raise RuntimeError(f"agent '{self.task.names[i]}' does not have this decision open")
        if not 0 <= slot < len(decision.mask) or not decision.mask[slot]:
            allowed = np.flatnonzero(decision.mask).tolist()
            raise InputError(f"agent '{self.task.names[i]}': slot {slot} is masked; use one of {allowed}")
        vehicle = self.vehicles[i]
        self._turn(i, decision.edge, slot)
        if self.connected is not None:
            key = known_key(self.task, i, self.closures.known(i))
            self.connected.note(i, int(self.task.graph.slots[decision.edge, slot]), key)
        vehicle.decisions.append(len(self._rows))
        self._rows.append((decision, slot))
        self._rewards.append(0.0)
        self._hash.update(f"{decision.time:g} {i} {decision.edge} {slot}\n".encode())
        del self._asked[i]

    def _turn(self, agent: int, edge: int, slot: int) -> None:
        vehicle = self.vehicles[agent]
        successor = int(self.task.graph.slots[edge, slot])
        ahead = [edge, *self.closures.route(agent, successor)]
        if ahead != vehicle.route[vehicle.at :]:
            self.bridge.set_route(vehicle.name, self._names(ahead))
            vehicle.route[vehicle.at :] = ahead

    def _reward(self, agent: int, now: float, to_go: float) -> None:
        vehicle = self.vehicles[agent]
        reward = self._rewarded(
            Leg(
                task=self.task,
                bridge=self.bridge,
                agent=agent,
                edges=tuple(vehicle.route[vehicle.last_at + 1 : vehicle.at + 1]),
                begin_s=vehicle.last_time,
                end_s=now,
                begin_to_go_m=vehicle.last_to_go,
                end_to_go_m=to_go,
                status=vehicle.status,
            )
        )
        if vehicle.decisions:
            self._rewards[vehicle.decisions[-1]] = reward
        vehicle.total += reward
        vehicle.last_time, vehicle.last_to_go, vehicle.last_at = now, to_go, vehicle.at

    def _end(self, agent: int, now: float, status: str) -> None:
        vehicle, task = self.vehicles[agent], self.task
        vehicle.status = status
        self._live.pop(vehicle.name, None)
        if self.connected is not None:
            self.connected.forget(agent)
        self._hash.update(f"{now:g} {agent} {status}\n".encode())
        if status == ARRIVED:
            vehicle.travel_time = now - vehicle.scheduled_s
            self._reward(agent, now, 0.0)
            return
        end_s = task.scenario.end_s
        origin = int(task.origin[agent])
        to_go = task.free_to_go[task.row[agent]]
        left = float(to_go[vehicle.on] if vehicle.on >= 0 else to_go[origin] + self._free_s[origin])
        vehicle.travel_time = end_s - vehicle.scheduled_s + left
        start_m = float(task.start_to_go[agent])
        end_m = float(task.to_go[task.row[agent], vehicle.on]) if vehicle.on >= 0 else start_m
        self._reward(agent, end_s, max(start_m, end_m) if status == LOST else end_m)  # see env.reward

    def _cut_off(self) -> None:
        for i in [*self._live.values(), *self._waiting.values()]:
            self._end(i, self.time, HORIZON if self.vehicles[i].inserted else NEVER_INSERTED)
        self._waiting.clear()

    def record(self) -> EpisodeRecord:
        """Return the record of the finished episode."""
        if self._digest is None:
            raise RuntimeError("the episode is not over; call advance() until it returns []")
        vehicles, graph = self.vehicles, self.task.graph
        decisions = [d for d, _ in self._rows]
        n = len(decisions)
        width = self.task.observation_size
        return EpisodeRecord(
            traffic_seed=self.traffic_seed,
            agent=np.array([d.agent for d in decisions], dtype=np.int32),
            edge=np.array([d.edge for d in decisions], dtype=np.int32),
            action=np.array([slot for _, slot in self._rows], dtype=np.int32),
            time=np.array([d.time for d in decisions], dtype=np.float64),
            reward=np.array(self._rewards, dtype=np.float64),
            observation=np.array([d.observation for d in decisions], dtype=np.float32).reshape(n, width),
            mask=np.array([d.mask for d in decisions], dtype=np.bool_).reshape(n, graph.m_out),
            status=tuple(str(v.status) for v in vehicles),
            returns=np.array([v.total for v in vehicles]),
            travel_time=np.array([v.travel_time for v in vehicles]),
            teleports=np.array([v.teleports for v in vehicles], dtype=np.int32),
            crossed=np.array([v.crossed for v in vehicles], dtype=np.int32),
            one_way=np.array([v.one_way for v in vehicles], dtype=np.int32),
            diverted=np.array([v.diverted for v in vehicles], dtype=np.int32),
            routes=tuple(np.array(_driven(v), dtype=np.int32) for v in vehicles),
            background_vehicle_s=self._background_s,
            vehicle_s=self._all_s,
            simulated_s=self.time - self.task.scenario.start_s,
            digest=self._digest,
            known=tuple(d.known for d in decisions) if any(d.known for d in decisions) else (),
        )


def _driven(vehicle: _Vehicle) -> list[int]:
    return vehicle.route if vehicle.status == ARRIVED else vehicle.route[: vehicle.at + 1]


def warm_up(bridge: Bridge, scenario: Scenario) -> None:
    """Run only the background traffic, until the end of the warm-up."""
    for _ in range(round(scenario.demand.warmup_s / scenario.step_length_s)):
        bridge.step()
