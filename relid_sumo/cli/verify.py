"""The command `relid-sumo verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.cli.console import EXIT_FAILED, Workers, out, plain


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    updates: Annotated[int, typer.Option(min=0, help="Updates of the training to run again, from its start.")] = 2,
    seeds: Annotated[int, typer.Option(min=0, help="Traffic seeds of the stored evaluation to run again.")] = 1,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Run a slice of a run again, and say whether it gives the same bytes, and where it first differs.

    The slice is the first updates of the training, resumed from a checkpoint halfway, and evaluation episodes of the
    trained policy. Nothing in the run folder changes, and no language model is asked.

    Exit code: 0 if the slice is the same, byte for byte; 1 if it differs; 2 if it cannot be verified.
    """
    from relid_sumo.learn import run_folder

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    from relid_sumo.evaluation import verify as verification

    found = verification.verify(folder, updates=updates, seeds=seeds, workers=workers)
    if as_json:
        out.print_json(json.dumps({"reproduces": found.reproduces, **asdict(found)}))
    else:
        parts = [f"updates 1 to {found.updates}"] if found.updates else []
        parts += [f"evaluation in traffic seed {seed}" for seed in found.traffic_seeds]
        said = "[green]reproduces[/]" if found.reproduces else "[bold red]differs[/]"
        out.print(f"{said} {plain(folder)}: {', '.join(parts) or 'not run'}", highlight=False, soft_wrap=True)
        for line in found.days:
            out.print(plain(line), highlight=False, soft_wrap=True)
        for line in found.differences:
            out.print(f"first difference: {plain(line)}", highlight=False, soft_wrap=True)
        for line in found.inputs:
            out.print(f"other input: {plain(line)}", highlight=False, soft_wrap=True)
    if not found.reproduces:
        raise typer.Exit(EXIT_FAILED)
