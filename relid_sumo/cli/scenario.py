"""The `scenario` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.cli import given
from relid_sumo.cli.console import Allow, Bbox, FleetSize, Quick, Routes, Set, Workers, err, out, plain
from relid_sumo.cli.console import box as _box
from relid_sumo.cli.console import say as _say

scenario_app = typer.Typer(
    no_args_is_help=True, help="Make and check scenarios: network, background traffic, trips, seeds."
)


@scenario_app.command(
    "new",
    epilog="Examples: relid-sumo scenario new mytown --osm mytown.osm --agents 20; "
    "relid-sumo scenario new mine --sumo my.net.xml --od matrix.csv",
)
def scenario_new(
    name: Annotated[str, typer.Argument(help="Name of the new scenario.")],
    source: Annotated[
        Path | None, typer.Option("--osm", metavar="FILE", help="OSM file, or the name of a network.")
    ] = None,
    sumo: Annotated[
        Path | None, typer.Option("--sumo", metavar="FILE", help="SUMO network (.net.xml) or configuration (.sumocfg).")
    ] = None,
    bbox: Bbox = None,
    routes: Routes = None,
    od: given.Od = None,
    taz: given.Taz = None,
    counts: given.Counts = None,
    allow: Allow = None,
    agents: Annotated[int | None, typer.Option(help="Number of agents (default: 10).")] = None,
    fleet: FleetSize = None,
    seed: Annotated[int, typer.Option(help="Seed of the trips.")] = 0,
    quick: Quick = False,
    folder: Annotated[Path, typer.Option(help="Folder in which the scenario's folder is made.")] = Path("scenarios"),
    workers: Workers = None,
    changes: Set = None,
) -> None:
    """Write a complete scenario: trips with several good routes, and traffic that is calibrated or your own.

    After Ctrl-C, the same command continues from the last finished measurement.
    """
    del workers  # its callback sets the limit
    from relid_sumo.base.errors import InputError
    from relid_sumo.scenario import files, make

    files.check_new(folder / name)
    file = source or sumo
    if file is None or (source is not None and sumo is not None):
        raise InputError("name one map: --osm FILE, or --sumo FILE for a SUMO network or configuration")
    made = make.new_scenario(
        name,
        file,
        inputs=given.inputs(routes, allow, od, taz, counts),
        bbox=_box(bbox),
        agents=agents,
        seed=seed,
        changes=changes or [],
        with_meso=True,
        fleet=fleet,
        quick=quick,
    )
    file = files.write_scenario(made, folder / name)
    for line in made.rough:
        err.print(f"rough: {plain(line)}", highlight=False)
    err.print(f"wrote {plain(file)}; next: relid-sumo scenario check {plain(folder / name)}", highlight=False)


@scenario_app.command("check", epilog="Example: relid-sumo scenario check orlando --map orlando.png")
def scenario_check(
    scenario: Annotated[str, typer.Argument(help="Scenario's name or folder, or an OSM file.")],
    bbox: Bbox = None,
    fleet: FleetSize = None,
    workers: Workers = None,
    changes: Set = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.png",
            help="Draw a map with the incidents, the edges where vehicles stand, and the longest queues.",
        ),
    ] = None,
) -> None:
    """Check a scenario: print its trips, incidents and traffic, and whether it simulates well or what is wrong."""
    del workers  # its callback sets the limit
    from relid_sumo.cli import tables
    from relid_sumo.network import maps
    from relid_sumo.scenario import condition
    from relid_sumo.scenario.given.counts import reached
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare
    from relid_sumo.scenario.traffic import meso

    loaded = load_scenario(scenario, changes=changes or [], bbox=_box(bbox), fleet=fleet)
    ready = prepare(loaded)
    out.print(tables.trips_table(ready))
    for line in tables.incidents_text(ready):
        out.print(plain(line), highlight=False)
    _say("measuring the background traffic")
    found = condition.condition(ready)
    demand = ready.scenario.demand
    out.print(tables.traffic_text(found.level, demand.level if demand.route_file is None else None))
    for line in tables.condition_text(found, ready):
        out.print(plain(line), highlight=False)
    if picture is not None:
        marked = [*tables.marked_traffic(found, ready), *tables.marked_incidents(ready)]
        maps.draw_map(ready.network, picture, marked)
        err.print(f"map: {plain(picture)}", highlight=False, soft_wrap=True)
    if demand.counts_file is not None:
        _say("comparing the traffic with the counts")
        out.print(tables.counts_table(reached(ready.scenario, ready.network, loaded.folder / demand.counts_file)))
    if ready.scenario.meso is not None:
        _say("comparing the mesoscopic with the microscopic simulation")
        out.print(tables.meso_text(*meso.compare(ready.scenario, ready.network, ready.scenario.seeds.validation)))
    for line in tables.verdict_text(found):
        out.print(plain(line), highlight=False)
    out.print(plain(ready.network.attribution), highlight=False)
