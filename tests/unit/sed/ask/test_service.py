"""Asking a service: a local server speaks OpenAI's protocol, well or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed import run_folder, stored
from relid_sumo.sed.ask import service as asking
from relid_sumo.sed.ask.provider import Question
from relid_sumo.sed.ask.service import USAGE, OpenAi

KEY = "sk-very-secret-key"
ANSWER = "```python\ndef plan(network, trips, traffic):\n    return {}\n```\n"

Reply = Callable[["Handler", int], None]


class Service(ThreadingHTTPServer):
    """A server whose replies are functions of (request, number of the request)."""

    daemon_threads = True
    reply: Reply
    asked: list[tuple[dict[str, Any], str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, self.headers["Authorization"]))
        self.server.reply(self, len(self.server.asked))

    def send(self, status: int, content: object, **headers: str) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str | None = ANSWER, *, reason: str = "stop", **more: object) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        **more,
    }


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)
    with Service(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.reply = lambda request, _: request.send(200, completion())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(service: Service, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what asks one question (or several) in a run folder and returns the answers."""

    def asked(count: int = 1, prompt: str = "write", **settings: object) -> list[str]:
        given = {"model": "m", "base_url": service.url, "retries": 0, "timeout_s": 5.0, "parallel": 1, **settings}
        if not (tmp_path / "s").exists():
            run_folder.open_run(tmp_path / "s", "openai", {"scenario": {}})
        provider = OpenAi(LlmSettings.model_validate(given), tmp_path / "s" / USAGE)
        questions = [Question(f"subset{i}-round1-sample1", prompt) for i in range(count)]
        return [answer.text for answer in run_folder.ask(tmp_path / "s", provider, questions, lambda _: None)]

    return asked


def usage(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "s" / USAGE).read_text()))


def test_an_answer_comes_back_and_is_counted(service: Service, ask: Callable[..., list[str]], tmp_path: Path) -> None:
    answers = ask(2, temperature=0.3, usd_per_million_in=2.0, usd_per_million_out=8.0)
    assert answers == [ANSWER, ANSWER]
    body, authorization = service.asked[0]
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "write"}],
        "max_tokens": 16_000,
        "temperature": 0.3,
    }
    assert authorization == f"Bearer {KEY}"
    assert usage(tmp_path) == pytest.approx(
        {"answers": 2, "requests": 2, "tokens_in": 2000, "tokens_out": 1000, "usd": 0.012}
    )


def test_temperature_is_the_models_own_unless_set(service: Service, ask: Callable[..., list[str]]) -> None:
    ask()
    assert "temperature" not in service.asked[0][0]


@pytest.mark.parametrize(
    ("status", "content", "told"),
    [
        (
            401,
            {"error": {"message": f"wrong key {KEY}"}},
            r"refuses the key in OPENAI_API_KEY \(HTTP 401: wrong key \*\*\*\)",
        ),
        (403, {"error": {"message": "no"}}, r"refuses the key in OPENAI_API_KEY \(HTTP 403: no\)"),
        (404, {"error": {"message": "no model"}}, r"knows no model 'm' \(HTTP 404: no model\)"),
        (400, {"error": {"message": f"bad {KEY}"}}, r"failed with HTTP 400: bad \*\*\*"),
        (429, {"error": {"message": "slow down"}}, r"limits the rate.*\(HTTP 429: slow down\), after 0 retries"),
        (500, b"<html>oops</html>", "failed with HTTP 500"),
        (200, b"<html>hello</html>", "no chat completion"),
        (200, b"", "no chat completion"),
        (200, b'{"choices": [', "no chat completion"),
        (200, b"[]", "no chat completion"),
        (200, {"choices": []}, "no chat completion: it has no choices"),
        (200, {"choices": [{"index": 0}]}, "no chat completion: its first choice has no message"),
        (200, completion(reason=""), None),
    ],
)
def test_a_service_that_refuses_or_sends_rubbish_is_told(
    service: Service, ask: Callable[..., list[str]], status: int, content: object, told: str | None
) -> None:
    service.reply = lambda request, _: request.send(status, content)
    if told is None:
        assert ask() == [ANSWER]
        return
    with pytest.raises(InputError, match=told) as error:
        ask()
    assert KEY not in str(error.value)
    assert "the answers so far are saved" in str(error.value)


def test_a_rubbish_page_with_a_content_type_of_its_own(service: Service, ask: Callable[..., list[str]]) -> None:
    service.reply = lambda request, _: request.send(200, b"<html>", Content_Type="text/html")
    with pytest.raises(InputError, match="no chat completion"):
        ask()


def test_a_service_that_does_not_answer(service: Service, ask: Callable[..., list[str]]) -> None:
    service.reply = lambda *_: time.sleep(2)
    with pytest.raises(InputError, match=r"gave no answer within 0.3 s \(llm.timeout_s\)"):
        ask(timeout_s=0.3)


def test_a_service_that_disappears_half_way(service: Service, ask: Callable[..., list[str]]) -> None:
    def half(request: Handler, _: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b'{"choices": [')
        request.close_connection = True

    service.reply = half
    with pytest.raises(InputError, match="cannot be reached, or broke off"):
        ask()


def test_a_service_that_is_not_there(ask: Callable[..., list[str]]) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        ask(base_url="http://127.0.0.1:9/v1")


def test_a_busy_service_is_asked_again(service: Service, ask: Callable[..., list[str]]) -> None:
    def busy(request: Handler, number: int) -> None:
        if number < 3:
            request.send(429 if number == 1 else 503, {"error": {"message": "busy"}}, Retry_After="0.05")
        else:
            request.send(200, completion())

    service.reply = busy
    assert ask(retries=2) == [ANSWER]
    assert len(service.asked) == 3


def test_what_was_answered_is_not_asked_again(service: Service, ask: Callable[..., list[str]], tmp_path: Path) -> None:
    """The service fails at the third question; the next run asks that one alone, and those after it."""
    service.reply = lambda request, number: request.send(200 if number < 3 else 500, completion(f"answer {number}"))
    with pytest.raises(InputError, match="HTTP 500"):
        ask(4)
    assert len(service.asked) == 3
    service.reply = lambda request, number: request.send(200, completion(f"answer {number}"))
    assert ask(4) == ["answer 1", "answer 2", "answer 4", "answer 5"]
    assert usage(tmp_path)["answers"] == 4


def test_answers_under_way_are_kept_when_another_fails(service: Service, ask: Callable[..., list[str]]) -> None:
    both = threading.Barrier(2, timeout=10)

    def reply(request: Handler, _: int) -> None:
        fails = both.wait() == 0
        time.sleep(0.0 if fails else 0.3)
        request.send(500 if fails else 200, {} if fails else completion())

    service.reply = reply
    with pytest.raises(InputError, match="HTTP 500"):
        ask(2, parallel=2)
    before = len(service.asked)
    service.reply = lambda request, _: request.send(200, completion("later"))
    assert sorted(ask(2, parallel=2)) == sorted([ANSWER, "later"])
    assert len(service.asked) == before + 1


def test_show_says_why_a_run_stopped(service: Service, ask: Callable[..., list[str]], tmp_path: Path) -> None:
    service.reply = lambda request, _: request.send(400, {"error": {"message": "no"}})
    with pytest.raises(InputError):
        ask()
    with pytest.raises(InputError, match=r"the run is not finished; it stopped: .* failed with HTTP 400: no"):
        stored.read_results(tmp_path / "s")
    service.reply = lambda request, _: request.send(200, completion())
    ask()
    with pytest.raises(InputError, match="there is no such file"):
        stored.read_results(tmp_path / "s")


def test_a_changed_prompt_is_asked_anew(service: Service, ask: Callable[..., list[str]]) -> None:
    ask()
    ask(prompt="write better")
    assert [body["messages"][0]["content"] for body, _ in service.asked] == ["write", "write better"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"budget_tokens": 5000, "max_tokens": 3000}, r"budget_tokens = 5000: 3000 are used"),
        (
            {"budget_usd": 0.01, "max_tokens": 500, "usd_per_million_out": 10.0, "usd_per_million_in": 0.0},
            r"budget_usd = 0.01: 0.0100 are spent",
        ),
    ],
)
def test_a_budget_stops_the_run_before_it_is_exceeded(
    service: Service, ask: Callable[..., list[str]], tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        ask(5, **settings)
    assert len(service.asked) == 2
    with pytest.raises(InputError, match=told):  # what an earlier run spent counts
        ask(5, **settings)
    assert len(service.asked) == 2
    assert usage(tmp_path)["answers"] == 2


def test_a_budget_holds_for_questions_asked_at_once(service: Service, ask: Callable[..., list[str]]) -> None:
    with pytest.raises(InputError, match="budget_tokens"):
        ask(8, parallel=8, budget_tokens=7000, max_tokens=3000)
    assert len(service.asked) <= 3


def test_an_answer_without_text_is_an_answer(service: Service, ask: Callable[..., list[str]]) -> None:
    service.reply = lambda request, _: request.send(200, completion(None, reason="length"))
    assert ask() == [""]


def test_without_counted_tokens_they_are_estimated(
    service: Service, ask: Callable[..., list[str]], tmp_path: Path
) -> None:
    service.reply = lambda request, _: request.send(200, completion("x" * 25, usage=None))
    ask(prompt="y" * 100)
    assert (usage(tmp_path)["tokens_in"], usage(tmp_path)["tokens_out"]) == (40, 10)


def test_the_key_is_nowhere_in_the_run_folder(service: Service, ask: Callable[..., list[str]], tmp_path: Path) -> None:
    ask(2)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) >= 6
    assert not [file for file in files if KEY in file.read_text(encoding="utf-8")]


def test_without_key_model_or_prices_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = tmp_path / "usage.json"
    for settings, told in (
        ({}, "name the model"),
        ({"model": "m"}, "there is no key; put it into the environment as OPENAI_API_KEY"),
        ({"model": "m", "key_env": "MINE"}, "as MINE"),
        ({"model": "m", "base_url": "http://127.0.0.1:1/v1", "budget_usd": 1.0}, "give the prices too"),
    ):
        with pytest.raises(InputError, match=told):
            OpenAi(LlmSettings.model_validate(settings), file)
    OpenAi(LlmSettings(model="m", base_url="http://127.0.0.1:1/v1"), file)  # a service of one's own needs none
