"""Answers from files: a mailbox that a person or another program answers, and the recorded answers of a scenario."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from relid_sumo.base import files, safe_paths
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.files import answer_files
from relid_sumo.sed import run_folder
from relid_sumo.sed.ask.provider import SAVED, Answer, Asking, Question

log = logging.getLogger(__name__)

PROMPT, ANSWER = ".prompt.md", ".answer.md"
POLL_S = 0.5
SETTLED_S = 1.0  # a file that has not changed for this long is complete
HEADER, HEADER_END = "---\n", "\n---\n"
RICH = "rich"  # the regime of an answer whose header names none


class Mailbox:
    """A folder for prompts and answers; a person or a program with access to a model answers them.

    A prompt is ``PLACE-KEY.prompt.md``, and its answer is ``PLACE-KEY.answer.md`` in the same folder. All prompts of a
    round are written before the wait for the first answer.

    Parameters
    ----------
    folder
        The folder; created where it does not exist.
    wait_s
        Longest wait for answers, s; 0 uses only those that are there.
    """

    def __init__(self, folder: Path, wait_s: float) -> None:
        self._folder, self._wait_s = folder, wait_s

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Write all prompts, and yield the answers as they arrive; see `Provider`."""
        try:
            safe_paths.check_folder(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
            for question in questions:
                run_folder.write(self._folder / f"{_name(question)}{PROMPT}", question.prompt)
        except OSError as error:
            raise InputError(
                f"mailbox {self._folder}: prompts cannot be written: {error.strerror}; choose another --mailbox"
            ) from None
        waiting, until = list(questions), time.monotonic() + self._wait_s
        log.info(f"mailbox {self._folder}: {len(waiting)} prompts to answer")
        while waiting:
            for question in list(waiting):
                answer = f"{_name(question)}{ANSWER}"
                text = _settled(safe_paths.place(self._folder, answer, f"mailbox {self._folder}: answer"))
                if text is not None:
                    waiting.remove(question)
                    yield question, text
            if waiting and time.monotonic() >= until:
                raise InputError(
                    f"mailbox {self._folder}: {len(waiting)} of {len(questions)} prompts are not answered. Answer each "
                    f"NAME{PROMPT} in a file NAME{ANSWER} in the same folder (the first NAME is {_name(waiting[0])}); "
                    f"{SAVED}"
                )
            if waiting:
                time.sleep(POLL_S)


def _settled(file: Path) -> str | None:
    """Return the text of a complete file; None where the file does not exist yet or is empty."""
    try:
        if time.time() - file.stat().st_mtime < SETTLED_S:
            time.sleep(SETTLED_S)
        text = files.read(file)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return text if text.strip() else None


class Recorded:
    """Answers of a model that are stored with a scenario.

    An answer is found by its place and the hash of its prompt. Where no answer has this hash (on another machine a
    simulation may differ slightly, and so may the figures in a prompt), the answer of the same place for the same
    vehicles is used, and a log line reports it.

    Parameters
    ----------
    folder
        The folder of recorded answers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {file.stem: file for file in answer_files(folder)}

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer]]:
        """Yield the recorded answers; see `Provider`."""
        other = [question.place for question in questions if _name(question) not in self._files]
        for question in questions:
            header, text = self._record(question)
            yield question, Answer(text, header.get("note", ""))
        if other:
            log.info(
                f"{len(other)} of {len(questions)} recorded answers were given to prompts with other figures: "
                f"{', '.join(other)}"
            )

    def _record(self, question: Question) -> tuple[dict[str, str], str]:
        file = self._files.get(_name(question))
        if file is not None:
            return read_record(file)
        vehicles, regime = " ".join(question.facts["vehicles"]), question.facts.get("regime", RICH)
        for name, other in self._files.items():
            header, text = read_record(other)
            same = header.get("vehicles") == vehicles and header.get("regime", RICH) == regime
            if same and name.startswith(f"{question.place}-"):
                return header, text
        raise InputError(
            f"{self._folder}: no answer is recorded for {question.place} ({vehicles}); use --llm template, or ask a "
            "model and record its answers: relid-sumo sed record"
        )


def read_record(file: Path) -> tuple[dict[str, str], str]:
    """Return the header of a recorded answer and its unedited text.

    Raises
    ------
    InputError
        The file is not a recorded answer.
    """
    content = files.read(file)
    head, mark, text = content.removeprefix(HEADER).partition(HEADER_END)
    if not content.startswith(HEADER) or not mark:
        raise InputError(f"{file}: not a recorded answer: it has to begin with a header between two lines of ---")
    pairs = (line.partition(": ") for line in head.splitlines())
    return {name: value for name, _, value in pairs}, text


def write_record(folder: Path, question: Question, answer: Answer, date: str) -> Path:
    """Save an unedited answer under a header with its place, vehicles, prompt, origin and note."""
    header = {
        "place": question.place,
        "vehicles": " ".join(question.facts["vehicles"]),
        "prompt": question.key,
        **({} if (regime := question.facts.get("regime", RICH)) == RICH else {"regime": regime}),
        "origin": f"a large language model, {date}",
        **({"note": " ".join(answer.note.split())} if answer.note else {}),
    }
    file = folder / f"{_name(question)}.md"
    lines = "\n".join(f"{name}: {value}" for name, value in header.items())
    run_folder.write(file, HEADER + lines + HEADER_END + answer.text)
    return file


def _name(question: Question) -> str:
    return f"{question.place}-{question.key}"


def build_mailbox(asking: Asking) -> Mailbox:
    """Return the provider ``mailbox``."""
    if asking.mailbox is None:
        raise InputError("--llm mailbox: name the folder for prompts and answers: --mailbox DIR")
    return Mailbox(asking.mailbox, asking.wait_s)


def build_recorded(asking: Asking) -> Recorded:
    """Return the provider ``recorded``."""
    return Recorded(asking.answers)
