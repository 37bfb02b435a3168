"""Names of files, folders, settings and arguments are shown as text: no markup, no control characters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from relid_sumo.cli.main import main

EVIL = "[red]x\x1b[31m\n\u202e\x9b2J[bold]"
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # on a terminal
COMMANDS = (
    *(["evaluate", EVIL], ["report", EVIL, "--out", f"{EVIL}.html"], ["report", "runs", "--out", EVIL], ["view", EVIL]),
    *(["batch", "status", EVIL], ["batch", EVIL, "--out", "y"], ["sed", "show", EVIL], ["scenario", "check", EVIL]),
    *(
        ["train", "--resume", EVIL],
        ["train", EVIL],
        ["train", "town", "--algo", EVIL],
        ["train", "town", "--set", EVIL],
    ),
    *(["network", "show", EVIL], ["network", "build", f"{EVIL}.osm"], ["export", EVIL, "--out", EVIL]),
    *([EVIL], ["train", "town", EVIL], ["train", "town", "--episodes", EVIL], [f"--{EVIL}"], ["verify", EVIL]),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{words[0][:8]}-{len(words)}".replace("\x1b", ""))
@pytest.mark.parametrize("exists", [False, True])
def test_a_hostile_name_is_shown_as_text(
    words: list[str], exists: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / EVIL).mkdir()
        (tmp_path / EVIL / "settings.json").write_text(f'{{"format": 1, "{EVIL[:6]}": 1}}')
        (tmp_path / f"{EVIL}.osm").write_text("<osm>")
        shutil.copytree(tmp_path / EVIL, tmp_path / "runs" / EVIL)
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = "".join(capfd.readouterr())
    assert stop.value.code == 2
    assert "Traceback" not in said
    assert not ACTS.search(said), repr(said)
