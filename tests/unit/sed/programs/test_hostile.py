"""Hostile programs are contained by all layers together, and the right reason is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import contain
import pytest
from contain import CLAIMS, CORPUS, Hostile, Victims

from relid_sumo.sed.programs import sandbox

FILES = sorted(CORPUS.glob("*.txt"))
PROGRAMS = contain.corpus(FILES)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", contain.KEY)
        with contain.victims(tmp_path_factory.mktemp("victims")) as made:
            yield made


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("hostile", PROGRAMS, ids=lambda hostile: f"{hostile.promise}: {hostile.name}")
def test_a_hostile_program_is_contained_and_told_why(
    hostile: Hostile, there: Victims, descendants: Callable[[], dict[int, str]]
) -> None:
    before = set(descendants())
    outcome, harmed = contain.contain(hostile, there, sandbox.active())
    assert harmed == []
    assert contain.surprise(hostile, outcome) is None
    assert set(descendants()) == before


def test_the_corpus_attacks_every_promise() -> None:
    names = [(hostile.promise, hostile.name) for hostile in PROGRAMS]
    assert len(names) == len(set(names)) >= 300
    assert {file.stem for file in FILES} >= set().union(*CLAIMS.values())
    assert min(Counter(promise for promise, _ in names).values()) >= 15


def test_every_promise_is_one_of_the_documentation() -> None:
    text = (Path(__file__).parents[4] / "docs" / "security.md").read_text()
    assert [file.stem for file in FILES if f"`{file.stem}`" not in text] == []
