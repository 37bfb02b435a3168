"""Train, evaluate, view and report in one call each. Import them from `relid_sumo`.

They log to ``logging.getLogger("relid_sumo")``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from relid_sumo.base import extension, sumo
from relid_sumo.base.errors import InputError
from relid_sumo.baseline.named import baselines, plan_baselines
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation import evaluate as evaluation
from relid_sumo.evaluation import stored
from relid_sumo.evaluation.evaluate import Evaluation
from relid_sumo.learn import presets
from relid_sumo.learn.settings import TrainSettings, check_provider, parse_curriculum, train_settings
from relid_sumo.scenario import prepare as preparing
from relid_sumo.scenario.files import override
from relid_sumo.scenario.incidents import added
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.scenario.settings import Scenario, Simulator

if TYPE_CHECKING:
    from relid_sumo.evaluation.verify import Verification
    from relid_sumo.reports.write import Written

log = logging.getLogger(__name__)

AnyScenario = Scenario | PreparedScenario | Path | str


def prepare(
    scenario: AnyScenario,
    *,
    simulators: Sequence[Simulator] = ("micro",),
    changes: Sequence[str] = (),
    closed: Sequence[str] = (),
    incidents: Sequence[str] = (),
) -> PreparedScenario:
    """Prepare a scenario: build its network, and calibrate and measure its traffic.

    All results are cached. The first call may take minutes, the next one takes a second.

    Parameters
    ----------
    scenario
        A scenario, its name, its folder, or an OSM file.
    simulators
        Simulators to prepare for: ``micro``, and ``meso`` for SUMO's mesoscopic simulation.
    changes
        Settings to replace, such as ``"demand.level=0.4"``.
    closed
        Edges (SUMO's ids) that no vehicle may use.
    incidents
        Incidents in addition to those of the scenario, such as ``"EDGE@600-1200"``; vehicles do not know of them before
        they see them.

    Raises
    ------
    InputError
        There is no such scenario, or it cannot be prepared; the message says why.

    Examples
    --------
    >>> ready = prepare("town")  # doctest: +SKIP
    >>> ready.task.n_agents  # doctest: +SKIP
    10
    """
    return preparing.prepare(added(_loaded(scenario, changes), incidents), simulators=simulators, closed=closed)


def train(
    scenario: AnyScenario,
    out: Path | str | None = None,
    *,
    algo: str | None = None,
    preset: str = presets.STANDARD,
    episodes: int | None = None,
    seed: int = 0,
    curriculum: str | Sequence[tuple[str, float]] | None = None,
    changes: Sequence[str] = (),
    workers: int | None = None,
    **settings: Any,  # noqa: ANN401 - fields of TrainSettings, which validates them
) -> Path:
    """Train a policy and return the run folder.

    Parameters
    ----------
    scenario
        A scenario, its name, its folder, or an OSM file.
    out
        The run folder, which must not exist yet. Default: ``runs/SCENARIO-ALGO-SEED``.
    algo
        The algorithm: ``ippo``, ``mappo``, ``reled``, ``leed``, ``decaying-imitation``, ``bc``, ``bc+ippo``, or the
        import path of your own. Default: ``reled``, for a fleet ``ippo``.
    preset
        Settings that are not given: ``quick``, ``standard`` or ``paper`` (`relid_sumo.learn.presets`).
    episodes, seed
        Number of training episodes (default: the preset's), and seed of weights, actions and the order of traffic.
    curriculum
        Simulators of the training in turn. Default: ``"meso:0.8,micro:0.2"``; empty for the scenario's own simulator.
        ``"meso:converged,micro:0.2"`` leaves the first one when its curve in validation traffic is flat.
    changes
        Settings of the scenario to replace, such as ``"demand.level=0.4"``.
    workers
        Number of simulation processes. It does not change the results. Default: one per core.
    **settings
        Other fields of `TrainSettings`, for instance ``ippo={"clip": 0.1}``.

    Raises
    ------
    InputError
        A setting or the scenario is not valid, or the folder exists.
    SimulationError
        SUMO failed, or a loss is not finite.

    Examples
    --------
    >>> run = train("town", "runs/town", episodes=8)  # doctest: +SKIP
    """
    stages = parse_curriculum(curriculum) if isinstance(curriculum, str) and curriculum else curriculum
    given = {"algo": algo, "episodes": episodes, "seed": seed, "curriculum": stages, **settings}
    from relid_sumo.learn import run_folder

    name = scenario if isinstance(scenario, str | Path) else _loaded(scenario).name

    def planned(*, of_fleet: bool) -> tuple[TrainSettings, Path]:
        content = presets.filled(preset, given, fleet=of_fleet)
        plan = train_settings({key: _plain(value) for key, value in content.items()}, source="train")
        default = Path("runs") / f"{Path(name).name.split('.')[0]}-{extension.short(plan.algo)}-{seed}"
        folder = default if out is None else Path(out)
        run_folder.check_free(folder)
        return plan, folder

    plan, folder = planned(of_fleet=False)
    with sumo.limited(workers):
        loaded = _loaded(scenario, changes)
        if loaded.fleet is not None:
            plan, folder = planned(of_fleet=True)
        plan.check_agents(loaded)
        check_provider(plan, loaded)
        from relid_sumo.learn import train as training  # torch, once all else fits

        ready = prepare(loaded, simulators=plan.simulators(loaded))
        training.train(ready, folder, plan, workers=workers)
    return folder


def resume(run: Path | str, *, workers: int | None = None) -> Path:
    """Resume an interrupted run from its last checkpoint. The result is the same as without the interruption.

    Parameters
    ----------
    run
        The run folder.
    workers
        Number of simulation processes. It does not change the results. Default: one per core.

    Raises
    ------
    InputError
        The folder contains no run that can be resumed.

    Examples
    --------
    >>> resume("runs/town")  # doctest: +SKIP
    """
    from relid_sumo.learn import train as training  # torch

    training.resume(Path(run), workers=workers)
    return Path(run)


def evaluate(
    what: PreparedScenario | Path | str,
    policies: Mapping[str, Policy] | None = None,
    *,
    traffic: str = "evaluation",
    seeds: int | None = None,
    branches: float = 0.0,
    sampled: bool = False,
    changes: Sequence[str] = (),
    closed: Sequence[str] = (),
    incidents: Sequence[str] = (),
    scenario: AnyScenario | None = None,
    fleet: float | None = None,
    workers: int | None = None,
) -> Evaluation:
    """Compare policies on the same trips in the same traffic.

    The result for a run folder is stored there for `report`, unless the scenario is changed or actions are drawn.

    Parameters
    ----------
    what
        A run folder, whose policy is called ``trained``, or a prepared scenario.
    policies
        Policies to compare by name, as returned by `baselines`. Default: the default baselines. Baselines with routes
        are planned by this function.
    traffic, seeds
        Set of traffic seeds (``evaluation``, held out from training, ``validation`` or ``training``), and number of
        seeds. Default: all.
    branches
        Share of the trained policy's decisions at which every other slot is tried too. Default: 0. Slow.
    sampled
        Draw the trained policy's actions instead of choosing the most probable ones.
    changes, closed, incidents
        What-if, for a run folder: settings of its scenario to replace, edges to close, and incidents as in `prepare`.
    scenario, fleet
        For a run folder whose agents share one policy: another scenario in which they act, and the share or number of
        agents to draw from its demand. Default: those of the run.
    workers
        Number of simulation processes. It does not change the results. Default: one per core.

    Raises
    ------
    InputError
        There is no such run, or there are fewer seeds.

    Examples
    --------
    >>> result = evaluate("runs/town", baselines("hist,shortest"), seeds=5)  # doctest: +SKIP
    >>> result.policies["trained"].mean_travel_time_s  # doctest: +SKIP
    """
    own: dict[str, Policy] = {}
    compared = baselines() if policies is None else dict(policies)
    if isinstance(what, PreparedScenario):
        if changes or closed or incidents or sampled or scenario is not None or fleet is not None:
            raise InputError(
                "evaluate: changes, closed, incidents, sampled, scenario and fleet are for a run folder; give them to "
                "prepare()"
            )
        ready = what
    else:
        from relid_sumo.evaluation.trained import load_trained  # torch

        ready, own["trained"] = load_trained(
            Path(what),
            greedy=not sampled,
            changes=changes,
            closed=closed,
            incidents=incidents,
            scenario=scenario.scenario if isinstance(scenario, PreparedScenario) else scenario,
            fleet=fleet,
        )
    what_if = evaluation.named_changes(changes, closed, incidents, fleet)
    every = {**own, **compared}
    result = evaluation.evaluate(
        ready, every, traffic=traffic, n_seeds=seeds, branches=branches, workers=workers, what_if=what_if
    )
    is_changed = what_if or sampled or scenario is not None
    if not isinstance(what, PreparedScenario) and not is_changed and traffic == "evaluation":
        try:
            stored.store(Path(what), ready, result.records)
        except OSError as error:
            log.warning(f"the evaluation is not stored in {what}: {error.strerror or error}")
    return result


def verify(run: Path | str, *, updates: int = 2, seeds: int = 1, workers: int | None = None) -> Verification:
    """Run a slice of a run again, and say whether it gives the same bytes, and where it first differs.

    Parameters
    ----------
    run
        The run folder; nothing in it changes.
    updates
        Number of updates of the training to run again, from its start.
    seeds
        Number of traffic seeds of the stored evaluation to run again.
    workers
        Number of simulation processes. It does not change the results. Default: one per core.

    Raises
    ------
    InputError
        The folder contains no run, or nothing to compare with.

    Examples
    --------
    >>> verify("runs/town").reproduces  # doctest: +SKIP
    True
    """
    from relid_sumo.evaluation import verify as verification  # torch

    return verification.verify(Path(run), updates=updates, seeds=seeds, workers=workers)


def view(
    what: PreparedScenario | Path | str,
    policy: Policy | None = None,
    *,
    against: Policy | None = None,
    traffic_seed: int | None = None,
    delay_ms: float = 100.0,
    record: Path | str | None = None,
) -> EpisodeRecord | None:
    """Play an episode in sumo-gui and return its record; None if the user closes the window before the end.

    At the end the window stays open with a summary until it is closed.

    Parameters
    ----------
    what
        A run folder, or a prepared scenario.
    policy
        Policy to show. Default: the run's own policy.
    against
        Policy to show next to it, in the same traffic at the same time.
    traffic_seed
        Traffic seed to show. Default: the first evaluation seed.
    delay_ms
        Least time of each simulated second, ms.
    record
        A .png, .gif or .mp4 file: record a picture or a film on a virtual screen instead of opening windows.

    Raises
    ------
    InputError
        There is no such run, or no screen.

    Examples
    --------
    >>> view("runs/town", record="town.png")  # doctest: +SKIP
    """
    from relid_sumo.viewer import gui  # only to view

    plans: Mapping[int, Sequence[int]] = {}
    if isinstance(what, PreparedScenario):
        ready, shown = what, policy
    else:
        from relid_sumo.evaluation.trained import load_trained  # torch
        from relid_sumo.viewer.opponents import expert_routes

        ready, own = load_trained(Path(what))
        shown, plans = policy or own, {} if policy else expert_routes(Path(what), ready)
    if shown is None:
        raise InputError("view: a prepared scenario has no policy of its own; give one, as Policy('shortest')")
    seed = ready.scenario.seeds.evaluation[0] if traffic_seed is None else traffic_seed
    policies = {"trained" if shown.name == "learned" else shown.name: shown}
    if against is not None:
        name = "trained" if against.name == "learned" else against.name
        policies[name if name not in policies else f"{name} (right)"] = against
    planned = plan_baselines(policies, ready.on(seed), traffic_seed=seed)
    sides = [gui.Shown(name, ready, evaluation.seeded(one, seed)) for name, one in planned.items()]
    sides[0] = replace(sides[0], plans=plans)
    picture = None if record is None else Path(record)
    records = gui.view(sides, seed, gui.How(delay_ms=delay_ms, record=picture))
    return None if records is None else records[0]


def report(
    folders: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    figures: Path | str | None = None,
    title: str | None = None,
) -> Written:
    """Write a report on runs: a page that opens offline, or tables for a paper.

    Parameters
    ----------
    folders
        Batches, folders of runs, or single run folders.
    out
        The report file. Its ending selects the format: .html, .md, .csv or .tex.
    figures
        Folder for figures as PNG and PDF. Default: no figures.
    title
        Title of the report. Default: the folders' names.

    Returns
    -------
    Written
        Number of runs, missing runs and the files written.

    Raises
    ------
    InputError
        There is no run to report on, or the file cannot be written.

    Examples
    --------
    >>> report("runs", "report.html")  # doctest: +SKIP
    """
    from relid_sumo.reports.write import write  # matplotlib and jinja2, only to report

    several = [folders] if isinstance(folders, str | Path) else folders
    where = None if figures is None else Path(figures)
    return write([Path(folder) for folder in several], Path(out), figures=where, title=title)


def _plain(value: object) -> object:
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def _loaded(scenario: AnyScenario, changes: Sequence[str] = ()) -> Scenario:
    if isinstance(scenario, str | Path):
        return load_scenario(scenario, changes=changes)
    return override(scenario.scenario if isinstance(scenario, PreparedScenario) else scenario, changes)
