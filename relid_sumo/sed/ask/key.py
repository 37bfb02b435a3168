"""The service and its key, from settings and environment; checked before a run starts."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError
from relid_sumo.scenario.llm import ADDRESS, LlmSettings

OPENAI = "https://api.openai.com/v1"
OWN_KEY = "OPENAI_API_KEY"
IN_VALUE = re.compile(r"\$\{([^}]*)\}")  # ${NAME} in a header or the query
NOT_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection"}


@dataclass(frozen=True)
class Service:
    """An OpenAI-compatible service.

    Attributes
    ----------
    url
        Its address, which may contain a user and a password.
    shown
        The address without user and password, for messages.
    key
        The key for it, "" for none.
    encrypted
        Whether the connection is encrypted.
    secret
        Whether a key, or a password in the address, is sent.
    headers, query
        Headers, that of the key included if it has a name of its own, and the query of each request.
    """

    url: str = field(repr=False)
    shown: str
    key: str = field(repr=False)
    encrypted: bool
    secret: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


def service(settings: LlmSettings) -> Service:
    """Return the service to ask.

    Raises
    ------
    InputError
        The address, a header or the key is not valid, the key is missing, or it would be sent unencrypted.
    """
    base_url, key_env = settings.base_url, settings.key_env
    key = read_key(key_env)
    given = os.environ.get(ADDRESS, "").strip()
    where = "llm.base_url" if base_url is not None else ADDRESS if given else ""
    found = _address(base_url if base_url is not None else given or OPENAI, where or "the service", key)
    if not key and (not where or key_env not in {"", OWN_KEY}):
        raise InputError(
            f"--llm openai: there is no key; put it into the environment as {key_env or 'a variable'} "
            f"(llm.key_env), or name a service that needs none: --set llm.base_url=URL --set llm.key_env='', or "
            f"{ADDRESS}"
        )
    values = [f"{value}" for part in (settings.headers, settings.query) for value in part.values()]
    found = replace(
        found,
        headers={
            **{name: _filled(value, f"llm.headers.{name}") for name, value in settings.headers.items()},
            **({settings.key_header: key} if settings.key_header and key else {}),
        },
        query={**found.query, **{name: _filled(value, f"llm.query.{name}") for name, value in settings.query.items()}},
        secret=found.secret or any(IN_VALUE.search(value) for value in values),
    )
    for name in settings.headers:
        if name.lower() in NOT_OURS:
            raise InputError(f"llm.headers.{name}: the client sets this header itself; remove it")
    if found.secret and not found.encrypted and not settings.allow_http and not _is_here(found.url):
        raise InputError(
            f"{where} = {found.shown}: the key{f' in {key_env}' if key else ''} would be sent there unencrypted; use "
            "https://, send no key (--set llm.key_env=''), or allow it: --set llm.allow_http=true"
        )
    return found


def _filled(value: str, where: str) -> str:
    """Return the value of a header or of the query, with environment variables in place of ``${NAME}``."""
    for name in IN_VALUE.findall(value):
        if not read_key(name):
            raise InputError(f"{where}: the environment variable {name or '${}'} is not set; set it, or remove this")
    filled = IN_VALUE.sub(lambda match: read_key(match[1]), value)
    if not all(" " <= c <= "~" for c in filled) or filled != filled.strip():
        raise InputError(f"{where}: use ASCII characters only, without space around them")
    return filled


def read_key(variable: str) -> str:
    """Return the key in an environment variable without spaces around it; "" where the variable is not set.

    It is hidden in all later output (`relid_sumo.base.redact`).

    Raises
    ------
    InputError
        It is not a valid key; the message names the variable, and does not show the key.
    """
    raw = os.environ.get(variable) if variable else None
    if raw is None:
        return ""
    for part in (raw, *raw.split()):
        redact.hide(part)
    key = raw.strip()
    faults = {
        "is empty": not key,
        "has characters that are not ASCII": not key.isascii(),
        "has spaces or control characters inside": any(not "!" <= c <= "~" for c in key),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise InputError(
                f"{variable}: the key in this environment variable {fault}; put the key alone there, or unset it"
            )
    return key


def _address(text: str, where: str, key: str) -> Service:
    """Check an address, and return its service; user and password are hidden in all later output."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        for secret in (f"{user}@", f"{unquote(user)}@") if at else ():
            redact.hide(secret, short=True)
        for word in (parts.password or "", unquote(parts.password or ""), parts.query):
            redact.hide(word)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        raise InputError(f"{where}: no address of a service; write it as https://HOST/v1") from None
    if redact.HIDDEN in parts.netloc:
        raise InputError(
            f"{where}: the password of this address was hidden when it was saved; put the whole address into {ADDRESS} "
            "and leave llm.base_url out"
        )
    plain = all("!" <= c <= "~" for c in url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_one or not plain or parts.fragment:
        raise InputError(f"{where}: no address of a service; write it as https://HOST/v1")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for word in query.values():
        redact.hide(word)
    whole = urlunsplit(parts._replace(query=""))
    return Service(whole, shown, key, parts.scheme == "https", bool(key or at or parts.query), {}, query)


def _is_here(url: str) -> bool:
    """Return whether an address belongs to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
