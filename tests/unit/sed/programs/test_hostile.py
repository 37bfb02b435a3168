"""Hostile programs are contained, by all layers together and by each layer alone, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import contain
import pytest
from contain import CLAIMS, CORPUS, Hostile, Victims

from relid_sumo.sed.programs import sandbox
from relid_sumo.sed.programs.layers import LAYERS, Layer

FILES = sorted(CORPUS.glob("*.txt"))
PROGRAMS = contain.corpus(FILES)
DROPPED = ["--inh-caps=-all", "--bounding-set=-all"]
NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups", *DROPPED]
ALONE = [
    (layer, file) for layer in LAYERS for file in FILES if any(layer in p.stopped_by for p in contain.corpus([file]))
]


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


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "file"), ALONE, ids=lambda part: part.stem if isinstance(part, Path) else part)
def test_each_layer_alone_contains_what_it_claims_to(layer: Layer, file: Path) -> None:
    """As an ordinary user where that is possible: root may do more, but a filter stops both alike."""
    if (reason := sandbox.missing(layer)) is not None:
        pytest.skip(f"{layer} does not work here: {reason}")
    command = [sys.executable, contain.__file__, "--alone", layer, str(file)]
    done = subprocess.run([*ordinary(layer), *command], capture_output=True, text=True, check=False)
    stopped = sum(layer in hostile.stopped_by for hostile in contain.corpus([file]))
    assert done.stdout == f"{stopped} of {stopped} contained within {layer}\n"
    assert (done.returncode, done.stderr) == (0, "")


@cache
def ordinary(layer: Layer) -> list[str]:
    """Return what to put before a command to run it as an ordinary user, who has to be able to use the layer.

    That is another user where he may read this Python, else this one without capabilities.
    """
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0 or setpriv is None:
        return []
    code = f"from relid_sumo.sed.programs import sandbox; raise SystemExit(sandbox.missing({layer!r}) is not None)"
    for prefix in ([setpriv, *NOBODY], [setpriv, *DROPPED]):
        if subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, check=False).returncode == 0:
            return prefix
    return []


def test_the_corpus_attacks_every_promise() -> None:
    names = [(hostile.promise, hostile.name) for hostile in PROGRAMS]
    assert len(names) == len(set(names)) >= 300
    assert {file.stem for file in FILES} >= set().union(*CLAIMS.values())
    assert min(Counter(promise for promise, _ in names).values()) >= 15


def test_every_promise_is_one_of_the_documentation() -> None:
    text = (Path(__file__).parents[4] / "docs" / "security.md").read_text()
    assert [file.stem for file in FILES if f"`{file.stem}`" not in text] == []
