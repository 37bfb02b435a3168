"""Answers from files: mailbox and recorded; and the run folder that keeps them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.sed import run_folder
from relid_sumo.sed.ask.mailbox import Mailbox, Recorded, read_record, write_record
from relid_sumo.sed.ask.provider import Answer, Question


def question(
    place: str = "subset1-round1-sample1", prompt: str = "write", vehicles: Sequence[str] = ("a", "b")
) -> Question:
    return Question(place, prompt, {"vehicles": list(vehicles)})


QUESTIONS = [question(f"subset{i}-round1-sample1", f"write {i}") for i in (1, 2, 3)]


def answer_file(folder: Path, asked: Question) -> Path:
    return folder / f"{asked.place}-{asked.key}.answer.md"


def test_all_prompts_are_written_before_answers_are_awaited(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 of 3 prompts are not answered.*subset1-round1-sample1-"):
        list(Mailbox(tmp_path / "box", 0.0).answer(QUESTIONS))
    prompts = sorted((tmp_path / "box").iterdir())
    assert [file.read_text() for file in prompts] == ["write 1", "write 2", "write 3"]
    assert prompts[0].name == f"subset1-round1-sample1-{QUESTIONS[0].key}.prompt.md"


def test_answers_that_are_there_are_taken_and_kept(tmp_path: Path) -> None:
    """Two of three are answered: both are kept, and the next call asks for the third alone."""
    run_folder.open_run(tmp_path / "run", "mailbox", {"scenario": {}})
    box = tmp_path / "box"
    box.mkdir()
    for asked in QUESTIONS[:2]:
        answer_file(box, asked).write_text(f"to {asked.prompt}")
    with pytest.raises(InputError, match="1 of 3 prompts are not answered"):
        run_folder.ask(tmp_path / "run", Mailbox(box, 0.0), QUESTIONS, lambda _: None)
    for file in box.iterdir():
        file.unlink()
    answer_file(box, QUESTIONS[2]).write_text("to write 3")
    answers = run_folder.ask(tmp_path / "run", Mailbox(box, 0.0), QUESTIONS, lambda _: None)
    assert [answer.text for answer in answers] == ["to write 1", "to write 2", "to write 3"]
    assert [file.name for file in box.glob("*.prompt.md")] == [f"{QUESTIONS[2].place}-{QUESTIONS[2].key}.prompt.md"]


def test_an_answer_that_comes_later_is_waited_for_until_it_is_whole(tmp_path: Path) -> None:
    box, asked = tmp_path / "box", QUESTIONS[0]

    def write_slowly() -> None:
        time.sleep(0.3)
        with answer_file(box, asked).open("w") as out:
            for part in ("first ", "second ", "third"):
                out.write(part)
                out.flush()
                time.sleep(0.3)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    assert list(Mailbox(box, 20.0).answer([asked])) == [(asked, "first second third")]
    thread.join()


def test_an_empty_answer_is_none_yet_and_one_that_is_no_text_is_told(tmp_path: Path) -> None:
    answer_file(tmp_path, QUESTIONS[0]).write_text("\n")
    with pytest.raises(InputError, match="1 of 1 prompts are not answered"):
        list(Mailbox(tmp_path, 0.0).answer(QUESTIONS[:1]))
    answer_file(tmp_path, QUESTIONS[0]).write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"answer.md: not UTF-8 text \(byte 2\)"):
        list(Mailbox(tmp_path, 0.0).answer(QUESTIONS[:1]))


def test_a_mailbox_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="prompts cannot be written"):
        list(Mailbox(tmp_path / "file", 0.0).answer(QUESTIONS))


def test_a_recorded_answer_comes_back_byte_for_byte(tmp_path: Path) -> None:
    text = "Here:\r\n---\n```python\nx = 'ö'\n```\n\n"
    file = write_record(tmp_path, question(), Answer(text), "2026-01-02")
    assert list(Recorded(tmp_path).answer([question()])) == [(question(), Answer(text))]
    header, _ = read_record(file)
    assert header == {
        "place": "subset1-round1-sample1",
        "vehicles": "a b",
        "prompt": question().key,
        "origin": "a large language model, 2026-01-02",
    }


def test_samples_of_one_prompt_have_their_own_answers(tmp_path: Path) -> None:
    both = [question(f"subset1-round1-sample{i}") for i in (1, 2)]
    for i, one in enumerate(both):
        write_record(tmp_path, one, Answer(f"answer {i}"), "2026-01-02")
    assert [answer.text for _, answer in Recorded(tmp_path).answer(both)] == ["answer 0", "answer 1"]


def test_a_recorded_answer_has_its_note(tmp_path: Path) -> None:
    answer = Answer("", "the model refused: no (finish reason stop)")
    write_record(tmp_path, question(), answer, "2026-01-02")
    assert list(Recorded(tmp_path).answer([question()])) == [(question(), answer)]


def test_where_figures_differ_the_answer_of_the_same_place_is_taken_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "relid_sumo")
    write_record(tmp_path, question(prompt="write, 412 s"), Answer("answer"), "2026-01-02")
    ((_, answer),) = Recorded(tmp_path).answer([question(prompt="write, 413 s")])
    assert answer.text == "answer"
    assert caplog.messages == [
        "1 of 1 recorded answers were given to prompts with other figures: subset1-round1-sample1"
    ]


@pytest.mark.parametrize("other", [question(place="subset1-round2-sample1"), question(prompt="x", vehicles=("a", "c"))])
def test_an_answer_that_is_not_recorded_is_told(tmp_path: Path, other: Question) -> None:
    write_record(tmp_path, question(), Answer("answer"), "2026-01-02")
    with pytest.raises(InputError, match=rf"no answer is recorded for {other.place}.*--llm template.*sed record"):
        list(Recorded(tmp_path).answer([other]))


def test_a_file_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / f"subset1-round1-sample1-{question().key}.md").write_text("```python\n```")
    with pytest.raises(InputError, match=r"not a recorded answer: it has to begin with a header"):
        list(Recorded(tmp_path).answer([question()]))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="exists and is not a SED run"):
        run_folder.open_run(tmp_path, "template", {"scenario": {}})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_of_another_scenario_or_provider_is_left_alone(tmp_path: Path) -> None:
    run_folder.open_run(tmp_path, "template", {"scenario": {"name": "a"}})
    run_folder.open_run(tmp_path, "template", {"scenario": {"name": "a"}})
    with pytest.raises(InputError, match="has a run with another provider"):
        run_folder.open_run(tmp_path, "openai", {"scenario": {"name": "a"}})
    with pytest.raises(InputError, match="has a run with another scenario"):
        run_folder.open_run(tmp_path, "template", {"scenario": {"name": "b"}})
    with pytest.raises(InputError, match="has a run with another network"):
        run_folder.open_run(tmp_path, "template", {"scenario": {"name": "a"}, "network_key": "k"})


def test_a_run_that_was_moved_with_its_scenario_is_gone_on_with(tmp_path: Path) -> None:
    def content(folder: str) -> dict[str, object]:
        demand = {"route_file": f"{folder}/own.rou.xml", "warmup_s": 60.0}
        return {"scenario": {"name": "a", "network": f"{folder}/a.osm", "demand": demand}, "network_key": "k"}

    run_folder.open_run(tmp_path, "template", content("here"))
    run_folder.open_run(tmp_path, "template", content("there"))
    assert run_folder.read_json(tmp_path / run_folder.SETTINGS)["scenario"] == content("there")["scenario"]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_is_no_json_object_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"not JSON|not a JSON object"):
        run_folder.read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="there is no such file"):
        run_folder.read_json(tmp_path / "y.json")


def test_the_answer_of_another_regime_is_not_taken(tmp_path: Path) -> None:
    rich, bare = (
        Question("subset1-round1-sample1", regime, {"vehicles": ["a"], "regime": regime}) for regime in ("rich", "bare")
    )
    write_record(tmp_path, rich, Answer("for rich"), "2026-12-01")
    with pytest.raises(InputError, match="no answer is recorded for subset1-round1-sample1"):
        list(Recorded(tmp_path).answer([bare]))
    write_record(tmp_path, bare, Answer("for bare"), "2026-12-01")
    other = replace(bare, prompt="with other figures")
    assert [answer.text for _, answer in Recorded(tmp_path).answer([bare, rich, other])] == [
        "for bare",
        "for rich",
        "for bare",
    ]
