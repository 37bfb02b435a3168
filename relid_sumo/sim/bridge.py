"""One small interface over a running SUMO: libsumo in this process, or traci to a sumo or sumo-gui beside it.

The only importer of either. One libsumo simulation per process: SUMO keeps global state.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from relid_sumo.base import sumo
from relid_sumo.base.errors import SimulationError

ADAPT_EVERY_S = 10.0  # how often SUMO's smoothed travel times take a new reading
SMOOTHED = 1  # SUMO's routing mode "aggregated"
AGENT_TYPE, REROUTING_TYPE = "agent", "agent_rerouting"
REROUTE_EVERY_S = 30.0
NEVER = {"period": 0.0, "pre-period": 0.0}
LAST_WORD_S = 5.0  # how long a SUMO that broke off may take to say why

T = TypeVar("T")
P = ParamSpec("P")


class Bridge(Protocol):
    """What the environment asks of a simulation. Times in s; edges and vehicles by name.

    Attributes
    ----------
    in_process : bool
        Whether the simulation lives in this process, so that a fork of the process is a fork of it.
    """

    in_process: bool

    def step(self) -> float:
        """Advance by one step and return its time, as SUMO's own outputs give it."""

    def add(self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False) -> None:
        """Let a vehicle depart at a time, on a route; with `rerouting` SUMO's device re-routes it on the way."""

    def set_route(self, vehicle: str, route: Sequence[str]) -> None:
        """Replace the rest of a vehicle's route; its first edge is the one the vehicle is on."""

    def road(self, vehicle: str) -> str | None:
        """Return the edge a vehicle is on; no edge's name in a junction or teleport, None if it is not there."""

    def speed_factor(self, vehicle: str) -> float:
        """Return how fast a vehicle drives at most, over the speed allowed."""

    def departed(self) -> Sequence[str]:
        """Return the vehicles that departed in the last step."""

    def teleported(self) -> Sequence[str]:
        """Return the vehicles that began to teleport in the last step."""

    def running(self) -> int:
        """Return how many vehicles are on the road."""

    def waiting(self) -> int:
        """Return how many vehicles wait to be inserted."""

    def travel_time(self, edge: str, vehicle: str, *, smoothed: bool) -> float:
        """Return the travel time of an edge in the last step, or exponentially smoothed, s.

        The smoothed one is a vehicle's own: no shorter than it takes at its own highest speed.
        """

    def fastest_route(self, edge: str, destination: str) -> Sequence[str]:
        """Return the fastest route on smoothed travel times, both ends included."""

    def fingerprint(self) -> str:
        """Return a text that tells where every vehicle is: equal for equal states."""

    def close(self) -> None:
        """End the simulation."""


def _told(method: Callable[Concatenate[SumoBridge, P], T]) -> Callable[Concatenate[SumoBridge, P], T]:
    """Turn whatever ends SUMO, or its connection, into an error that holds SUMO's own line."""

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
        SUMO's options, as from `demand.simulation_options`.
    window_s
        Time constant of the smoothed travel times, s.
    closed
        Edges that no car may enter.
    program
        ``libsumo`` (in this process), or ``sumo`` or ``sumo-gui`` (a process of its own, reached through traci).

    Raises
    ------
    SimulationError
        SUMO does not start; the message holds its own line. Every method raises it when SUMO dies.
    """

    def __init__(
        self,
        options: Sequence[str],
        *,
        window_s: float = 180.0,
        closed: Sequence[str] = (),
        program: str = "libsumo",
    ) -> None:
        sumo.home()
        self.in_process = program == "libsumo"
        module: Any = importlib.import_module("libsumo" if program == "libsumo" else "traci")
        self.failures = (module.TraCIException, module.FatalTraCIError, OSError)
        self._unknown = module.TraCIException
        self.api: Any = None
        self._road_of: Any = None
        self._now_ms = self._step_ms = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - SUMO's complaints; gone with us, however we end
        adaptation = [
            *("--device.rerouting.adaptation-interval", str(ADAPT_EVERY_S)),
            *("--device.rerouting.adaptation-weight", str(math.exp(-ADAPT_EVERY_S / window_s))),
        ]
        try:
            self._start(module, program, [*options, *adaptation, "--no-step-log"])
            self._close_roads(closed)
        except SimulationError:
            self.close()
            raise

    @_told
    def _start(self, module: Any, program: str, options: list[str]) -> None:  # noqa: ANN401 - libsumo or traci
        if program == "libsumo":
            with _complaints_to(self._log.fileno()):
                module.start(["sumo", *options])
            self.api = module
        else:
            port = module.getFreeSocketPort()
            command = [sumo.binary(program), *options, "--remote-port", str(port)]
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=self._log)
            with contextlib.redirect_stdout(io.StringIO()):  # traci tells of every attempt
                self.api = module.connect(port, numRetries=120, proc=self._process, waitBetweenRetries=0.25)
        self._simulation, self._vehicle, self._edge = self.api.simulation, self.api.vehicle, self.api.edge
        self._road_of = self._vehicle.getRoadID  # asked more often than anything else
        self._now_ms = round(1000 * self._simulation.getTime())
        self._step_ms = round(1000 * self._simulation.getDeltaT())
        any_edge = next(e for e in self._edge.getIDList() if not e.startswith(":"))
        self._simulation.findRoute(any_edge, any_edge, routingMode=SMOOTHED)  # the first request starts the smoothing
        # Agents have the device for what it knows of the edges; theirs never re-routes.
        for name, timing in ((AGENT_TYPE, NEVER), (REROUTING_TYPE, {"period": REROUTE_EVERY_S})):
            self.api.vehicletype.copy("DEFAULT_VEHTYPE", name)
            self.api.vehicletype.setParameter(name, "has.rerouting.device", "true")
            for key, seconds in timing.items():
                self.api.vehicletype.setParameter(name, f"device.rerouting.{key}", str(seconds))

    @_told
    def _close_roads(self, closed: Sequence[str]) -> None:
        for edge in closed:
            for lane in range(self._edge.getLaneNumber(edge)):
                self.api.lane.setDisallowed(f"{edge}_{lane}", ["all"])

    def _failed(self, error: Exception) -> SimulationError:
        return SimulationError(f"SUMO failed: {self.last_word() or error}")

    def last_word(self) -> str:
        """Return the line that says why SUMO stopped; empty where it has said nothing."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORD_S)
        log = os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")
        return sumo.error_line(log) if log.strip() else ""

    @_told
    def step(self) -> float:
        """See `Bridge.step`."""
        now_s = self._now_ms / 1000.0
        self._now_ms += self._step_ms
        self.api.simulationStep()
        return now_s

    @_told
    def add(self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False) -> None:
        """See `Bridge.add`."""
        kind = REROUTING_TYPE if rerouting else AGENT_TYPE
        self.api.route.add(f"route of {vehicle}", route)
        self._vehicle.add(
            vehicle, f"route of {vehicle}", kind, depart=str(depart_s), departLane="best", departSpeed="max"
        )

    @_told
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

    @_told
    def speed_factor(self, vehicle: str) -> float:
        """See `Bridge.speed_factor`."""
        try:
            return float(self._vehicle.getSpeedFactor(vehicle))
        except self._unknown:  # gone in the step in which it departed
            return 1.0

    @_told
    def departed(self) -> Sequence[str]:
        """See `Bridge.departed`."""
        return tuple(self._simulation.getDepartedIDList())

    @_told
    def teleported(self) -> Sequence[str]:
        """See `Bridge.teleported`."""
        return tuple(self._simulation.getStartingTeleportIDList())

    @_told
    def running(self) -> int:
        """See `Bridge.running`."""
        return int(self._vehicle.getIDCount())

    @_told
    def waiting(self) -> int:
        """See `Bridge.waiting`."""
        return len(self._simulation.getPendingVehicles())

    @_told
    def travel_time(self, edge: str, vehicle: str, *, smoothed: bool) -> float:
        """See `Bridge.travel_time`."""
        if smoothed:
            return float(self._vehicle.getParameter(vehicle, f"device.rerouting.edge:{edge}"))
        return float(self._edge.getTraveltime(edge))

    @_told
    def fastest_route(self, edge: str, destination: str) -> Sequence[str]:
        """See `Bridge.fastest_route`."""
        return tuple(self._simulation.findRoute(edge, destination, routingMode=SMOOTHED).edges)

    @_told
    def fingerprint(self) -> str:
        """See `Bridge.fingerprint`."""
        vehicle = self._vehicle
        return "\n".join(f"{v} {vehicle.getRoadID(v)} {vehicle.getLanePosition(v)!r}" for v in vehicle.getIDList())

    def close(self) -> None:
        """See `Bridge.close`."""
        if self.api is not None:
            with contextlib.suppress(*self.failures):
                self.api.close()
            self.api = None
        if self._process is not None:
            self._process.kill()  # which does nothing where it has ended
            self._process.wait()
        self._log.close()


@contextlib.contextmanager
def _complaints_to(file: int) -> Iterator[None]:
    """Let a file take what this process writes to its standard error, from C++ too."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
