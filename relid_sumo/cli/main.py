"""The commands. Each reads its arguments, calls one function and prints the result."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relid_sumo.base import files, redact
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.cli import notes, sed, trained
from relid_sumo.cli import route as route_command
from relid_sumo.cli import train as train_command
from relid_sumo.cli.batch import batch_app
from relid_sumo.cli.console import EXIT_ERROR, EXIT_FAILED, clean, err, errors, out, plain
from relid_sumo.cli.network import network_app
from relid_sumo.cli.replay import replay
from relid_sumo.cli.scenario import scenario_app
from relid_sumo.cli.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train vehicles to choose their routes in SUMO, from an OpenStreetMap file to the evaluation.\n\n"
    "[dim]relid-sumo train town --out runs/town[/]\n\n[dim]relid-sumo evaluate runs/town[/]\n\n"
    "[dim]relid-sumo view runs/town[/]\n\nAdd --quiet to any command to print only results, warnings and errors,"
    " --debug to print more notes and a traceback, or --log-json to write notes, progress and errors as one JSON object"
    " per line on standard error.",
)
app.add_typer(network_app, name="network")
app.add_typer(scenario_app, name="scenario")
app.add_typer(batch_app, name="batch")
app.add_typer(sed.app, name="sed")

app.command(
    epilog="Examples: relid-sumo train town | relid-sumo train city.osm --preset quick --out runs/city | "
    "relid-sumo train orlando --algo ippo --episodes 160 --curriculum meso:0.8,micro:0.2"
)(train_command.train)


@app.command(epilog="Example: relid-sumo demo && relid-sumo view runs/demo")
def demo(
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="New run folder.")] = Path("runs/demo"),
) -> None:
    """Train RELED on the included town and evaluate it against baselines (two commands, about two minutes)."""
    folder = str(out_dir)
    for command in (
        ["train", "town", "--evaluate", "0", "--out", folder],
        ["evaluate", folder, "--seeds", "5", "--baselines", "random,shortest,reactive,rerouting"],
    ):
        err.print(f"relid-sumo {plain(shlex.join(command))}", highlight=False, soft_wrap=True)
        code: Any = app(command, standalone_mode=False)
        if code:
            raise typer.Exit(int(code))


app.command(
    epilog="Examples: relid-sumo evaluate runs/o --seeds 3 --json | relid-sumo evaluate runs/o --close EDGE | "
    "relid-sumo evaluate runs/o --incident 'EDGE@600-1200' --incident 'EDGE2:0@0-900=20%' | "
    "relid-sumo evaluate runs/o --scenario hong_kong-event --fleet 0.4"
)(trained.evaluate)
app.command(
    epilog="Examples: relid-sumo route my.sumocfg --fleet 0.2 --against rerouting | "
    "relid-sumo route town-event --policy runs/o --out routes.rou.xml"
)(route_command.route)
app.command(epilog="Examples: relid-sumo verify runs/o | relid-sumo verify runs/o --updates 10 --seeds 3 --json")(
    verify
)
app.command(
    epilog="Examples: relid-sumo view runs/o --against rerouting | relid-sumo view runs/o --against runs/p --speed 20 "
    "--follow agent3 | relid-sumo view runs/o --against demonstration --record film.mp4 | relid-sumo view runs/o "
    "--record picture.png --at 300"
)(trained.view)
app.command(
    epilog="Examples: relid-sumo replay runs/o --against rerouting --out o.html | "
    "relid-sumo replay runs/o --branches 0.2 --incident 'EDGE@600-1200' --out o.html"
)(replay)
app.command(
    epilog="Examples: relid-sumo export runs/o --bundle b && (cd b && sumo -c o.sumocfg) | "
    "relid-sumo export runs/o --bundle b --policy shortest | relid-sumo export runs/o --out o.rou.xml"
)(trained.export)


@app.command(epilog="Example: relid-sumo report b --out b.html | relid-sumo report b --out b.tex --figures figures")
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Batches, folders of runs, or single run folders.")
    ],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Report to write: .html, .md, .csv or .tex.")],
    form: Annotated[
        Literal["html", "md", "csv", "tex"] | None,
        typer.Option("--format", help="Format (default: by the file's ending)."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for figures as PNG and PDF (default: no figures).")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report (default: the folders' names).")] = None,
) -> None:
    """Write a report on runs: one page that opens offline, or tables and figures for a paper."""
    from relid_sumo.reports.write import write

    written = write(folders, out_file, form=form, figures=figures, title=title)
    for one in written.missing:
        errors.print(f"[yellow]left out[/] {plain(one.name)}: {plain(one.why)}", highlight=False, soft_wrap=True)
    for problem in written.problems:
        errors.print(f"[yellow]note[/] {plain(problem)}", highlight=False, soft_wrap=True)
    figure_count = f" and {len(written.files) - 1} figures in {figures}" if figures else ""
    err.print(
        f"report on {written.runs} run{'s' if written.runs != 1 else ''}: {plain(out_file)}{figure_count}",
        highlight=False,
        soft_wrap=True,
    )
    named = ", ".join(written.baselines) or "none; add some with: relid-sumo evaluate RUN"
    err.print(f"baselines evaluated: {plain(named)}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Check SUMO, libsumo, torch, display, sandbox and disk, and print how to fix each problem."""
    from relid_sumo.cli import tables
    from relid_sumo.cli.doctor import checks

    found = checks()
    out.print(tables.doctor_table(found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(EXIT_FAILED)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error of the user gives one message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, quiet = "--debug" in words, not {"--quiet", "-q"}.isdisjoint(words)
    as_json = "--log-json" in words
    words = [word for word in words if word not in {"--debug", "--quiet", "-q", "--log-json"}]
    streams = sys.stdout, sys.stderr
    redact.guard()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small matrices: threads only slow each other down
    try:
        with notes.shown(quiet=quiet, debug=debug, as_json=as_json):
            code: Any = app(words, standalone_mode=True)
    except (RelidSumoError, OSError) as error:
        if debug:
            print(clean(traceback.format_exc()), end="", file=sys.stderr)
        message = files.explained(error) if isinstance(error, OSError) else error
        errors.as_json = "error" if as_json else None
        errors.print(f"[bold red]Error:[/] {plain(message)}", highlight=False, soft_wrap=True)
        code = EXIT_ERROR
    finally:
        sys.stdout, sys.stderr = streams
        errors.as_json = None
    sys.exit(code)
