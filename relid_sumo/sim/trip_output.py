"""What SUMO's devices measure of the agents' trips, read from SUMO's own tripinfo output.

SUMO writes to a temporary file without a name. A fork of the simulation would write to the same file as the simulation
itself, so each fork gives SUMO a new file first. The devices only measure: no vehicle drives differently, and no random
number is drawn.
"""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from relid_sumo.base.errors import SimulationError
from relid_sumo.scenario.traffic.sumo_options import READER

FILES = "/dev/fd"
MG_PER_G = 1000.0
UNKNOWN = float("nan")


@dataclass(frozen=True)
class TripMeasures:
    """What SUMO measures of one trip, from the departure to the arrival or the end of the simulation.

    Attributes
    ----------
    duration_s
        Time in the network.
    time_loss_s
        Time lost by driving slower than the vehicle's own maximum speed on each edge (SUMO's ``timeLoss``).
    distance_m
        Distance driven.
    waiting_s, stops
        Time below 0.1 m/s, and how often the speed fell below it; nan in the mesoscopic simulation, which has no speeds
        of single vehicles.
    co2_g, fuel_g
        By SUMO's emission model (HBEFA 4, or the vehicle type's own class); nan in the mesoscopic simulation.
    """

    duration_s: float
    time_loss_s: float
    distance_m: float
    waiting_s: float
    stops: float
    co2_g: float
    fuel_g: float


class TripOutput:
    """The tripinfo output of a simulation in this process.

    Parameters
    ----------
    micro
        Whether the simulation is microscopic.
    file
        A file to write to, with the trips of all vehicles. Such a simulation cannot be forked. Default: a temporary
        file with the agents' trips.
    """

    def __init__(self, *, micro: bool, file: Path | None = None) -> None:
        self.micro, self.named = micro, file
        self.devices = ("tripinfo", "emissions") if micro else ("tripinfo",)
        self._file: IO[bytes] = tempfile.TemporaryFile() if file is None else file.open("w+b")  # noqa: SIM115

    @property
    def options(self) -> tuple[str, ...]:
        """SUMO's options. A vehicle that never departs is named, so that only agents have the device by their type."""
        name = str(self.named or f"{FILES}/{self._file.fileno()}")
        only_agents = () if self.named else ("--device.tripinfo.explicit", READER)
        return ("--tripinfo-output", name, "--tripinfo-output.write-unfinished", *only_agents)

    def renew(self) -> None:
        """Let SUMO write to a new temporary file from now on."""
        if self.named:
            return
        fresh = tempfile.TemporaryFile()  # noqa: SIM115 - as above
        for number in self._opened():
            os.dup2(fresh.fileno(), number)
        self._file = fresh

    def _opened(self) -> Iterator[int]:
        """Yield the numbers under which SUMO has opened the file."""
        own, mine = os.fstat(self._file.fileno()), self._file.fileno()
        for number in [int(one.name) for one in Path(FILES).iterdir()]:
            try:
                found = os.fstat(number)
            except OSError:  # the listing itself
                continue
            if number != mine and (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                yield number

    def read(self) -> dict[str, TripMeasures]:
        """Return the trips that SUMO has written, by vehicle. Call it after SUMO has ended.

        Raises
        ------
        SimulationError
            SUMO wrote something else.
        """
        self._file.seek(0)
        text = self._file.read()
        begin, end = text.find(b"<tripinfo "), text.rfind(b"</tripinfos>")
        if begin < 0:
            return {}
        try:
            root = ET.fromstring(b"<tripinfos>" + text[begin : end if end >= 0 else len(text)] + b"</tripinfos>")
            return {str(one.get("id")): self._measures(one) for one in root}
        except (ET.ParseError, KeyError, ValueError) as error:
            raise SimulationError(f"SUMO's tripinfo output cannot be read ({error})") from None

    def _measures(self, one: ET.Element) -> TripMeasures:
        gases = one.find("emissions")
        micro = self.micro
        return TripMeasures(
            duration_s=float(one.attrib["duration"]),
            time_loss_s=float(one.attrib["timeLoss"]),
            distance_m=float(one.attrib["routeLength"]),
            waiting_s=float(one.attrib["waitingTime"]) if micro else UNKNOWN,
            stops=float(one.attrib["waitingCount"]) if micro else UNKNOWN,
            co2_g=UNKNOWN if gases is None else float(gases.attrib["CO2_abs"]) / MG_PER_G,
            fuel_g=UNKNOWN if gases is None else float(gases.attrib["fuel_abs"]) / MG_PER_G,
        )

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
