"""Background traffic: sampling trips, routing them once, and calibrating their number to a congestion level."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from relid_sumo.base import files, seeding, sumo
from relid_sumo.base.cache import cache_folder, sha256
from relid_sumo.base.errors import InputError
from relid_sumo.network.graph import RoadGraph
from relid_sumo.network.network import Network
from relid_sumo.scenario.settings import Demand, Meso, Scenario, Simulator

RIM_M = 150.0  # a junction this near to the hull of the network is where its traffic enters and leaves
ROUTE_SPREAD = 2.0  # each vehicle sees every edge's time times a random factor of 1 to this
CLOSED_S = 1e6  # what a closed road costs background traffic
STRETCH = 10.0  # light traffic: the same trips at a tenth of the density
LIGHT_TRIPS = 400  # trips compared, at most, per traffic seed
MEASURE_S = 450.0  # trips that depart in this window after the warm-up are measured
MAX_TELEPORT_SHARE = 0.005
LEVEL_TOLERANCE = 0.03  # two samples of traffic scatter by about as much
FIRST_DENSITY = 4.0  # vehicles per lane-km that calibration starts from
FORMAT = 1  # part of the cache key: raise it when what is cached changes its meaning
VEHICLE_TYPE = '<vType id="background" vClass="passenger"/>'

Report = Callable[[str], None]


def routes(scenario: Scenario, network: Network, traffic_seed: int, closed: frozenset[int] = frozenset()) -> Path:
    """Return the .rou.xml of a traffic seed's background demand, made and cached on first use.

    The scenario's demand must hold a rate (see `calibrated`) or its own route file. Vehicles find their way around
    `closed` edges, and those that cannot are left out; all others are the same as without.

    Raises
    ------
    InputError
        The scenario's own route file does not exist.
    """
    demand = scenario.demand
    if demand.route_file is not None:
        file = scenario.folder / demand.route_file
        if not file.is_file():
            raise InputError(f"{file}: no such route file (demand.route_file of scenario '{scenario.name}')")
        return file
    if demand.rate_vph is None:
        raise InputError(f"scenario '{scenario.name}': demand.rate_vph is missing; calibrate it first")
    return _routes(demand, demand.rate_vph, network, traffic_seed, scenario.end_s, closed)


def own_demand(scenario: Scenario, network: Network) -> str | None:
    """Return the checksum of a scenario's own route file; None where its demand is generated."""
    if scenario.demand.route_file is None:
        return None
    return sha256(routes(scenario, network, scenario.seeds.training[0]))


def _routes(
    demand: Demand, rate_vph: float, network: Network, traffic_seed: int, end_s: float, closed: frozenset[int]
) -> Path:
    settings = demand.model_dump(mode="json", exclude={"level", "rate_vph", "max_running", "warmup_s"})
    key = cache_key(network, settings, round(rate_vph, 3), end_s, sorted(closed))
    file = cache_folder() / "demand" / key / f"{traffic_seed}.rou.xml"
    if not file.is_file():
        graph = network.graph
        depart, origin, destination = sample(demand, rate_vph, graph, traffic_seed, end_s)
        trips = [
            f'<trip id="b{i}" type="background" depart="{t:.2f}" from="{graph.edge_ids[o]}" to="{graph.edge_ids[d]}"'
            ' departLane="best" departSpeed="max"/>'
            for i, (t, o, d) in enumerate(zip(depart, origin, destination, strict=True))
        ]
        _route(
            trips, network, seeding.sumo_seed(traffic_seed, "routing"), [str(graph.edge_ids[e]) for e in closed], file
        )
    return file


def cache_key(*parts: object) -> str:
    network, *rest = parts
    assert isinstance(network, Network)
    text = json.dumps([FORMAT, network.key, sumo.version(), *rest], sort_keys=True)
    return f"{network.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _route(trips: list[str], network: Network, seed: int, closed: list[str], file: Path) -> None:
    """Route trips once with duarouter and put the result in place whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".tmp-") as folder:
        source, weights, result = (Path(folder) / name for name in ("trips.xml", "weights.xml", "out.rou.xml"))
        source.write_text("\n".join(["<routes>", VEHICLE_TYPE, *trips, "</routes>"]), encoding="utf-8")
        options = ["--weights.random-factor", ROUTE_SPREAD, "--seed", seed, "--ignore-errors", "--no-warnings"]
        if closed:
            edges = "".join(f'<edge id="{edge}" traveltime="{CLOSED_S}"/>' for edge in closed)
            interval = f'<interval id="closed" begin="0" end="{CLOSED_S}">{edges}</interval>'
            weights.write_text(f"<meandata>{interval}</meandata>", encoding="utf-8")
            options += ["--weight-files", weights, "--weight-attribute", "traveltime"]
        arguments = ["-n", network.net_file, "-r", source, "-o", result, "--no-step-log", *options]
        sumo.run("duarouter", [str(a) for a in arguments])
        if closed:
            _leave_out(result, set(closed))
        result.replace(file)


def _leave_out(file: Path, closed: set[str]) -> None:
    """Take vehicles that drive on closed edges out of a route file."""
    tree = ET.parse(file)
    root = tree.getroot()
    for vehicle in root.findall("vehicle"):
        route = vehicle.find("route")
        if route is None or closed & set(route.get("edges", "").split()):
            root.remove(vehicle)
    tree.write(file, encoding="utf-8")


def sample(
    demand: Demand,
    rate_vph: float,
    graph: RoadGraph,
    traffic_seed: int,
    end_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Sample background trips.

    Returns
    -------
    depart : array, shape (n,)
        Rising, s since the start of the warm-up.
    origin, destination : array of int, shape (n,)
        Edge indices.
    """
    rng = seeding.stream(traffic_seed, "demand")
    times, factors = np.array(demand.profile).T
    grid = np.arange(0.0, end_s + 1.0)
    cumulative = np.concatenate([[0.0], np.cumsum(np.interp(grid[:-1] + 0.5, times, factors))]) * rate_vph / 3600.0
    n = int(rng.poisson(cumulative[-1])) if cumulative[-1] > 0 else 0
    depart = np.interp(np.sort(rng.uniform(0.0, cumulative[-1], n)), cumulative, grid)
    start_rim, end_rim = rim_edges(graph)
    weight = graph.length * graph.lanes * graph.speed
    origin_share, destination_share = (
        w / w.sum() for w in (np.where(rim, demand.fringe_factor, 1.0) * weight for rim in (start_rim, end_rim))
    )
    middle = np.array([graph.point_along(e, 0.5)[:2] for e in range(graph.n_edges)])
    span = float(np.hypot(*np.ptp(graph.junction_xy, axis=0)))
    apart = min(demand.min_distance_m, span / 4)
    origin = rng.choice(graph.n_edges, n, p=origin_share)
    destination = rng.choice(graph.n_edges, n, p=destination_share)
    for _ in range(100):
        near = np.hypot(*(middle[origin] - middle[destination]).T) < apart
        if not near.any():
            break
        destination[near] = rng.choice(graph.n_edges, int(near.sum()), p=destination_share)
    return depart, origin, destination


def rim_edges(graph: RoadGraph) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which edges start, and which end, at the rim of the network, each of shape (E,)."""
    hull = ConvexHull(graph.junction_xy)
    inside_m = -(graph.junction_xy @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=1)
    rim = inside_m < RIM_M
    return rim[graph.from_junction], rim[graph.to_junction]


@dataclass(frozen=True)
class Traffic:
    """What the background traffic of a scenario looks like, measured microscopically.

    Attributes
    ----------
    rate_vph : float
        Departures per hour at profile factor 1.
    level : float
        Congestion: mean of (loaded travel time) / mean of (light travel time) - 1 over the same trips.
    light_s, loaded_s : float
        Mean travel time, departure delay included, s.
    teleport_share : float
        Jam and yield teleports per vehicle that departed.
    trips : int
        Trips measured.
    note : str
        Why the level aimed at was not reached; empty where it was.
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


def measure(scenario: Scenario, network: Network, rate_vph: float | None = None, *, samples: int = 2) -> Traffic:
    """Measure the background traffic, over the first training seeds side by side.

    A trip that is not over when the episode would be counts with the time it has taken so far.

    Parameters
    ----------
    rate_vph
        Departures per hour; the scenario's own demand where not given.
    samples
        How many traffic seeds.
    """
    if rate_vph is not None:
        scenario = scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": rate_vph})})
    seeds = scenario.seeds.training[:samples]
    parts = sumo.each(lambda seed: trip_times(scenario, network, seed), seeds)
    light = np.array([seconds for part in parts for seconds in part.light.values()])
    loaded = np.array([seconds for part in parts for seconds in part.loaded.values()])
    departed, teleports = sum(part.departed for part in parts), sum(part.teleports for part in parts)
    rate = scenario.demand.rate_vph or 0.0
    if not len(light):
        return Traffic(rate, 0.0, 0.0, 0.0, 0.0, 0)
    level = float(loaded.mean() / light.mean() - 1.0)
    share = float(teleports / max(departed, 1))
    return Traffic(rate, level, float(light.mean()), float(loaded.mean()), share, len(light))


@dataclass(frozen=True)
class TripTimes:
    """Travel times of the same background trips in light and in loaded traffic.

    Attributes
    ----------
    light, loaded : dict
        Travel time by vehicle, departure delay included, s.
    departed, teleports : int
        Vehicles of the loaded traffic that departed; jam and yield teleports among them.
    """

    light: dict[str, float]
    loaded: dict[str, float]
    departed: int
    teleports: int


def trip_times(
    scenario: Scenario, network: Network, traffic_seed: int, simulator: Simulator = "micro", *, again: int = 0
) -> TripTimes:
    """Measure the trips that depart in the first 450 s after the warm-up, at most 400 of them.

    Parameters
    ----------
    simulator, again
        As `simulation_options`.

    Raises
    ------
    InputError
        The scenario's own route file is not XML.
    """
    file = routes(scenario, network, traffic_seed)
    begin = scenario.start_s
    try:
        everybody = ET.parse(file).getroot().iter("vehicle")
    except ET.ParseError as error:
        raise InputError(f"{file}: not XML: {error}") from None
    inside = [v for v in everybody if begin <= float(v.get("depart", "nan")) < begin + MEASURE_S]
    chosen = inside[:: max(1, math.ceil(len(inside) / LIGHT_TRIPS))]

    def times(file: Path, end_s: float | None, out: Path) -> tuple[dict[str, float], int, int]:
        options = simulation_options(scenario, network, file, traffic_seed, simulator, again=again)
        return _travel_times(options, end_s, out)

    with tempfile.TemporaryDirectory(prefix="relid-sumo-") as name:
        folder = Path(name)
        thin = ET.Element("routes")
        thin.append(ET.fromstring(VEHICLE_TYPE))
        for i, vehicle in enumerate(chosen):
            vehicle.set("type", "background")
            vehicle.set("depart", f"{i * STRETCH * MEASURE_S / len(inside):.2f}")
            thin.append(vehicle)
        ET.ElementTree(thin).write(folder / "light.rou.xml")
        light, _, _ = times(folder / "light.rou.xml", None, folder / "light")
        loaded, departed, teleports = times(file, scenario.end_s, folder / "loaded")
    names = [v.get("id", "") for v in chosen]
    both = [name for name in names if name in light and name in loaded]
    return TripTimes({n: light[n] for n in both}, {n: loaded[n] for n in both}, departed, teleports)


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


def simulation_options(
    scenario: Scenario,
    network: Network,
    route_file: Path,
    traffic_seed: int,
    simulator: Simulator = "micro",
    *,
    again: int = 0,
) -> list[str]:
    """Return SUMO's options for a scenario's traffic; the same for calibration, training and viewing.

    With `again` the same vehicles drive under another of SUMO's own seeds.
    """
    seed = seeding.sumo_seed(traffic_seed, "sumo", *([again] if again else []))
    return [
        *(meso_options(scenario.meso or Meso()) if simulator == "meso" else ()),
        *("-n", str(network.net_file), "-r", str(route_file), "--seed", str(seed)),
        *("--step-length", str(scenario.step_length_s), "--time-to-teleport", str(scenario.teleport_after_s)),
        *("--no-warnings", "--ignore-route-errors", "--tls.actuated.jam-threshold", "30"),
        # Load all vehicles first: a request for a route draws from the same random numbers as the drivers of vehicles
        # that are loaded after it, and traffic must be the same whoever asks for what.
        *("--route-steps", "0", "--xml-validation", "never"),
    ]


def meso_options(meso: Meso) -> list[str]:
    """Return SUMO's options for a mesoscopic simulation."""
    numbers = {
        "tls-penalty": meso.tls_penalty,
        "tls-flow-penalty": meso.tls_flow_penalty,
        "minor-penalty": meso.minor_penalty_s,
        "tauff": meso.tauff,
        "taufj": meso.taufj,
        "taujf": meso.taujf,
        "taujj": meso.taujj,
    }
    options = ["--mesosim", "true", "--meso-junction-control", str(meso.junction_control).lower()]
    return options + [word for name, value in numbers.items() for word in (f"--meso-{name}", f"{value:g}")]


def calibrated(scenario: Scenario, network: Network, report: Report = lambda _: None) -> Scenario:
    """Return the scenario with a demand rate: as it stands where it has one, else calibrated (and cached)."""
    if scenario.demand.rate_vph is not None or scenario.demand.route_file is not None:
        return scenario
    traffic = calibrate(scenario, network, report)
    if traffic.note:
        report(f"background traffic: {traffic.note}; +{traffic.level:.0%} it is")
    return scenario.model_copy(update={"demand": scenario.demand.model_copy(update={"rate_vph": traffic.rate_vph})})


def calibrate(scenario: Scenario, network: Network, report: Report = lambda _: None) -> Traffic:
    """Find the departure rate that gives the scenario's congestion level, by bisection of its logarithm.

    Where the level cannot be had without gridlock, or without more vehicles than `max_running`, the highest rate that
    can is taken, and `Traffic.note` says so. The result is cached.
    """
    demand = scenario.demand
    settings = demand.model_dump(mode="json", exclude={"rate_vph"})
    timing = [scenario.horizon_s, scenario.step_length_s, scenario.teleport_after_s]
    file = (
        cache_folder()
        / "demand"
        / cache_key(network, settings, timing, list(scenario.seeds.training[:2]))
        / "level.json"
    )
    if file.is_file():
        return Traffic(**json.loads(file.read_text(encoding="utf-8")))
    result = _bisect(scenario, network, report) if demand.level > 0 else Traffic(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    files.write_json(file, result.__dict__)
    return result


def _bisect(scenario: Scenario, network: Network, report: Report) -> Traffic:
    graph, demand = network.graph, scenario.demand
    lane_km = float((graph.length * graph.lanes).sum()) / 1000.0
    span_s = float(np.hypot(*np.ptp(graph.junction_xy, axis=0))) / 2 / float(np.average(graph.speed))
    most = demand.max_running / (2 * span_s) * 3600.0
    rate = min(FIRST_DENSITY * lane_km / (2 * span_s) * 3600.0, most)
    low: Traffic | None = None  # the best that is not too much
    high_rate = math.inf
    reason = ""
    for trial in range(1, 10):
        now = measure(scenario, network, rate)
        report(f"calibrating traffic, trial {trial}: {rate:.0f} vehicles/h give +{now.level:.0%} travel time")
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
            f"({reason or 'the level is too high whatever the rate'}); set demand.level = 0 or crop the area"
        )
    close = abs(low.level - demand.level) <= 2 * LEVEL_TOLERANCE
    note = "" if close else f"+{demand.level:.0%} was not reached: {reason or 'traffic breaks down above this rate'}"
    return Traffic(**{**low.__dict__, "note": note})
