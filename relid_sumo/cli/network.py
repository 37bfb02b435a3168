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


@network_app.command(
    "fetch",
    epilog='Examples: relid-sumo network fetch --place "Kowloon City, Hong Kong" | relid-sumo network fetch '
    "--bbox=114.16,22.30,114.18,22.32 --out k.osm | relid-sumo network fetch --point 22.3193,114.1694 --dist 1500",
)
def network_fetch(
    place: Annotated[str | None, typer.Option(help="Name of a place with a border, as OpenStreetMap knows it.")] = None,
    bbox: Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N", help="A box, degrees.")] = None,
    point: Annotated[str | None, typer.Option(metavar="LAT,LON", help="The middle of the area, degrees.")] = None,
    dist: Annotated[
        float | None, typer.Option(metavar="METRES", help="With --point: distance to each side of the area, m.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.osm", help="File to write (default: PLACE.osm or area.osm).")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the server even if the answer is cached.")] = False,
    overpass: Annotated[
        str | None, typer.Option(metavar="URL", help="Overpass server (default: overpass-api.de).")
    ] = None,
    nominatim: Annotated[
        str | None, typer.Option(metavar="URL", help="Nominatim server (default: nominatim.openstreetmap.org).")
    ] = None,
) -> None:
    """Fetch the roads of an area from OpenStreetMap, with their turn restrictions, into an OSM file."""
    from relid_sumo.base.errors import InputError
    from relid_sumo.network import catalogue, fetch, osm

    one = sum(given is not None for given in (place, bbox, point)) == 1
    if not one or (point is None) != (dist is None):
        raise InputError("name one area: --place NAME, --bbox W,S,E,N, or --point LAT,LON with --dist METRES")
    servers = fetch.Servers(overpass or fetch.OVERPASS, nominatim or fetch.NOMINATIM)
    target = file or Path(f"{catalogue.plain_name(Path((place or 'area').partition(',')[0]))}.osm")
    if target.exists():
        raise InputError(f"{target} exists; choose another --out, or delete it")
    if place is not None:
        area = fetch.box_of_place(place, servers)
    elif point is not None:
        try:
            lat, lon = (float(part) for part in point.split(","))
        except ValueError:
            raise InputError(f"--point {point}: expected LAT,LON in degrees, e.g. 22.3193,114.1694") from None
        area = fetch.box_of_point(lat, lon, dist or 0.0)
    else:
        area = osm.parse_box(bbox or "")
    fetch.fetch(area, target, servers, refresh=refresh)
    out.print(
        f"fetched: {plain(target)}; map data (c) OpenStreetMap contributors (ODbL)", highlight=False, soft_wrap=True
    )
    out.print(f"next: relid-sumo network build {plain(target)}", highlight=False, soft_wrap=True)
