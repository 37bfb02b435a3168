"""Which service gets the key: an explicit setting, the environment's, OpenAI's; and what is no key."""

from __future__ import annotations

import pytest

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.llm import LlmSettings
from relid_sumo.sed.ask.key import Service, read_key
from relid_sumo.sed.ask.key import service as service_of

KEY = "sk-very-secret-key"


def service(base_url: str | None, key_env: str, *, allow_http: bool) -> Service:
    return service_of(LlmSettings(base_url=base_url, key_env=key_env, allow_http=allow_http))


PRIVATE, OTHER = "https://private.example/v1", "https://other.example/v1"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_patterns", {})
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("setting", "environment", "asked"),
    [
        (None, None, "https://api.openai.com/v1"),
        (None, "", "https://api.openai.com/v1"),
        (None, f" {PRIVATE}\n", PRIVATE),
        (OTHER, PRIVATE, OTHER),
        (OTHER, None, OTHER),
    ],
)
def test_a_setting_goes_before_the_environment_and_that_before_openai(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, environment: str | None, asked: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if environment is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", environment)
    found = service(setting, "OPENAI_API_KEY", allow_http=False)
    assert (found.url, found.shown, found.key) == (asked, asked, KEY)
    assert KEY not in repr(found)


@pytest.mark.parametrize("around", ["{}", "{}\n", "{}\r\n", "\r{}", "  {}\t", "\n\n{} \r"])
def test_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    monkeypatch.setenv("MINE", around.format(KEY))
    assert read_key("MINE") == KEY


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("\n", "is empty"),
        ("\r\n\t", "is empty"),
        ("sk-verysecret-ü", "not ASCII"),
        ("“sk-verysecret”", "not ASCII"),
        ("sk-verysecret\udcff", "not ASCII"),
        ("sk-verysecret\u200b", "not ASCII"),
        ("sk-very secret-key", "spaces or control characters"),
        ("sk-verysecret\nsk-another-key", "spaces or control characters"),
        ("sk-verysecret\rX-Header: x", "spaces or control characters"),
        ("sk-verysecret\x00x", "spaces or control characters"),
        ("sk-verysecret\x1b[2J", "spaces or control characters"),
        ("sk-verysecret\x7f", "spaces or control characters"),
    ],
)
def test_what_is_no_key_is_told_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str, said: str
) -> None:
    if "\x00" in key:  # which no environment can have
        monkeypatch.setattr("os.environ", {"MINE": key})
    else:
        monkeypatch.setenv("MINE", key)
    with pytest.raises(InputError, match=rf"^MINE: the key in this environment variable .*{said}") as error:
        service(None, "MINE", allow_http=False)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
    if key.strip():
        assert "secret" not in redact.redact(f"{key!r} {key} {key.strip()}")


def test_without_a_key_only_a_named_service_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no key; put it into the environment as OPENAI_API_KEY"):
        service(None, "OPENAI_API_KEY", allow_http=False)
    assert service("http://gpu:8000/v1", "OPENAI_API_KEY", allow_http=False).key == ""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu:8000/v1")
    assert service(None, "OPENAI_API_KEY", allow_http=False).url == "http://gpu:8000/v1"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert service(PRIVATE, "", allow_http=False).key == ""


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://localhost:8000/v1", True),
        ("http://a.localhost/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.8.8/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://gpu/v1", True),
        ("http://gpu/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example/v1", False),
        ("http://0x7f.1.example/v1", False),
    ],
)
def test_a_key_goes_unencrypted_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch, url: str, sent: bool) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if sent:
        assert service(url, "OPENAI_API_KEY", allow_http=False).key == KEY
        return
    with pytest.raises(InputError, match=r"llm\.base_url = http://.*the key in OPENAI_API_KEY would be sent there"):
        service(url, "OPENAI_API_KEY", allow_http=False)
    assert service(url, "OPENAI_API_KEY", allow_http=True).key == KEY
    assert service(url, "", allow_http=False).key == ""


@pytest.mark.parametrize(
    "url",
    [
        *("", "gpu/v1", "ftp://gpu/v1", "file:///etc/passwd", "http://", "http://:80/v1", "http://gpu:99999/v1"),
        *("http://gp u/v1", "http://gpü/v1", "http://[::1/v1", "https://gpu/v1#x", "https://gpu/\nv1"),
    ],
)
def test_what_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match=r"^llm\.base_url: no address of a service"):
        service(url, "OPENAI_API_KEY", allow_http=False)
    if url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(InputError, match=r"^OPENAI_BASE_URL: no address of a service"):
            service(None, "OPENAI_API_KEY", allow_http=False)


def test_a_password_in_an_address_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:pass%2Fword12@gpu.example/v1?api-key=query-secret"
    found = service(url, "OPENAI_API_KEY", allow_http=False)
    assert found.url == "https://me:pass%2Fword12@gpu.example/v1"
    assert found.query == {"api-key": "query-secret"}
    assert found.shown == "https://gpu.example/v1"
    told = redact.redact(f"{found!r} {url} pass%2Fword12 pass/word12 bWU6cGFzcy93b3JkMTI= api-key=query-secret")
    assert "word12" not in told
    assert "query-secret" not in told
    with pytest.raises(InputError, match="would be sent there unencrypted") as error:
        service(url.replace("https", "http"), "OPENAI_API_KEY", allow_http=False)
    assert "word12" not in str(error.value)
