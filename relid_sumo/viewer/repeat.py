"""Whether plain SUMO repeats an episode, step by step, and where it first does not.

A change of a route happens between two steps. A rerouter acts within a step: in that of the decision, before the agent
chooses its lane there, or in the next, after the agent has planned its speed there. The second is exact unless the
agent sees the end of its edge then, and the first on an edge with one lane. On a short edge with several lanes either
may be, and trying tells.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

TRIES, RUNS = 2, 12  # changes that are tried for one difference, and in all
Course = dict[float, dict[str, tuple[str, str]]]  # by time, s, and agent: its lane and its position there


@dataclass(frozen=True)
class Change:
    """A change of an agent's route: from the edge where it is to its destination, for the step at `at_s`.

    `one_lane` says whether the edge has one lane, `sees_end` whether the agent plans beyond the end of the edge.
    """

    at_s: float
    agent: str
    route: tuple[str, ...]
    one_lane: bool = False
    sees_end: bool = True


@dataclass(frozen=True)
class Difference:
    """The first step, s, in which plain SUMO differs from an episode, and the agents that are elsewhere."""

    at_s: float
    agents: frozenset[str]


def course_options(file: Path, agents: Sequence[str]) -> list[str]:
    """Return SUMO's options that write the positions of the agents in each step."""
    return ["--fcd-output", str(file), "--device.fcd.explicit", ",".join(agents)]


def read_course(file: Path) -> Course:
    """Return the positions of the agents in each step."""
    found: Course = {}
    for _, step in ET.iterparse(file):
        if step.tag == "timestep":
            seen = {str(one.get("id")): (str(one.get("lane")), str(one.get("pos"))) for one in step.iter("vehicle")}
            if seen:
                found[float(step.attrib["time"])] = seen
            step.clear()
    return found


def first_difference(ours: Course, theirs: Course) -> Difference | None:
    """Return where two courses first differ; None where they are the same."""
    for at_s in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(at_s, {}), theirs.get(at_s, {})
        if here != there:
            every = here.keys() | there.keys()
            return Difference(at_s, frozenset(name for name in every if here.get(name) != there.get(name)))
    return None


def settle(changes: Sequence[Change], run: Callable[[frozenset[int]], Course], ours: Course) -> frozenset[int]:
    """Return the changes that act in the step of the decision, so that plain SUMO repeats an episode as far as it can.

    Parameters
    ----------
    changes
        The changes of routes.
    run
        Runs plain SUMO, where some changes act in the step of the decision and all others in the step after; the last
        call is with the result.
    ours
        The course of the episode.
    """
    early = frozenset(k for k, one in enumerate(changes) if one.one_lane and one.sees_end)
    tried: set[int] = set()
    left = TRIES
    last, found = early, first_difference(ours, run(early))
    while found is not None and left and len(tried) < RUNS:
        number = _cause(changes, found, tried)
        if number is None:
            break
        tried.add(number)
        left -= 1
        last = early ^ {number}
        log.info(f"plain SUMO differs at {found.at_s:g} s ({', '.join(sorted(found.agents))}): trying another step")
        now = first_difference(ours, run(last))
        if now is None or now.at_s > found.at_s:
            early, found, left = last, now, TRIES
    if last != early:
        run(early)
    return early


def _cause(changes: Sequence[Change], found: Difference, tried: set[int]) -> int | None:
    """Return the last change before a difference that was not tried: of an agent that is elsewhere, or of any.

    In all of them the agent sees the end of the edge: the others are exact.
    """
    before = [k for k, one in enumerate(changes) if one.sees_end and one.at_s <= found.at_s and k not in tried]
    own = [k for k in before if changes[k].agent in found.agents]
    return max(own or before, key=lambda k: changes[k].at_s, default=None)
