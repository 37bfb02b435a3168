"""Providers of planning programs: one table of built-in providers, and a user's own by import path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, RelidSumoError, did_you_mean

if TYPE_CHECKING:
    from relid_sumo.sed.ask.provider import Answer, Asking, Provider, Question


@dataclass(frozen=True)
class Known:
    """Properties of a provider.

    Attributes
    ----------
    build : str
        Import path of a function that takes an `Asking` and returns a `Provider`.
    is_model : bool
        Whether a model answers: then its programs are isolated, and its answers can be recorded.
    repeats : bool
        Whether the same prompt always gets the same answer, so that results can be cached.
    waits : bool
        Whether it waits for a person; training cannot.
    """

    build: str
    is_model: bool = True
    repeats: bool = False
    waits: bool = False


PROVIDERS: Mapping[str, Known] = {
    "recorded": Known("relid_sumo.sed.ask.mailbox:build_recorded", repeats=True),
    "template": Known("relid_sumo.sed.ask.template:build", is_model=False, repeats=True),
    "openai": Known("relid_sumo.sed.ask.service:build"),
    "mailbox": Known("relid_sumo.sed.ask.mailbox:build_mailbox", waits=True),
}


def find(name: str) -> Known:
    """Return the properties of a provider by name or import path; a user's own provider is not imported.

    Raises
    ------
    InputError
        No provider has that name.
    """
    if extension.is_path(name):
        return Known(name)
    if name not in PROVIDERS:
        known, near = ", ".join(PROVIDERS), did_you_mean(name, PROVIDERS)
        raise InputError(f"--llm {name}: no such provider{near}; use one of {known}, or your own as {extension.FORM}")
    return PROVIDERS[name]


def own(name: str) -> Callable[[Asking], Provider]:
    """Import a user's provider, check that it takes one argument, and return it.

    Raises
    ------
    InputError
        It cannot be imported, or is not a function of one argument.
    """
    found: Callable[[Asking], Provider] = extension.load(name, "provider")
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise InputError(
            f"provider '{name}': a provider is a class or function that is called with one relid_sumo.Asking and "
            f"returns an object with a method `answer`; this is a {type(found).__name__} ({error})"
        ) from None
    return found


def build(name: str, asking: Asking) -> Provider:
    """Return a provider by name or import path.

    Raises
    ------
    InputError
        No provider has that name, the user's own is not valid, or an argument that it needs is missing.
    """
    if not extension.is_path(name):
        built: Provider = extension.load(find(name).build, "provider")(asking)
        return built
    try:
        made = own(name)(asking)
    except RelidSumoError:
        raise
    except Exception as error:
        raise extension.failed(name, "provider", error) from error
    if not callable(getattr(made, "answer", None)):
        raise InputError(f"provider '{name}': it returns a {type(made).__name__}, which has no method `answer`")
    return _Own(name, made)


class _Own:
    """A user's provider; its errors name it."""

    def __init__(self, name: str, provider: Provider) -> None:
        self._name, self._provider = name, provider

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str | Answer]]:
        """See `Provider`."""
        try:
            yield from self._provider.answer(questions)
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(self._name, "provider", error) from error
