"""Counts requests, tokens and cost of a run, and stops before a budget is exceeded."""

from __future__ import annotations

import threading
from pathlib import Path

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed.ask.provider import SAVED


class Budget:
    """The budget of a run. Threads share it.

    Parameters
    ----------
    settings
        The limits and the prices.
    file
        File of the counts; its present content counts towards the budget.

    Raises
    ------
    InputError
        The file is not a count.
    """

    def __init__(self, settings: LlmSettings, file: Path) -> None:
        self._settings, self._file = settings, file
        self._lock = threading.Lock()
        self._used = _read(file)
        self._open_in, self._open_out = 0.0, 0  # tokens of open questions

    def reserve(self, tokens_in: float) -> None:
        """Reserve the highest cost of an answer.

        Raises
        ------
        InputError
            The budget is too small.
        """
        settings, used = self._settings, self._used
        with self._lock:
            open_in, open_out = self._open_in + tokens_in, self._open_out + settings.max_tokens
            tokens = used["tokens_in"] + used["tokens_out"]
            if settings.budget_tokens is not None and tokens + open_in + open_out > settings.budget_tokens:
                raise InputError(
                    f"the next answer could exceed llm.budget_tokens = {settings.budget_tokens}: {tokens:.0f} are "
                    f"used; {SAVED}"
                )
            usd = used["usd"]
            if settings.budget_usd is not None and usd + settings.cost(open_in, open_out) > settings.budget_usd:
                raise InputError(
                    f"the next answer could exceed llm.budget_usd = {settings.budget_usd:g}: {usd:.4f} are "
                    f"spent; {SAVED}"
                )
            self._open_in, self._open_out = open_in, open_out

    def release(self, tokens_in: float) -> None:
        """Release what `reserve` has reserved."""
        with self._lock:
            self._open_in -= tokens_in
            self._open_out -= self._settings.max_tokens

    def request(self) -> None:
        """Count a request.

        Raises
        ------
        InputError
            The budget is used up.
        """
        most = self._settings.budget_requests
        with self._lock:
            if most is not None and self._used["requests"] >= most:
                raise InputError(f"llm.budget_requests = {most} are used; {SAVED}")
            self._used["requests"] += 1
            files.write_json(self._file, self._used)

    def answered(self, tokens_in: int, tokens_out: int) -> None:
        """Count an answer."""
        with self._lock:
            self._used["answers"] += 1
            self._used["tokens_in"] += tokens_in
            self._used["tokens_out"] += tokens_out
            self._used["usd"] += self._settings.cost(tokens_in, tokens_out)
            files.write_json(self._file, self._used)


def _read(file: Path) -> dict[str, float]:
    none = {"answers": 0, "requests": 0, "tokens_in": 0, "tokens_out": 0, "usd": 0.0}
    if not file.is_file():
        return dict(none)
    try:
        read = {name: float(value) for name, value in files.read_json(file).items() if name in none}
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}: not a count of tokens ({error}); delete it to count from 0") from None
    return {**none, **read}
