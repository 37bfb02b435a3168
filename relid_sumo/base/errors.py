"""The exceptions a user can meet.

RelidSumoError
├── InputError        a file, a setting or an argument is not usable; the message says where and how to fix it
└── SimulationError   SUMO stopped, or could not be started; the message contains SUMO's own line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RelidSumoError(Exception):
    """Base of every error that a user can fix: one message, no traceback, exit code 2."""


class InputError(RelidSumoError):
    """A file, a setting or an argument that cannot be used."""


class SimulationError(RelidSumoError):
    """SUMO ended or refused, and the simulation cannot continue."""


def missing_extra(package: str, extra: str) -> InputError:
    """Return the error for an optional package that is not installed; it says what to install."""
    return InputError(f'{package} is not installed; install it with: pip install "relid_sumo[{extra}]"')


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
