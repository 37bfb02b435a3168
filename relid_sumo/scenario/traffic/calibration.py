"""The level of congestion: measured, and calibrated by the rate of departures (`relid_sumo.scenario.traffic.level`)."""

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
from relid_sumo.base.progress import phase
from relid_sumo.network.network import Network
from relid_sumo.scenario.given.times import seconds
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.scenario.traffic import edge_times, own_traffic
from relid_sumo.scenario.traffic.demand import FORMAT, VEHICLE_TYPE, own_demand, routes
from relid_sumo.scenario.traffic.level import Curve, TrafficLevel, bracket, reach
from relid_sumo.scenario.traffic.priors import SUBURB
from relid_sumo.scenario.traffic.sumo_options import simulation_options

log = logging.getLogger(__name__)

STRETCH = 10.0  # light traffic: the same trips at a tenth of the density


DRIVEN = "driven.xml"


LIGHT_TRIPS = 400  # most trips compared per traffic seed


MEASURE_S = 450.0  # trips that depart in this window after the warm-up are measured


FIRST_DENSITY = 4.0  # vehicles per lane-km at the start of calibration


LEVEL_FORMAT, TRIPS_FORMAT = 2, 1  # parts of the cache keys: raise one when the meaning of its cached values changes


def measure(
    scenario: Scenario,
    network: Network,
    rate_vph: float | None = None,
    *,
    samples: int = 2,
    simulator: Simulator = "micro",
) -> TrafficLevel:
    """Measure the background traffic, over the first training seeds in parallel.

    A trip that is unfinished at the end of the episode counts with its time so far.

    Parameters
    ----------
    rate_vph
        Departures per hour. Default: those of the scenario.
    samples
        Number of traffic seeds.
    simulator
        As in `simulation_options`.
    """
    if rate_vph is not None:
        scenario = scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": rate_vph})})
    seeds = scenario.seeds.training[:samples]
    parts = sumo.each(lambda seed: trip_times(scenario, network, seed, simulator), seeds)
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

    The microscopic result is cached, and its loaded traffic is that of `edge_times.sample`. With a scenario's own
    demand, these are the vehicles that SUMO inserts, with the routes that they drive.

    Parameters
    ----------
    simulator, again
        As in `simulation_options`.

    Raises
    ------
    InputError
        As in `routes`.
    """
    own = own_demand(scenario)
    if simulator != "micro" or again:
        return _trip_times(scenario, network, own, traffic_seed, simulator, again)
    content = [TRIPS_FORMAT, *edge_times.identity(scenario, network, own, [traffic_seed])]

    def make() -> dict[str, Any]:
        return asdict(_trip_times(scenario, network, own, traffic_seed, "micro", 0))

    return cached_json("trips", network.name, content, make, TripTimes)


def _trip_times(
    scenario: Scenario, network: Network, own: str | None, traffic_seed: int, simulator: Simulator, again: int
) -> TripTimes:
    file = routes(scenario, network, traffic_seed)
    begin = scenario.start_s

    def times(file: Path, end_s: float | None, out: Path) -> tuple[dict[str, float], int, int]:
        options = simulation_options(scenario, network, file, traffic_seed, simulator, again=again)
        out.mkdir()
        routes_out = own_traffic.record(out / DRIVEN) if own else ()
        end = () if end_s is None else ("--end", str(end_s))
        sumo.run("sumo", [*options, *routes_out, *end, *edge_times.record(out), "--no-step-log"])
        return edge_times.travel_times(out)

    with temporary.folder("relid-sumo-") as name:
        folder = Path(name)
        if own or simulator != "micro" or again:
            loaded, departed, teleports = times(file, scenario.end_s, folder / "loaded")
        else:
            whole = edge_times.sample(scenario, network, own, traffic_seed)
            loaded, departed, teleports = whole.trips, whole.departed, whole.teleports
        vehicles = (
            own_traffic.driven(folder / "loaded" / DRIVEN) if own else ET.parse(file).getroot().findall("vehicle")
        )
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


def calibrated(scenario: Scenario, network: Network, *, rough: bool = False) -> Scenario:
    """Return the scenario with a demand rate: unchanged where it has one, else calibrated (and cached).

    Parameters
    ----------
    rough
        Take the rate of the mesoscopic simulation, without microscopic checks.
    """
    if scenario.demand.rate_vph is not None or scenario.demand.route_file is not None:
        return scenario
    at_free_flow = scenario.demand.model_copy(update={"route_choice": "free-flow"})
    traffic = calibrate(scenario.model_copy(update={"demand": at_free_flow}), network, rough=rough)
    if traffic.note:
        log.info(f"background traffic: {traffic.note}; the level is +{traffic.level:.0%}")
    return scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": traffic.rate_vph})})


def calibrate(scenario: Scenario, network: Network, *, rough: bool = False) -> TrafficLevel:
    """Find the departure rate that gives the scenario's congestion level: see `relid_sumo.scenario.traffic.level`.

    Where the level is not possible without gridlock or with at most `max_running` vehicles, the result is the highest
    rate that is possible, and `TrafficLevel.note` says why. The result is cached. `rough` is as in `calibrated`.
    """
    demand = scenario.demand
    settings = demand.model_dump(mode="json", exclude={"rate_vph"})
    timing = [scenario.horizon_s, scenario.step_length_s, scenario.teleport_after_s]
    content = [LEVEL_FORMAT, FORMAT, network.key, sumo.version(), settings, timing, list(scenario.seeds.training[:2])]

    def make() -> dict[str, Any]:
        with phase("traffic calibrated"):
            if not demand.level:
                return asdict(TrafficLevel(0.0, 0.0, 0.0, 0.0, 0.0, 0))
            return asdict(_search(scenario, network, rough=rough))

    return cached_json("level", network.name, [*content, *(["rough"] if rough else [])], make, TrafficLevel)


def _search(scenario: Scenario, network: Network, *, rough: bool) -> TrafficLevel:
    first_vph, most_vph = _rates(scenario, network)
    target = scenario.demand.level
    prior = scenario.model_copy(update={"meso": SUBURB})
    meso = bracket(target, first_vph, most_vph, lambda vph: measure(prior, network, vph, simulator="meso"))
    if rough and meso.nearest is not None:
        return meso.nearest
    reached = reach(
        Curve(target, most_vph, meso.exponent()),
        meso.next_vph(),
        lambda vph: measure(scenario, network, vph),
        target=target,
        max_running=scenario.demand.max_running,
    )
    if isinstance(reached, str):
        raise InputError(
            f"scenario '{scenario.name}': no background traffic flows on network '{network.name}' ({reached}); set "
            "demand.level = 0 or crop the area"
        )
    return reached


def _rates(scenario: Scenario, network: Network) -> tuple[float, float]:
    """Return the first rate to try, and the highest one, departures per hour."""
    graph = network.graph
    lane_km = float((graph.length * graph.lanes).sum()) / 1000.0
    span_s = float(np.hypot(*np.ptp(graph.junction_xy, axis=0))) / 2 / float(np.average(graph.speed))
    return FIRST_DENSITY * lane_km / (2 * span_s) * 3600.0, scenario.demand.max_running / (2 * span_s) * 3600.0
