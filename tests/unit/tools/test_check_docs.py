"""The checker of README and docs finds commands and examples that a reader could not follow."""

from __future__ import annotations

from pathlib import Path

import check_docs
import pytest


def page(folder: Path, text: str) -> Path:
    file = folder / "page.md"
    file.write_text(text, encoding="utf-8")
    return file


def fence(text: str, language: str = "bash", mark: str = "") -> str:
    return f"{mark}\n```{language}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (fence("relid-sumo train town --episode 3"), "--episode"),
        (fence("relid-sumo trian town"), "trian"),
        (fence("relid-sumo network show"), "Missing argument"),
        (fence("relid-sumo train town --episodes many"), "many"),
        (fence("make tset"), "no target tset"),
        (fence("python tools/no_such_tool.py"), "there is no tools/no_such_tool.py"),
        (fence("python tools/study.py unseen orlando a --season 3"), "no option --season"),
        (fence("sudo reboot"), "'sudo' is no program"),
        (fence("import relid_sumo as", "python"), "invalid syntax"),
        ("The code is in `relid_sumo/no_such_file.py`.", "no file relid_sumo/no_such_file.py"),
        (fence("relid-sumo train --no-such", mark="<!-- not run: takes hours -->"), "--no-such"),
    ],
)
def test_what_a_reader_could_not_follow_is_named_with_its_line(
    tmp_path: Path, text: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_docs.main(["--parse", str(page(tmp_path, f"# Title\n{text}"))]) == 1
    message = capsys.readouterr().out
    assert fault in message
    assert "page.md:" in message


def test_blocks_run_in_turn_in_one_folder(tmp_path: Path) -> None:
    first = fence("mkdir made  # a comment\ncp city.osm made/town.osm")
    then = fence("from pathlib import Path\nassert Path('made/town.osm').stat().st_size > 10_000", "python")
    assert check_docs.main([str(page(tmp_path, first + then))]) == 0


def test_a_block_that_fails_is_reported_with_its_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_docs.main([str(page(tmp_path, fence("raise ValueError('no such thing')", "python")))]) == 1
    assert "ValueError: no such thing" in capsys.readouterr().out


def test_marks_leave_out_a_block_or_make_it_small(tmp_path: Path) -> None:
    left_out = fence("mkdir a/b/c", mark="<!-- not run: there is no a -->")
    small = fence("relid-sumo --help --episodes 500", mark="<!-- run with: --episodes 4 -->")
    blocks = list(check_docs.blocks(page(tmp_path, "<!-- another comment -->\n" + left_out + small)))
    assert [block.mark for block in blocks] == ["not run", "run with"]
    assert list(check_docs.commands(blocks[1])) == [["relid-sumo", "--help", "--episodes", "4"]]
    assert check_docs.main([str(page(tmp_path, left_out))]) == 0


def test_readme_and_docs_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_docs.main(["--parse"]) == 0, capsys.readouterr().out
