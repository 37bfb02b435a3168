"""The command `relid-sumo route`: route the vehicles of a scenario without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.base import extension
from relid_sumo.baseline.table import BASELINES
from relid_sumo.cli import given
from relid_sumo.cli.console import Allow, FleetSize, Routes, Set, Workers, err, out, plain
from relid_sumo.cli.trained import Close, Incidents
from relid_sumo.runs import layout

DEFAULT, AGAINST, SEEDS = "blend", "rerouting", 3


def route(
    scenario: Annotated[
        str, typer.Argument(help="Scenario's name or folder, an OSM file, or a SUMO network or configuration.")
    ],
    policy: Annotated[
        str,
        typer.Option(
            metavar="DIR|NAME", help=f"Run folder with a policy that all agents share, or: {', '.join(BASELINES)}."
        ),
    ] = DEFAULT,
    against: Annotated[str, typer.Option(metavar="NAMES", help="Baselines to compare with.")] = AGAINST,
    fleet: FleetSize = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of evaluation traffic seeds.")] = SEEDS,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.rou.xml",
            help="Write the routes in the first traffic seed, with a .sumocfg for SUMO.",
        ),
    ] = None,
    changes: Set = None,
    close: Close = None,
    incidents: Incidents = None,
    routes: Routes = None,
    allow: Allow = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Route the agents of a scenario without training, and compare their travel times with a baseline.

    The policy is a baseline (default: blend, for which ordinary traffic is measured once), or that of a run, which may
    be trained on other scenarios.
    """
    from relid_sumo.base.errors import InputError
    from relid_sumo.baseline import named
    from relid_sumo.cli import tables
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.scenario import incidents as incident
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare

    compared = named.baselines(against)
    is_run = (Path(policy) / layout.SETTINGS).is_file()
    if not is_run and len(Path(policy).parts) > 1 and not extension.is_path(policy):
        raise InputError(
            f"--policy {policy}: no run folder (it has no {layout.SETTINGS}); name the folder of a run, or a baseline: "
            f"{', '.join(BASELINES)}"
        )
    own = {} if is_run else named.baselines(policy)
    if not is_run and len(own) != 1:
        raise InputError(f"--policy {policy}: name one policy")
    loaded = load_scenario(scenario, changes=changes or [], fleet=fleet, inputs=given.inputs(routes, allow))
    if is_run:
        from relid_sumo.evaluation.trained import load_trained

        ready, trained = load_trained(Path(policy), scenario=loaded, closed=close or [], incidents=incidents or [])
        own = {"trained": trained}
    else:
        ready = prepare(incident.added(loaded, incidents or []), closed=close or [])
    what_if = evaluation.named_changes(changes or [], close or [], incidents or [], fleet)
    result = evaluation.evaluate(ready, {**own, **compared}, n_seeds=seeds, workers=workers, what_if=what_if)
    if as_json:
        out.print_json(json.dumps(result.as_json()))
    else:
        for part in tables.evaluation_parts(result):
            out.print(part)
        out.print(plain(ready.network.attribution), highlight=False)
    if out_file is not None:
        from relid_sumo.viewer import export

        seed = result.seeds[0]
        (chosen,) = named.plan_baselines(own, ready.on(seed), workers, traffic_seed=seed).values()
        config = export.export_routes(ready, evaluation.seeded(chosen, seed), seed, out_file)
        err.print(f"routes: {plain(out_file)}; run them with: sumo-gui -c {plain(config)}", highlight=False)
