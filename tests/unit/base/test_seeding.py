from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from relid_sumo.base import seeding

NAMES = st.lists(st.one_of(st.integers(-3, 1000), st.text("abc>_01", min_size=1, max_size=4)), max_size=3)


def test_seeds_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert seeding.derive(0) == 4761921975702974394
    assert seeding.derive(7, "action", 3) == 4052089348970999840
    assert seeding.sumo_seed(5, "sumo") == 613795965
    assert seeding.stream(7, "action", 3).random(2).tolist() == [0.8504214131692783, 0.4574085778287358]


@given(st.integers(0, 2**40), NAMES, NAMES)
def test_other_names_other_seeds(seed: int, names: list[int | str], others: list[int | str]) -> None:
    assume([str(n) for n in names] != [str(n) for n in others])
    assert seeding.derive(seed, *names) != seeding.derive(seed, *others)


@given(st.integers(0, 2**40), NAMES)
def test_seeds_fit_where_they_go(seed: int, names: list[int | str]) -> None:
    assert 0 <= seeding.derive(seed, *names) < 2**63
    assert 0 <= seeding.sumo_seed(seed, *names) < 2**31
    assert seeding.derive(seed, *names) == seeding.derive(seed, *names) != seeding.derive(seed + 1, *names)


def test_names_do_not_run_together() -> None:
    assert seeding.derive(1, "ab", "c") != seeding.derive(1, "a", "bc")
    assert seeding.derive(1, 23) != seeding.derive(12, 3)
    assert seeding.derive(1, "a", "") != seeding.derive(1, "a")


def test_a_stream_is_fresh_every_time_and_apart_from_its_neighbours() -> None:
    first = seeding.stream(3, "demand")
    first.random(10)
    again = seeding.stream(3, "demand")
    assert again.random(5).tolist() == seeding.stream(3, "demand").random(5).tolist()
    neighbours = np.array([seeding.stream(seed, "demand").random(500) for seed in range(10)])
    assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.2 for a, b in pairwise(neighbours))
