"""The level of congestion: measured, and calibrated by the rate of departures."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relid_sumo.base import sumo, temporary
from relid_sumo.base.cache import cached_json
from relid_sumo.base.errors import InputError
from relid_sumo.network.network import Network
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.scenario.traffic import own_traffic
from relid_sumo.scenario.traffic.demand import FORMAT, VEHICLE_TYPE, routes
from relid_sumo.scenario.traffic.sumo_options import simulation_options

log = logging.getLogger(__name__)

STRETCH = 10.0  # light traffic: the same trips at a tenth of the density


LIGHT_TRIPS = 400  # most trips compared per traffic seed


MEASURE_S = 450.0  # trips that depart in this window after the warm-up are measured


MAX_TELEPORT_SHARE = 0.005


LEVEL_TOLERANCE = 0.03  # about the difference between two samples of traffic


FIRST_DENSITY = 4.0  # vehicles per lane-km at the start of calibration


@dataclass(frozen=True)
class TrafficLevel:
    """Level of a scenario's background traffic, measured microscopically.

    Attributes
    ----------
    rate_vph : float
        Departures per hour at profile factor 1; for a scenario's own demand, those in the measured time.
    level : float
        Congestion: mean of (loaded travel time) / mean of (light travel time) - 1 over the same trips.
    light_s, loaded_s : float
        Mean travel time, departure delay included, s.
    teleport_share : float
        Jam and yield teleports per vehicle that departed.
    trips : int
        Trips measured.
    note : str
        Why the target level was not reached; empty where it was.
    """

    rate_vph: float
    level: float
    light_s: float
    loaded_s: float
    teleport_share: float
    trips: int
    note: str = ""

    @property
    def flows(self) -> bool:
        """Whether traffic moves without gridlock."""
        return self.teleport_share < MAX_TELEPORT_SHARE


def measure(scenario: Scenario, network: Network, rate_vph: float | None = None, *, samples: int = 2) -> TrafficLevel:
    """Measure the background traffic, over the first training seeds in parallel.

    A trip that is unfinished at the end of the episode counts with its time so far.

    Parameters
    ----------
    rate_vph
        Departures per hour. Default: those of the scenario.
    samples
        Number of traffic seeds.
    """
    if rate_vph is not None:
        scenario = scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": rate_vph})})
    seeds = scenario.seeds.training[:samples]
    parts = sumo.each(lambda seed: trip_times(scenario, network, seed), seeds)
    light = np.array([seconds for part in parts for seconds in part.light.values()])
    loaded = np.array([seconds for part in parts for seconds in part.loaded.values()])
    departed, teleports = sum(part.departed for part in parts), sum(part.teleports for part in parts)
    own = scenario.demand.route_file is not None
    rate = float(np.mean([part.rate_vph for part in parts])) if own else scenario.demand.rate_vph or 0.0
    if not len(light):
        return TrafficLevel(rate, 0.0, 0.0, 0.0, 0.0, 0)
    level = float(loaded.mean() / light.mean() - 1.0)
    share = float(teleports / max(departed, 1))
    return TrafficLevel(rate, level, float(light.mean()), float(loaded.mean()), share, len(light))


@dataclass(frozen=True)
class TripTimes:
    """Travel times of the same background trips in light and in loaded traffic.

    Attributes
    ----------
    light, loaded : dict
        Travel time by vehicle, departure delay included, s.
    departed, teleports : int
        Vehicles of the loaded traffic that departed; jam and yield teleports among them.
    rate_vph : float
        Departures per hour of the vehicles that the trips are chosen from.
    """

    light: dict[str, float]
    loaded: dict[str, float]
    departed: int
    teleports: int
    rate_vph: float


def trip_times(
    scenario: Scenario, network: Network, traffic_seed: int, simulator: Simulator = "micro", *, again: int = 0
) -> TripTimes:
    """Measure the trips that depart in the first 450 s after the warm-up, at most 400 of them.

    With a scenario's own demand, these are the vehicles that SUMO inserts, with the routes that they drive.

    Parameters
    ----------
    simulator, again
        As in `simulation_options`.

    Raises
    ------
    InputError
        As in `routes`.
    """
    file = routes(scenario, network, traffic_seed)
    begin, own = scenario.start_s, scenario.demand.route_file is not None

    def times(file: Path, end_s: float | None, out: Path) -> tuple[dict[str, float], int, int]:
        options = simulation_options(scenario, network, file, traffic_seed, simulator, again=again)
        return _travel_times([*options, *(own_traffic.record(out) if own else ())], end_s, out)

    with temporary.folder("relid-sumo-") as name:
        folder = Path(name)
        loaded, departed, teleports = times(file, scenario.end_s, folder / "loaded")
        vehicles = own_traffic.driven(folder / "loaded") if own else ET.parse(file).getroot().findall("vehicle")
        inside = [v for v in vehicles if begin <= seconds(v.get("depart", "")) < begin + MEASURE_S]
        chosen = inside[:: max(1, math.ceil(len(inside) / LIGHT_TRIPS))]
        thin = ET.Element("routes")
        thin.extend(own_traffic.types(file) if own else [ET.fromstring(VEHICLE_TYPE)])
        for i, vehicle in enumerate(chosen):
            if not own:
                vehicle.set("type", "background")
            at_s = scenario.demand.begin_s + i * STRETCH * MEASURE_S / len(inside)
            vehicle.set("depart", f"{at_s:.2f}")
            thin.append(vehicle)
        ET.ElementTree(thin).write(folder / "light.rou.xml")
        # A vehicle of own demand may wait forever for a person or a container.
        end_s = STRETCH * MEASURE_S + scenario.end_s if own else None
        light, _, _ = times(folder / "light.rou.xml", end_s, folder / "light")
    names = [v.get("id", "") for v in chosen]
    both = [name for name in names if name in light and name in loaded]
    rate_vph = len(inside) / MEASURE_S * 3600.0
    return TripTimes({n: light[n] for n in both}, {n: loaded[n] for n in both}, departed, teleports, rate_vph)


def _travel_times(options: list[str], end_s: float | None, out: Path) -> tuple[dict[str, float], int, int]:
    """Run background traffic alone; return travel times by vehicle [s], vehicles departed, jam and yield teleports."""
    trips, statistics = out.with_suffix(".trips.xml"), out.with_suffix(".stats.xml")
    end = [] if end_s is None else ["--end", str(end_s)]
    arguments = [
        *options,
        *end,
        *("--tripinfo-output", str(trips), "--tripinfo-output.write-unfinished", "--tripinfo-output.write-undeparted"),
        *("--statistic-output", str(statistics), "--no-step-log"),
    ]
    sumo.run("sumo", arguments)
    times = {
        info.get("id", ""): float(info.get("duration", "0")) + float(info.get("departDelay", "0"))
        for _, info in ET.iterparse(trips)
        if info.tag == "tripinfo"
    }
    root = ET.parse(statistics).getroot()
    teleports, vehicles = root.find("teleports"), root.find("vehicles")
    assert teleports is not None
    assert vehicles is not None
    stuck = int(teleports.get("jam", "0")) + int(teleports.get("yield", "0"))
    return times, int(vehicles.get("inserted", "0")), stuck


def calibrated(scenario: Scenario, network: Network) -> Scenario:
    """Return the scenario with a demand rate: unchanged where it has one, else calibrated (and cached)."""
    if scenario.demand.rate_vph is not None or scenario.demand.route_file is not None:
        return scenario
    at_free_flow = scenario.demand.model_copy(update={"route_choice": "free-flow"})
    traffic = calibrate(scenario.model_copy(update={"demand": at_free_flow}), network)
    if traffic.note:
        log.info(f"background traffic: {traffic.note}; the level is +{traffic.level:.0%}")
    return scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": traffic.rate_vph})})


def calibrate(scenario: Scenario, network: Network) -> TrafficLevel:
    """Find the departure rate that gives the scenario's congestion level, by bisection of its logarithm.

    Where the level is not possible without gridlock or with at most `max_running` vehicles, the result is the highest
    rate that is possible, and `TrafficLevel.note` says why. The result is cached.
    """
    demand = scenario.demand
    settings = demand.model_dump(mode="json", exclude={"rate_vph"})
    timing = [scenario.horizon_s, scenario.step_length_s, scenario.teleport_after_s]
    content = [FORMAT, network.key, sumo.version(), settings, timing, list(scenario.seeds.training[:2])]

    def make() -> dict[str, Any]:
        return asdict(_bisect(scenario, network) if demand.level > 0 else TrafficLevel(0.0, 0.0, 0.0, 0.0, 0.0, 0))

    return cached_json("level", network.name, content, make, TrafficLevel)


def _bisect(scenario: Scenario, network: Network) -> TrafficLevel:
    graph, demand = network.graph, scenario.demand
    lane_km = float((graph.length * graph.lanes).sum()) / 1000.0
    span_s = float(np.hypot(*np.ptp(graph.junction_xy, axis=0))) / 2 / float(np.average(graph.speed))
    most = demand.max_running / (2 * span_s) * 3600.0
    rate = min(FIRST_DENSITY * lane_km / (2 * span_s) * 3600.0, most)
    low: TrafficLevel | None = None  # the highest level below the target
    high_rate = math.inf
    reason = ""
    for trial in range(1, 10):
        now = measure(scenario, network, rate)
        log.info(f"calibrating traffic, trial {trial}: {rate:.0f} vehicles/h give +{now.level:.0%} travel time")
        if now.flows and abs(now.level - demand.level) <= LEVEL_TOLERANCE:
            return now
        if now.flows and now.level < demand.level:
            low = now if low is None or now.rate_vph > low.rate_vph else low
            if rate >= most:
                reason = f"more than {demand.max_running} vehicles at once (demand.max_running) would be needed"
                break
        else:
            high_rate = min(high_rate, rate)
            if not now.flows:
                reason = f"at {rate:.0f} vehicles/h {now.teleport_share:.1%} of them end in gridlock"
        if low is not None and high_rate / low.rate_vph < 1.05:
            break
        if low is None:
            rate = rate / 2
        elif math.isinf(high_rate):
            rate = min(rate * 1.6, most)
        else:
            rate = math.sqrt(low.rate_vph * high_rate)
    if low is None:
        raise InputError(
            f"scenario '{scenario.name}': no background traffic flows on network '{network.name}' "
            f"({reason or 'the level is too high at every rate'}); set demand.level = 0 or crop the area"
        )
    close = abs(low.level - demand.level) <= 2 * LEVEL_TOLERANCE
    note = "" if close else f"+{demand.level:.0%} was not reached: {reason or 'traffic breaks down above this rate'}"
    return TrafficLevel(**{**low.__dict__, "note": note})
