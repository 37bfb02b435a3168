"""Run days of RouteRL's environment with random actions; `tools/bench_peers.py` calls this in its own environment.

It prints one JSON object: seconds of each day, seconds to generate the paths, and the largest memory in MiB.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def plain_files(net: Path, folder: Path) -> None:
    """Write the plain files that RouteRL reads: nodes, edges and connections."""
    name = net.name.removesuffix(".net.xml")
    if all((folder / f"{name}{ending}").exists() for ending in (".nod.xml", ".edg.xml", ".con.xml", ".rou.xml")):
        return
    shutil.copy(net, folder / net.name)
    command = ["netconvert", "--sumo-net-file", net, "--plain-output-prefix", folder / name, "--no-warnings"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    shutil.copy(net, folder / f"{name}.rou.xml")  # where RouteRL looks for lengths and speeds


def main() -> None:
    """Run the days and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", type=Path, help="folder with a .net.xml, agents.csv and od_*.txt")
    parser.add_argument("--work", type=Path, required=True, help="folder for RouteRL's files; its paths are used again")
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--machines", type=int, default=414)
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--libsumo", action="store_true")
    options = parser.parse_args()
    (net,) = options.scenario.glob("*.net.xml")
    (od_file,) = options.scenario.glob("od_*.txt")
    ends = ast.literal_eval(od_file.read_text())
    records = options.work / "training_records"
    records.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.scenario / "agents.csv", records / "agents.csv")
    plain_files(net, options.work)
    made = (records / "routes.csv").exists()

    from routerl import TrafficEnvironment  # type: ignore[import-not-found]  # noqa: PLC0415 - of that environment

    settings: dict[str, Any] = {
        "agent_parameters": {"new_machines_after_mutation": options.machines},
        "environment_parameters": {"number_of_days": options.days, "save_every": 10**6},
        "simulator_parameters": {
            "network_name": net.name.removesuffix(".net.xml"),
            "custom_network_folder": str(options.work),
            "sumo_type": "sumo",
            "use_libsumo": options.libsumo,
        },
        "path_generation_parameters": {
            "number_of_paths": options.paths,
            "origins": ends["origins"],
            "destinations": ends["destinations"],
            "visualize_paths": False,
            "path_gen_workers": 2,
        },
        "plotter_parameters": {"records_folder": str(records), "plots_folder": str(options.work / "plots")},
    }
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        env = TrafficEnvironment(seed=0, create_agents=False, create_paths=not made, **settings)
        ready = time.perf_counter() - began
        env.start()
        env.mutation()
        days = [day(env) for _ in range(options.days)]
        env.stop_simulation()
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    print(json.dumps({"paths_s": None if made else ready, "days_s": days, "memory_mib": most}))


def day(env: Any) -> float:  # noqa: ANN401 - RouteRL has no types
    """Run one day with random actions and return its seconds."""
    began = time.perf_counter()
    env.reset()
    for agent in env.agent_iter():
        _, _, ended, cut, _ = env.last()
        env.step(None if ended or cut else random.randrange(env.action_space(agent).n))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
