"""A small interface to a running SUMO: libsumo in this process, or traci to a separate sumo or sumo-gui process.

No other module imports libsumo or traci. One process runs at most one libsumo simulation, because SUMO keeps global
state.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, cast

from relid_sumo.base import sumo
from relid_sumo.base.errors import SimulationError
from relid_sumo.scenario.traffic.sumo_options import (
    ADAPTATION,
    AGENT_TYPE,
    NEVER_S,
    READER,
    REROUTE_EVERY_S,
    REROUTING_TYPE,
    adaptation,
)
from relid_sumo.sim.trip_output import TripMeasures, TripOutput

SMOOTHED = 1  # SUMO's routing mode "aggregated"
NEVER = {"period": 0.0, "pre-period": 0.0}
READER_FASTER = 10.0  # so that no travel time is limited by its speed
LAST_WORD_S = 5.0  # time limit for the error line of a SUMO that stopped

T = TypeVar("T")
P = ParamSpec("P")


class Bridge(Protocol):
    """What the environment needs from a simulation. Times are in s; edges and vehicles are named by their ids.

    Attributes
    ----------
    in_process : bool
        Whether the simulation lives in this process, so that forking the process forks the simulation.
    mesoscopic : bool
        Whether the simulation is mesoscopic.
    """

    in_process: bool
    mesoscopic: bool

    def step(self) -> float:
        """Advance by one step and return the step's time, s, as SUMO's outputs give it."""

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """Insert a vehicle with a departure time and a route.

        `rerouting` enables SUMO's rerouting device for it. `kind` is its vehicle type; "" for the default type.
        """

    def set_route(self, vehicle: str, route: Sequence[str]) -> None:
        """Replace the rest of a vehicle's route. Its first edge is the vehicle's current edge."""

    def road(self, vehicle: str) -> str | None:
        """Return a vehicle's edge; a name that is no edge in a junction or teleport; None if the vehicle is absent."""

    def speed_factor(self, vehicle: str) -> float:
        """Return a vehicle's maximum speed relative to the speed limit."""

    def departed(self) -> Sequence[str]:
        """Return the vehicles that departed in the last step."""

    def teleported(self) -> Sequence[str]:
        """Return the vehicles whose teleport started in the last step."""

    def running(self) -> int:
        """Return the number of vehicles in the network."""

    def waiting(self) -> int:
        """Return the number of vehicles that wait for insertion."""

    def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
        """Return the travel time of an edge, s: in the last step, or from its exponentially smoothed mean speed.

        The smoothed time of a vehicle is at least the edge's length over the vehicle's maximum speed. Without a vehicle
        there is no such limit.
        """

    def vehicles(self, edge: str) -> int:
        """Return the number of vehicles on an edge."""

    def fastest_route(self, edge: str, destination: str) -> Sequence[str]:
        """Return the fastest route by smoothed travel times, including both ends."""

    def turn_away(self, begun: Sequence[str], closed: Sequence[str]) -> None:
        """Give vehicles that stand before edges which close in this step a route around them, where SUMO does not.

        Parameters
        ----------
        begun, closed
            Edges that close in this step, and all closed edges. Vehicles on a closed edge leave it on their route.
        """

    def fingerprint(self) -> str:
        """Return a text that describes every vehicle's position. Equal states give equal texts."""

    def measure_here(self) -> None:
        """Measure the agents' trips in this process alone. Call it in each fork of a simulation that measures."""

    def measured(self) -> Mapping[str, TripMeasures]:
        """End the simulation, and return what it measured of the agents' trips; none unless it measures."""

    def close(self) -> None:
        """End the simulation."""


def _convert_errors(method: Callable[Concatenate[SumoBridge, P], T]) -> Callable[Concatenate[SumoBridge, P], T]:
    """Convert any error of SUMO or its connection into a `SimulationError` with SUMO's own error line."""

    @functools.wraps(method)
    def call(self: SumoBridge, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except self.failures as error:
            raise self._failed(error) from error

    return cast("Callable[Concatenate[SumoBridge, P], T]", call)


class SumoBridge:
    """A running SUMO behind libsumo (default) or traci.

    Parameters
    ----------
    options
        SUMO's command-line options, as from `demand.simulation_options`.
    window_s
        Time constant of the smoothed travel times, s.
    closed
        Edges that no vehicle may enter.
    program
        ``libsumo`` (in this process), or ``sumo`` or ``sumo-gui`` (a separate process, controlled through traci).
    measures
        Measure the agents' trips with SUMO's tripinfo device, and in the microscopic simulation with its emission
        model; only with libsumo. It changes no vehicle.
    trip_file
        File to write all trips to, as SUMO's tripinfo output. Default: none is written.

    Attributes
    ----------
    insertion : dict
        SUMO's attributes of an agent's departure.

    Raises
    ------
    SimulationError
        SUMO does not start. The message contains SUMO's error line. Every method raises this error if SUMO stops.
    """

    insertion: ClassVar[dict[str, str]] = {"departLane": "best", "departSpeed": "max"}

    def __init__(
        self,
        options: Sequence[str],
        *,
        window_s: float = 180.0,
        closed: Sequence[str] = (),
        program: str = "libsumo",
        measures: bool = False,
        trip_file: Path | None = None,
    ) -> None:
        sumo.home()
        self.in_process, self.mesoscopic = program == "libsumo", "--mesosim" in options
        self._choosing: set[str] = set()  # vehicles whose route only their agent changes
        name = "libsumo" if program == "libsumo" else "traci"
        sumo.check_not_hidden("sumolib", "traci", name)  # libsumo imports traci, and traci imports sumolib
        module: Any = importlib.import_module(name)
        self.failures = (module.TraCIException, module.FatalTraCIError, OSError)
        self._unknown = module.TraCIException
        self.api: Any = None
        self._road_of: Any = None
        self._now_ms = self._step_ms = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - SUMO's messages; deleted when this process ends
        self._trips = TripOutput(micro=not self.mesoscopic, file=trip_file) if measures else None
        smoothing = [] if ADAPTATION in options else adaptation(window_s)
        try:
            output = self._trips.options if self._trips else ()
            self._start(module, program, [*options, *smoothing, *output, "--no-step-log"])
            self._close_edges(closed)
        except SimulationError:
            self.close()
            raise

    @_convert_errors
    def _start(self, module: Any, program: str, options: list[str]) -> None:  # noqa: ANN401 - libsumo or traci
        if program == "libsumo":
            with _stderr_to(self._log.fileno()):
                module.start(["sumo", *options])
            self.api = module
        else:
            port = module.getFreeSocketPort()
            command = [sumo.binary(program), *options, "--remote-port", str(port)]
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=self._log)
            with contextlib.redirect_stdout(io.StringIO()):  # traci prints each connection attempt
                self.api = module.connect(port, numRetries=120, proc=self._process, waitBetweenRetries=0.25)
        self._simulation, self._vehicle, self._edge = self.api.simulation, self.api.vehicle, self.api.edge
        self._road_of = self._vehicle.getRoadID  # the most frequent call
        self._now_ms = round(1000 * self._simulation.getTime())
        self._step_ms = round(1000 * self._simulation.getDeltaT())
        self._kinds = {("", False): AGENT_TYPE, ("", True): REROUTING_TYPE}
        any_edge = next(e for e in self._edge.getIDList() if not e.startswith(":") and self._for_cars(e))
        self._simulation.findRoute(any_edge, any_edge, routingMode=SMOOTHED)  # the first request starts smoothing
        # Agents have the rerouting device to read its travel times. Their device never changes a route.
        self._add_type("DEFAULT_VEHTYPE", AGENT_TYPE, rerouting=False)
        self._add_type("DEFAULT_VEHTYPE", REROUTING_TYPE, rerouting=True)
        self._add_type(AGENT_TYPE, READER, rerouting=False)
        self.api.vehicletype.setSpeedFactor(READER, READER_FASTER)
        self.api.vehicletype.setSpeedDeviation(READER, 0.0)  # so that it draws no random number
        self.api.route.add(f"route of {READER}", [any_edge])
        self._vehicle.add(READER, f"route of {READER}", READER, depart=str(NEVER_S))

    def _add_type(self, kind: str, name: str, *, rerouting: bool) -> None:
        """Copy a vehicle type, for agents."""
        self.api.vehicletype.copy(kind, name)
        for device in ("rerouting", *(self._trips.devices if self._trips else ())):
            self.api.vehicletype.setParameter(name, f"has.{device}.device", "true")
        for key, seconds in ({"period": REROUTE_EVERY_S} if rerouting else NEVER).items():
            self.api.vehicletype.setParameter(name, f"device.rerouting.{key}", str(seconds))

    def _type(self, kind: str, *, rerouting: bool) -> str:
        """Return the agents' copy of a vehicle type, made at first use."""
        if (kind, rerouting) not in self._kinds:
            name = f"{REROUTING_TYPE if rerouting else AGENT_TYPE}@{kind}"
            self._add_type(kind, name, rerouting=rerouting)
            self._kinds[kind, rerouting] = name
        return self._kinds[kind, rerouting]

    def _for_cars(self, edge: str) -> bool:
        allowed = self.api.lane.getAllowed(f"{edge}_{self._edge.getLaneNumber(edge) - 1}")
        return not allowed or "passenger" in allowed

    @_convert_errors
    def _close_edges(self, closed: Sequence[str]) -> None:
        for edge in closed:
            for lane in range(self._edge.getLaneNumber(edge)):
                self.api.lane.setDisallowed(f"{edge}_{lane}", ["all"])

    def _failed(self, error: Exception) -> SimulationError:
        return SimulationError(f"SUMO failed: {self.last_word() or error}")

    def last_word(self) -> str:
        """Return SUMO's last message, which says why it stopped; "" if there is none."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORD_S)
        log = os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")
        return sumo.error_line(log) if log.strip() else ""

    @_convert_errors
    def step(self) -> float:
        """See `Bridge.step`."""
        now_s = self._now_ms / 1000.0
        self._now_ms += self._step_ms
        self.api.simulationStep()
        return now_s

    @_convert_errors
    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """See `Bridge.add`."""
        own = self._type(kind, rerouting=rerouting)
        if not rerouting:
            self._choosing.add(vehicle)
        self.api.route.add(f"route of {vehicle}", route)
        self._vehicle.add(vehicle, f"route of {vehicle}", own, depart=str(depart_s), **self.insertion)

    @_convert_errors
    def set_route(self, vehicle: str, route: Sequence[str]) -> None:
        """See `Bridge.set_route`."""
        self._vehicle.setRoute(vehicle, route)

    def road(self, vehicle: str) -> str | None:
        """See `Bridge.road`."""
        try:
            return self._road_of(vehicle)  # type: ignore[no-any-return] # SUMO's modules carry no types
        except self._unknown:
            return None
        except self.failures as error:
            raise self._failed(error) from error

    @_convert_errors
    def speed_factor(self, vehicle: str) -> float:
        """See `Bridge.speed_factor`."""
        try:
            return float(self._vehicle.getSpeedFactor(vehicle))
        except self._unknown:  # the vehicle left the network in the step of its departure
            return 1.0

    @_convert_errors
    def departed(self) -> Sequence[str]:
        """See `Bridge.departed`."""
        return tuple(self._simulation.getDepartedIDList())

    @_convert_errors
    def teleported(self) -> Sequence[str]:
        """See `Bridge.teleported`."""
        return tuple(self._simulation.getStartingTeleportIDList())

    @_convert_errors
    def running(self) -> int:
        """See `Bridge.running`."""
        return int(self._vehicle.getIDCount())

    @_convert_errors
    def waiting(self) -> int:
        """See `Bridge.waiting`."""
        return len(self._simulation.getPendingVehicles())

    @_convert_errors
    def travel_time(self, edge: str, vehicle: str | None = None, *, smoothed: bool) -> float:
        """See `Bridge.travel_time`."""
        if smoothed:
            return float(self._vehicle.getParameter(vehicle or READER, f"device.rerouting.edge:{edge}"))
        return float(self._edge.getTraveltime(edge))

    @_convert_errors
    def vehicles(self, edge: str) -> int:
        """See `Bridge.vehicles`."""
        return int(self._edge.getLastStepVehicleNumber(edge))

    @_convert_errors
    def fastest_route(self, edge: str, destination: str) -> Sequence[str]:
        """See `Bridge.fastest_route`."""
        return tuple(self._simulation.findRoute(edge, destination, routingMode=SMOOTHED).edges)

    @_convert_errors
    def turn_away(self, begun: Sequence[str], closed: Sequence[str]) -> None:
        """See `Bridge.turn_away`. Agents choose themselves."""
        if not begun or not self.mesoscopic:  # SUMO's rerouters turn them in the microscopic simulation
            return
        vehicle = self._vehicle
        for name in sorted(set(vehicle.getIDList()) - self._choosing):
            route, at = vehicle.getRoute(name), vehicle.getRouteIndex(name)
            here, ahead = route[at], route[at + 1 : at + 2]
            if here in closed:  # SUMO finds no route that begins there
                continue
            if ahead and ahead[0] in begun and vehicle.getRoadID(name) == here:
                last = here if route[-1] in closed else route[-1]
                around = self._simulation.findRoute(here, last).edges
                if around:
                    vehicle.setRoute(name, around)

    @_convert_errors
    def fingerprint(self) -> str:
        """See `Bridge.fingerprint`."""
        vehicle = self._vehicle
        return "\n".join(f"{v} {vehicle.getRoadID(v)} {vehicle.getLanePosition(v)!r}" for v in vehicle.getIDList())

    def measure_here(self) -> None:
        """See `Bridge.measure_here`."""
        if self._trips is not None:
            self._trips.renew()

    @_convert_errors
    def measured(self) -> Mapping[str, TripMeasures]:
        """See `Bridge.measured`."""
        if self._trips is None:
            return {}
        if self.api is not None:  # SUMO writes trips that are under way when it ends
            self.api.close()
            self.api = None
        return self._trips.read()

    def close(self) -> None:
        """See `Bridge.close`."""
        if self.api is not None:
            with contextlib.suppress(*self.failures):
                self.api.close()
            self.api = None
        if self._process is not None:
            self._process.kill()  # no effect if it has ended
            self._process.wait()
        if self._trips is not None:
            self._trips.close()
        self._log.close()


@contextlib.contextmanager
def _stderr_to(file: int) -> Iterator[None]:
    """Redirect this process's standard error to a file, including output from C++."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
