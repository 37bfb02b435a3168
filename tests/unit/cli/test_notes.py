"""Log records on the terminal: notes, warnings and bars, with --quiet and with --debug."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from relid_sumo.base.progress import Progress, counting, phase
from relid_sumo.cli import console, notes

LOG = logging.getLogger("relid_sumo.some.module")


class Screen(io.StringIO):
    """A stream that rich takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    file = Screen()
    drawn = {"file": file, "force_terminal": True, "width": 80, "color_system": None}
    monkeypatch.setattr(notes, "err", Console(**drawn))  # type: ignore[arg-type] # mixed values
    monkeypatch.setattr(notes, "errors", Console(**drawn))  # type: ignore[arg-type]
    yield file


def log_one_of_each() -> None:
    LOG.debug("a detail")
    LOG.info("a note about [edges]")
    LOG.warning("a warning")


@pytest.mark.parametrize(
    ("quiet", "debug", "shown"),
    [
        (False, False, ["a note about [edges]", "a warning"]),
        (True, False, ["a warning"]),
        (False, True, ["a detail", "a note about [edges]", "a warning"]),
    ],
)
def test_notes_and_warnings_follow_quiet_and_debug(screen: Screen, quiet: bool, debug: bool, shown: list[str]) -> None:
    with notes.shown(quiet=quiet, debug=debug):
        log_one_of_each()
    assert screen.getvalue().splitlines() == shown
    log_one_of_each()
    assert screen.getvalue().splitlines() == shown, "nothing is printed after the command"


@pytest.mark.parametrize(
    ("words", "count"), [({}, 4), ({"quiet": True}, 1), ({"debug": True}, 5)], ids=["plain", "quiet", "debug"]
)
def test_json_notes_are_one_object_per_line(
    words: dict[str, bool], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with notes.shown(**words, as_json=True):
        log_one_of_each()
        console.err.print("[dim]next: a step[/]")
        with counting("measuring", 1):
            pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    by_message = {line["message"]: line for line in lines}
    assert by_message["a warning"]["level"] == "warning"
    if not words.get("quiet"):
        assert by_message["next: a step"]["level"] == "info"
        assert by_message["measuring 0/1"]["progress"] == {"what": "measuring", "done": 0, "total": 1, "ended": True}
    assert len(by_message) == count
    console.err.print("text again")
    assert capsys.readouterr().err == "text again\n"


def test_progress_is_a_bar_on_a_terminal(screen: Screen) -> None:
    with notes.shown(), counting("measuring", 3) as tick:
        tick(None)
        LOG.info("a note during progress")
        tick(None)
        notes_handler = next(h for h in notes.LOGGER.handlers if isinstance(h, notes.Notes))
        assert notes_handler._bar is not None
        notes_handler._bar.refresh()
    assert "measuring" in screen.getvalue()
    assert "2/3" in screen.getvalue()
    assert "a note during progress" in screen.getvalue()


def test_a_phase_of_unknown_length_has_a_bar_and_a_step_inside_it_too(screen: Screen) -> None:
    with notes.shown():
        handler = next(h for h in notes.LOGGER.handlers if isinstance(h, notes.Notes))
        with phase("network built"):
            assert handler._bar is not None
            shown = [handler._bar.tasks[0]]
            with counting("measuring", 3):
                shown.append(handler._bar.tasks[0])
            shown.append(handler._bar.tasks[0])
            described = [(one.description, one.total) for one in shown]
            assert described == [("network built", None), ("measuring", 3), ("network built", None)]
        assert handler._bar is None
        with pytest.raises(ValueError, match="no"), phase("trips chosen"):
            raise ValueError("no")
        assert handler._bar is None
    assert "network built" in screen.getvalue()


@pytest.mark.parametrize("why", ["quiet", "own bar", "no terminal"])
def test_no_bar_is_drawn_if_quiet_or_without_a_terminal(
    screen: Screen, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no terminal":
        monkeypatch.setattr(notes, "err", Console(file=screen, force_terminal=False))
    with notes.shown(quiet=why == "quiet"):
        if why == "own bar":
            with notes.own_bar(), counting("measuring", 1) as tick:
                tick(None)
        else:
            with counting("measuring", 1) as tick:
                tick(None)
    assert screen.getvalue() == ""


def test_a_failed_step_removes_its_bar(screen: Screen) -> None:
    with notes.shown():
        with pytest.raises(ValueError, match="no"), counting("measuring", 2):
            raise ValueError("no")
        handler = next(h for h in notes.LOGGER.handlers if isinstance(h, notes.Notes))
        assert handler._bar is None
        with counting("driving", 1) as tick:
            assert handler._bar is not None
            tick(None)
    assert "driving" in screen.getvalue()


def test_a_library_user_gets_progress_as_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "relid_sumo")
    with counting("measuring", 2) as tick:
        tick("anything")
    steps = [record.progress for record in caplog.records if hasattr(record, "progress")]
    assert steps == [
        Progress("measuring", 0, 2),
        Progress("measuring", 1, 2),
        Progress("measuring", 1, 2, ended=True),
    ]
    assert caplog.messages[1] == "measuring 1/2"


def test_followed_notes_are_also_printed(screen: Screen) -> None:
    told: list[str] = []
    with notes.shown(), notes.following(told.append):
        LOG.info("a note")
    LOG.warning("another")
    assert told == ["a note"]
    assert "a note" in screen.getvalue()
    assert not console.err.quiet
