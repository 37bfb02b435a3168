"""The service and its key, from settings and environment; checked before a run starts."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from relid_sumo.base import redact
from relid_sumo.base.errors import InputError

OPENAI = "https://api.openai.com/v1"
ADDRESS = "OPENAI_BASE_URL"  # the official client's own variable


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
    """

    url: str = field(repr=False)
    shown: str
    key: str = field(repr=False)
    encrypted: bool
    secret: bool


def service(base_url: str | None, key_env: str, *, allow_http: bool) -> Service:
    """Return the service to ask.

    Parameters
    ----------
    base_url
        Its address; by default that in OPENAI_BASE_URL, else OpenAI's own.
    key_env
        Environment variable of the key; "" for no key.
    allow_http
        Whether a key may be sent unencrypted to another machine.

    Raises
    ------
    InputError
        The address or the key is not valid, OpenAI's key is missing, or the key would be sent unencrypted.
    """
    key = read_key(key_env)
    given = os.environ.get(ADDRESS, "").strip()
    where = "sed.llm.base_url" if base_url is not None else ADDRESS if given else ""
    found = _address(base_url if base_url is not None else given or OPENAI, where or "the service", key)
    if not key and not where:
        raise InputError(
            f"--llm openai: there is no key; put it into the environment as {key_env or 'a variable'} "
            f"(sed.llm.key_env), or name a service that needs none: --set sed.llm.base_url=URL, or {ADDRESS}"
        )
    if found.secret and not found.encrypted and not allow_http and not _is_here(found.url):
        raise InputError(
            f"{where} = {found.shown}: the key{f' in {key_env}' if key else ''} would be sent there unencrypted; use "
            "https://, send no key (--set sed.llm.key_env=''), or allow it: --set sed.llm.allow_http=true"
        )
    return found


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
    plain = all("!" <= c <= "~" for c in url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_one or not plain or parts.fragment:
        raise InputError(f"{where}: no address of a service; write it as https://HOST/v1")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return Service(url, shown, key, parts.scheme == "https", bool(key or at or parts.query))


def _is_here(url: str) -> bool:
    """Return whether an address belongs to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
