"""SUMO's options for a scenario's traffic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from relid_sumo.base import seeding
from relid_sumo.network.network import Network
from relid_sumo.scenario.given import additional, allowed
from relid_sumo.scenario.settings import Meso, Scenario, Simulator

ADAPT_EVERY_S = 10.0  # interval at which SUMO updates its smoothed travel times
ADAPTATION = "--device.rerouting.adaptation-weight"
REROUTE_EVERY_S = 30.0
JAM = "tls.actuated.jam-threshold"
READER = "relid_sumo.reader"  # a vehicle that never departs, to read smoothed travel times; also its type
NEVER_S = 1e9
AGENT_TYPE, REROUTING_TYPE = "agent", "agent_rerouting"  # vehicle types of the agents


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

    `again` selects another SUMO seed for the same vehicles.
    """
    seed = seeding.sumo_seed(traffic_seed, "sumo", *([again] if again else []))
    return [
        *(meso_options(scenario.meso or Meso()) if simulator == "meso" else ()),
        *("-n", str(network.net_file), "-r", str(route_file), "--seed", str(seed)),
        *_own_options(scenario),
        *("--step-length", str(scenario.step_length_s), "--time-to-teleport", str(scenario.teleport_after_s)),
        *("--no-warnings", "--ignore-route-errors"),
        *(() if JAM in scenario.demand.sumo else (f"--{JAM}", "30")),
        # Load all vehicles first: a request for a route draws from the same random numbers as the drivers of vehicles
        # that are loaded after it, and traffic must not depend on such requests.
        *("--route-steps", "0", "--xml-validation", "never"),
        *(_rerouting(scenario) if scenario.demand.rerouting else ()),
    ]


def _rerouting(scenario: Scenario) -> list[str]:
    """Return the options of a share of vehicles with SUMO's rerouting device."""
    device = ["--device.rerouting.probability", str(scenario.demand.rerouting)]
    if "device.rerouting.period" not in scenario.demand.sumo:
        device += ["--device.rerouting.period", str(REROUTE_EVERY_S)]
    return [*device, *adaptation(scenario.observation.window_s)]


def adaptation(window_s: float) -> list[str]:
    """Return the options of SUMO's smoothed travel times; `window_s` is their time constant, s."""
    return [
        *("--device.rerouting.adaptation-interval", str(ADAPT_EVERY_S)),
        *(ADAPTATION, str(math.exp(-ADAPT_EVERY_S / window_s))),
    ]


def _own_options(scenario: Scenario) -> Iterator[str]:
    """Yield the options of a scenario's own demand."""
    demand = scenario.demand
    if (file := additional.of_scenario(scenario.folder, demand.additional_file)) is not None:
        yield from ("-a", str(file))
    if demand.begin_s:
        yield from ("--begin", f"{demand.begin_s:.12g}")
    yield from allowed.as_words(demand.sumo)


def with_additional(options: Sequence[str], file: Path) -> list[str]:
    """Return options with one more additional file."""
    if "-a" not in options:
        return [*options, "-a", str(file)]
    at = options.index("-a") + 1
    return [*options[:at], f"{options[at]},{file}", *options[at + 1 :]]


def is_option(word: str) -> bool:
    """Return whether a word of a command line is an option, and not a value such as -1."""
    return word.startswith("-") and not word[1:2].isdigit()


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
