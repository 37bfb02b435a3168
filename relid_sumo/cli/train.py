"""The command `relid-sumo train`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.base import extension
from relid_sumo.cli.console import EXIT_INTERRUPTED, Bbox, FleetSize, Set, Workers, err, errors, plain
from relid_sumo.cli.console import box as _box
from relid_sumo.learn.algorithms import ALGORITHMS
from relid_sumo.sed.ask.providers import PROVIDERS

NOT_WITH_RESUME = (
    *("algo", "seed", "episodes", "out_dir", "agents", "bbox", "fleet", "changes", "simulator", "curriculum"),
    *("llm", "demonstrations"),
)

Fork = Annotated[
    bool,
    typer.Option(
        "--fork/--no-fork",
        help="Fork simulations after their warm-up, or restart SUMO for every episode (same results, slower).",
    ),
]


@contextlib.contextmanager
def _report_interrupt(folder: Path) -> Iterator[None]:
    """On Ctrl-C, print the command that resumes the run."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"interrupted; resume with: relid-sumo train --resume {plain(folder)}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


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
    fleet: FleetSize = None,
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
        loaded = load_scenario(str(scenario), changes=chosen, bbox=_box(bbox), agents=agents, fleet=fleet)
        ready = prepare(loaded, simulators=plan.simulators(loaded))
        from relid_sumo.learn import train as training

        bar = tables.TrainingBar(err, plan.episodes)
        with bar.shown(), _report_interrupt(folder):
            watch = training.TrainingWatch(bar.episode, bar.update)
            training.train(ready, folder, plan, workers=workers, fork=fork, watch=watch)
    err.print(f"trained: {plain(folder)} ({run_folder.METRICS}, {run_folder.CHECKPOINT})", highlight=False)
    err.print(f"next: relid-sumo evaluate {plain(folder)}   or   relid-sumo view {plain(folder)}", highlight=False)
