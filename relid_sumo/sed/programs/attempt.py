"""One program of one subset: its answer, its plan, and the episodes in which the plan was driven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed.programs import plans, sandbox
from relid_sumo.sed.programs.answers import program_in
from relid_sumo.sed.programs.feedback import Numbers
from relid_sumo.sed.programs.plain import plain
from relid_sumo.sed.programs.plans import Routes
from relid_sumo.sed.programs.sandbox import Isolation, SandboxSettings


@dataclass(eq=False)
class Attempt:
    """Result of one answer.

    Attributes
    ----------
    place, round, sample
        Its place in the run.
    program : str or None
        The program in the answer.
    routes : dict or None
        Its valid plan, as edge indices by agent.
    problem : str or None
        Why there is no valid plan.
    sandbox_s : float
        Duration of the run in the sandbox, s.
    same : bool
        Whether an earlier attempt has the same plan.
    records, numbers
        The episodes in which the plan was driven, and their measures.
    """

    place: str
    round: int
    sample: int
    program: str | None = None
    routes: Routes | None = None
    problem: str | None = None
    sandbox_s: float = 0.0
    same: bool = False
    records: Sequence[EpisodeRecord] = ()
    numbers: Numbers | None = None


def attempt(
    answer: str,
    where: tuple[str, int, int],
    data: Mapping[str, Any],
    task: RoutingTask,
    subset: Sequence[int],
    settings: SandboxSettings,
    how: Isolation,
    note: str = "",
) -> Attempt:
    """Take the program out of an answer, run it, and check its plan.

    Parameters
    ----------
    where
        Place, round and sample.
    data
        Input of the program.
    note
        Why the answer is empty or may be incomplete, as the service reports it.
    """
    source, problem = program_in(answer, note)
    if source is None:
        return Attempt(*where, problem=problem)
    outcome = sandbox.run(source, data, settings, how)
    if outcome.problem is not None:
        return Attempt(*where, source, problem=outcome.problem, sandbox_s=outcome.seconds)
    routes, faults = plans.check(outcome.plan, task, subset)
    return Attempt(*where, source, routes, plain(faults, sandbox.MOST_TOLD) or None, outcome.seconds)
