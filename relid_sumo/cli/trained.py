"""The commands for a trained run: `relid-sumo evaluate`, `view` and `export`."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from relid_sumo.base import extension
from relid_sumo.baseline.table import BASELINES, BY_DEFAULT
from relid_sumo.cli.console import FleetSize, Set, Workers, err, errors, out, plain
from relid_sumo.cli.console import say as _say
from relid_sumo.runs import layout

Close = Annotated[
    list[str] | None,
    typer.Option("--close", metavar="EDGE", help="Close an edge for the whole episode, known to all. Repeatable."),
]
Incidents = Annotated[
    list[str] | None,
    typer.Option(
        "--incident",
        metavar="EDGE@BEGIN-END",
        help="Close an edge from BEGIN to END, s after the warm-up, unknown to vehicles until they see it. EDGE:0,1 "
        "closes lanes 0 and 1; =3m/s or =20% at the end slows instead. Repeatable.",
    ),
]
Sampled = Annotated[bool, typer.Option("--sampled", help="Draw actions instead of choosing the most probable one.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")]


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
    incidents: Incidents = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Another scenario: a name, a folder, or a map or SUMO file as for train. For policies that all agents "
            "share.",
        ),
    ] = None,
    fleet: FleetSize = None,
    workers: Workers = None,
    trips: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write one row per trip: policy, traffic seed, agent, times, route."),
    ] = None,
    edges: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write one row per policy, traffic seed and edge: agents, vehicles, speed, time loss, CO2 (slower).",
        ),
    ] = None,
    sumo_output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write SUMO's own tripinfo, summary, edge data and emissions of each episode to this folder (slower).",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|FILE.py:NAME",
            help="Compare with the policy of another run of this scenario, or with your own code. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Compare a trained policy with baselines on the same trips in the same held-out traffic.

    The result is stored in the run folder for `relid-sumo report`. With --scenario, --fleet, --set, --close,
    --incident, --sampled or another --traffic it is only printed.
    """
    from relid_sumo.base import files, temporary
    from relid_sumo.baseline import named as baselines_named
    from relid_sumo.cli import tables
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.learn import run_folder

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    named = baselines_named.baselines(baselines)
    for file, option in ((trips, "--trips"), (edges, "--edges")):
        if file is not None:
            files.check_writable(file, option)
    if sumo_output is not None:
        files.check_writable(sumo_output / "tripinfo.xml", "--sumo-output")
    from relid_sumo.evaluation import opponents
    from relid_sumo.evaluation import trained as evaluation_trained
    from relid_sumo.evaluation.sumo_output import write_edges
    from relid_sumo.evaluation.trips import write_trips

    opponents.check(policy or [])

    ready, trained = evaluation_trained.load_trained(
        folder,
        greedy=not sampled,
        changes=changes or [],
        closed=close or [],
        incidents=incidents or [],
        scenario=scenario,
        fleet=fleet,
    )
    policies = {"trained": trained, **named}
    policies |= opponents.opponents(policy or [], ready, policies, greedy=not sampled)
    what_if = evaluation.named_changes(changes or [], close or [], incidents or [], fleet)
    with contextlib.ExitStack() as stack:
        outputs = sumo_output
        if outputs is None and edges is not None:
            outputs = stack.enter_context(temporary.folder("relid-sumo-edges-"))
        result = evaluation.evaluate(
            ready,
            policies,
            traffic=traffic,
            n_seeds=seeds,
            branches=branches,
            workers=workers,
            what_if=what_if,
            outputs=outputs,
        )
        if edges is not None and outputs is not None:
            write_edges(edges, ready, result.records, outputs)
    if as_json:
        out.print_json(json.dumps(result.as_json()))
    else:
        for part in tables.evaluation_parts(result):
            out.print(part)
        out.print(f"run: {plain(folder)}; {plain(ready.network.attribution)}", highlight=False)
    if trips is not None:
        write_trips(trips, ready, result.records)
        err.print(f"trips: {plain(trips)}", highlight=False, soft_wrap=True)
    if edges is not None:
        err.print(f"edges: {plain(edges)}", highlight=False, soft_wrap=True)
    if sumo_output is not None:
        err.print(f"SUMO's outputs, by policy and traffic seed: {plain(sumo_output)}", highlight=False, soft_wrap=True)
    if scenario is None and not (what_if or sampled) and traffic == "evaluation":
        _store(folder, ready, result.records)


def _store(folder: Path, ready: Any, records: Any) -> None:  # noqa: ANN401 - types that are imported late
    from relid_sumo.evaluation import stored

    try:
        done = stored.store(folder, ready, records)
    except OSError as error:
        errors.print(f"[yellow]not stored[/] in {plain(folder)}: {plain(error.strerror or error)}", highlight=False)
        return
    said = {
        "new": "evaluation stored",
        "added": "added to the stored evaluation",
        "replaced": "stored evaluation replaced, because its traffic seeds or its policy differ",
        "unchanged": "stored evaluation not replaced, because it has more traffic seeds",
    }
    err.print(f"{said[done]}: {plain(folder / layout.EVALUATION)}", highlight=False, soft_wrap=True)
    err.print(f"next: relid-sumo report {plain(folder)} --out report.html", highlight=False, soft_wrap=True)


def view(
    folder: RunFolder,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Show a second window, with the same traffic at the same time: a baseline (as in evaluate "
            "--baselines), the folder of another run, or 'demonstration'.",
        ),
    ] = None,
    traffic_seed: Annotated[
        int | None, typer.Option(help="Traffic seed to show (default: the first evaluation seed).")
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="Least time of each simulated second, ms.")] = 100,
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="Simulated seconds per second, instead of --delay. Default of a film: the episode in 30 s.",
        ),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="NAME", help="Draw routes and decisions of this agent only. Repeatable."),
    ] = None,
    follow: Annotated[str | None, typer.Option(metavar="NAME", help="Let the view follow this agent.")] = None,
    at: Annotated[
        float | None, typer.Option(metavar="TIME", help="Start here (a .png: take it here), s after the warm-up.")
    ] = None,
    until: Annotated[float | None, typer.Option(metavar="TIME", help="Stop here, s after the warm-up.")] = None,
    pause_at_decisions: Annotated[
        bool,
        typer.Option(
            "--pause-at-decisions",
            help="Pause after each decision until the run button of the first window is pressed; in a film for 2 s.",
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|.gif|.mp4",
            help="Record a picture or a film, without a screen, instead of opening windows.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Show a baseline (as in evaluate --baselines) instead of the trained policy."
        ),
    ] = None,
    sampled: Sampled = False,
    changes: Set = None,
    close: Close = None,
    incidents: Incidents = None,
) -> None:
    """Show an episode of the trained policy in sumo-gui, alone or next to another policy, or record it.

    Thick lines are routes driven, thin lines those of the agents' experts (or those planned), arrows the last decision:
    each next edge as wide as its probability. The windows step together, and stay open with a summary at the end.
    """
    from relid_sumo.baseline import named
    from relid_sumo.learn import run_folder
    from relid_sumo.viewer import film, screen

    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    others = {} if baseline is None else named.single(baseline, "--baseline")
    if record is None:
        screen.check_display()
    else:
        film.check(record)
    from relid_sumo.cli import tables
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.evaluation import trained as evaluation_trained
    from relid_sumo.runs.summary import read_evaluation
    from relid_sumo.viewer import gui, opponents
    from relid_sumo.viewer.captions import summary

    if against is not None:
        opponents.check(against)
    what_if: dict[str, Any] = {"changes": changes or [], "closed": close or [], "incidents": incidents or []}
    ready, policy = evaluation_trained.load_trained(folder, greedy=not sampled, **what_if)
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    name, plans = "trained", {} if baseline else opponents.expert_routes(folder, ready)
    if baseline is not None:
        ((name, policy),) = named.plan_baselines(others, ready.on(seed), traffic_seed=seed).items()
    sides = [gui.Shown(name, ready, evaluation.seeded(policy, seed), plans)]
    if against is not None:
        sides.append(opponents.opponent(against, folder, ready, seed, greedy=not sampled, **what_if))
    how = gui.How(
        delay_ms=delay,
        speed=speed,
        agents=tuple(agents or ()),
        follow=follow,
        at_s=at,
        until_s=until,
        pause_at_decisions=pause_at_decisions,
        record=record,
    )
    episodes = gui.view(sides, seed, how)
    if episodes is None:
        _say("the window was closed")
        return
    for line in summary(sides, episodes):
        _say(f"traffic seed {seed}: {line}")
    if happens := ready.describe_day(seed):
        _say(f"day: {happens}")
    known = None if changes or close or incidents or baseline else read_evaluation(folder)
    if known is not None:
        _say(tables.stored_text(known))
    if record is not None:
        err.print(f"recorded: {plain(record)}", highlight=False)


def export(
    folder: RunFolder,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.rou.xml", help="Route file to write, with a .sumocfg for this machine."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write, with all that plain SUMO needs to repeat the episode exactly on any machine.",
        ),
    ] = None,
    traffic_seed: Annotated[int | None, typer.Option(help="Traffic seed (default: the first evaluation seed).")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "--baseline",
            metavar="NAME|DIR|FILE.py:NAME",
            help="Export a baseline (as in evaluate --baselines), another run or your own code instead.",
        ),
    ] = None,
    sampled: Sampled = False,
    incidents: Incidents = None,
) -> None:
    """Write an episode of a run for plain SUMO: a folder for any machine, or routes for this one.

    --bundle writes the network, the demand, the agents, additional files, settings of sumo-gui and a README, with
    relative paths only; the agents arrive at the times of the episode. --out writes the routes; its .sumocfg refers to
    the cache of this machine, and travel times may differ by some seconds, as vehicles know their routes at departure.
    """
    from relid_sumo.base.errors import InputError
    from relid_sumo.baseline import named
    from relid_sumo.learn import run_folder
    from relid_sumo.viewer import bundle as bundling
    from relid_sumo.viewer import export as exporting

    if (out_file is None) == (bundle is None):
        raise InputError("export: give one of --bundle DIR and --out FILE.rou.xml")
    run_folder.load(folder)  # before the import of torch, so that a wrong folder is reported at once
    if bundle is not None:
        bundling.check_free(bundle)
    is_run = policy is not None and (Path(policy) / layout.SETTINGS).is_file()
    others = {} if policy is None or is_run else named.baselines(policy)
    if policy is not None and not is_run and len(others) != 1:
        raise InputError(f"--policy {policy}: name one baseline, a run folder, or your own code: {extension.FORM}")
    from relid_sumo.evaluation import evaluate as evaluation
    from relid_sumo.evaluation import opponents
    from relid_sumo.evaluation import trained as evaluation_trained

    ready, chosen = evaluation_trained.load_trained(folder, greedy=not sampled, incidents=incidents or [])
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    if policy is not None and is_run:
        others = opponents.opponents([policy], ready, greedy=not sampled)
    for other in named.plan_baselines(others, ready.on(seed), traffic_seed=seed).values():
        chosen = other
    chosen = evaluation.seeded(chosen, seed)
    if out_file is not None:
        config = exporting.export_routes(ready, chosen, seed, out_file)
        err.print(f"exported: {plain(out_file)}; run it with: sumo-gui -c {plain(config)}", highlight=False)
    if bundle is not None:
        made = bundling.export_bundle(ready, chosen, seed, bundle, folder.resolve().name)
        for line in bundling.differences(made):
            errors.print(f"[yellow]note[/] {plain(line)}", highlight=False, soft_wrap=True)
        if not made.other:
            _say(f"plain SUMO gives the travel times of the episode for all {made.agents} agents")
        where = f"cd {shlex.quote(str(bundle))} && sumo-gui -c {shlex.quote(made.configuration.name)}"
        err.print(f"exported: {plain(bundle)}; run it with: {plain(where)}", highlight=False, soft_wrap=True)
