"""Where plain SUMO first differs from an episode, and which changes of routes act in another step then."""

from __future__ import annotations

from relid_sumo.viewer.repeat import TRIES, Change, Course, Difference, first_difference, settle

CHANGES = [Change(2.0, "a", ("x", "y")), Change(3.0, "b", ("x", "z")), Change(5.0, "b", ("z", "y"))]


def course(**lanes: str) -> Course:
    """Return a course from each agent's lanes, one letter for each step."""
    steps = max(map(len, lanes.values()))
    return {float(k): {name: (lane[k], "0.0") for name, lane in lanes.items() if k < len(lane)} for k in range(steps)}


def test_the_first_difference_is_that_of_the_first_step() -> None:
    ours = course(a="xxxyy", b="xxzz")
    assert first_difference(ours, course(a="xxxyy", b="xxzz")) is None
    assert first_difference(ours, course(a="xxyyy", b="xxzy")) == Difference(2.0, frozenset("a"))
    assert first_difference(ours, course(a="xxxyy", b="xxzzz")) == Difference(4.0, frozenset("b")), "it drives longer"


def test_the_last_change_of_the_agent_that_is_elsewhere_acts_earlier() -> None:
    ours, runs = course(a="xxxxyy", b="xxxzzz"), []

    def run(early: frozenset[int]) -> Course:
        runs.append(early)
        return ours if early == {1} else course(a="xxxxyy", b="xxxzxx" if early else "xxxyzz")

    assert settle(CHANGES, run, ours) == {1}
    assert runs == [frozenset(), {1}]


def test_a_step_that_does_not_help_is_not_taken_and_the_last_run_is_of_the_result() -> None:
    ours, runs = course(a="xxxxyy"), []

    def run(early: frozenset[int]) -> Course:
        runs.append(early)
        return course(a="xxxxxx")

    assert settle(CHANGES, run, ours) == frozenset()
    assert runs[1:] == [{0}, {1}, frozenset()], "its own change first, and no change after the difference"
    assert len(runs) <= TRIES + 2


def test_an_episode_without_changes_runs_once() -> None:
    runs: list[frozenset[int]] = []

    def run(early: frozenset[int]) -> Course:
        runs.append(early)
        return course(a="xy")

    assert settle([], run, course(a="xx")) == frozenset()
    assert runs == [frozenset()]
