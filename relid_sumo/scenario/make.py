"""Loads a scenario by name or path, and makes a new one from an OSM file."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from relid_sumo.base import safe_paths, trusted
from relid_sumo.base.errors import InputError, SimulationError, did_you_mean
from relid_sumo.base.progress import phase
from relid_sumo.base.settings import WEEK_S
from relid_sumo.base.toml import changed, validate
from relid_sumo.network import catalogue, network, osm
from relid_sumo.network.catalogue import NetworkSettings, plain_name
from relid_sumo.network.network import Network
from relid_sumo.scenario import incidents, prepare, trips
from relid_sumo.scenario.files import FILE, override, read_scenario, with_fleet
from relid_sumo.scenario.given import source as source_files
from relid_sumo.scenario.given.source import Inputs
from relid_sumo.scenario.settings import Scenario, Trip
from relid_sumo.scenario.task import make_task
from relid_sumo.scenario.traffic import calibration, edge_times, equilibrium, meso, own_traffic
from relid_sumo.scenario.traffic.demand import own_demand
from relid_sumo.scenario.traffic.priors import SUBURB

log = logging.getLogger(__name__)

AGENTS = 10
NO_INPUTS = (
    "--routes, --od, --taz, --counts and --allow are for a SUMO network (.net.xml) or configuration (.sumocfg); leave "
    "them out"
)


TRIP_SEEDS = 3  # number of training traffic seeds whose mean travel times decide the trips ...


BUSY_S = 600.0  # ... over this time from the agents' time 0


ENOUGH_FACTOR = 1.5  # shortest horizon of a given demand, in free-flow times of the longest trip


HORIZON_FACTOR, KEPT_FACTOR, HORIZON_STEP_S, SHORTEST_HORIZON_S = 3.0, 2.5, 300.0, 900.0


ROUGH_RATE = "demand.rate_vph: from the mesoscopic simulation, without microscopic checks"
ROUGH_MESO = "meso: the parameters of another network"
ROUGH_TRIPS = "trips: chosen by travel times at free flow, not in traffic"


def load_scenario(
    name_or_path: str | Path,
    *,
    changes: Sequence[str] = (),
    bbox: tuple[float, float, float, float] | None = None,
    agents: int | None = None,
    fleet: float | None = None,
    inputs: Inputs = Inputs(),  # noqa: B008 - frozen
    quick: bool = False,
) -> Scenario:
    """Return a scenario by its name, by the path of its folder or file, or made on the fly.

    It is made from an OSM file, a SUMO network (.net.xml) or a SUMO configuration (.sumocfg).

    Parameters
    ----------
    changes
        Settings to replace, such as ``"demand.level=0.4"``, with TOML values.
    bbox
        Crop of an OSM file (west, south, east, north), degrees; only for one made on the fly.
    agents
        Number of agents of one made on the fly. Default: 10.
    fleet
        Agents drawn from the demand in each traffic seed, instead of the scenario's trips: a share of the vehicles,
        such as 0.2, or a number of agents from 2.
    inputs
        Your own demand for a SUMO network or configuration.
    quick
        Make a rough draft, in about 20 s; its setting `rough` says what is left out.

    Raises
    ------
    InputError
        There is no such scenario, or it is not valid; the message names the file, the key and the fix.

    Examples
    --------
    >>> scenario = load_scenario("town", changes=["demand.level=0.4"])
    >>> scenario.n_agents
    10
    """
    path, names = Path(name_or_path), catalogue.catalogue("scenarios", FILE)
    is_made = str(name_or_path) not in names and makes(path)
    if not is_made and (bbox is not None or agents is not None):
        raise InputError(
            "--bbox and --agents are for an OSM file; a scenario already has an area and trips, so leave them out"
        )
    if not is_made and inputs != Inputs():
        raise InputError(NO_INPUTS)
    if not is_made and quick:
        raise InputError(f"--quick drafts a scenario from a map, and '{name_or_path}' is none; leave it out")
    if is_made:
        name = plain_name(path)
        return new_scenario(
            name, path, bbox=bbox, agents=agents, changes=changes, fleet=fleet, inputs=inputs, quick=quick
        )
    if str(name_or_path) in names:
        path = names[str(name_or_path)]
    elif (path / FILE).is_file():
        path = path / FILE
    elif path.is_file() and path.suffix != ".toml":
        osm.check_file(path)
    elif not path.is_file():
        raise InputError(
            f"there is no scenario '{name_or_path}'{did_you_mean(str(name_or_path), names)}; known are "
            f"{', '.join(sorted(names)) or 'none'}; a path to an OSM file (.osm, .osm.gz, .osm.bz2 ...), a SUMO "
            "network (.net.xml) or a SUMO configuration (.sumocfg) works too"
        )
    named_now = {change.partition("=")[0].strip() for change in changes}
    return override(with_fleet(read_scenario(path, named_now), fleet), changes)


def makes(path: Path) -> bool:
    """Return whether a scenario can be made on the fly from a file: an OSM file, a SUMO network or configuration."""
    return osm.is_osm(path) or source_files.is_given(path)


def find_network(name_or_path: str) -> Network:
    """Return a network by its name, by an OSM file, or by the name of a scenario on it.

    Raises
    ------
    InputError
        The network does not exist, or cannot be built.
    """
    scenarios = catalogue.catalogue("scenarios", FILE)
    if name_or_path in scenarios and name_or_path not in catalogue.known():
        return prepare.build_network(read_scenario(scenarios[name_or_path]))
    return network.find(name_or_path)


def new_scenario(  # noqa: PLR0913 - options of the command
    name: str,
    source: Path,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    agents: int | None = None,
    seed: int = 0,
    changes: Sequence[str] = (),
    with_meso: bool = False,
    fleet: float | None = None,
    inputs: Inputs = Inputs(),  # noqa: B008 - frozen
    quick: bool = False,
) -> Scenario:
    """Make a complete scenario from an OSM file, a SUMO network or configuration, or a network of the catalogue.

    The background demand is that of the configuration, or generated and calibrated. Trips are chosen whose fastest
    route in traffic (mean travel times over some of the training traffic) differs from that at free flow. The horizon
    is that of the configuration, or about three times the longest free-flow trip.

    Parameters
    ----------
    agents
        Number of agents. Default: 10, and fewer where a SUMO network has fewer trips with different routes.
    with_meso
        Also calibrate the mesoscopic simulation.
    fleet
        As in `load_scenario`. The horizon is still chosen by `agents` trips.
    inputs, quick
        As in `load_scenario`.

    Raises
    ------
    InputError
        The area is not suitable; the message says why.
    """
    try:
        safe_paths.check_name(name)
    except ValueError as error:
        raise InputError(f"'{safe_paths.printable(name)}' cannot be a scenario's name: {error}") from None
    fewer, agents = agents is None, AGENTS if agents is None else agents
    if agents < 1:
        raise InputError(f"{agents} agents: a scenario needs at least one; set --agents")
    options = _options(source, bbox, changes)
    if source.is_file():
        trusted.note(source)
    given = source_files.Given(source)
    if source_files.is_given(source):
        given = source_files.read(source, inputs, _window(changes), name)
        trusted.note(given.net)
    elif inputs != Inputs():
        raise InputError(NO_INPUTS)
    roads = prepare.roads(name, given.net, options)
    log.info(f"choosing {agents} trips")
    fewer = fewer and roads.is_given
    with phase("trips drafted"):
        chosen = trips.choose(roads, agents, seed, prefix=given.prefix, fewer=fewer)
    draft = Scenario(
        name=name,
        network=str(given.net.resolve()) if given.net.is_file() else str(given.net),
        network_options=options,
        trips=chosen,
        horizon_s=_horizon(roads, chosen, name, given.left_s),
        **given.settings,
    )
    draft = override(draft, changes)
    incidents.place_fixed(draft, roads)  # before the long calibration
    drafted, draft = draft, calibration.calibrated(draft, roads, rough=quick)
    equilibrium.settle(draft, roads)
    own = own_demand(draft)
    if quick:
        return _rough(drafted, draft, fleet)
    watched = draft if own is None else draft.model_copy(update={"horizon_s": min(BUSY_S, draft.horizon_s)})
    try:
        times = edge_times.edge_times(watched, roads, own, draft.seeds.training[:TRIP_SEEDS])
    except SimulationError as error:
        if own is None:
            raise
        raise InputError(f"{source}: {own_traffic.CANNOT_RUN}: {error}") from None
    busy = times[: max(1, round(BUSY_S / edge_times.BIN_S))].mean(axis=0)
    with phase("trips chosen"):
        chosen = trips.choose(roads, len(chosen), seed, busy, prefix=given.prefix, fewer=fewer)
    wanted = any(change.partition("=")[0].strip() == "horizon_s" for change in changes)
    # The horizon of the draft, for which traffic is measured, unless the trips need a longer one.
    fits = wanted or (given.left_s is None and _horizon(roads, chosen, name, None, KEPT_FACTOR) <= draft.horizon_s)
    horizon = draft.horizon_s if fits else _horizon(roads, chosen, name, given.left_s)
    made = with_fleet(draft.model_copy(update={"trips": chosen, "horizon_s": horizon}), fleet)
    if not with_meso or (own is not None and not prepare.runs_meso(made, roads, own)):
        return made
    return meso.calibrated(made, roads, own)


def _rough(drafted: Scenario, made: Scenario, fleet: float | None) -> Scenario:
    """Return a rough draft that can be driven, and says what it leaves out.

    Parameters
    ----------
    drafted, made
        The scenario before and after its demand has a rate.
    """
    left_out = [] if made.demand is drafted.demand else [ROUGH_RATE]
    left_out += [] if made.meso is not None else [ROUGH_MESO]
    left_out += [] if fleet is not None else [ROUGH_TRIPS]
    return with_fleet(made.model_copy(update={"meso": made.meso or SUBURB, "rough": tuple(left_out)}), fleet)


def _window(changes: Sequence[str]) -> dict[str, float]:
    """Return the times of an own demand that the user sets."""
    content = changed({}, changes)
    found = {key: content.get("demand", {}).get(key) for key in ("begin_s", "warmup_s")}
    found["horizon_s"] = content.get("horizon_s")
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _options(source: Path, bbox: tuple[float, float, float, float] | None, changes: Sequence[str]) -> NetworkSettings:
    """Return the options of the network: the box, and the changes."""
    if bbox is not None and not source.is_file():
        raise InputError(f"--bbox crops an OSM file; network '{source}' already has an area, so leave it out")
    own = [change for change in changes if change.startswith("network_options.")]
    content = changed({"network_options": {"bbox": bbox}}, own)["network_options"]
    return validate(content, NetworkSettings, "--set network_options")


def _horizon(
    roads: Network, chosen: tuple[Trip, ...], name: str, given_s: float | None, factor: float = HORIZON_FACTOR
) -> float:
    """Return the horizon, s: that of a given demand, or by the longest trip.

    A given demand that is too short for the trips gets a longer horizon.
    """
    draft = Scenario(name=name, network=name, trips=chosen, horizon_s=WEEK_S)
    task = make_task(draft, roads.graph, prepare.ends(draft, roads))
    free = task.depart_s + roads.graph.free_flow_s[task.origin] + task.free_to_go[task.row, task.origin]
    if given_s is None:
        return max(SHORTEST_HORIZON_S, math.ceil(factor * float(free.max()) / HORIZON_STEP_S) * HORIZON_STEP_S)
    needed = math.ceil(ENOUGH_FACTOR * float(free.max()))
    if needed > given_s:
        log.warning(
            f"scenario '{name}': its demand ends {given_s:g} s after the warm-up, too early for the agents' trips; "
            f"horizon_s is {needed} s"
        )
    return max(given_s, float(needed))
