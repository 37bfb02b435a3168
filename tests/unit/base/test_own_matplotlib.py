"""Nothing in the current folder changes or blocks figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("module", ["network.maps", "reports.figures", "sed.drawing"])
def test_a_matplotlibrc_in_the_current_folder_is_not_read(tmp_path: Path, kind: str, module: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "matplotlibrc")
    else:
        (tmp_path / "matplotlibrc").write_text("figure.dpi: 7")
    program = f"import relid_sumo.{module}, matplotlib, os; print(matplotlib.rcParams['figure.dpi'], os.getcwd())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["100.0", str(tmp_path)]
