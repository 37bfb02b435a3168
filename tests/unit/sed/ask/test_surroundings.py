"""What surrounds a request: headers and query, variables of the environment, proxies, budgets, time and size."""

from __future__ import annotations

import gzip
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError
from relid_sumo.cli import llm as options
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed.ask import faults, key
from relid_sumo.sed.ask import service as asking
from relid_sumo.sed.ask.faults import Dialect
from relid_sumo.sed.ask.provider import Question
from relid_sumo.sed.ask.service import OpenAi

KEY = "sk-surroundings-0123456789"
OK = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
PROXIES = [f"{name}_{part}" for part in ("PROXY",) for name in ("HTTP", "HTTPS", "ALL", "NO")]
PAGE = Path(__file__).parents[4] / "docs" / "services.md"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    heads: list[dict[str, str]]
    bodies: list[dict[str, object]]
    reply: Callable[[Handler], None]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.server.reply(self)

    def send(self, content: bytes = OK, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(redact, "_patterns", {})
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(("127.0.0.1", 0), Handler) as made:
        made.heads, made.bodies, made.reply = [], [], Handler.send
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{made.server_address[1]}/v1")
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(folder: Path, samples: int = 1, **settings: object) -> list[str]:
    llm = LlmSettings.model_validate({"model": "m", "retries": 0, "parallel": 1, "timeout_s": 5.0, **settings})
    questions = [Question(f"subset1-round1-sample{i}", "write", {"sample": i}) for i in range(1, samples + 1)]
    return [answer.text for _, answer in OpenAi(llm, folder / "usage.json").answer(questions)]


def test_headers_and_query_may_have_variables_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", "gate-0123456789")
    ask(tmp_path, headers={"X-Gate": "Key ${GATE}", "X-Title": "routes"}, key_header="api-key")
    head = server.heads[0]
    assert (head["x-gate"], head["x-title"], head["api-key"]) == ("Key gate-0123456789", "routes", KEY)
    assert "authorization" not in head
    assert redact.redact("gate-0123456789") == "***"
    for headers, told in (
        ({"X-Gate": "${ABSENT_GATE}"}, r"llm.headers.X-Gate: the environment variable ABSENT_GATE is not set"),
        ({"X-Gate": "a\r\nX-Other: b"}, "use ASCII characters only"),
        ({"Host": "other"}, "the client sets this header itself"),
    ):
        with pytest.raises(InputError, match=told):
            ask(tmp_path, headers=headers)
    with pytest.raises(InputError, match="the key would be sent there unencrypted"):
        key.service(LlmSettings(base_url="http://gpu/v1", key_env="", headers={"X-Gate": "${GATE}"}))
    assert len(server.heads) == 1


def test_a_key_variable_of_your_own_has_to_be_set(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no key; put it into the environment as ABSENT_KEY"):
        ask(tmp_path, key_env="ABSENT_KEY")
    assert not server.heads


def test_the_official_variables_of_organization_and_project_work(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1\n")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-2")
    ask(tmp_path)
    assert server.heads[0]["openai-organization"] == "org-1"
    assert server.heads[0]["openai-project"] == "proj-2"


def test_samples_of_a_round_have_seeds_of_their_own(server: Server, tmp_path: Path) -> None:
    ask(tmp_path, samples=3, seed=5)
    assert [body["seed"] for body in server.bodies] == [5, 6, 7]


def test_a_service_is_asked_in_the_dialect_that_it_named_before(server: Server, tmp_path: Path) -> None:
    def strict(handler: Handler) -> None:
        wrong = "max_tokens" in server.bodies[-1]
        text = b'{"error":{"message":"Unrecognized request argument supplied: max_tokens","code":400}}'
        handler.send(text if wrong else OK)

    server.reply = strict
    assert ask(tmp_path, samples=3) == ["x"] * 3
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False, False]


@pytest.mark.parametrize(
    ("settings", "said", "other"),
    [
        ({}, "Unknown parameter: 'max_tokens'", Dialect("max_completion_tokens", False)),
        ({"token_parameter": "max_tokens"}, "Unknown parameter: 'max_tokens'", None),
        ({}, "max_tokens is too large, only 4096", None),
        ({}, "the model is not supported", None),
        ({}, "this model only supports stream=true", Dialect("max_tokens", True)),
        ({"stream": False}, "this model only supports stream=true", None),
    ],
)
def test_only_what_is_not_set_adapts(settings: dict[str, object], said: str, other: Dialect | None) -> None:
    llm = LlmSettings.model_validate(settings)
    assert faults.adapted(faults.first_dialect(llm, openai_like=False), llm, said) == other


def test_a_budget_of_requests_counts_retries(server: Server, tmp_path: Path) -> None:
    server.reply = lambda handler: handler.send(b'{"error":{"message":"busy","code":503}}')
    with pytest.raises(InputError, match=r"llm.budget_requests = 3 are used; the answers so far are saved"):
        ask(tmp_path, retries=9, budget_requests=3)
    assert len(server.bodies) == 3
    server.reply = Handler.send
    with pytest.raises(InputError, match="budget_requests"):
        ask(tmp_path, budget_requests=3)
    assert ask(tmp_path, budget_requests=4) == ["x"]


def test_a_service_that_sends_a_byte_now_and_then_ends_in_time(server: Server, tmp_path: Path) -> None:
    over = threading.Event()

    def trickle(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not over.is_set():
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.01)

    server.reply = trickle
    with pytest.raises(InputError, match=r"gave no answer within 0.3 s \(llm.timeout_s\)"):
        ask(tmp_path, timeout_s=0.3)
    over.set()


def test_a_response_that_unpacks_to_gigabytes_is_refused(server: Server, tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * 2**20) * 1200  # 1.2 MiB, unpacked 1.2 GiB
    server.reply = lambda handler: handler.send(bomb, Content_Encoding="gzip")
    with pytest.raises(InputError, match="no chat completion: it has more than 1 MiB"):
        ask(tmp_path)


def test_a_socks_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        received: list[bytes] = []

        def accept() -> None:
            connection, _ = proxy.accept()
            with connection:
                for reply in (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01" + bytes(6)):
                    received.append(connection.recv(100))
                    connection.sendall(reply)

        thread = threading.Thread(target=accept)
        thread.start()
        monkeypatch.setenv("ALL_PROXY", f"socks5://me:secret-word@127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(InputError, match=r"gpu\.example/v1 cannot be reached, or broke off") as error:
            ask(tmp_path, base_url="https://gpu.example/v1")
        thread.join()
    assert received[0][:1] == b"\x05", "the greeting of SOCKS 5"
    assert b"secret-word" in received[1]
    assert b"gpu.example" in received[2], "the proxy resolves the name"
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize(
    ("proxy", "absent", "told"),
    [
        (
            "socks5://127.0.0.1:9",
            "socksio",
            r'needs the package socksio; install it with: pip install "relid_sumo\[llm\]"',
        ),
        ("gopher://127.0.0.1:9", None, r"cannot be asked with this environment: .*check HTTPS_PROXY, ALL_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_message(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, absent: str | None, told: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    if absent is not None:
        monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError, match=told):
        ask(tmp_path, base_url="https://gpu.example/v1")
    assert ask(tmp_path) == ["x"], "a connection that is not encrypted uses no proxy"


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after-ms": "1500", "retry-after": "12"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_the_pause_that_a_service_asks_for(headers: dict[str, str], pause: float | None) -> None:
    fault = faults.of_status(429, "{}", headers, LlmSettings(), key.Service("u", "u", "", True, False))
    assert (fault.retry, fault.wait_s) == (True, pause)


def test_the_options_of_the_commands_are_settings_of_the_block() -> None:
    given = ["sed.llm.retries=1", "sed.seeds=2", "demand.level=0.4"]
    own, rest = options.split(given, "sed", "gpt", "http://here/v1")
    assert own == ["seeds=2"]
    assert rest == ["llm.retries=1", "demand.level=0.4", 'llm.model="gpt"', 'llm.base_url="http://here/v1"']


def test_the_page_has_every_setting() -> None:
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(LlmSettings.model_fields) <= named
