"""The command `relid-sumo replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.cli.console import Set, err, plain
from relid_sumo.cli.console import say as _say
from relid_sumo.cli.trained import Close, Incidents, RunFolder, Sampled


def replay(
    folder: RunFolder,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Page to write.")],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="BASELINE", help="Show a baseline (as in evaluate --baselines) in the same traffic next to the run."
        ),
    ] = None,
    traffic_seed: Annotated[
        int | None, typer.Option(help="Traffic seed to show (default: the first evaluation seed).")
    ] = None,
    branches: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Share of the run's decisions at which every next edge is tried, to show what each would cost (slow: "
            "each next edge costs an episode).",
        ),
    ] = 0.0,
    title: Annotated[str | None, typer.Option(help="Title of the page (default: the run's name).")] = None,
    sampled: Sampled = False,
    changes: Set = None,
    close: Close = None,
    incidents: Incidents = None,
) -> None:
    """Write a page that plays an episode on the street map: all vehicles, the agents and why they turned.

    The page opens offline in any current browser, also on a phone.
    """
    from relid_sumo.baseline import named
    from relid_sumo.learn import run_folder
    from relid_sumo.replay import write as replays

    replays.check(out_file)
    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    others = {} if against is None else named.single(against, "--against")
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.evaluation import trained as evaluation_trained

    ready, policy = evaluation_trained.load_trained(
        folder, greedy=not sampled, changes=changes or [], closed=close or [], incidents=incidents or []
    )
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    planned = named.planned_by_seed({"trained": policy, **others}, ready, [seed])[seed]
    policies = {name: evaluation.seeded(one, seed) for name, one in zip(["trained", *others], planned, strict=True)}
    name = title or f"{folder.resolve().name}: {' and '.join(policies)}"
    recordings = replays.write(ready, policies, out_file, traffic_seed=seed, branches=branches, title=name)
    for policy_name, one in recordings.items():
        times, arrived = one.episode.travel_time.mean(), one.episode.arrival_rate
        _say(f"{policy_name}: mean travel time {times:.0f} s, {arrived:.0%} of agents arrived")
    size = out_file.stat().st_size / 1e6
    err.print(f"replay of traffic seed {seed}: {plain(out_file)} ({size:.1f} MB)", highlight=False, soft_wrap=True)
