"""One SED run, from a prepared scenario to its folder: refine plans, drive the best ones, write the results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from relid_sumo.base import cache, trusted
from relid_sumo.base import files as base_files
from relid_sumo.base.errors import InputError
from relid_sumo.base.files import read as read_text
from relid_sumo.base.toml import changed, validate
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.env.workers import Rollouts
from relid_sumo.network.network import Network
from relid_sumo.scenario.files import ANSWERS, FILE, answer_files, check_paths, placed, read_scenario
from relid_sumo.scenario.prepare import PreparedScenario, build_network
from relid_sumo.scenario.settings import Scenario, Simulator
from relid_sumo.scenario.traffic import edge_times
from relid_sumo.sed import demonstrate, results, run_folder, stored
from relid_sumo.sed.ask import providers
from relid_sumo.sed.ask.mailbox import read_record, write_record
from relid_sumo.sed.ask.provider import Answer, Asking, Question
from relid_sumo.sed.ask.service import check_service
from relid_sumo.sed.bench import Bench, Present, SedWatch
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.loop import Refined, refine
from relid_sumo.sed.programs import sandbox
from relid_sumo.sed.programs.sandbox import Isolation
from relid_sumo.sed.settings import SedSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask:
    """The provider by name, and the settings of the mailbox.

    An empty `name` means recorded answers where the scenario has them, else the template.
    """

    name: str = ""
    mailbox: Path | None = None
    wait_s: float = 24 * 3600.0
    unsafe: bool = False


def settings_from(changes: Sequence[str], **given: int | None) -> SedSettings:
    """Return settings with changes such as ``"partition.max_size=4"``, and with those given by name.

    Raises
    ------
    InputError
        A setting or a value that does not exist.
    """
    content = {name: value for name, value in given.items() if value is not None}
    return validate(changed(content, changes), SedSettings, "--set sed")


def simulators(settings: SedSettings, scenario: Scenario) -> tuple[Simulator, ...]:
    """Return the simulators that a scenario has to be prepared for."""
    wanted = {settings.simulator, scenario.simulator, "micro"}
    return tuple(name for name in get_args(Simulator) if name in wanted)


def check(ask: Ask, settings: SedSettings, scenario: Scenario) -> tuple[str, Isolation]:
    """Return the name of the provider, and how programs are isolated; call it before any simulation.

    Raises
    ------
    InputError
        There is no such provider, it lacks a setting that it needs, or a model's programs cannot be isolated here.
    """
    if scenario.fleet is not None:
        raise InputError(
            f"scenario '{scenario.name}' has a fleet: its trips differ between traffic seeds, and SED plans one route "
            "for each agent over several traffic seeds; use a scenario with trips"
        )
    recorded = scenario.folder / ANSWERS
    name = ask.name or ("recorded" if recorded.is_dir() else "template")
    known = providers.find(name)
    check_service(name, scenario)
    if name == "recorded" and not recorded.is_dir():
        raise InputError(
            f"--llm recorded: scenario '{scenario.name}' has no recorded answers ({recorded}); use --llm template"
        )
    if name == "template" and settings.prompt.regime != "rich":
        raise InputError(
            "--llm template: its programs need travel times, and sed.prompt.regime = bare has none; use regime rich or "
            "ask a model"
        )
    if name == "mailbox" and ask.mailbox is None:
        raise InputError("--llm mailbox: name the folder for prompts and answers: --mailbox DIR")
    return name, sandbox.isolation(trusted=not known.is_model, unsafe=ask.unsafe)


def run(
    ready: PreparedScenario,
    folder: Path,
    settings: SedSettings,
    ask: Ask,
    *,
    workers: int | None = None,
    present: Present | None = None,
    watch: SedWatch | None = None,
) -> dict[str, Any]:
    """Make demonstrations for a scenario, and return the content of results.json.

    Parameters
    ----------
    ready
        The scenario, prepared for `simulators`.
    folder
        The run folder. A run of the same scenario and provider is resumed: no question is asked twice.
    workers
        Simulation processes; does not change the results.
    present
        The present policies; by default all agents take the free-flow fastest route.
    watch
        Functions that report progress.

    Raises
    ------
    InputError
        The folder has another run, the provider gives no answers, or programs cannot be isolated here.
    """
    counted = _Counted(watch or SedWatch())
    name, _ = check(ask, settings, ready.scenario)
    with run_folder.locked(folder):
        with _refined(ready, folder, settings, ask, workers, present, counted.watch) as (bench, refined):
            log.info("driving the best plans together")
            demonstrations, compared = demonstrate.demonstrate(bench, refined)
        counted.with_episodes(demonstrations).save(folder / run_folder.DEMONSTRATIONS)
        content = results.results(refined, compared, ready.task, name)
        run_folder.write_json(folder / run_folder.RESULTS, content)
        return content


def plan(
    ready: PreparedScenario,
    folder: Path,
    settings: SedSettings,
    ask: Ask,
    *,
    workers: int | None = None,
    watch: SedWatch | None = None,
) -> Demonstrations:
    """Make demonstrations as `run` does, driven in the simulator that scores plans, without a comparison.

    They are saved in the folder, and also cached where the provider always gives the same answers.
    """
    name, _ = check(ask, settings, ready.scenario)
    answers = {file.name: read_text(file) for file in answer_files(ready.scenario.folder / ANSWERS)}
    content = [ready.identity(), name, settings.model_dump(mode="json"), answers]

    def make() -> Demonstrations:
        counted = _Counted(watch or SedWatch())
        with _refined(ready, folder, settings, ask, workers, None, counted.watch) as (bench, refined):
            demonstrations = counted.with_episodes(demonstrate.drive_best(bench, refined, settings.simulator))
        demonstrations.save(folder / run_folder.DEMONSTRATIONS)
        return demonstrations

    if not providers.find(name).repeats:
        return make()
    kind, network = "demonstrations", ready.network.name
    if cache.cache_file(kind, network, content, ".npz").is_file():
        log.info("the demonstrations are in the cache")
    return cache.cached(kind, network, content, ".npz", make, lambda file, made: made.save(file), Demonstrations.load)


class _Counted:
    """Counts the episodes that a run drives."""

    def __init__(self, watch: SedWatch) -> None:
        self._on_episode, self.episodes = watch.episode, 0
        self.watch = replace(watch, episode=self._count)

    def _count(self, record: EpisodeRecord) -> None:
        self.episodes += 1
        self._on_episode(record)

    def with_episodes(self, demonstrations: Demonstrations) -> Demonstrations:
        """Return demonstrations with the number of episodes in their meta."""
        return replace(demonstrations, meta={**demonstrations.meta, "episodes": self.episodes})


@contextlib.contextmanager
def _refined(
    ready: PreparedScenario,
    folder: Path,
    settings: SedSettings,
    ask: Ask,
    workers: int | None,
    present: Present | None,
    watch: SedWatch,
) -> Iterator[tuple[Bench, Refined]]:
    """Run the loop; yield the bench and the result, while the simulation processes still run."""
    with Rollouts(ready.task, workers) as rollouts:
        bench = Bench(ready, rollouts, settings, present or Present(), watch)
        yield bench, looped(bench, folder, ask)


def looped(bench: Bench, folder: Path, ask: Ask) -> Refined:
    """Run the loop on a bench; save prompts, answers and programs in a folder, and reuse the answers there.

    Raises
    ------
    InputError
        The folder has another run, the provider gives no answers, or programs cannot be isolated here.
    """
    ready, settings = bench.ready, bench.settings
    scenario = ready.scenario
    name, how = check(ask, settings, scenario)
    known = {"scenario": placed(scenario).model_dump(mode="json"), "network_key": ready.network.key}
    how_asked = {"settings": settings.model_dump(mode="json"), "llm": scenario.llm.model_dump(mode="json")}
    run_folder.open_run(folder, name, {**known, "isolation": how, **how_asked})
    asking = Asking(scenario.llm, folder, scenario.folder / ANSWERS, ask.mailbox, ask.wait_s)
    provider = providers.build(name, asking)
    times = edge_times.edge_times(scenario, ready.network, ready.demand)

    def save(refined: Refined) -> None:
        run_folder.write_json(folder / run_folder.ROUNDS, results.so_far(refined, ready.task, name))

    return refine(bench, folder, provider, how, times, save)


def network_of(folder: Path) -> Network:
    """Return the network of a run.

    Raises
    ------
    InputError
        The folder has no run, or the network has changed since.
    """
    file = folder / run_folder.SETTINGS
    settings = run_folder.read_json(file)
    scenario = validate(settings.get("scenario"), Scenario, str(file)).model_copy(update={"folder": folder.resolve()})
    check_paths(scenario, f"{file}: scenario")
    built = build_network(scenario)
    if built.key != settings.get("network_key"):
        raise InputError(f"{folder}: its network '{built.name}' has changed since the run; run it again")
    return built


def record(folder: Path, scenario: Path) -> list[Path]:
    """Save the unedited answers of a finished run as the recorded answers of its scenario.

    They replace older ones of the same regime.

    Raises
    ------
    InputError
        The run is not finished, no model answered it, or it belongs to another scenario.
    """
    content, settings = (
        stored.read_results(folder),
        run_folder.read_json(folder / run_folder.SETTINGS),
    )
    trusted.check_code(settings, str(folder / run_folder.SETTINGS))
    try:
        known = providers.find(str(settings.get("provider")))
    except InputError:
        raise InputError(
            f"{folder / run_folder.SETTINGS}: provider is {settings.get('provider')!r}, which does not exist; put back "
            "a copy, or run sed again"
        ) from None
    if known.repeats or not known.is_model:
        raise InputError(
            f"{folder}: its answers are from '{settings.get('provider')}'; only answers of a model can be recorded"
        )
    name = read_scenario(scenario / FILE).name
    if name != content["scenario"]:
        raise InputError(
            f"{folder} is a run of '{content['scenario']}', and {scenario} is scenario '{name}'; name the folder of "
            "the run's scenario"
        )
    into = scenario / ANSWERS
    prompts = settings.get("settings", {}).get("prompt", {})
    regime = prompts.get("regime", "rich") if isinstance(prompts, dict) else "rich"
    older = [file for file in answer_files(into) if read_record(file)[0].get("regime", "rich") == regime]
    into.mkdir(exist_ok=True)
    files = []
    for subset in content["subsets"]:
        for place in (one["place"] for one in subset["attempts"]):
            prompt, answer = (folder / part / f"{place}.md" for part in (run_folder.PROMPTS, run_folder.ANSWERS))
            question = Question(place, base_files.read(prompt), {"vehicles": subset["vehicles"], "regime": regime})
            date = datetime.fromtimestamp(answer.stat().st_mtime, UTC).date().isoformat()
            saved = run_folder.read_answer(folder, place)
            files.append(write_record(into, question, saved or Answer(""), date))
    for old in set(older) - set(files):
        old.unlink()
    return files
