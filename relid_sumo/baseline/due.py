"""User equilibrium of the agents over fixed background traffic, by SUMO's own duaIterate.

In each training traffic seed duaIterate takes `STEPS` steps (Gawron 1998). A step routes the agents on the travel times
of the step before, and drives them; the background keeps its routes. The simulation is mesoscopic, because a
microscopic one takes many times as long. An agent's route is the one that is quickest after the last step in most
traffic seeds.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import quoteattr

from relid_sumo.base import cache, interpreter, sumo, temporary
from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.traffic import demand, edge_times, sumo_options

log = logging.getLogger(__name__)

STEPS = 5  # after the second step hardly any route changes (hong_kong)


def equilibrium(ready: PreparedScenario) -> list[list[int]]:
    """Return every agent's route; cached. The scenario's mesoscopic simulation must be calibrated.

    Raises
    ------
    InputError
        Roads are closed.
    SimulationError
        duaIterate failed; the message contains SUMO's own line.
    """
    if ready.task.closed:
        raise InputError("baseline 'due': SUMO's duaIterate cannot close roads; remove 'due' from the baselines")

    def make() -> list[list[str]]:
        seeds = ready.scenario.seeds.training
        log.info(f"user equilibrium of the agents in {len(seeds)} samples of traffic, {STEPS} steps each")
        parts = sumo.each(lambda seed: _one(ready, seed), seeds)
        votes = [Counter(part[name] for part in parts) for name in ready.task.names]
        return [max(sorted(vote), key=vote.__getitem__).split() for vote in votes]

    content, index = [STEPS, ready.identity("observation", "reward")], ready.task.graph.index
    routes = cache.cached_json("due", ready.network.name, content, make, list[list[str]])
    return [[index[edge] for edge in route] for route in routes]


def _one(ready: PreparedScenario, seed: int) -> dict[str, str]:
    """Return the edges of each agent's quickest route in a traffic seed after the last step."""
    scenario, background = ready.scenario, demand.routes(ready.scenario, ready.network, seed)
    with temporary.folder("relid-sumo-") as name:
        folder = Path(name)
        (folder / "agents.trips.xml").write_text(_trips(ready), encoding="utf-8")
        options = sumo_options.simulation_options(scenario, ready.network, background, seed, "meso")
        others = [Path(options[options.index("-a") + 1])] if "-a" in options else []
        files = ",".join(str(file.resolve()) for file in (*others, background))
        words = ["-n", str(ready.network.net_file), "-t", "agents.trips.xml", "-+", files]
        words += ["--begin", f"{scenario.demand.begin_s:g}"] if scenario.demand.begin_s else []
        words += ["--end", f"{scenario.end_s:g}", "--aggregation", f"{edge_times.BIN_S:g}", "--last-step", str(STEPS)]
        words += ["--time-to-teleport", f"{scenario.teleport_after_s:g}", "--route-steps", "0"]
        words += ["--disable-summary", "--disable-tripinfos", "--disable-warnings", "--no-gzip"]
        words += _passed_on(options)
        done = interpreter.run_script(sumo.home() / "tools" / "assign" / "duaIterate.py", words, folder)
        last = folder / f"{STEPS - 1:03}" / f"agents_{STEPS - 1:03}.rou.alt.xml"
        if done.returncode or not last.is_file():
            dua_log = folder / "dua.log"  # contains SUMO's messages
            said = dua_log.read_text(encoding="utf-8") if dua_log.is_file() else done.stderr
            raise SimulationError(f"duaIterate failed in traffic seed {seed}: {sumo.error_line(said)}")
        return {vehicle.get("id", ""): _quickest(vehicle) for vehicle in ET.parse(last).getroot().iter("vehicle")}


def _trips(ready: PreparedScenario) -> str:
    task, ids = ready.task, ready.task.graph.edge_ids
    trips = [
        f"<trip id={quoteattr(agent)} type='agent' depart='{ready.scenario.start_s + at_s:g}' "
        f"from={quoteattr(str(ids[o]))} to={quoteattr(str(ids[d]))}/>"
        for agent, at_s, o, d in zip(task.names, task.depart_s, task.origin, task.destination, strict=True)
    ]
    return f"<routes><vType id='agent' vClass='passenger'/>{''.join(trips)}</routes>"


def _passed_on(options: list[str]) -> list[str]:
    """Return the SUMO options that duaIterate does not set itself, in the form it accepts."""
    own = {"-n", "-r", "-a", "--begin", "--time-to-teleport", "--no-warnings", "--route-steps"}
    words, leave = list[str](), False
    for word in options:
        leave = word in own if sumo_options.is_option(word) else leave
        if not leave:
            words.append(f"sumo{word}" if word.startswith("--") else word)
    return words


def _quickest(vehicle: ET.Element) -> str:
    return min(vehicle.iter("route"), key=lambda route: float(route.get("cost", "inf"))).get("edges", "")
