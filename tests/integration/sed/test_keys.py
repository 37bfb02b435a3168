"""No byte that a run leaves behind has the key in it, whatever the service does with it: output, run folder, cache."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relid_sumo import load_scenario
from relid_sumo.base import redact
from relid_sumo.cli import console
from relid_sumo.cli.main import main
from relid_sumo.scenario.files import write_scenario

pytestmark = [pytest.mark.sumo, pytest.mark.usefixtures("isolated")]

TOWN = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
SETTINGS = [
    *("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=700", "simulator=meso"),
    *("seeds.training=[0]", "seeds.validation=[100]", "seeds.evaluation=[200]"),
]
FEW = ("--rounds", "2", "--samples", "1", "--set", "sed.seeds=1", "--set", "sed.held_out=1")
KEYS = {
    "plain": "sk-plain0123456789abcdef",
    "odd": "sk-\"d\"'s'\\b\\n%41%25+/=[red]m[/red][/]<b>&amp;{x}$`~",
}
PROGRAM = """Your key is KEY.

```python
# KEY
def plan(network, trips, traffic):
    print("KEY" if False else "")
    return {trip.id: traffic.fastest_path(trip.origin, trip.destination, trip.depart) for trip in trips}
```
"""


BUILT = """The program builds the key from its reverse, so that the filter does not recognise it here.

```python
K = REVERSED[::-1]
def plan(network, trips, traffic):
    raise ValueError(MESSAGE)
```
"""
MESSAGES = {  # with the key where a text is changed or cut: a line in a table or a prompt, or a long text
    "line": "'pre ' + K + ' ' + K.upper()",
    "split": "'pre ' + K[:6] + chr(27) + '[0m' + K[6:12] + chr(0x200b) + K[12:]",
    "table": "'x' * 58 + K",
    "prompt": "'x' * 165 + K",
    "problem": "'x' * 1330 + K + 'y' * 2000",
    "beginning": "K + 'x' * 3985",
}


def forms(key: str) -> set[str]:
    """Return a key in each form as a service or a library writes it."""
    shown = {key, repr(key)[1:-1], json.dumps(key)[1:-1], json.dumps(json.dumps(key))[3:-3], html.escape(key)}
    shown |= {urllib.parse.quote(key, safe=""), urllib.parse.quote(key), urllib.parse.quote_plus(key)}
    shown |= {key.upper(), key.encode().hex()}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + key.encode()).decode()
        shown |= {coded, coded.replace("+", "-").replace("/", "_")}
    return shown


def parts(key: str) -> set[bytes]:
    """Return what must not be found, made without the filter: the beginning and the middle of each form."""
    found = {form[4:-4] for form in forms(key)} | {form[:8] for form in forms(key)}
    found |= {key.replace(old, new)[i : i + 8] for old, new in (("`", "'"), ("[", "\\[")) for i in (0, len(key) - 8)}
    return {part.encode() for part in found if len(part) >= 6}


def every_byte(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of all files below a folder, and of what is packed in them."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield str(file), str(file).encode()
        yield str(file), file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as packed:
                for name in packed.namelist():
                    content = packed.read(name)
                    yield f"{file}: {name}", content
                    yield f"{file}: {name}", content.replace(b"\0\0\0", b"")  # numpy's text has four bytes a character


def leaks(key: str, *places: Path | str) -> list[str]:
    wanted = parts(key)
    found = []
    for place in places:
        contents = every_byte(place) if isinstance(place, Path) else [("output", place.encode())]
        found += [f"{name}: {form!r}" for name, content in contents for form in wanted if form in content]
    return found


class Service(ThreadingHTTPServer):
    """Answers with what a function makes of the key that comes in."""

    daemon_threads = True
    reply: Callable[[Handler, str], None]
    keys: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = str(self.headers["Authorization"]).removeprefix("Bearer ")
        self.server.keys.append(key)
        self.server.reply(self, key)

    def send(self, status: int, content: str, reason: str | None = None, **headers: str) -> None:
        body = content.encode()
        self.send_response(status, reason)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def text_with(key: str) -> str:
    """Return a text that has a key in every form."""
    return f"{key} {key!r} " + " ".join(sorted(forms(key)))


def answered(handler: Handler, key: str) -> None:
    content = PROGRAM.replace('"KEY"', repr(key)).replace("KEY", text_with(key)) + text_with(key)
    handler.send(200, completion(content, key))


def completion(content: str, model: str = "m") -> str:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"id": model, "object": "chat.completion", "created": 0, "model": model}
    return json.dumps({**body, "choices": [choice], "usage": usage})


def cut(handler: Handler, key: str) -> None:
    handler.send_response(200, "OK")
    handler.send_header("Content-Length", "100000")
    handler.send_header("X-Key", urllib.parse.quote(key))
    handler.end_headers()
    handler.wfile.write(text_with(key).encode())
    handler.close_connection = True


def refusal(key: str) -> str:
    return json.dumps({"error": {"message": text_with(key)}})


FAILURES: dict[str, tuple[Callable[[Handler, str], None], str]] = {
    "401": (lambda h, key: h.send(401, refusal(key)), "refuses the key in"),
    "400": (lambda h, key: h.send(400, refusal(key)), "failed with HTTP 400"),
    "400-page": (lambda h, key: h.send(400, f"<html>{html.escape(text_with(key))}</html>"), "failed with HTTP 400"),
    "400-cut-in-the-key": (lambda h, key: h.send(400, json.dumps({"error": "x" * 200 + key * 9})), "with HTTP 400"),
    "reason": (lambda h, key: h.send(418, "{}", f"no {urllib.parse.quote(key)}"), "failed with HTTP 418"),
    "header": (lambda h, key: h.send(500, "{}", **{"X-Key": key, "x-request-id": key}), "failed with HTTP 500"),
    "no-json": (lambda h, key: h.send(200, text_with(key)), "no chat completion"),
    "no-choices": (lambda h, key: h.send(200, json.dumps({"choices": [], "id": key})), "no chat completion"),
    "cut": (cut, "cannot be reached, or broke off"),
    "moved": (lambda h, key: h.send(307, "{}", Location=f"/v2?key={urllib.parse.quote(key)}"), "another address"),
}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server:
        server.keys, server.reply = [], answered
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios") / "small"
    folder.mkdir()
    shutil.copy(TOWN, folder)
    scenario = load_scenario("town", changes=SETTINGS).model_copy(update={"name": "small", "network": "town.osm"})
    write_scenario(scenario, folder)
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(redact, "_patterns", {})

    def put(key: str, url: str) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", url)

    return put


def words(small: Path, out: Path) -> list[str]:
    return ["sed", "run", str(small), "--llm", "openai", "--out", str(out), *FEW, "--set", "llm.model=m"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", KEYS)
def test_a_run_that_succeeds_leaves_no_key(name: str, service: Service, small: Path, tmp_path: Path) -> None:
    """In a process of its own, with everything logged that the client can log, and all it leaves in a new cache."""
    key, out, cache = KEYS[name], tmp_path / "s", tmp_path / "cache"
    shutil.copytree(os.environ["RELID_SUMO_CACHE"], cache)
    own = {"OPENAI_API_KEY": f"{key}\r\n", "OPENAI_BASE_URL": f"{service.url}\n", "OPENAI_LOG": "debug"}
    command = [sys.executable, "-c", "from relid_sumo.cli.main import main; main()", *words(small, out), "--debug"]
    done = subprocess.run(
        command, env={**os.environ, **own, "RELID_SUMO_CACHE": str(cache)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(service.keys) == {key}
    assert f"asking m at {service.url}, with the key in OPENAI_API_KEY" in done.stderr
    assert "HTTP Request: POST" in done.stderr, "the client logged nothing"
    answers = list((out / "answers").iterdir())
    assert answers
    assert all("Your key is ***" in answer.read_text() for answer in answers)
    assert not leaks(key, done.stdout, done.stderr, out, cache)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("name", KEYS)
def test_a_program_that_builds_the_key_tells_it_nowhere(
    name: str,
    message: str,
    service: Service,
    small: Path,
    tmp_path: Path,
    environment: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    key, out = KEYS[name], tmp_path / "s"
    answer = BUILT.replace("REVERSED", repr(key[::-1])).replace("MESSAGE", MESSAGES[message])
    service.reply = lambda handler, _: handler.send(200, completion(answer))
    environment(key, service.url)
    told = ""
    for columns in (400, 37):  # the second run resumes the first one
        monkeypatch.setattr(console.out, "width", columns)
        assert run(*words(small, out), "--debug") == 0
        assert run("sed", "show", str(out)) == 0
        told += "".join(capfd.readouterr())
    assert set(service.keys) == {key}
    assert "ValueError" in (out / "results.json").read_text()
    assert "ValueError" in "".join(file.read_text() for file in (out / "prompts").glob("*round2*"))
    unwrapped = re.sub(r"[\s\u2500-\u257f]", "", told)
    assert not leaks(key, told, unwrapped, out)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", KEYS)
def test_a_run_that_fails_leaves_no_key(
    name: str,
    failure: str,
    service: Service,
    small: Path,
    tmp_path: Path,
    environment: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    key, out = KEYS[name], tmp_path / "s"
    service.reply, said = FAILURES[failure]
    environment(f" {key}\n", service.url)
    assert run(*words(small, out), "--set", "llm.retries=0", "--debug") == 2
    told = "".join(capfd.readouterr())
    assert said in " ".join(told.split())
    assert set(service.keys) == {key}
    assert not leaks(key, told, out)


def test_a_redirect_takes_neither_key_nor_prompt_elsewhere(
    service: Service, small: Path, tmp_path: Path, environment: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    with Service(("127.0.0.1", 0), Handler) as other:
        other.keys, other.reply = [], answered
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        service.reply = lambda h, _: h.send(308, "{}", Location=f"{other.url}/chat/completions")
        environment(KEYS["plain"], service.url)
        assert run(*words(small, tmp_path / "s"), "--set", "llm.retries=0") == 2
        other.shutdown()
        thread.join()
    assert set(service.keys) == {KEYS["plain"]}
    assert other.keys == []
    assert "gets neither the key nor the prompt" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("key", ["sk-secret-ünicode", "sk-secret two", "sk-secret\x1b[31m", "\n"])
def test_what_is_no_key_ends_before_anything_runs(
    key: str,
    service: Service,
    small: Path,
    tmp_path: Path,
    environment: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment(key, service.url)
    assert run(*words(small, tmp_path / "s"), "--debug") == 2
    told = "".join(capfd.readouterr())
    assert "OPENAI_API_KEY: the key in this environment variable" in " ".join(told.split())
    assert "secret" not in told
    assert service.keys == []
    assert not (tmp_path / "s").exists()


def test_a_password_in_the_address_is_left_nowhere(
    service: Service, small: Path, tmp_path: Path, environment: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    address = service.url.replace("//", "//me:pass%5Bword%5D12@")
    environment(KEYS["plain"], address)
    assert run(*words(small, tmp_path / "s"), "--set", f"llm.base_url={address}") == 0
    told = "".join(capfd.readouterr())
    assert f"asking m at {service.url}" in told
    settings = json.loads((tmp_path / "s" / "settings.json").read_text())
    assert settings["llm"]["base_url"] == service.url.replace("//", "//***")
    for secret in ("pass%5Bword%5D12", "pass[word]12"):
        assert not leaks(secret, told, tmp_path / "s")
