"""The commands. Each reads its arguments, calls one function and prints the result."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relid_sumo.base import extension, files, redact
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.baseline.table import BASELINES, BY_DEFAULT
from relid_sumo.cli import notes, sed
from relid_sumo.cli.batch import batch_app
from relid_sumo.cli.console import EXIT_ERROR, EXIT_INTERRUPTED, Bbox, Set, Workers, err, errors, out, plain
from relid_sumo.cli.console import box as _box
from relid_sumo.cli.console import say as _say
from relid_sumo.cli.network import network_app
from relid_sumo.cli.scenario import scenario_app
from relid_sumo.learn.algorithms import ALGORITHMS
from relid_sumo.runs import layout
from relid_sumo.sed.ask.providers import PROVIDERS

NOT_WITH_RESUME = (
    *("algo", "seed", "episodes", "out_dir", "agents", "bbox", "changes", "simulator", "curriculum"),
    *("llm", "demonstrations"),
)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train vehicles to choose their routes in SUMO, from an OpenStreetMap file to the evaluation.\n\n"
    "[dim]relid-sumo train town --out runs/town[/]\n\n[dim]relid-sumo evaluate runs/town[/]\n\n"
    "[dim]relid-sumo view runs/town[/]\n\nAdd --quiet to any command to print only results, warnings and errors,"
    " or --debug to print more notes and a traceback.",
)
app.add_typer(network_app, name="network")
app.add_typer(scenario_app, name="scenario")
app.add_typer(batch_app, name="batch")
app.add_typer(sed.app, name="sed")

Close = Annotated[
    list[str] | None, typer.Option("--close", metavar="EDGE", help="Close an edge to all vehicles. Repeatable.")
]
Fork = Annotated[
    bool,
    typer.Option(
        "--fork/--no-fork",
        help="Fork simulations after their warm-up, or restart SUMO for every episode (same results, slower).",
    ),
]
Sampled = Annotated[bool, typer.Option("--sampled", help="Draw actions instead of choosing the most probable one.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")]


@contextlib.contextmanager
def _report_interrupt(folder: Path) -> Iterator[None]:
    """On Ctrl-C, print the command that resumes the run."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"interrupted; resume with: relid-sumo train --resume {folder}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command(
    epilog="Examples: relid-sumo train town | relid-sumo train city.osm --episodes 200 --out runs/city | "
    "relid-sumo train orlando --algo reled --episodes 160 --curriculum meso:0.8,micro:0.2"
)
def train(
    context: typer.Context,
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario's name or folder, or an OSM file (.osm, .osm.gz, .osm.xml ...).")
    ] = None,
    algo: Annotated[
        str, typer.Option(help=f"Algorithm: {', '.join(ALGORITHMS)}, or your own: {extension.FORM}.")
    ] = "ippo",
    seed: Annotated[int, typer.Option(help="Seed of weights, actions and the order of traffic.")] = 0,
    episodes: Annotated[int, typer.Option(help="Number of training episodes.")] = 100,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="New run folder (default: runs/SCENARIO-ALGO-SEED).")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Resume an interrupted run. The result is the same as without the interruption."
        ),
    ] = None,
    simulator: Annotated[
        str | None,
        typer.Option(help="Simulator of the training: micro or meso, the faster one (default: the scenario's)."),
    ] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(metavar="NAME:SHARE,...", help="Several simulators in turn, e.g. meso:0.8,micro:0.2."),
    ] = None,
    workers: Workers = None,
    fork: Fork = True,
    agents: Annotated[int | None, typer.Option(help="Number of agents, for an OSM file (default: 10).")] = None,
    bbox: Bbox = None,
    llm: Annotated[
        str | None,
        typer.Option(
            help="Provider that writes the planning programs of an expert algorithm: "
            f"{', '.join(name for name, known in PROVIDERS.items() if not known.waits)}, or your own: {extension.FORM}."
        ),
    ] = None,
    demonstrations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Demonstrations from `sed run`, for an expert algorithm.")
    ] = None,
    changes: Set = None,
) -> None:
    """Train vehicles to choose their routes. After Ctrl-C, --resume continues from the last update."""
    from relid_sumo.base.errors import InputError
    from relid_sumo.cli import tables
    from relid_sumo.learn import run_folder
    from relid_sumo.learn import settings as learn_settings
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare

    if (scenario is None) == (resume is None):
        raise InputError("name a scenario to train, or a run folder to resume: --resume DIR")
    given = [name for name in NOT_WITH_RESUME if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if resume is not None and given:
        raise InputError(f"--resume uses the settings of the saved run; remove: {', '.join(given)}")
    if resume is not None:
        settings, _ = run_folder.load(resume)
        from relid_sumo.learn import checkpoint
        from relid_sumo.learn import train as training

        bar = tables.TrainingBar(err, settings.train.episodes, checkpoint.episodes(resume))
        watch = training.TrainingWatch(bar.episode, bar.update)
        folder = resume
        with bar.shown(), _report_interrupt(folder):
            training.resume(resume, workers=workers, fork=fork, watch=watch)
    else:
        chosen = [c for c in changes or [] if not c.startswith("train.")]
        own = [c.removeprefix("train.") for c in changes or [] if c.startswith("train.")]
        if simulator is not None:
            chosen.append(f"simulator={simulator}")
        content = {"algo": algo, "seed": seed, "episodes": episodes}
        if curriculum is not None:
            content["curriculum"] = learn_settings.parse_curriculum(curriculum)
        content |= {} if llm is None else {"llm": llm}
        content |= {} if demonstrations is None else {"demonstrations": str(demonstrations)}
        plan = learn_settings.train_settings(content, own)
        name = Path(str(scenario)).name.split(".")[0]
        folder = out_dir or Path("runs") / f"{name}-{extension.short(algo)}-{seed}"
        run_folder.check_free(folder)
        loaded = load_scenario(str(scenario), changes=chosen, bbox=_box(bbox), agents=agents)
        ready = prepare(loaded, simulators=plan.simulators(loaded))
        from relid_sumo.learn import train as training

        bar = tables.TrainingBar(err, plan.episodes)
        with bar.shown(), _report_interrupt(folder):
            watch = training.TrainingWatch(bar.episode, bar.update)
            training.train(ready, folder, plan, workers=workers, fork=fork, watch=watch)
    err.print(f"trained: {folder} ({run_folder.METRICS}, {run_folder.CHECKPOINT})", highlight=False)
    err.print(f"next: relid-sumo evaluate {folder}   or   relid-sumo view {folder}", highlight=False)


@app.command(epilog="Example: relid-sumo demo && relid-sumo view runs/demo")
def demo(
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="New run folder.")] = Path("runs/demo"),
) -> None:
    """Train RELED on the included town and evaluate it against baselines (two commands, about two minutes)."""
    folder = str(out_dir)
    training = ("--algo", "reled", "--seed", "0", "--episodes", "64", "--curriculum", "meso:0.8,micro:0.2")
    for command in (
        ["train", "town", *training, "--out", folder],
        ["evaluate", folder, "--seeds", "5", "--baselines", "random,shortest,reactive,rerouting"],
    ):
        err.print(f"relid-sumo {shlex.join(command)}", highlight=False, soft_wrap=True)
        code: Any = app(command, standalone_mode=False)
        if code:
            raise typer.Exit(int(code))


@app.command(epilog="Examples: relid-sumo evaluate runs/o --seeds 3 --json | relid-sumo evaluate runs/o --close EDGE")
def evaluate(
    folder: RunFolder,
    seeds: Annotated[int | None, typer.Option(help="Number of traffic seeds (default: all).")] = None,
    traffic: Annotated[
        str, typer.Option(help="Set of traffic seeds: evaluation, validation or training.")
    ] = "evaluation",
    sampled: Sampled = False,
    baselines: Annotated[
        str,
        typer.Option(help=f"Baselines to compare with: {', '.join(BASELINES)}, or your own: {extension.FORM}."),
    ] = ",".join(BY_DEFAULT),
    branches: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Share of the decisions at which every next edge is tried, to rate the choices (slow).",
        ),
    ] = 0.0,
    changes: Set = None,
    close: Close = None,
    workers: Workers = None,
    trips: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write one row per trip: policy, traffic seed, agent, times, route."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Compare a trained policy with baselines on the same trips in the same held-out traffic.

    The result is stored in the run folder for `relid-sumo report`. With --set, --close, --sampled or another --traffic
    it is printed only.
    """
    from relid_sumo.baseline import named as baselines_named
    from relid_sumo.cli import tables
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.learn import run_folder

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    named = baselines_named.baselines(baselines)
    if trips is not None:
        files.check_writable(trips, "--trips")
    from relid_sumo.evaluation import trained as evaluation_trained
    from relid_sumo.evaluation.trips import write_trips

    ready, trained = evaluation_trained.load_trained(
        folder, greedy=not sampled, changes=changes or [], closed=close or []
    )
    policies = {"trained": trained, **named}
    what_if = [*(changes or []), *(f"closed: {edge}" for edge in close or [])]
    result = evaluation.evaluate(
        ready, policies, traffic=traffic, n_seeds=seeds, branches=branches, workers=workers, what_if=what_if
    )
    if as_json:
        out.print_json(json.dumps(result.as_json()))
    else:
        out.print(tables.evaluation_table(result))
        for line in tables.choices_text(result):
            out.print(line)
        out.print(f"run: {folder}; {ready.network.attribution}", highlight=False)
    if trips is not None:
        write_trips(trips, ready, result.records)
        err.print(f"trips: {trips}", highlight=False, soft_wrap=True)
    if not (what_if or sampled) and traffic == "evaluation":
        _store(folder, ready, result.records)


def _store(folder: Path, ready: Any, records: Any) -> None:  # noqa: ANN401 - types that are imported late
    from relid_sumo.evaluation import stored

    try:
        done = stored.store(folder, ready, records)
    except OSError as error:
        errors.print(f"[yellow]not stored[/] in {folder}: {plain(error.strerror or error)}", highlight=False)
        return
    said = {
        "new": "evaluation stored",
        "added": "added to the stored evaluation",
        "replaced": "stored evaluation replaced: it was of other traffic seeds, or of another state of the policy",
        "unchanged": "stored evaluation unchanged: it has more traffic seeds",
    }
    err.print(f"{said[done]}: {folder / layout.EVALUATION}", highlight=False, soft_wrap=True)
    err.print(f"next: relid-sumo report {folder} --out report.html", highlight=False, soft_wrap=True)


@app.command(epilog="Example: relid-sumo view runs/o --delay 200; without a screen: --record picture.png")
def view(
    folder: RunFolder,
    traffic_seed: Annotated[
        int | None, typer.Option(help="Traffic seed to show (default: the first evaluation seed).")
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="Pause after each simulated second, ms.")] = 100,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Record a picture without a screen. Boxes are agents; circles of their colour are destinations.",
        ),
    ] = None,
    sampled: Sampled = False,
    changes: Set = None,
    close: Close = None,
) -> None:
    """Show an episode of the trained policy in sumo-gui, with agents and destinations highlighted."""
    from relid_sumo.learn import run_folder

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    from relid_sumo.cli import tables
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.evaluation import stored
    from relid_sumo.evaluation import trained as evaluation_trained
    from relid_sumo.viewer import gui as viewing

    ready, policy = evaluation_trained.load_trained(
        folder, greedy=not sampled, changes=changes or [], closed=close or []
    )
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    policy = evaluation.seeded(policy, seed)
    episode = viewing.view(ready, policy, traffic_seed=seed, delay_ms=delay, record=record)
    if episode is None:
        _say("the window was closed")
        return
    times, arrived = episode.travel_time.mean(), episode.arrival_rate
    _say(f"traffic seed {seed}: mean travel time {times:.0f} s, {arrived:.0%} of agents arrived")
    known = None if changes or close else stored.read_stored(folder)
    if known is not None:
        _say(tables.stored_text(known))
    if record is not None:
        err.print(f"recorded: {record}", highlight=False)


@app.command(epilog="Example: relid-sumo export runs/o --out o.rou.xml && sumo -c o.sumocfg")
def export(
    folder: RunFolder,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE.rou.xml", help="Route file to write.")],
    traffic_seed: Annotated[int | None, typer.Option(help="Traffic seed (default: the first evaluation seed).")] = None,
    sampled: Sampled = False,
) -> None:
    """Write the learnt routes as a .rou.xml with a .sumocfg, which plain SUMO can run.

    The .sumocfg refers to the network and the background traffic in the cache of this machine.
    """
    from relid_sumo.learn import run_folder

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.evaluation import trained as evaluation_trained
    from relid_sumo.viewer import export as exporting

    ready, policy = evaluation_trained.load_trained(folder, greedy=not sampled)
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    config = exporting.export_routes(ready, evaluation.seeded(policy, seed), seed, out_file)
    err.print(f"exported: {out_file}; run it with: sumo-gui -c {config}", highlight=False)


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
    err.print(f"report on {written.runs} runs: {out_file}{figure_count}", highlight=False, soft_wrap=True)
    named = ", ".join(written.baselines) or "none; add some with: relid-sumo evaluate RUN"
    err.print(f"baselines evaluated: {named}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Check SUMO, libsumo, torch, display, sandbox and disk, and print how to fix each problem."""
    from relid_sumo.cli import tables
    from relid_sumo.cli.doctor import checks

    found = checks()
    out.print(tables.doctor_table(found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error of the user gives one message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, quiet = "--debug" in words, not {"--quiet", "-q"}.isdisjoint(words)
    words = [word for word in words if word not in {"--debug", "--quiet", "-q"}]
    streams = sys.stdout, sys.stderr
    redact.guard()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small matrices: threads only slow each other down
    try:
        with notes.shown(quiet=quiet, debug=debug):
            code: Any = app(words, standalone_mode=True)
    except (RelidSumoError, OSError) as error:
        if debug:
            print(redact.redact(traceback.format_exc()), end="", file=sys.stderr)
        errors.print(f"[bold red]Error:[/] {plain(error)}", highlight=False, soft_wrap=True)
        code = EXIT_ERROR
    finally:
        sys.stdout, sys.stderr = streams
    sys.exit(code)
