"""Settle RouteRL's drivers day to day, then drive its baseline AON; `tools/urb.py` calls this in RouteRL's environment.

It prints one JSON object: mean travel times of each day, min, and each driver's cost table before some are automated.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from peer_routerl import plain_files


def means(env: Any) -> dict[str, float]:  # noqa: ANN401 - RouteRL has no types
    """Return the mean travel times of the last day by kind of driver, min."""
    times: dict[str, list[float]] = {"Human": [], "AV": []}
    for one in env.last_episode_travel_times:
        times[one["kind"]].append(float(one["travel_time"]))
    names = {"Human": "human_min", "AV": "automated_min"}
    return {names[kind]: sum(own) / len(own) for kind, own in times.items() if own}


def automated_day(env: Any, choices: dict[str, int]) -> dict[str, float]:  # noqa: ANN401 - likewise
    """Drive a day on which each automated driver takes its path, and return the mean travel times, min."""
    env.reset()
    for agent in env.agent_iter():
        _, _, ended, cut, _ = env.last()
        env.step(None if ended or cut else choices[agent])
    return means(env)


def main() -> None:
    """Settle the drivers, change some of them, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario", type=Path, help="folder with a .net.xml, agents.csv and od_*.txt")
    parser.add_argument("--work", type=Path, required=True, help="folder for RouteRL's files; its paths are used again")
    parser.add_argument("--settle", type=int, required=True, help="days on which all drivers are human and learn")
    parser.add_argument("--days", type=int, required=True, help="days of AON")
    parser.add_argument("--machines", type=int, required=True)
    parser.add_argument("--paths", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
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
        "environment_parameters": {"number_of_days": 1, "save_every": 10**6},
        "simulator_parameters": {
            "network_name": net.name.removesuffix(".net.xml"),
            "custom_network_folder": str(options.work),
            "sumo_type": "sumo",
            "use_libsumo": True,
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
    with contextlib.redirect_stdout(sys.stderr):
        env = TrafficEnvironment(seed=options.seed, create_agents=False, create_paths=not made, **settings)
        env.start()
        env.reset()
        began = time.perf_counter()
        settled = []
        for day in range(options.settle):
            env.step()
            settled.append(means(env)["human_min"])
            print(f"day {day + 1}: {settled[-1]:.3f} min", file=sys.stderr, flush=True)
        settling_s = time.perf_counter() - began
        tables = {str(one.id): {"cost": list(map(float, one.model.cost)), "beta": float(one.model.beta)}
                  for one in env.human_agents}  # fmt: skip
        env.mutation()
        free = env.get_free_flow_times()
        shortest = {str(one.id): min(range(len(free[one.origin, one.destination])),
                                     key=free[one.origin, one.destination].__getitem__)
                    for one in env.machine_agents}  # fmt: skip
        aon = [automated_day(env, shortest) for _ in range(options.days)]
        env.stop_simulation()
    content = {"settled_min": settled, "settling_s": settling_s, "tables": tables, "aon": aon}
    print(json.dumps({**content, "automated": sorted(shortest, key=int)}))


if __name__ == "__main__":
    main()
