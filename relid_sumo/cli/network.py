"""The `network` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.cli.console import Bbox, errors, out, plain
from relid_sumo.cli.console import box as _box

network_app = typer.Typer(no_args_is_help=True, help="Build and show road networks.")


@network_app.command("build", epilog="Example: relid-sumo network build city.osm.gz --bbox -81.22,28.57,-81.18,28.62")
def network_build(
    source: Annotated[str, typer.Argument(help="OSM file, or the name of a network.")],
    name: Annotated[str | None, typer.Option(help="Name of the network (default: the file's name).")] = None,
    bbox: Bbox = None,
    left_hand: Annotated[
        bool | None, typer.Option("--left-hand/--right-hand", help="Driving side (default: by position).")
    ] = None,
    agents: Annotated[
        int, typer.Option(min=0, help="Check that there are different trips for this many agents; 0 for no check.")
    ] = 10,
) -> None:
    """Build a SUMO network from an OSM file, and report which OSM ways it uses and leaves out, with the reason."""
    from relid_sumo.cli import tables
    from relid_sumo.network import network
    from relid_sumo.scenario import trips

    built = network.find(source, name=name, bbox=_box(bbox), left_hand=left_hand)
    out.print(tables.summary_text(built))
    found = trips.possible(built, agents)
    if found < agents:
        fewer = f", or fewer agents (--agents {found})" if found else ""
        errors.print(
            f"[yellow]warning[/] the area is too small for {agents} agents: it has {found} trips with two clearly "
            f"different routes; use a larger or better connected area{fewer}",
            highlight=False,
            soft_wrap=True,
        )
    out.print(f"network: {plain(built.net_file)}", highlight=False, soft_wrap=True)


@network_app.command("show", epilog="Example: relid-sumo network show orlando --map orlando.png")
def network_show(
    name: Annotated[str, typer.Argument(help="Name of a network or a scenario, or an OSM file.")],
    picture: Annotated[
        Path | None, typer.Option("--map", metavar="FILE.png", help="File of the map (default: NAME.png).")
    ] = None,
) -> None:
    """Print a summary of a network and draw its map."""
    from relid_sumo.cli import tables
    from relid_sumo.network import maps
    from relid_sumo.scenario.make import find_network

    built = find_network(name)
    out.print(tables.summary_text(built))
    file = picture or Path(f"{built.name}.png")
    maps.draw_map(built, file)
    out.print(f"map: {plain(file)}", highlight=False, soft_wrap=True)
