"""The `batch` commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from relid_sumo.cli import llm as llm_options
from relid_sumo.cli.console import EXIT_FAILED, EXIT_INTERRUPTED, err, errors, out, plain


class _RunsByDefault(TyperGroup):
    """Commands with `run` as the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context, which typer hides
        """Insert `run` if no command is named."""
        named = not args or args[0] in {"--help", *self.commands}
        return super().parse_args(ctx, args if named else ["run", *args])


batch_app = typer.Typer(
    cls=_RunsByDefault,
    no_args_is_help=True,
    help="Run a grid of scenarios x algorithms x seeds, on this machine or on Ray.\n\n"
    "[dim]relid-sumo batch experiments/smoke.toml --out b[/]  is short for  [dim]relid-sumo batch run ...[/]",
)


Backend = Annotated[
    Literal["local", "ray"], typer.Option(help="Where cells run: in processes of this machine, or on Ray.")
]


Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Address of a Ray cluster, or auto (default: start Ray on this machine)."),
]


CellWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Simulation processes per cell; results do not depend on it.")
]


BatchFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a batch.")]


@batch_app.command("run", epilog="Example: relid-sumo batch experiments/smoke.toml --out b --dry-run")
def batch_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file (docs/scaling.md).")],
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the batch: a new one, or one to resume.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the grid and its estimated time.")] = False,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only write the grid and its scenarios; `batch cell` then runs single cells."),
    ] = False,
    backend: Backend = "local",
    address: Address = None,
    workers: CellWorkers = None,
    model: llm_options.Model = None,
    base_url: llm_options.BaseUrl = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="llm.KEY=VALUE", help="Replace a setting of [llm] in FILE (repeatable)."),
    ] = None,
) -> None:
    """Run the cells that are neither done nor failed. After Ctrl-C, the same command resumes the batch."""
    from relid_sumo.batch import run

    settings = run.BatchSettings(backend, address, workers)
    _, given = llm_options.split(changes, "batch", model, base_url)
    _batch(
        out_dir,
        dry_run or prepare,
        lambda watch: run.batch(file, out_dir, settings, watch, dry_run=dry_run, only_prepare=prepare, changes=given),
    )
    if prepare and not dry_run:
        err.print(f"prepared; run each cell with: relid-sumo batch cell {plain(out_dir)} NAME", highlight=False)


@batch_app.command("retry", epilog="Example: relid-sumo batch retry b")
def batch_retry(
    folder: BatchFolder,
    backend: Backend = "local",
    address: Address = None,
    workers: CellWorkers = None,
) -> None:
    """Run failed cells again, each from its last checkpoint, and all other cells that are not done."""
    from relid_sumo.batch import run

    settings = run.BatchSettings(backend, address, workers)
    _batch(folder, False, lambda watch: run.retry(folder, settings, watch))


@batch_app.command("cell", epilog="Examples: relid-sumo batch cell b town-ippo-0 | relid-sumo batch cell b 3")
def batch_cell(
    folder: BatchFolder,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the cell, or its number from 0, as in `batch status`.")
    ],
    workers: CellWorkers = None,
) -> None:
    """Run one cell of a batch made with --prepare, to its end or from its last checkpoint; for Slurm arrays.

    Several processes and machines may run cells of the same folder at once.
    """
    from relid_sumo.batch import run

    _batch(folder, False, lambda watch: [run.run_cell(folder, name, watch, workers=workers)], one=True)


@batch_app.command("status", epilog="Example: relid-sumo batch status b")
def batch_status(folder: BatchFolder) -> None:
    """Print the state of each cell of a batch."""
    from relid_sumo.batch import store
    from relid_sumo.cli import batch_view

    out.print(batch_view.status_table(store.standings(folder, store.load(folder)), store.is_locked(folder)))


def _batch(folder: Path, dry_run: bool, run: Callable[[Any], list[Any]], *, one: bool = False) -> None:
    """Run a batch and show its progress; exit code 1 if a cell failed."""
    from relid_sumo.batch.run import BatchWatch
    from relid_sumo.cli import batch_view

    view = batch_view.BatchView(err)
    try:
        standings = run(BatchWatch(view.grid, view.event))
    except KeyboardInterrupt:
        errors.print(
            f"interrupted; the same command resumes. State: relid-sumo batch status {plain(folder)}", soft_wrap=True
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        view.close()
    failed = [standing for standing in standings if standing.state == "failed"]
    for standing in failed:
        errors.print(
            f"[red]failed[/] {plain(standing.cell.name)}: {plain(standing.error)}", highlight=False, soft_wrap=True
        )
    if dry_run:
        return
    if failed:
        errors.print(f"logs: {plain(folder)}/logs", highlight=False, soft_wrap=True)
        again = "the same command" if one else f"relid-sumo batch retry {plain(folder)}"
        errors.print(f"run failed cells again with: {again}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED)
    if one:
        err.print(f"done: {plain(standings[0].cell.name)}", highlight=False)
        return
    err.print(f"all done; next: relid-sumo report {plain(folder)} --out report.html", highlight=False, soft_wrap=True)
