"""What a run is shown against: a baseline, another run, or the demonstrations that it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.baseline import named
from relid_sumo.baseline.table import BASELINES
from relid_sumo.env.policies import Policy
from relid_sumo.evaluation.evaluate import seeded
from relid_sumo.evaluation.trained import load_trained
from relid_sumo.learn.reled.demonstrated import planned
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.viewer.gui import Shown

DEMONSTRATION = "demonstration"


def expert_routes(folder: Path, ready: PreparedScenario) -> dict[int, list[int]]:
    """Return the demonstrated route of each agent of a run, as edge indices; empty where it has no demonstrations.

    Raises
    ------
    InputError
        The demonstrations do not fit the scenario.
    """
    file = folder / layout.DEMONSTRATIONS
    if not file.is_file() or ready.scenario.fleet is not None:
        return {}
    routes = planned(Demonstrations.load(file), ready, file)
    return {agent: [int(edge) for edge in route] for agent, route in enumerate(routes)}


def check(against: str) -> None:
    """Check the name of an opponent, before anything is loaded.

    Raises
    ------
    InputError
        It is no baseline, no run folder and not ``demonstration``.
    """
    if against == DEMONSTRATION or (Path(against) / layout.SETTINGS).is_file():
        return
    if Path(against).is_dir():
        raise InputError(f"--against {against}: not a run folder: it has no {layout.SETTINGS}; give that of a run")
    if against in BASELINES or extension.is_path(against):
        named.baselines(against)
        return
    near = did_you_mean(against, [*BASELINES, DEMONSTRATION])
    raise InputError(
        f"--against {against}: no such baseline or run folder{near}; give a run folder, '{DEMONSTRATION}', or one of "
        f"{', '.join(BASELINES)}"
    )


def opponent(
    against: str,
    folder: Path,
    ready: PreparedScenario,
    traffic_seed: int,
    *,
    greedy: bool = True,
    changes: Sequence[str] = (),
    closed: Sequence[str] = (),
    incidents: Sequence[str] = (),
) -> Shown:
    """Return what the second window shows.

    Parameters
    ----------
    against
        Name or import path of a baseline, a run folder, or ``demonstration``.
    folder, ready
        The run that it is shown next to, and its scenario.
    traffic_seed
        Traffic seed of the episode.
    greedy, changes, closed, incidents
        As `load_trained`, for another run.

    Raises
    ------
    InputError
        There is no such baseline or run, or the run has no demonstrations.
    """
    check(against)
    if against == DEMONSTRATION:
        routes = expert_routes(folder, ready)
        if not routes:
            raise InputError(
                f"--against {DEMONSTRATION}: {folder} has no {layout.DEMONSTRATIONS}; give a baseline or another run, "
                "or train with an algorithm that has experts, such as reled"
            )
        return Shown(DEMONSTRATION, ready, Policy("fixed", routes=routes), routes)
    if (Path(against) / layout.SETTINGS).is_file():
        other, policy = load_trained(Path(against), greedy=greedy, changes=changes, closed=closed, incidents=incidents)
        return Shown(str(against), other, seeded(policy, traffic_seed), expert_routes(Path(against), other))
    ((name, policy),) = named.plan_baselines(
        named.baselines(against), ready.on(traffic_seed), traffic_seed=traffic_seed
    ).items()
    return Shown(name, ready, seeded(policy, traffic_seed))
