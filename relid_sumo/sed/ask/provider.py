"""Providers of answers: the interface, and the provider that asks an OpenAI-compatible service.

The others answer from files (`relid_sumo.sed.ask.mailbox`) or without a model (`relid_sumo.sed.ask.template`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from relid_sumo.base import files, redact
from relid_sumo.base.errors import InputError, missing_extra
from relid_sumo.base.settings import MOST_COUNT, WEEK_S, Settings
from relid_sumo.sed.ask import key
from relid_sumo.sed.ask.key import Service

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from openai import OpenAI

USAGE = "usage.json"  # of a run folder: tokens and cost
CHARACTERS_PER_TOKEN = 2.5  # lower bound; the highest cost of a prompt follows from its characters
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


class Provider(Protocol):
    """Interface of providers: objects that answer questions."""

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Yield every question with its answer, each as soon as it arrives, in any order.

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
        Settings of the service: model, address, limits.
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


class LlmSettings(Settings):
    """Settings of the service. The key is read from the environment and never written to a file."""

    model: str = ""
    """The model's name, as the service knows it."""
    base_url: str | None = None
    """Address of an OpenAI-compatible service, e.g. http://localhost:8000/v1. Default: the environment variable
    OPENAI_BASE_URL, else OpenAI's own address. The key is sent only there."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key; empty for a service that needs no key."""
    allow_http: bool = False
    """Whether a key may be sent unencrypted (http://) to another machine."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; by default that of the model."""
    timeout_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 300.0
    """Longest wait for one answer, s."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 5
    """Number of retries, at growing intervals, where the service is busy, fails or cannot be reached."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_COUNT)] = 16_000
    """Longest answer, tokens (reasoning included)."""
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    """Number of questions asked at the same time."""
    usd_per_million_in: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Price of a million tokens of prompt, USD."""
    usd_per_million_out: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Price of a million tokens of answer, USD."""
    budget_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Cost limit of all answers of this run, resumed parts included, USD; needs the prices."""
    budget_tokens: Annotated[int, Field(gt=0, le=10**15)] | None = None
    """Limit of all tokens of this run, in and out."""

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Return the cost of tokens, USD."""
        return (tokens_in * self.usd_per_million_in + tokens_out * self.usd_per_million_out) / 1e6


def check(settings: LlmSettings) -> Service:
    """Return the service to ask, with its key.

    Raises
    ------
    InputError
        No model is named, the key is missing or not valid, or a budget in USD has no prices.
    """
    if not settings.model:
        raise InputError("--llm openai: name the model, e.g. --set sed.llm.model=NAME")
    if settings.budget_usd is not None and not settings.usd_per_million_in + settings.usd_per_million_out:
        raise InputError("sed.llm.budget_usd: give the prices too: sed.llm.usd_per_million_in and .._out")
    return key.service(settings.base_url, settings.key_env, allow_http=settings.allow_http)


class OpenAi:
    """A service that speaks OpenAI's protocol (chat completions), through the official client.

    Parameters
    ----------
    settings
        Settings of the service.
    usage_file
        File that counts tokens and cost; its present content counts towards the budget.

    Raises
    ------
    InputError
        The settings or the key are not valid, see `check`.
    """

    def __init__(self, settings: LlmSettings, usage_file: Path) -> None:
        try:
            import openai  # noqa: PLC0415 - an extra: a second to load, and one provider of four needs it
        except ImportError:
            raise missing_extra("openai", "llm") from None
        self._service = check(settings)
        self._settings, self._file = settings, usage_file
        self._lock = threading.Lock()
        self._failed: InputError | None = None
        self._used = _read_usage(usage_file)
        self._reserved = (0.0, 0.0)  # tokens in and out of open questions
        self._errors = openai
        with_key = f"with the key in {settings.key_env}" if self._service.key else "without a key"
        log.info(f"asking {settings.model or 'a model'} at {self._service.shown}, {with_key}")

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Ask all questions, a few at a time; see `Provider`. After a failure no more are asked."""
        self._failed = None
        with self._client() as client, ThreadPoolExecutor(max_workers=self._settings.parallel) as pool:
            asked = {pool.submit(self._ask, client, question): question for question in questions}
            for done in as_completed(asked):  # answers that arrive after a failure are paid for, so they are used
                if not isinstance(done.exception(), InputError):
                    yield asked[done], done.result()
        if self._failed is not None:
            raise self._failed

    def _client(self) -> OpenAI:
        openai = self._errors
        client: OpenAI = openai.OpenAI(
            api_key=self._service.key or "none",
            base_url=self._service.url,
            timeout=self._settings.timeout_s,
            max_retries=self._settings.retries,
            # No redirect, and no proxy of the environment without encryption, may receive key and prompts.
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=self._service.encrypted),
        )
        return client

    def _ask(self, client: OpenAI, question: Question) -> str:
        settings, most_in = self._settings, len(question.prompt) / CHARACTERS_PER_TOKEN
        self._reserve(most_in)
        try:
            completion = client.chat.completions.create(
                model=settings.model,
                messages=[{"role": "user", "content": question.prompt}],
                max_completion_tokens=settings.max_tokens,
                temperature=self._errors.omit if settings.temperature is None else settings.temperature,
            )
            text, tokens_in, tokens_out = _content(completion)
        except (self._errors.OpenAIError, ValueError) as error:
            raise self._failure(f"{self._what_failed(error)}; {SAVED}") from None
        finally:
            self._release(most_in)
        self._count(tokens_in or round(most_in), tokens_out or round(len(text) / CHARACTERS_PER_TOKEN))
        return text

    def _failure(self, message: str) -> InputError:
        """Store the first failure, and return it."""
        self._failed = self._failed or InputError(message)
        return self._failed

    def _reserve(self, most_in: float) -> None:
        """Reserve the highest cost of an answer; raise InputError where the budget is too small."""
        settings = self._settings
        with self._lock:
            if self._failed is not None:
                raise self._failed
            open_in, open_out = self._reserved[0] + most_in, self._reserved[1] + settings.max_tokens
            tokens = self._used["tokens_in"] + self._used["tokens_out"]
            if settings.budget_tokens is not None and tokens + open_in + open_out > settings.budget_tokens:
                raise self._failure(
                    f"the next answer could exceed sed.llm.budget_tokens = {settings.budget_tokens}: {tokens:.0f} are "
                    f"used; {SAVED}"
                )
            usd = self._used["usd"]
            if settings.budget_usd is not None and usd + settings.cost(open_in, open_out) > settings.budget_usd:
                raise self._failure(
                    f"the next answer could exceed sed.llm.budget_usd = {settings.budget_usd:g}: {usd:.4f} are "
                    f"spent; {SAVED}"
                )
            self._reserved = open_in, open_out

    def _release(self, most_in: float) -> None:
        with self._lock:
            self._reserved = self._reserved[0] - most_in, self._reserved[1] - self._settings.max_tokens

    def _count(self, tokens_in: int, tokens_out: int) -> None:
        with self._lock:
            self._used["answers"] += 1
            self._used["tokens_in"] += tokens_in
            self._used["tokens_out"] += tokens_out
            self._used["usd"] += self._settings.cost(tokens_in, tokens_out)
            files.write_json(self._file, self._used)

    def _what_failed(self, error: Exception) -> str:
        """Return an error of the client as one line, without the key."""
        openai, settings = self._errors, self._settings
        where = "OpenAI" if self._service.url == key.OPENAI else self._service.shown
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                what = f"refuses the key in {settings.key_env} (HTTP {error.status_code})"
            case openai.NotFoundError():
                what = f"knows no model '{settings.model}' (HTTP 404); see sed.llm.model and sed.llm.base_url"
            case openai.RateLimitError():
                what = f"limits the rate, or the quota is used up (HTTP 429), after {settings.retries} retries"
            case openai.APITimeoutError():
                what = f"gave no answer within {settings.timeout_s:g} s (sed.llm.timeout_s)"
            case openai.APIConnectionError():
                what = f"cannot be reached, or broke off: {self._clean(error.__cause__ or error)}"
            case openai.APIStatusError() if 300 <= error.status_code < 400:
                what = (
                    f"sends the question on to another address (HTTP {error.status_code}), which gets neither the key "
                    "nor the prompt; name the right one: sed.llm.base_url"
                )
            case openai.APIStatusError():
                what = f"failed with HTTP {error.status_code}: {self._clean(error)}"
            case _:
                what = f"sent an answer that is no chat completion: {self._clean(error)}"
        return f"{where} {what}"

    def _clean(self, error: BaseException) -> str:
        return " ".join(redact.redact(str(error)).split())[:300] or type(error).__name__


def build(asking: Asking) -> OpenAi:
    """Return the provider ``openai``."""
    return OpenAi(asking.settings, asking.folder / USAGE)


def _content(completion: Any) -> tuple[str, int, int]:  # noqa: ANN401 - the client does not check the answers of services
    """Return the text of a completion, and its tokens in and out (0 where the service does not report them).

    Raises
    ------
    ValueError
        It is not a chat completion.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise ValueError("it has no choices")
    message = getattr(choices[0], "message", None)
    text = getattr(message, "content", None)
    if text is None and message is not None and getattr(choices[0], "finish_reason", None):
        text = ""  # a refusal, or all tokens spent on reasoning: an answer without a program
    if not isinstance(text, str):
        raise ValueError("its first choice has no message")
    usage = getattr(completion, "usage", None)
    tokens = [getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens")]
    tokens_in, tokens_out = (value if isinstance(value, int) and value >= 0 else 0 for value in tokens)
    return text, tokens_in, tokens_out


def _read_usage(file: Path) -> dict[str, float]:
    none = {"answers": 0, "tokens_in": 0, "tokens_out": 0, "usd": 0.0}
    if not file.is_file():
        return none
    try:
        read = {name: float(value) for name, value in files.read_json(file).items() if name in none}
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}: not a count of tokens ({error}); delete it to count from 0") from None
    return {**none, **read}
