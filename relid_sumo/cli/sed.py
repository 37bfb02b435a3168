"""The `sed` commands. Each reads its arguments, calls one function and prints the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from relid_sumo.base import extension
from relid_sumo.cli import llm as llm_options
from relid_sumo.cli.console import EXIT_INTERRUPTED, Bbox, Set, Workers, box, err, errors, out, plain
from relid_sumo.sed.ask.providers import PROVIDERS

app = typer.Typer(
    no_args_is_help=True,
    help="Make expert demonstrations with planning programs, refined by feedback from the simulator.",
)

ScenarioName = Annotated[str, typer.Argument(help="Scenario's name or folder, or an OSM file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of `sed run`.")]
Agents = Annotated[int | None, typer.Option(help="Number of agents, for an OSM file (default: 10).")]


@app.command(epilog="Example: relid-sumo sed partition orlando --map subsets.png")
def partition(
    scenario: ScenarioName,
    picture: Annotated[
        Path | None, typer.Option("--map", metavar="FILE.png", help="File of the map (default: NAME-subsets.png).")
    ] = None,
    agents: Agents = None,
    bbox: Bbox = None,
    changes: Set = None,
) -> None:
    """Show the subsets of agents that plan together: those that may use the same edges at about the same time."""
    from relid_sumo.cli import sed_tables
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare
    from relid_sumo.sed import drawing
    from relid_sumo.sed import partition as parts
    from relid_sumo.sed.run import settings_from

    own, rest = llm_options.split(changes, "sed")
    loaded = load_scenario(scenario, changes=rest, bbox=box(bbox), agents=agents)
    ready = prepare(loaded).on(loaded.seeds.training[0])
    found = parts.partition(ready.task, settings_from(own).partition)
    out.print(sed_tables.partition_table(found, ready.task))
    file = picture or Path(f"{loaded.name}-subsets.png")
    groups = [[route for agent in subset for route in found.routes[agent]] for subset in found.subsets]
    labels = [f"subset {i}: " + ", ".join(ready.task.names[a] for a in s) for i, s in enumerate(found.subsets, 1)]
    drawing.draw_routes(ready.network, groups, labels, file)
    out.print(f"map: {plain(file)}; {plain(ready.network.attribution)}", highlight=False, soft_wrap=True)


@app.command(
    epilog="Examples: relid-sumo sed run orlando --out s | relid-sumo sed run city.osm --llm template --out t | "
    "relid-sumo sed run town --llm openai --model NAME --set llm.budget_tokens=400000 --out u"
)
def run(
    scenario: ScenarioName,
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder: a new one, or an interrupted one to resume.")],
    llm: Annotated[
        str,
        typer.Option(
            help=f"Provider of the programs: {', '.join(PROVIDERS)}, or your own: {extension.FORM} (default: recorded "
            "if the scenario has recorded answers, otherwise template, which uses no model)."
        ),
    ] = "",
    model: llm_options.Model = None,
    base_url: llm_options.BaseUrl = None,
    rounds: Annotated[int | None, typer.Option(help="Number of rounds (default: 3).")] = None,
    samples: Annotated[int | None, typer.Option(help="Programs per subset and round (default: 2).")] = None,
    mailbox: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --llm mailbox: folder for prompts and answers.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Time limit for a mailbox's answers, s.")] = 24 * 3600.0,
    unsafe_sandbox: Annotated[
        bool, typer.Option("--unsafe-sandbox", help="Run a model's programs even if the kernel cannot isolate them.")
    ] = False,
    agents: Agents = None,
    bbox: Bbox = None,
    changes: Set = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Request planning programs, simulate their plans, give feedback, and save the best plans as demonstrations."""
    from relid_sumo.cli import sed_tables
    from relid_sumo.scenario.make import load_scenario
    from relid_sumo.scenario.prepare import prepare
    from relid_sumo.sed import run as running

    own, rest = llm_options.split(changes, "sed", model, base_url)
    settings = running.settings_from(own, rounds=rounds, samples=samples)
    loaded = load_scenario(scenario, changes=rest, bbox=box(bbox), agents=agents)
    ask = running.Ask(extension.located(llm), mailbox, wait, unsafe_sandbox)
    running.check(ask, settings, loaded)
    ready = prepare(loaded, simulators=running.simulators(settings, loaded))
    try:
        with sed_tables.progress(err) as watch:
            content = running.run(ready, out_dir, settings, ask, workers=workers, watch=watch)
    except KeyboardInterrupt:
        errors.print("interrupted; answers so far are saved: the same command resumes from there", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        out.print_json(json.dumps(content))
    else:
        out.print(sed_tables.tables(content))
        err.print(f"demonstrations: {plain(out_dir)}; next: relid-sumo sed show {plain(out_dir)}", highlight=False)


@app.command(epilog="Example: relid-sumo sed show s --map planned.png")
def show(
    folder: RunFolder,
    picture: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE.png", help="File of the map of planned routes (default: in DIR)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Print the results of each round and the number of valid programs, and draw the planned routes.

    DIR may also be a training run, whose folder `sed` is then shown, or a run that is not finished.
    """
    from relid_sumo.cli import sed_tables
    from relid_sumo.sed import drawing, results, stored
    from relid_sumo.sed.run import network_of

    folder = stored.find(folder)
    if stored.is_begun(folder):
        out.print(f"{plain(folder)}: {plain(stored.begun(folder))}", highlight=False, soft_wrap=True)
        return
    content = stored.read_shown(folder)
    usage = stored.read_usage(folder)
    if as_json:
        out.print_json(json.dumps({**content, "usage": usage}))
        return
    out.print(sed_tables.tables(content))
    if usage is not None:
        out.print(sed_tables.usage_text(usage), highlight=False)
    if not content["finished"]:
        out.print("the best plans were not driven together: the rounds up to now are shown", highlight=False)
    network = network_of(folder)
    file = picture or folder / "routes.png"
    groups, labels = results.planned(content, network.graph)
    drawing.draw_routes(network, groups, labels, file)
    out.print(f"map: {plain(file)}; {plain(network.attribution)}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: relid-sumo sed compare gpt other-model")
def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR...", help="Run folders of `sed run`, or of trainings with experts.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Compare runs of several models: valid programs, score, travel time, tokens and cost."""
    from relid_sumo.cli import sed_tables
    from relid_sumo.sed import comparing

    found = comparing.compare(folders)
    if as_json:
        out.print_json(json.dumps(found.as_json()))
        return
    out.print(sed_tables.models_table(found))
    for line in found.words():
        out.print(line, highlight=False)


@app.command(epilog="Example: relid-sumo sed record s scenarios/orlando")
def record(
    folder: RunFolder,
    scenario: Annotated[Path, typer.Argument(help="Scenario's folder, in which `answers` is made.")],
) -> None:
    """Save the unedited answers of a run as the recorded answers of its scenario."""
    from relid_sumo.sed.run import record as keep

    files = keep(folder, scenario)
    err.print(f"recorded: {len(files)} answers in {plain(scenario / 'answers')}", highlight=False)
