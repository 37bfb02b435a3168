"""The provider that asks a language-model service through OpenAI's official client, in the dialect that it speaks.

The client sends the requests; retries, and reading the answers, are done here, because services differ
(`relid_sumo.sed.ask.response`, `relid_sumo.sed.ask.faults`).
"""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from relid_sumo.base import extension, redact, trusted
from relid_sumo.base.errors import InputError, missing_extra
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.scenario.settings import Scenario
from relid_sumo.sed.ask import faults, key, providers, response
from relid_sumo.sed.ask.budget import Budget
from relid_sumo.sed.ask.faults import Fault
from relid_sumo.sed.ask.key import Service
from relid_sumo.sed.ask.provider import SAVED, Answer, Asking, Question, log
from relid_sumo.sed.ask.response import Completion, NoCompletionError, ReportedError

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import OpenAI

USAGE = "usage.json"  # of a run folder: requests, tokens and cost
CHARACTERS_PER_TOKEN = 2.5  # lower bound; the highest cost of a prompt follows from its characters
MOST_MIB, MOST_PACKED_MIB = 32, 1  # size limits of a response as it comes in: plain, and compressed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # before a retry; doubles each time
AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
TRANSPORTS = {"httpcore2", "httpx2", "h11", "socksio"}  # some of their errors reach us as they are
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def check(settings: LlmSettings) -> Service:
    """Return the service to ask, with its key. Nothing is sent.

    Raises
    ------
    InputError
        No model is named, the key is missing or not valid, the address or a header is not valid, or a budget in USD
        has no prices.
    """
    if not settings.model:
        raise InputError("--llm openai: name the model: --model NAME, --set llm.model=NAME, or model in a block [llm]")
    if settings.budget_usd is not None and not settings.usd_per_million_in + settings.usd_per_million_out:
        raise InputError("llm.budget_usd: give the prices too: llm.usd_per_million_in and .._out")
    return key.service(settings)


def check_service(name: str, scenario: Scenario) -> None:
    """Check the service of a provider, or import a user's own provider. Nothing is sent.

    Raises
    ------
    InputError
        The provider cannot be imported; the service lacks a setting; a file names it, and the user has not; or the
        client is not installed.
    """
    own = extension.is_path(name)
    if not own and name != "openai":
        return
    if own:
        providers.own(name)
    if scenario.llm_unnamed:
        raise InputError(scenario.llm_unnamed)
    if not own:
        check(scenario.llm)
        if importlib.util.find_spec("openai") is None:
            raise missing_extra("openai", "llm")
    trusted.note_service(scenario.llm.service)


class OpenAi:
    """A service that speaks OpenAI's protocol (chat completions).

    Parameters
    ----------
    settings
        Settings of the service.
    usage_file
        File that counts requests, tokens and cost; its present content counts towards the budget.

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
        self._openai, self._settings = openai, settings
        self._service = check(settings)
        self._budget = Budget(settings, usage_file)
        host = urlsplit(self._service.url).hostname or ""
        self._dialect = faults.first_dialect(
            settings, openai_like=self._service.url == key.OPENAI or host.endswith(AZURE)
        )
        self._failed: InputError | None = None
        self._stop = threading.Event()
        with_key = f"with the key in {settings.key_env}" if self._service.key else "without a key"
        log.info(f"asking {settings.model} at {self._service.shown}, {with_key}")

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer]]:
        """Ask all questions, a few at a time; see `Provider`. After a failure no more are asked."""
        self._failed = None
        self._stop.clear()
        with self._client() as client, ThreadPoolExecutor(max_workers=self._settings.parallel) as pool:
            asked = {pool.submit(self._ask, client, question): question for question in questions}
            try:
                for done in as_completed(asked):  # answers that arrive after a failure are paid for, so they are used
                    if not isinstance(done.exception(), InputError):
                        yield asked[done], done.result()
            finally:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        if self._failed is not None:
            raise self._failed

    def _client(self) -> OpenAI:
        """Return the official client.

        Raises
        ------
        InputError
            A proxy or the certificates of the environment cannot be used.
        """
        for name in PROXIES:
            proxy = urlsplit(os.environ.get(name, ""))
            for secret in (proxy.password or "", unquote(proxy.password or "")):
                redact.hide(secret, short=True)
        openai, settings, service = self._openai, self._settings, self._service
        try:
            client: OpenAI = openai.OpenAI(
                api_key=service.key or "none",
                organization=os.environ.get("OPENAI_ORG_ID", "").strip() or None,
                project=os.environ.get("OPENAI_PROJECT_ID", "").strip() or None,
                base_url=service.url,
                timeout=settings.timeout_s,
                max_retries=0,
                # No redirect, and no proxy of the environment without encryption, may receive key and prompts.
                http_client=openai.DefaultHttpxClient(
                    follow_redirects=False,
                    trust_env=service.encrypted,
                    event_hooks={"response": [self._bound]},
                ),
            )
        except ImportError:
            raise InputError(
                "the environment names a SOCKS proxy (ALL_PROXY or HTTPS_PROXY), which needs the package socksio; "
                'install it with: pip install "relid_sumo[llm]", or unset the variable'
            ) from None
        except (ValueError, OSError, openai.OpenAIError) as error:
            raise InputError(
                f"the service cannot be asked with this environment: {self._clean(error)}; check HTTPS_PROXY, "
                "ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
            ) from None
        return client

    def _bound(self, answer: Response) -> None:
        """Limit the time and the size of a response."""
        from relid_sumo.sed.ask.bounded import Bounded  # noqa: PLC0415 - httpx2, which comes with openai

        packed = answer.headers.get("content-encoding", "identity").lower() not in {"", "identity"}
        most = (MOST_PACKED_MIB if packed else MOST_MIB) * 2**20
        answer.stream = Bounded(answer.stream, most, time.monotonic() + self._settings.timeout_s)

    def _ask(self, client: OpenAI, question: Question) -> Answer:
        most_in = len(question.prompt) / CHARACTERS_PER_TOKEN
        try:
            if self._failed is not None:
                raise self._failed
            self._budget.reserve(most_in)
            try:
                found = self._completion(client, question)
            finally:
                self._budget.release(most_in)
        except InputError as error:
            self._failed = self._failed or error
            raise self._failed from None
        characters = len(found.text) + found.thought
        self._budget.answered(
            found.tokens_in or round(most_in), found.tokens_out or round(characters / CHARACTERS_PER_TOKEN)
        )
        return Answer(found.text, found.note)

    def _completion(self, client: OpenAI, question: Question) -> Completion:
        """Return the completion of a question; ask again in another dialect, or later, where that may help.

        Raises
        ------
        InputError
            The service gives no completion, or the budget is used up.
        """
        settings, tried, pause = self._settings, 0, FIRST_PAUSE_S
        used = {self._dialect}
        while True:
            dialect = self._dialect
            self._budget.request()
            found = self._send(client, question, dialect)
            if isinstance(found, Completion):
                return found
            other = faults.adapted(dialect, settings, found.said)
            if other is not None and other not in used:
                used.add(other)
                self._dialect = other
                log.info(f"the service wants {other.tokens}{' and a stream' if other.stream else ''}: asking again so")
                continue
            if found.filtered:
                return Completion("", f"the service {found.what}")
            if not found.retry or tried >= settings.retries:
                after = f", after {settings.retries} retries" if found.retry else ""
                raise InputError(f"{self._name} {found.what}{after}; {SAVED}")
            wait = pause if found.wait_s is None else found.wait_s
            if wait > max(settings.timeout_s, LONGEST_PAUSE_S):
                raise InputError(f"{self._name} {found.what}; it asks for a pause of {wait:.0f} s; {SAVED}")
            if self._stop.wait(wait) or self._failed is not None:
                raise self._failed or InputError("stopped")
            tried, pause = tried + 1, min(2 * pause, LONGEST_PAUSE_S)

    def _send(  # noqa: PLR0911 - one return for each kind of failure
        self, client: OpenAI, question: Question, dialect: faults.Dialect
    ) -> Completion | Fault:
        """Send a question once."""
        openai, settings, service = self._openai, self._settings, self._service
        omitted = {"Authorization": openai.Omit()} if settings.key_header or not service.key else {}
        create: Any = client.chat.completions.with_raw_response.create
        try:
            raw = create(
                model=settings.model,
                messages=[{"role": "user", "content": question.prompt}],
                extra_body=_parameters(settings, dialect, int(question.facts.get("sample", 1))),
                extra_headers={"Accept-Encoding": "gzip, deflate", **omitted, **service.headers},
                extra_query=service.query,
            )
            return response.read(raw.http_response.content)
        except openai.APIStatusError as error:
            body = error.response.content.decode("utf-8", "replace")
            return faults.of_status(error.status_code, body, error.response.headers, settings, service)
        except ReportedError as error:
            return faults.of_status(error.status, error.body, {}, settings, service)
        except NoCompletionError as error:
            where = "; check llm.base_url, which often ends in /v1" if "a web page" in str(error) else ""
            return Fault(f"sent an answer that is no chat completion: {error}{where}")
        except openai.APITimeoutError:
            return Fault(f"gave no answer within {settings.timeout_s:g} s (llm.timeout_s)", retry=True)
        except openai.APIConnectionError as error:
            cause = self._clean(error.__cause__ or error)
            hint = "; name your certificates with SSL_CERT_FILE" if "CERTIFICATE_VERIFY" in cause else ""
            return Fault(f"cannot be reached, or broke off: {cause}{hint}", retry=not hint)
        except (openai.OpenAIError, ValueError) as error:
            return Fault(f"sent an answer that is no chat completion: {self._clean(error)}")
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in TRANSPORTS:
                raise
            return Fault(f"cannot be reached, or broke off: {self._clean(error)}", retry=True)

    @property
    def _name(self) -> str:
        return "OpenAI" if self._service.url == key.OPENAI else self._service.shown

    def _clean(self, error: BaseException) -> str:
        return " ".join(redact.redact(str(error)).split())[:300] or type(error).__name__


def _parameters(settings: LlmSettings, dialect: faults.Dialect, sample: int) -> dict[str, Any]:
    """Return the parameters of a request other than model and messages."""
    optional = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": None if settings.seed is None else settings.seed + sample - 1,
        "reasoning_effort": settings.reasoning_effort,
    }
    stream = {"stream": True, **({"stream_options": {"include_usage": True}} if dialect.usage else {})}
    return {
        dialect.tokens: settings.max_tokens,
        **{name: value for name, value in optional.items() if value is not None},
        **(stream if dialect.stream else {}),
    }


def build(asking: Asking) -> OpenAi:
    """Return the provider ``openai``."""
    return OpenAi(asking.settings, asking.folder / USAGE)
