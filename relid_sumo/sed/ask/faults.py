"""Says why a service gave no completion: one line with the cause, and whether to ask again."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed.ask import response
from relid_sumo.sed.ask.key import Service

BUSY = {408, 409, 425, 429}
FILTER = re.compile(r"content.?filter|content management policy|data_inspection|moderation|safety", re.IGNORECASE)
CONTEXT = re.compile(
    r"context.?(length|window|size)|maximum context|too many tokens|(prompt|input) is too long|max_model_len|"
    r"string_above_max_length",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model.{0,80}(not.?found|not exist|not a valid|no longer|not available|not supported|not loaded|does not)|"
    r"(unknown|invalid|no|valid|no such|unsupported) model|model_not_found",
    re.IGNORECASE | re.DOTALL,
)
QUOTA = re.compile(r"insufficient.?(quota|balance|funds|credit)|billing|credit balance|current quota", re.IGNORECASE)
RATE = re.compile(r"rate.?limit|overloaded|too many requests|resource.?exhausted", re.IGNORECASE)
UNKNOWN = re.compile(
    r"unsupported|not supported|does not support|unknown|unrecogni[sz]ed|extra|not permitted|not allowed|unexpected|"
    r"invalid|instead|only|must be|required",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fault:
    """A request that gave no completion.

    Attributes
    ----------
    what
        What happened, as the end of a sentence that begins with the service.
    retry
        Whether the same request may succeed later.
    wait_s
        Pause that the service asks for, s; None where it asks for none.
    filtered
        Whether the service filtered this prompt: others may be answered.
    said
        Code and message of the service, for `adapted`.
    """

    what: str
    retry: bool = False
    wait_s: float | None = None
    filtered: bool = False
    said: str = ""


@dataclass(frozen=True)
class Dialect:
    """How a service wants to be asked: the parameter that limits an answer, and whether it sends a stream."""

    tokens: str
    stream: bool
    usage: bool = True
    """Whether a stream is asked to report tokens."""


def first_dialect(settings: LlmSettings, *, openai_like: bool) -> Dialect:
    """Return the dialect to try first; `openai_like` services know ``max_completion_tokens``."""
    auto = "max_completion_tokens" if openai_like else "max_tokens"
    return Dialect(auto if settings.token_parameter == "auto" else settings.token_parameter, settings.stream is True)


def adapted(dialect: Dialect, settings: LlmSettings, said: str) -> Dialect | None:
    """Return the dialect that the message of a refused request asks for; None where it asks for none."""
    text = said.lower()
    if not UNKNOWN.search(text):
        return None
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[dialect.tokens]
    if "stream_options" in text and dialect.stream and dialect.usage:
        return Dialect(dialect.tokens, True, usage=False)
    if re.search(rf"\b{dialect.tokens}\b", text) and settings.token_parameter == "auto" and "too large" not in text:
        return Dialect(other, dialect.stream, dialect.usage)
    if "stream" in text and settings.stream == "auto" and not dialect.stream:
        return Dialect(dialect.tokens, True, dialect.usage)
    return None


def of_status(  # noqa: PLR0911 - a table: the first rule that fits
    status: int, body: str, headers: Mapping[str, str], settings: LlmSettings, service: Service
) -> Fault:
    """Return the fault in a response with an error; `status` 0 is an error with HTTP 200 and without a code."""
    message, code = response.error_in(body)
    said, http = f"{code} {message}", f"HTTP {status}" if status else "an error with HTTP 200"
    told = f"({http}: {message})" if message else f"({http}, without a reason)"
    wait, key = _pause(headers), f"the key in {settings.key_env}" if service.key else "a request without a key"
    if 300 <= status < 400:
        return Fault(
            f"sends the question on to another address ({http}), which gets neither the key nor the prompt; name the "
            "right one: llm.base_url"
        )
    if status == 402 or QUOTA.search(said):
        return Fault(f"says that the quota or the credit is used up {told}")
    if status in {400, 403, 422, 0} and FILTER.search(said):
        return Fault(f"filtered the prompt {told}", filtered=True)
    if status in {401, 403} or (status in {400, 0} and re.search(r"api.?key", message, re.IGNORECASE)):
        return Fault(f"refuses {key} {told}; see llm.key_env, llm.key_header and llm.base_url")
    if status == 413 or (status < 500 and CONTEXT.search(said)):
        return Fault(
            f"says that prompt and answer are too long for the model {told}; lower llm.max_tokens (now "
            f"{settings.max_tokens}) or sed.prompt.max_characters"
        )
    if (status == 404 and "model" in said.lower()) or (status in {400, 422, 0} and NO_MODEL.search(said)):
        return Fault(f"knows no model '{settings.model}' {told}; see llm.model and llm.base_url", said=said)
    if status in {404, 405}:
        return Fault(f"has no chat completions at this address {told}; does llm.base_url end in /v1?")
    if status == 429 or (status in {0, 200} and RATE.search(said)):
        return Fault(f"limits the rate, or the quota is used up {told}", retry=True, wait_s=wait)
    if status >= 500 or status in BUSY:
        retry = status not in {501, 505}
        return Fault(f"failed with {http}{f': {message}' if message else ''}", retry=retry, wait_s=wait)
    if status in {400, 422, 0} and (name := _named(said, settings)):
        given = f"llm.{name} = {getattr(settings, name)}"
        return Fault(f"does not accept {given} {told}; change it, or unset it", said=said)
    return Fault(f"failed with {http}{f': {message}' if message else ''}", said=said)


def _named(said: str, settings: LlmSettings) -> str | None:
    """Return the setting of a request that a message names."""
    for name in ("temperature", "top_p", "reasoning_effort", "seed", "max_tokens", "stream"):
        aliases = ("max_tokens", "max_completion_tokens") if name == "max_tokens" else (name,)
        if getattr(settings, name) is not None and any(re.search(rf"\b{word}\b", said) for word in aliases):
            return name
    return None


def _pause(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a service asks for, s: a number of milliseconds or seconds, or a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            pause = float(value) * unit
        except ValueError:
            date = email.utils.parsedate_tz(value)
            pause = email.utils.mktime_tz(date) - time.time() if date else -1.0
        if 0 <= pause < float("inf"):
            return pause
    return None
