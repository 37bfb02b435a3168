"""The commands. Each reads its arguments, calls one function, and prints what it returned."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from relid_sumo import sed_cli
from relid_sumo.base.errors import RelidSumoError
from relid_sumo.console import Bbox, Set, Workers, err, out
from relid_sumo.console import box as _box
from relid_sumo.console import say as _say

EXIT_FAILED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
NOT_WITH_RESUME = (
    *("algo", "seed", "episodes", "out_dir", "agents", "bbox", "changes", "simulator", "curriculum"),
    *("llm", "demonstrations"),
)


class _RunsByDefault(TyperGroup):
    """Commands of which `run` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context, which typer hides
        """Name `run` where no command is named."""
        named = not args or args[0] in {"--help", *self.commands}
        return super().parse_args(ctx, args if named else ["run", *args])


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From an OpenStreetMap file to vehicles that have learnt to route in SUMO.\n\n"
    "[dim]relid-sumo train town --out runs/town[/]\n\n[dim]relid-sumo evaluate runs/town[/]\n\n"
    "[dim]relid-sumo view runs/town[/]\n\nAdd --debug to any command for a traceback.",
)
network_app = typer.Typer(no_args_is_help=True, help="Road networks: from an OSM file to SUMO.")
scenario_app = typer.Typer(no_args_is_help=True, help="Scenarios: network, background traffic, trips, seeds.")
batch_app = typer.Typer(
    cls=_RunsByDefault,
    no_args_is_help=True,
    help="Grids of runs: scenarios x algorithms x seeds, here or on Ray.\n\n"
    "[dim]relid-sumo batch experiments/smoke.toml --out b[/]  is short for  [dim]relid-sumo batch run ...[/]",
)
app.add_typer(network_app, name="network")
app.add_typer(scenario_app, name="scenario")
app.add_typer(batch_app, name="batch")
app.add_typer(sed_cli.app, name="sed")

Close = Annotated[
    list[str] | None, typer.Option("--close", metavar="EDGE", help="Close an edge to everybody; may be repeated.")
]
Fork = Annotated[
    bool,
    typer.Option(
        "--fork/--no-fork",
        help="Fork warmed simulations, or start SUMO and warm it up for every episode: the same episodes, slower.",
    ),
]
Sampled = Annotated[bool, typer.Option("--sampled", help="Draw actions instead of taking the most probable one.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Say, on Ctrl-C, what has been kept."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"interrupted; go on with: relid-sumo train --resume {folder}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command(
    epilog="Examples: relid-sumo train town | relid-sumo train city.osm --episodes 200 --out runs/city | "
    "relid-sumo train orlando --algo reled --episodes 160 --curriculum meso:0.8,micro:0.2"
)
def train(
    context: typer.Context,
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario's name or folder, or an OSM file (.osm, .osm.gz, .osm.bz2).")
    ] = None,
    algo: Annotated[str, typer.Option(help="Algorithm: ippo, mappo, reled, leed, bc, bc+ippo.")] = "ippo",
    seed: Annotated[int, typer.Option(help="Seed of weights, actions and the order of traffic.")] = 0,
    episodes: Annotated[int, typer.Option(help="Budget, episodes.")] = 100,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run folder to make (default: runs/SCENARIO-ALGO-SEED).")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted run, exactly.")] = None,
    simulator: Annotated[
        str | None, typer.Option(help="What to train in: micro, or meso, which is some twenty times faster.")
    ] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(metavar="NAME:SHARE,...", help="Several, one after the other, e.g. meso:0.8,micro:0.2."),
    ] = None,
    workers: Workers = None,
    fork: Fork = True,
    agents: Annotated[int | None, typer.Option(help="Number of agents, for an OSM file (default: 10).")] = None,
    bbox: Bbox = None,
    llm: Annotated[
        str | None,
        typer.Option(
            help="Who writes the programs that make an expert algorithm's demonstrations: recorded, template or openai."
        ),
    ] = None,
    demonstrations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Demonstrations that sed run has made, for an expert algorithm.")
    ] = None,
    changes: Set = None,
) -> None:
    """Train vehicles to route. Ctrl-C keeps the last update; go on with --resume."""
    from relid_sumo import runs, show
    from relid_sumo import train as training
    from relid_sumo.base.errors import InputError
    from relid_sumo.prepare import prepare
    from relid_sumo.scenario_files import load_scenario

    if (scenario is None) == (resume is None):
        raise InputError("name a scenario to train, or a run folder to go on with: --resume DIR")
    given = [name for name in NOT_WITH_RESUME if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if resume is not None and given:
        raise InputError(f"--resume goes on with a run as it was begun; leave out: {', '.join(given)}")
    if resume is not None:
        settings, _ = runs.load(resume)
        bar = show.TrainingBar(err, settings.train.episodes, training.episodes_done(resume))
        watch = training.Watch(bar.episode, bar.update, _say)
        folder = resume
        with bar.shown(), _kept(folder):
            training.resume(resume, workers=workers, fork=fork, watch=watch)
    else:
        chosen = [c for c in changes or [] if not c.startswith("train.")]
        own = [c.removeprefix("train.") for c in changes or [] if c.startswith("train.")]
        if simulator is not None:
            chosen.append(f"simulator={simulator}")
        content = {"algo": algo, "seed": seed, "episodes": episodes}
        if curriculum is not None:
            content["curriculum"] = runs.parse_curriculum(curriculum)
        content |= {} if llm is None else {"llm": llm}
        content |= {} if demonstrations is None else {"demonstrations": str(demonstrations)}
        plan = runs.train_settings(content, own)
        name = Path(str(scenario)).name.split(".")[0]
        folder = out_dir or Path("runs") / f"{name}-{algo}-{seed}"
        runs.check_free(folder)
        loaded = load_scenario(str(scenario), changes=chosen, bbox=_box(bbox), agents=agents, report=_say)
        ready = prepare(loaded, simulators=plan.simulators(loaded), report=_say)
        bar = show.TrainingBar(err, plan.episodes)
        with bar.shown(), _kept(folder):
            watch = training.Watch(bar.episode, bar.update, _say)
            training.train(ready, folder, plan, workers=workers, fork=fork, watch=watch)
    err.print(f"trained: {folder} ({runs.METRICS}, {runs.CHECKPOINT}, tensorboard/)", highlight=False)
    err.print(f"next: relid-sumo evaluate {folder}   or   relid-sumo view {folder}", highlight=False)


@app.command(
    epilog="Examples: relid-sumo evaluate runs/o --seeds 3 --json | with a road closed: --close EDGE | --branches 0.1"
)
def evaluate(
    folder: RunFolder,
    seeds: Annotated[int | None, typer.Option(help="How many of the traffic seeds (default: all).")] = None,
    traffic: Annotated[str, typer.Option(help="Which traffic seeds: evaluation, validation, training.")] = "evaluation",
    sampled: Sampled = False,
    baselines: Annotated[
        str,
        typer.Option(help="Compare with: random, shortest, reactive, rerouting, hist, turns, bestroute, due."),
    ] = "shortest,reactive,rerouting",
    branches: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="At this share of the decisions try every way from that instant: how good were the choices? (slow)",
        ),
    ] = 0.0,
    changes: Set = None,
    close: Close = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compare a trained policy with the baselines, on traffic it has not seen: same trips, same traffic."""
    from relid_sumo import evaluate as evaluation
    from relid_sumo import show
    from relid_sumo.baselines import named as baselines_named

    ready, trained = evaluation.load_trained(
        folder, greedy=not sampled, changes=changes or [], closed=close or [], report=_say
    )
    named = baselines_named.baselines(baselines)
    policies = {"trained": trained, **baselines_named.worked_out(named, ready, workers, _say)}
    count = len(evaluation.choose_seeds(ready, traffic, seeds)) * len(policies)
    with show.counting(err, "evaluating, episode", count) as tick:
        what_if = [*(changes or []), *(f"closed: {edge}" for edge in close or [])]
        result = evaluation.evaluate(
            ready,
            policies,
            traffic=traffic,
            n_seeds=seeds,
            branches=branches,
            workers=workers,
            what_if=what_if,
            on_done=tick,
        )
    if as_json:
        out.print_json(json.dumps(result.as_json()))
    else:
        out.print(show.evaluation_table(result))
        for line in show.choices_text(result):
            out.print(line)
        out.print(f"run: {folder}; {ready.network.attribution}", highlight=False)


@app.command(epilog="Example: relid-sumo view runs/o --delay 200; without a screen: --record picture.png")
def view(
    folder: RunFolder,
    traffic_seed: Annotated[
        int | None, typer.Option(help="Traffic to show (default: the first evaluation seed).")
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="Pause after each simulated second, ms.")] = 100,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Record a picture, without a screen: boxes are agents, named circles where each of its colour goes.",
        ),
    ] = None,
    sampled: Sampled = False,
    changes: Set = None,
    close: Close = None,
) -> None:
    """Show the trained policy in sumo-gui: agents coloured and large, their destinations marked."""
    from relid_sumo import evaluate as evaluation
    from relid_sumo import view as viewing

    ready, policy = evaluation.load_trained(
        folder, greedy=not sampled, changes=changes or [], closed=close or [], report=_say
    )
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    policy = evaluation.seeded(policy, seed)
    episode = viewing.view(ready, policy, traffic_seed=seed, delay_ms=delay, record=record)
    if episode is None:
        _say("the window was closed")
        return
    times, arrived = episode.travel_time.mean(), episode.arrival_rate
    _say(f"traffic seed {seed}: mean travel time {times:.0f} s, arrived {arrived:.0%}")
    if record is not None:
        err.print(f"recorded: {record}", highlight=False)


@app.command(epilog="Example: relid-sumo export runs/o --out o.rou.xml && sumo -c o.sumocfg")
def export(
    folder: RunFolder,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE.rou.xml", help="Where to write the routes.")],
    traffic_seed: Annotated[int | None, typer.Option(help="Traffic (default: the first evaluation seed).")] = None,
    sampled: Sampled = False,
) -> None:
    """Write the learnt routes as a .rou.xml, and a .sumocfg beside it, that plain SUMO plays.

    The .sumocfg refers to the network and the background traffic where they lie in the cache of this machine.
    """
    from relid_sumo import evaluate as evaluation
    from relid_sumo import export as exporting

    ready, policy = evaluation.load_trained(folder, greedy=not sampled, report=_say)
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    config = exporting.export_routes(ready, evaluation.seeded(policy, seed), seed, out_file)
    err.print(f"exported: {out_file}; play it with: sumo-gui -c {config}", highlight=False)


@app.command(epilog="Example: relid-sumo report b --out b.html; for a paper: --out b.tex --figures figures")
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Batches, folders of runs, or single run folders.")
    ],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="What to write: .html, .md, .csv or .tex.")],
    form: Annotated[
        Literal["html", "md", "csv", "tex"] | None, typer.Option("--format", help="By the file's ending, if not given.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Write figures there, as PNG and PDF.")] = None,
    title: Annotated[str | None, typer.Option(help="What to call it (default: after the folders).")] = None,
) -> None:
    """Write what runs gave: one page that opens offline, or tables and figures for a paper."""
    from relid_sumo.report.write import write

    written = write(folders, out_file, form=form, figures=figures, title=title)
    for one in written.missing:
        err.print(f"[yellow]left out[/] {one.name}: {plain(one.why)}", highlight=False, soft_wrap=True)
    for problem in written.problems:
        err.print(f"[yellow]note[/] {plain(problem)}", highlight=False, soft_wrap=True)
    figure_count = f" and {len(written.files) - 1} figures in {figures}" if figures else ""
    err.print(f"report on {written.runs} runs: {out_file}{figure_count}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Check SUMO, libsumo, torch, display, sandbox, disk; say how to mend what is missing."""
    from relid_sumo import show
    from relid_sumo.doctor import checks

    found = checks()
    out.print(show.doctor_table(found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


@network_app.command("build", epilog="Example: relid-sumo network build city.osm.gz --bbox -81.22,28.57,-81.18,28.62")
def network_build(
    source: Annotated[str, typer.Argument(help="An OSM file, or the name of a network.")],
    name: Annotated[str | None, typer.Option(help="What to call it (default: after the file).")] = None,
    bbox: Bbox = None,
    left_hand: Annotated[
        bool | None, typer.Option("--left-hand/--right-hand", help="Driving side (default: by position).")
    ] = None,
) -> None:
    """Turn an OSM file into a SUMO network that simulates well; say what was kept, what was dropped, and why."""
    from relid_sumo import network

    built = network.find(source, name=name, bbox=_box(bbox), left_hand=left_hand, report=_say)
    out.print(network.summary_text(built))
    out.print(f"network: {built.net_file}", highlight=False, soft_wrap=True)


@network_app.command("show", epilog="Example: relid-sumo network show orlando --map orlando.png")
def network_show(
    name: Annotated[str, typer.Argument(help="The name of a network or a scenario, or an OSM file.")],
    picture: Annotated[
        Path | None, typer.Option("--map", metavar="FILE.png", help="Where to draw the map (default: NAME.png).")
    ] = None,
) -> None:
    """Print the facts of a network and draw its map."""
    from relid_sumo import maps, network
    from relid_sumo.scenario_files import find_network

    built = find_network(name, report=_say)
    out.print(network.summary_text(built))
    file = picture or Path(f"{built.name}.png")
    maps.draw_map(built, file)
    out.print(f"map: {file}", highlight=False, soft_wrap=True)


@scenario_app.command("new", epilog="Example: relid-sumo scenario new mytown --osm mytown.osm --agents 20")
def scenario_new(
    name: Annotated[str, typer.Argument(help="Its name.")],
    source: Annotated[Path, typer.Option("--osm", metavar="FILE", help="An OSM file, or the name of a network.")],
    bbox: Bbox = None,
    agents: Annotated[int, typer.Option(help="Number of agents.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the choice of trips.")] = 0,
    folder: Annotated[Path, typer.Option(help="Folder of scenarios.")] = Path("scenarios"),
    changes: Set = None,
) -> None:
    """Write a complete scenario for an OSM file: trips with real alternatives, calibrated traffic and simulations."""
    from relid_sumo import scenario_files

    scenario_files.check_new(folder / name)
    made = scenario_files.new_scenario(
        name,
        source,
        bbox=_box(bbox),
        agents=agents,
        seed=seed,
        changes=changes or [],
        with_meso=True,
        report=_say,
    )
    file = scenario_files.write_scenario(made, folder / name)
    err.print(f"wrote {file}; next: relid-sumo scenario check {folder / name}", highlight=False)


@scenario_app.command("check", epilog="Example: relid-sumo scenario check orlando")
def scenario_check(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or folder, or an OSM file.")],
    bbox: Bbox = None,
    changes: Set = None,
) -> None:
    """Say what is wrong with a scenario and what its traffic looks like."""
    from relid_sumo import demand, meso, show
    from relid_sumo.prepare import prepare
    from relid_sumo.scenario_files import load_scenario

    loaded = load_scenario(scenario, changes=changes or [], bbox=_box(bbox), report=_say)
    ready = prepare(loaded, report=_say)
    out.print(show.trips_table(ready))
    _say("measuring the background traffic")
    measured = demand.measure(ready.scenario, ready.network)
    out.print(show.traffic_text(measured, ready.scenario.demand.level))
    if ready.scenario.meso is not None:
        _say("comparing the mesoscopic simulation with the microscopic one")
        out.print(show.meso_text(*meso.compare(ready.scenario, ready.network, ready.scenario.seeds.validation)))
    out.print(ready.network.attribution, highlight=False)


Backend = Annotated[Literal["local", "ray"], typer.Option(help="Where cells run: processes of this machine, or Ray.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A Ray cluster, or auto (default: a Ray of this machine)."),
]
CellWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Simulation processes of each cell; results do not depend on it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what went wrong.")]
BatchFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a batch.")]


@batch_app.command("run", epilog="Example: relid-sumo batch experiments/smoke.toml --out b; first look: add --dry-run")
def batch_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment file (docs/scaling.md).")],
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="The batch's folder, new or to go on with.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the grid and its estimated time alone.")] = False,
    backend: Backend = "local",
    address: Address = None,
    workers: CellWorkers = None,
    quiet: Quiet = False,
) -> None:
    """Run the cells that are neither done nor failed. Ctrl-C keeps what there is; the same command goes on."""
    from relid_sumo.batch import run

    settings = run.Settings(backend, address, workers)
    _batch(out_dir, quiet, dry_run, lambda watch: run.batch(file, out_dir, settings, watch, dry_run=dry_run))


@batch_app.command("retry", epilog="Example: relid-sumo batch retry b")
def batch_retry(
    folder: BatchFolder,
    backend: Backend = "local",
    address: Address = None,
    workers: CellWorkers = None,
    quiet: Quiet = False,
) -> None:
    """Run what failed again, each cell from its last checkpoint, and whatever else is not done."""
    from relid_sumo.batch import run

    settings = run.Settings(backend, address, workers)
    _batch(folder, quiet, False, lambda watch: run.retry(folder, settings, watch))


@batch_app.command("status", epilog="Example: relid-sumo batch status b")
def batch_status(folder: BatchFolder) -> None:
    """Say where every cell of a batch stands."""
    from relid_sumo import show_batch
    from relid_sumo.batch import store

    out.print(show_batch.status_table(store.standings(folder, store.load(folder)), store.is_locked(folder)))


def _batch(folder: Path, quiet: bool, dry_run: bool, run: Callable[[Any], list[Any]]) -> None:
    """Run a batch in view; exit code 1 where a cell has failed."""
    from relid_sumo import show_batch
    from relid_sumo.batch.run import Watch

    view = show_batch.BatchView(err, quiet=quiet)
    try:
        standings = run(Watch(view.grid, view.event, view.report))
    except KeyboardInterrupt:
        err.print(f"interrupted; the same command goes on. See: relid-sumo batch status {folder}", soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        view.close()
    failed = [standing for standing in standings if standing.state == "failed"]
    for standing in failed:
        err.print(f"[red]failed[/] {standing.cell.name}: {plain(standing.error)}", highlight=False, soft_wrap=True)
    if dry_run:
        return
    if failed:
        err.print(f"logs: {folder}/logs", highlight=False, soft_wrap=True)
        err.print(f"run them again with: relid-sumo batch retry {folder}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED)
    if not quiet:
        err.print(f"all done; next: relid-sumo report {folder} --out report.html", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: errors that are the user's end in one message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small matrices: threads only get in each other's way
    try:
        code: Any = app(words, standalone_mode=True)
    except (RelidSumoError, OSError) as error:
        if debug:
            traceback.print_exc()
        err.print(f"[bold red]Error:[/] {plain(error)}", highlight=False, soft_wrap=True)
        code = EXIT_ERROR
    sys.exit(code)


def plain(error: Exception | str) -> str:
    from rich.markup import escape

    return escape(str(error))
