"""The command `relid-sumo train`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relid_sumo.base import extension, files
from relid_sumo.cli import given, trained
from relid_sumo.cli import llm as llm_options
from relid_sumo.cli.console import (
    EXIT_INTERRUPTED,
    Allow,
    Bbox,
    FleetSize,
    Quick,
    Routes,
    Set,
    Workers,
    err,
    errors,
    plain,
)
from relid_sumo.cli.console import box as _box
from relid_sumo.learn import presets
from relid_sumo.learn.algorithms import ALGORITHMS
from relid_sumo.sed.ask.providers import PROVIDERS

if TYPE_CHECKING:
    from relid_sumo.learn.settings import TrainSettings

NOT_WITH_RESUME = (
    *("algo", "seed", "episodes", "out_dir", "agents", "bbox", "fleet", "changes", "simulator", "curriculum"),
    *("llm", "model", "base_url", "demonstrations", "preset", "routes", "od", "taz", "counts", "allow", "quick"),
)

PREPARING = "the same command continues from the last finished measurement"

Fork = Annotated[
    bool,
    typer.Option(
        "--fork/--no-fork",
        help="Fork simulations after their warm-up, or restart SUMO for every episode (same results, slower).",
    ),
]


@contextlib.contextmanager
def _report_interrupt(next_step: str) -> Iterator[None]:
    """On Ctrl-C, or on an error of the disk, print what to do next."""
    from relid_sumo.base.errors import InputError

    try:
        yield
    except OSError as error:
        raise InputError(files.explained(error, next_step)) from None
    except KeyboardInterrupt:
        errors.print(f"interrupted; {next_step}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _resume(folder: Path, compared: int) -> str:
    """Return the line with the command that resumes a run and ends with the same comparison."""
    same = compared == presets.find(presets.STANDARD).evaluation_seeds
    return f"resume with: relid-sumo train --resume {plain(folder)}{'' if same else f' --evaluate {compared}'}"


def _continue(folder: Path, compared: int, workers: int | None, *, fork: bool) -> int:
    """Continue an interrupted run to its end, and return its number of evaluation seeds."""
    from relid_sumo.cli import tables
    from relid_sumo.learn import run_folder

    settings, scenario = run_folder.load(folder)
    from relid_sumo.learn import checkpoint
    from relid_sumo.learn import train as training

    bar = tables.TrainingBar(err, settings.train.episodes, checkpoint.episodes(folder))
    watch = training.TrainingWatch(bar.episode, bar.update)
    with bar.shown(), _report_interrupt(_resume(folder, compared)):
        training.resume(folder, workers=workers, fork=fork, watch=watch)
    return len(scenario.seeds.evaluation)


def train(
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="Scenario's name or folder, an OSM file (.osm, .osm.gz, .osm.xml ...), a SUMO network (.net.xml) or a "
            "SUMO configuration (.sumocfg)."
        ),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(
            help=f"Algorithm: {', '.join(ALGORITHMS)}, or your own: {extension.FORM} (default: {presets.RECOMMENDED}, "
            f"for a fleet {presets.OF_FLEET})."
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"Algorithm, budget and evaluation: {presets.listed()}; options replace it."),
    ] = presets.STANDARD,
    seed: Annotated[int, typer.Option(help="Seed of weights, actions and the order of traffic.")] = 0,
    episodes: Annotated[
        int | None, typer.Option(help="Number of training episodes (default: the preset's for the algorithm).")
    ] = None,
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
        typer.Option(help="Simulator of the training: micro or meso, the faster one (default: both in turn)."),
    ] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:SHARE,...",
            help="Several simulators in turn (default: meso:0.8,micro:0.2). meso:converged,micro:0.2 leaves the first "
            "one when its curve in validation traffic is flat.",
        ),
    ] = None,
    workers: Workers = None,
    fork: Fork = True,
    agents: Annotated[
        int | None, typer.Option(help="Number of agents, for an OSM file or a SUMO file (default: 10).")
    ] = None,
    bbox: Bbox = None,
    fleet: FleetSize = None,
    quick: Quick = False,
    routes: Routes = None,
    od: given.Od = None,
    taz: given.Taz = None,
    counts: given.Counts = None,
    allow: Allow = None,
    llm: Annotated[
        str | None,
        typer.Option(
            help="Provider that writes the planning programs of an expert algorithm: "
            f"{', '.join(name for name, known in PROVIDERS.items() if not known.waits)}, or your own: {extension.FORM}."
        ),
    ] = None,
    model: llm_options.Model = None,
    base_url: llm_options.BaseUrl = None,
    demonstrations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Demonstrations from `sed run`, for an expert algorithm.")
    ] = None,
    evaluation_seeds: Annotated[
        int | None,
        typer.Option(
            "--evaluate",
            min=0,
            metavar="N",
            help="Compare the policy with the baselines in N held-out traffic seeds at the end; 0 for none (default: "
            "the preset's).",
        ),
    ] = None,
    changes: Set = None,
) -> None:
    """Train vehicles to choose their routes, and compare them with the baselines in held-out traffic.

    After Ctrl-C, --resume continues from the last update.
    """
    from relid_sumo.base.errors import InputError
    from relid_sumo.cli import tables
    from relid_sumo.learn import run_folder
    from relid_sumo.learn import settings as learn_settings
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare

    if (scenario is None) == (resume is None):
        raise InputError("name a scenario to train, or a run folder to resume: --resume DIR")
    named = [name for name in NOT_WITH_RESUME if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if resume is not None and named:
        raise InputError(f"--resume uses the settings of the saved run; remove: {', '.join(named)}")
    compared = presets.find(preset).evaluation_seeds if evaluation_seeds is None else evaluation_seeds
    if resume is not None:
        folder, evaluation_set = resume, _continue(resume, compared, workers, fork=fork)
    else:
        own, chosen = llm_options.split(changes, "train", model, base_url)
        if simulator is not None:
            chosen.append(f"simulator={simulator}")
        stages = None if curriculum is None else learn_settings.parse_curriculum(curriculum)
        has_fleet = fleet is not None or any(change.startswith("fleet") for change in chosen)
        values = {
            "algo": "ippo" if algo is None and has_fleet else algo,
            "seed": seed,
            "episodes": episodes,
            "curriculum": () if stages is None and simulator is not None else stages,
            "llm": llm,
            "demonstrations": None if demonstrations is None else str(demonstrations),
        }

        def planned(*, of_fleet: bool) -> tuple[TrainSettings, Path]:
            plan = learn_settings.train_settings(presets.filled(preset, values, fleet=of_fleet), own)
            name = Path(str(scenario)).name.split(".")[0]
            folder = out_dir or Path("runs") / f"{name}-{extension.short(plan.algo)}-{seed}"
            run_folder.check_free(folder)
            return plan, folder

        plan, folder = planned(of_fleet=fleet is not None)
        with _report_interrupt(PREPARING):
            loaded = load_scenario(
                str(scenario),
                changes=chosen,
                bbox=_box(bbox),
                agents=agents,
                fleet=fleet,
                inputs=given.inputs(routes, allow, od, taz, counts),
                quick=quick,
            )
            if loaded.fleet is not None:
                plan, folder = planned(of_fleet=True)
            plan.check_agents(loaded)
            evaluation_set = len(loaded.seeds.evaluation)
            if evaluation_seeds is not None and evaluation_seeds > evaluation_set:
                raise InputError(f"--evaluate {evaluation_seeds}: the scenario has {evaluation_set} evaluation seeds")
            learn_settings.check_provider(plan, loaded)
            ready = prepare(loaded, simulators=plan.simulators(loaded))
        from relid_sumo.learn import train as training

        bar = tables.TrainingBar(err, plan.episodes)
        with bar.shown(), _report_interrupt(_resume(folder, compared)):
            watch = training.TrainingWatch(bar.episode, bar.update)
            training.train(ready, folder, plan, workers=workers, fork=fork, watch=watch)
    err.print(f"trained: {plain(folder)} ({run_folder.METRICS}, {run_folder.CHECKPOINT})", highlight=False)
    if compared:
        with _report_interrupt(f"evaluate with: relid-sumo evaluate {plain(folder)}"):
            trained.evaluate(folder, seeds=min(compared, evaluation_set), workers=workers)
    else:
        err.print(f"next: relid-sumo evaluate {plain(folder)}   or   relid-sumo view {plain(folder)}", highlight=False)
