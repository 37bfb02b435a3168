"""Who writes planning programs: one table of providers, and those of the user's own by import path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relid_sumo.base import extension
from relid_sumo.base.errors import InputError, RelidSumoError, did_you_mean

if TYPE_CHECKING:
    from relid_sumo.sed.ask.provider import Asking, Provider, Question


@dataclass(frozen=True)
class Known:
    """What is known of a provider.

    Attributes
    ----------
    build : str
        Import path of a function of an `Asking` that returns a `Provider`.
    is_model : bool
        Whether a model answers: then its programs are isolated, and its answers can be recorded.
    repeats : bool
        Whether the same prompt always gets the same answer, so that results can be cached.
    waits : bool
        Whether it waits for somebody; training cannot.
    """

    build: str
    is_model: bool = True
    repeats: bool = False
    waits: bool = False


PROVIDERS: Mapping[str, Known] = {
    "recorded": Known("relid_sumo.sed.ask.mailbox:build_recorded", repeats=True),
    "template": Known("relid_sumo.sed.ask.template:build", is_model=False, repeats=True),
    "openai": Known("relid_sumo.sed.ask.provider:build"),
    "mailbox": Known("relid_sumo.sed.ask.mailbox:build_mailbox", waits=True),
}


def find(name: str) -> Known:
    """Return a provider by name or import path; one of the user's own is not imported.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if extension.is_path(name):
        return Known(name)
    if name not in PROVIDERS:
        known, near = ", ".join(PROVIDERS), did_you_mean(name, PROVIDERS)
        raise InputError(f"--llm {name}: no such provider{near}; known are {known}, and your own as {extension.FORM}")
    return PROVIDERS[name]


def own(name: str) -> Callable[[Asking], Provider]:
    """Return a user's provider, imported, and checked as far as it can be before it is called.

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
        There is none, it is the user's own and is none, or it lacks what it needs.
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
    """A user's provider; what it raises names it."""

    def __init__(self, name: str, provider: Provider) -> None:
        self._name, self._provider = name, provider

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """See `Provider`."""
        try:
            yield from self._provider.answer(questions)
        except RelidSumoError:
            raise
        except Exception as error:
            raise extension.failed(self._name, "provider", error) from error
