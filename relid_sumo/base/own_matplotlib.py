"""Imports matplotlib with its own settings. Import this module before matplotlib.

On import matplotlib reads a file ``matplotlibrc`` in the current folder, or else of the user: what a stranger put there
would change every figure, and a pipe of this name would never end. So it is imported in the folder of its own file.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib.util import find_spec
from pathlib import Path


def _load() -> None:
    found = find_spec("matplotlib")
    if "matplotlib" in sys.modules or found is None or found.origin is None:
        return
    data = Path(found.origin).parent / "mpl-data"
    with contextlib.suppress(FileNotFoundError), contextlib.chdir(data):  # the current folder may be deleted
        importlib.import_module("matplotlib")


_load()
