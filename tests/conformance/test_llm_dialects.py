"""A language-model service in many dialects: each gives a program, or one cause (`llm_dialects.toml`)."""

from __future__ import annotations

import gzip
import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed import run_folder
from relid_sumo.sed.ask import service as asking
from relid_sumo.sed.ask.provider import Question
from relid_sumo.sed.ask.service import OpenAi
from relid_sumo.sed.programs.answers import program_in

DIALECTS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "llm_dialects.toml").read_text(encoding="utf-8")
)["dialect"]
KEY = "sk-conformance-0123456789"
PROGRAM = "def plan(network, trips, traffic):\n    return {}\n"
ANSWER = f"Here it is.\n\n```python\n{PROGRAM}```\n"
TEXTS = {
    "@AFTER_THOUGHT": json.dumps(f"I could write ```python\nx\n``` but no.</think>\n{ANSWER}"),
    "@ANSWER": json.dumps(ANSWER),
    "@HALF": json.dumps(ANSWER[: ANSWER.index("return")]),
    "@BOM": "\ufeff",
    "@LF": "\n",
    "@Q": "'",
    "@CR": "\r",
    "KEY": KEY,
}


class Server(ThreadingHTTPServer):
    """Speaks the dialect of an entry of the table."""

    daemon_threads = True
    dialect: dict[str, Any]
    requests: int
    served: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        dialect = self.server.dialect
        self.server.requests += 1
        if not self.fits(body, dialect.get("wants", {})):
            refusal = dialect.get("refusal", {"status": 418, "body": "this request does not fit"})
            self.send(refusal)
            return
        replies = dialect["replies"]
        self.send(replies[min(self.server.served, len(replies) - 1)])
        self.server.served += 1

    def fits(self, body: dict[str, Any], wants: dict[str, Any]) -> bool:
        address = urlsplit(self.path)
        headers = {name: text(value) for name, value in wants.get("headers", {}).items()}
        return (
            body["messages"] == [{"role": "user", "content": "write"}]
            and all(body.get(name) == value for name, value in wants.get("has", {}).items())
            and not set(wants.get("has_not", [])) & body.keys()
            and all(self.headers[name] == value for name, value in headers.items())
            and not [name for name in wants.get("no_headers", []) if name in self.headers]
            and address.path == wants.get("path", "/v1/chat/completions")
            and dict(parse_qsl(address.query)) == wants.get("query", {})
        )

    def send(self, reply: dict[str, Any]) -> None:
        content = text(reply["body"]).encode()
        self.send_response(reply.get("status", 200))
        headers = {"Content-Type": reply.get("type", "application/json"), **reply.get("headers", {})}
        if reply.get("gzip"):
            content = gzip.compress(content)
            headers["Content-Encoding"] = "gzip"
        headers |= {"Transfer-Encoding": "chunked"} if reply.get("chunks") else {"Content-Length": str(len(content))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.get("chunks"):
            parts = [content[i : i + 7] for i in range(0, len(content), 7)]
            content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def text(value: str) -> str:
    for mark, written in TEXTS.items():
        value = value.replace(mark, written)
    return value


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_the_table_has_what_services_differ_in() -> None:
    names = [dialect["name"] for dialect in DIALECTS]
    assert len(names) == len(set(names)) >= 25


@pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect["name"] for dialect in DIALECTS])
def test_a_service_gives_a_program_or_one_cause(
    dialect: dict[str, Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_patterns", {})
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.dialect, server.requests, server.served = dialect, 0, 0
    settings = dict(dialect.get("settings", {}))
    if settings.pop("base", ""):  # 127.0.0.1 stands for Azure, which is asked with max_completion_tokens first
        monkeypatch.setattr(asking, "AZURE", ("127.0.0.1",))
    path = settings.pop("path", "/v1")
    llm = LlmSettings.model_validate({"model": "m", "base_url": server.url + path, "timeout_s": 20.0, **settings})
    provider = OpenAi(llm, tmp_path / "usage.json")
    question = Question("subset1-round1-sample1", "write", {"sample": 1})
    for folder in (run_folder.PROMPTS, run_folder.ANSWERS):
        (tmp_path / folder).mkdir()
    if "error" in dialect:
        with pytest.raises(InputError) as error:
            run_folder.ask(tmp_path, provider, [question], lambda _: None)
        said = str(error.value)
        assert dialect["error"] in said
        assert said.count("\n") == 0
        assert (tmp_path / run_folder.STOPPED).read_text() == said + "\n"
    else:
        (answer,) = run_folder.ask(tmp_path, provider, [question], lambda _: None)
        source, said = program_in(answer.text, answer.note)
        assert source == (PROGRAM if dialect.get("gives") == "program" else None), said
        assert dialect.get("note", "") in said
        (again,) = run_folder.ask(tmp_path, provider, [question], lambda _: None)
        assert again == answer, "a saved answer has its note"
    assert KEY not in said
    assert server.requests == dialect.get("requests", server.requests)
    assert json.loads((tmp_path / "usage.json").read_text())["requests"] == server.requests
