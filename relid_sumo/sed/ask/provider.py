"""Providers of answers: the interface.

One asks a service (`relid_sumo.sed.ask.service`), the others answer from files (`relid_sumo.sed.ask.mailbox`) or
without a model (`relid_sumo.sed.ask.template`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from relid_sumo.scenario.llm import LlmSettings

log = logging.getLogger(__name__)

SAVED = "the answers so far are saved; run the same command again to resume"


@dataclass(frozen=True)
class Question:
    """One prompt for one answer.

    Attributes
    ----------
    place : str
        Its place in the run, ``subset1-round1-sample1``.
    prompt : str
        The whole text.
    facts : mapping
        Data of the prompt, for the provider that asks no model.
    """

    place: str
    prompt: str
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """Hash of the prompt."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Answer:
    """The answer of a model.

    Attributes
    ----------
    text : str
        The unedited text.
    note : str
        Why the text is empty or may be incomplete, such as a refusal, a filter or a limit; "" where nothing is known.
    """

    text: str
    note: str = ""


class Provider(Protocol):
    """Interface of providers: objects that answer questions."""

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str | Answer]]:
        """Yield every question with its answer, each as soon as it arrives, in any order.

        A plain text is an answer without a note.

        Raises
        ------
        InputError
            The provider cannot give all answers; the message says why.
        """
        ...


@dataclass(frozen=True)
class Asking:
    """Arguments from which a provider is built.

    Attributes
    ----------
    settings : LlmSettings
        The block ``[llm]``: model, address, limits.
    folder : Path
        The run folder.
    answers : Path
        Folder of the scenario's recorded answers.
    mailbox : Path or None
        Folder for prompts and answers; `wait_s` is the longest wait for answers, s.
    """

    settings: LlmSettings
    folder: Path
    answers: Path
    mailbox: Path | None = None
    wait_s: float = 0.0
