"""Each layer of the sandbox alone contains the hostile programs that it claims to, as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import contain
import pytest
from contain import CORPUS

from relid_sumo.sed.programs import sandbox
from relid_sumo.sed.programs.layers import LAYERS, Layer

DROPPED = ["--inh-caps=-all", "--bounding-set=-all"]
NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups", *DROPPED]
ALONE = [
    (layer, file)
    for layer in LAYERS
    for file in sorted(CORPUS.glob("*.txt"))
    if any(layer in hostile.stopped_by for hostile in contain.corpus([file]))
]


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
