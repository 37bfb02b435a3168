"""The provider that asks no model: it fills one template of a planner with constants from the feedback.

It is deterministic, and the baseline that a language model has to exceed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relid_sumo.sed.ask.provider import Asking, Question

PROGRAM = """\
SPREAD = {spread}  # s that a vehicle of ours adds to an edge for those of ours who come within a minute
AVOID = {avoid}  # likewise for the vehicles of others
EXPLORE = {explore}  # how far beyond its best tried route an untried one may be expected to be, as a share
LEAST_RUNS = {runs}  # a route measured less often than this is not trusted


def occupied(traffic, route, depart):
    left = traffic.arrival_times(route, depart)
    return {{edge: (left[i - 1] if i else depart) for i, edge in enumerate(route)}}


def plan(network, trips, traffic):
    routes, ours = {{}}, []
    theirs = [occupied(traffic, other.route, other.depart) for other in traffic.others]
    for trip in sorted(trips, key=lambda trip: (trip.depart, trip.id)):
        here = occupied(traffic, traffic.fastest_path(trip.origin, trip.destination, trip.depart), trip.depart)
        extra = {{}}
        for seconds, crowd in ((SPREAD, ours), (AVOID, theirs)):
            for one in crowd:
                for edge, t in one.items():
                    if abs(t - here.get(edge, t)) < 60.0:
                        extra[edge] = extra.get(edge, 0.0) + seconds / network.lanes[edge]
        ways = [traffic.fastest_path(trip.origin, trip.destination, trip.depart, extra)]
        ways += network.alternative_paths(
            trip.origin, trip.destination, 4, lambda edge: traffic.time_on(edge, trip.depart + 120.0)
        )

        def expected(route):
            seconds = traffic.arrival_times(route, trip.depart)[-1] - trip.depart
            return seconds + sum(extra.get(edge, 0.0) for edge in route)

        trusted = [tried for tried in trip.tried if tried.runs >= LEAST_RUNS]
        ratio = sum(tried.travel_time / expected(tried.route) for tried in trusted) / len(trusted) if trusted else 1.0
        known = {{tuple(tried.route): tried.travel_time for tried in trusted}}
        best = min(known, key=known.get, default=None)
        fresh = min((way for way in ways if way and tuple(way) not in known), key=expected, default=None)
        if best is None or (fresh is not None and expected(fresh) * ratio < known[best] * (1.0 + EXPLORE)):
            best = tuple(fresh or ways[0])
        routes[trip.id] = list(best)
        ours.append(occupied(traffic, routes[trip.id], trip.depart))
    return routes
"""


class Template:
    """Planners from a template; see `Provider`."""

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Yield a program for every question."""
        for question in questions:
            yield question, f"```python\n{PROGRAM.format(**constants(question.facts))}```\n"


def build(asking: Asking) -> Template:
    """Return the provider ``template``."""
    del asking
    return Template()


def constants(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the constants of a program.

    Later samples of a round spread vehicles more; later rounds explore less. Where F_out of the best plan is above its
    floor, programs avoid the edges of other vehicles in proportion.
    """
    number, sample = int(facts["round"]), int(facts["sample"])
    numbers = facts["numbers"]
    felt = 0.0 if numbers is None else numbers.f_out - numbers.f_out_floor
    return {
        "spread": 3.0 * sample,
        "avoid": round(2.0 * (sample - 1) + min(10.0, 400.0 * max(felt, 0.0)), 1),
        "explore": round((0.08 if sample > 1 else 0.0) / number, 3),
        "runs": int(facts["runs"]),
    }
