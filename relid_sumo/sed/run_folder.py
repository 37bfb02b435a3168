"""The run folder: every prompt, answer and program as a readable file; an interrupted run resumes from it.

====================  ==============================================================================================
settings.json         scenario, provider and settings
prompts/PLACE.md      each prompt; PLACE is subset1-round1-sample1
answers/PLACE.md      each answer, unedited
answers/PLACE.note    why an answer is empty or may be incomplete, where the service says so
programs/PLACE.py     the program in each answer
usage.json            requests, tokens and cost, where a service was asked
rounds.json           the results after each round, until the run is finished
stopped.txt           why the run stopped, until it is resumed
results.json          the results (see `relid_sumo.sed.results`)
demonstrations.npz    the driven best plans as arrays (see `relid_sumo.sed.demonstrations`)
====================  ==============================================================================================
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from relid_sumo.base import files, redact, safe_paths, trusted
from relid_sumo.base.errors import InputError
from relid_sumo.base.files import read
from relid_sumo.scenario.files import OWN_FILES
from relid_sumo.sed.ask.provider import Answer, Provider, Question
from relid_sumo.sed.programs.plain import plain

SETTINGS, RESULTS, DEMONSTRATIONS = "settings.json", "results.json", "demonstrations.npz"
ROUNDS, USAGE = "rounds.json", "usage.json"
RESULTS_FORMAT = 2  # 1: until 0.1.0; trips that reached the horizon had no credit for distance
PROMPTS, ANSWERS, PROGRAMS, LOCK = "prompts", "answers", "programs", "run.lock"
NOTE, STOPPED = ".note", "stopped.txt"
MOST_NOTE = 500  # characters


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder while its loop runs.

    Raises
    ------
    InputError
        Another process works in the folder, it has links to the outside, or it cannot be written.
    """
    if not (folder / SETTINGS).is_file():
        _check_free(folder)
    safe_paths.check_folder(folder)
    with files.locked_folder(folder, LOCK, "{holder} uses it"):
        yield


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or not all(_is_early(one) for one in folder.iterdir())):
        raise InputError(f"{folder} exists and is not a SED run; choose another --out, or delete it")


def _is_early(one: Path) -> bool:
    """Return whether a run that was killed before its first file leaves this."""
    return one.name == LOCK or files.is_part(one)


def open_run(folder: Path, provider: str, settings: dict[str, Any]) -> None:
    """Make a run folder, or resume one of the same scenario and provider.

    Raises
    ------
    InputError
        The folder has other content, or cannot be written.
    """
    file = folder / SETTINGS
    safe_paths.check_folder(folder)
    trusted.note_code(provider)
    content = {"provider": provider, **settings}
    if file.is_file():
        before = read_json(file)
        for name, part in (("provider", "provider"), ("scenario", "scenario"), ("network", "network_key")):
            if _unplaced(before.get(part)) != _unplaced(content.get(part)):
                raise InputError(f"{folder} has a run with another {name}; choose another --out, or delete it")
    else:
        _check_free(folder)
    try:
        write_json(file, content)  # first: it makes the folder one of a run
        for name in (PROMPTS, ANSWERS, PROGRAMS):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another --out") from None


def _unplaced(part: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a part of settings.json without the paths of a scenario's files, which differ between machines."""
    if not isinstance(part, dict):
        return part
    demand = {name: value for name, value in part.get("demand", {}).items() if name not in OWN_FILES}
    return {**part, "network": None, "demand": demand}


def ask(
    folder: Path, provider: Provider, questions: Sequence[Question], on_answer: Callable[[Question], None]
) -> list[Answer]:
    """Return the answers to questions in their order: saved answers of this run, and new ones of the provider.

    Each answer is saved at once. A saved answer is used where its prompt is the same.
    """
    found: dict[str, Answer] = {}
    for question in questions:
        prompt = folder / PROMPTS / f"{question.place}.md"
        saved = read_answer(folder, question.place)
        if prompt.is_file() and saved is not None and read(prompt) == redact.redact(question.prompt):
            found[question.place] = saved
            on_answer(question)
        else:
            (folder / ANSWERS / f"{question.place}.md").unlink(missing_ok=True)
            write(prompt, question.prompt)
    (folder / STOPPED).unlink(missing_ok=True)
    try:
        for question, answered in provider.answer([q for q in questions if q.place not in found]):
            answer = answered if isinstance(answered, Answer) else Answer(answered)
            answer = Answer(redact.redact(answer.text), plain(answer.note, MOST_NOTE))
            note = folder / ANSWERS / f"{question.place}{NOTE}"
            if answer.note:
                write(note, answer.note + "\n")
            else:
                note.unlink(missing_ok=True)
            write(folder / ANSWERS / f"{question.place}.md", answer.text)
            found[question.place] = answer
            on_answer(question)
    except InputError as error:
        write(folder / STOPPED, f"{error}\n")
        raise
    return [found[question.place] for question in questions]


def read_answer(folder: Path, place: str) -> Answer | None:
    """Return a saved answer; None where there is none."""
    file, note = folder / ANSWERS / f"{place}.md", folder / ANSWERS / f"{place}{NOTE}"
    if not file.is_file():
        return None
    return Answer(redact.redact(read(file)), plain(read(note), MOST_NOTE) if note.is_file() else "")


def write(file: Path, text: str) -> None:
    """Write a text unchanged, to a temporary file that is then renamed."""
    files.write(file, text.encode("utf-8", errors="replace"))


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON object in the same manner."""
    write(file, json.dumps(content, indent=1) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    InputError
        The file does not exist, or is not a JSON object.
    """
    safe_paths.check_folder(file.parent)
    try:
        content = json.loads(safe_paths.read_text(file))
    except FileNotFoundError:
        stopped = file.parent / STOPPED
        if file.name == RESULTS and stopped.is_file():
            raise InputError(f"{file.parent}: the run is not finished; it stopped: {read(stopped).strip()}") from None
        raise InputError(
            f"{file}: there is no such file; make it with: relid-sumo sed run SCENARIO --out DIR"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON: {error}; restore the file, or run again with another --out") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a JSON object; restore the file, or run again with another --out")
    return content
