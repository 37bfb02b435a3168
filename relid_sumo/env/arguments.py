"""Arguments of an environment's methods: what a caller's program may pass, and messages for everything else."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np

from relid_sumo.base.arrays import Bools
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.settings import MOST_SEED

OPTIONS = ("traffic_seed",)  # options of `reset`
OF_PETTINGZOO = "options"  # PettingZoo's own test passes {"options": 1} to every environment


def whole(value: object) -> int | None:
    """Return an integer of Python, numpy or another library as an int; None for anything else, such as a bool."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type] # raises where it has no index
    except (TypeError, ValueError, RuntimeError):
        return None


def seed(value: object, what: str) -> int:
    """Return a seed; `what` is the name of the argument.

    Raises
    ------
    InputError
        It is no whole number from 0 on.
    """
    number = whole(value)
    if number is None or not 0 <= number <= MOST_SEED:
        raise InputError(f"reset: {what} = {value!r} is not a seed; give a whole number from 0 to {MOST_SEED}")
    return number


def traffic_seed(options: object) -> int | None:
    """Return the traffic seed in the options of `reset`; None if there is none.

    Raises
    ------
    InputError
        There is another option, or the traffic seed is no whole number from 0 on.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise InputError(f"reset: options = {options!r} is not a dict; give one, as in {{'traffic_seed': 0}}")
    for name in sorted(map(str, options.keys() - {*OPTIONS, OF_PETTINGZOO})):
        known = f"{did_you_mean(name, OPTIONS)}; the only option is {OPTIONS[0]}"
        raise InputError(f"reset: there is no option '{name}'{known}")
    given = options.get("traffic_seed")
    return None if given is None else seed(given, "options['traffic_seed']")


def slot(value: object, agent: str, mask: Bools) -> int:
    """Return the slot that an agent chooses.

    Raises
    ------
    InputError
        It is no integer, or the slot is masked.
    """
    number, slots = whole(value), np.flatnonzero(mask).tolist()
    if number is None:
        said = f"{value!r} ({type(value).__name__})"
        raise InputError(f"step: agent '{agent}': {said} is not a slot; give an integer, one of {slots}")
    if not 0 <= number < len(mask) or not mask[number]:
        raise InputError(f"step: agent '{agent}': slot {number} is masked; use one of {slots}")
    return number
