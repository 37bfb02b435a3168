"""Other policies to compare a trained one with: the policy of another run, or a user's own code."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError
from relid_sumo.baseline import named
from relid_sumo.env.policies import Policy
from relid_sumo.evaluation.trained import load_trained
from relid_sumo.learn import run_folder
from relid_sumo.runs import layout
from relid_sumo.scenario.prepare import PreparedScenario


def check(words: Sequence[str]) -> None:
    """Raise InputError where a word names neither a run folder nor code; this reads settings alone."""
    for word in words:
        if (Path(word) / layout.SETTINGS).is_file():
            run_folder.load(Path(word))
        elif not extension.is_path(word):
            raise InputError(
                f"--policy {word}: neither a run folder (it has no {layout.SETTINGS}) nor your own code "
                f"({extension.FORM}); name one of the two; baselines go to --baselines"
            )


def opponents(
    words: Sequence[str], ready: PreparedScenario, taken: Collection[str] = (), *, greedy: bool = True
) -> dict[str, Policy]:
    """Return policies by name: that of a run has the name of its folder, your own code that of its function.

    Parameters
    ----------
    words
        Run folders, and import paths of functions as for `relid_sumo.baselines`.
    ready
        The scenario in which they act.
    taken
        Names that are in use.
    greedy
        Let policies of runs choose the most probable action instead of drawing one.

    Raises
    ------
    InputError
        A word names neither, a run's policy does not fit the scenario, or two policies have the same name.
    """
    check(words)
    found: dict[str, Policy] = {}
    for word in words:
        if (Path(word) / layout.SETTINGS).is_file():
            folder = Path(word)
            own = {re.sub(r"[^A-Za-z0-9_.-]", "_", folder.resolve().name): _of_run(folder, ready, greedy=greedy)}
        else:
            own = named.baselines(word)
        for name, policy in own.items():
            if name in found or name in taken:
                raise InputError(
                    f"--policy {word}: there is another policy named '{name}'; rename the folder or function"
                )
            found[name] = policy
    return found


def _of_run(folder: Path, ready: PreparedScenario, *, greedy: bool) -> Policy:
    settings, scenario = run_folder.load(folder)
    shared = settings.train.shared or scenario.fleet is not None
    there, policy = load_trained(folder, greedy=greedy, scenario=ready.scenario if shared else None)
    task, other = ready.task, there.task
    why = ""
    if there.network.key != ready.network.key:
        why = "another network"
    elif there.scenario.observation != ready.scenario.observation or other.layout != task.layout:
        why = "another observation"
    elif other.graph.m_out != task.graph.m_out:
        why = "a network with more successors of an edge"
    elif not shared and [*zip(other.names, other.origin, other.destination, strict=True)] != [
        *zip(task.names, task.origin, task.destination, strict=True)
    ]:
        why = "other trips, and each of its agents has a policy of its own"
    if why:
        raise InputError(
            f"--policy {folder}: its policy was trained on {why} than that of '{ready.scenario.name}'; name a run of "
            "the same scenario"
        )
    return policy
