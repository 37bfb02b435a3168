"""Running a program that a language model wrote, in a process of its own that can do nothing but compute.

The layers of `relid_sumo.sed.programs.layers` separate it from files, network and other processes; resource limits lie
beneath them; what it writes is read and checked here. What is promised, and what not: docs/security.md.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field

from relid_sumo.base.errors import InputError
from relid_sumo.base.redact import redact
from relid_sumo.base.settings import WEEK_S, Settings
from relid_sumo.sed.programs import layers
from relid_sumo.sed.programs.exchange import ended, exchange, started
from relid_sumo.sed.programs.layers import LAYERS, NEEDED, Layer
from relid_sumo.sed.programs.plain import last_line, plain

OPEN_FILES = 64
MOST_TOLD = 4000  # characters of what went wrong
MOST_PRINTED = 1000  # of them what the program printed last

Isolation = Literal["sandlock", "limits"]
"""``sandlock``: in all layers that work here, of which `NEEDED` have to; ``limits``: in resource limits alone."""


class SandboxSettings(Settings):
    """What a program may use."""

    cpu_s: Annotated[int, Field(ge=1, le=WEEK_S)] = 20
    """CPU time, s."""
    wall_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 40.0
    """Time on the clock, s."""
    memory_mib: Annotated[int, Field(ge=128, le=2**20)] = 1024
    """Address space, MiB."""
    output_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 2**20
    """What it may write: its plan, and what it prints."""


@dataclass(frozen=True)
class Outcome:
    """What came of running a program: what `plan` returned (any JSON) or why there is nothing, and how long it took.

    The problem is plain text of at most `MOST_TOLD` characters; the plan is not checked yet.
    """

    plan: object
    problem: str | None
    seconds: float


EMPTY: dict[str, Any] = {
    "network": {name: [] for name in ("edges", "length", "speed", "lanes", "signal", "start", "end", "successors")},
    "trips": [],
    "traffic": {"bin_s": 300.0, "travel_time": [], "others": []},
}
PROBE = "def plan(network, trips, traffic):\n    return {}\n"


@cache
def missing(layer: Layer) -> str | None:
    """Return why a layer does not work on this machine; None where it does. Tried once, for real."""
    return layers.missing_part(layer) or _trial((layer,))


@cache
def missing_isolation() -> str | None:
    """Return why programs cannot be isolated on this machine; None where they can. Tried once, for real."""
    return next((reason for reason in map(missing, NEEDED) if reason is not None), None) or _trial(active())


def layer_states() -> dict[Layer, str | None]:
    """Return why each layer does not work on this machine; None where it does."""
    return {layer: missing(layer) for layer in LAYERS}


def active() -> tuple[Layer, ...]:
    """Return the layers that work on this machine."""
    return tuple(layer for layer, reason in layer_states().items() if reason is None)


def _trial(tried: Sequence[Layer]) -> str | None:
    outcome = run_within(PROBE, EMPTY, SandboxSettings(), tried)
    return (
        None
        if outcome.plan == {}
        else f"a trial of {', '.join(tried)} failed: {last_line(outcome.problem or 'another plan')}"
    )


def isolation(*, trusted: bool, unsafe: bool) -> Isolation:
    """Return how to run programs: resource limits suffice for the project's own, and where the user insists.

    Parameters
    ----------
    trusted
        The programs are the project's own.
    unsafe
        The user said ``--unsafe-sandbox``.

    Raises
    ------
    InputError
        A model's programs cannot be isolated here.
    """
    reason = missing_isolation()
    if reason is None:
        return "sandlock"
    if trusted or unsafe:
        return "limits"
    raise InputError(
        f"programs written by a language model are not run on this machine: {reason}. Use --llm template, or another "
        "machine; --unsafe-sandbox runs them with resource limits alone: they could then read and send your files"
    )


def run(source: str, data: Mapping[str, Any], settings: SandboxSettings, how: Isolation) -> Outcome:
    """Run a program on the data of `program.objects`; whatever it does, return, and tell what it did.

    Parameters
    ----------
    source
        Python text that defines ``plan(network, trips, traffic)``.
    data
        JSON: ``network``, ``trips``, ``traffic``.
    settings
        Limits.
    how
        See `isolation`.
    """
    return run_within(source, data, settings, active() if how == "sandlock" else ())


def run_within(source: str, data: Mapping[str, Any], settings: SandboxSettings, within: Sequence[Layer]) -> Outcome:
    """Run a program likewise, within some layers."""
    start = time.monotonic()
    deadline = start + settings.wall_s
    limits = (settings.cpu_s, settings.memory_mib, OPEN_FILES)
    walls = layers.walls(within, limits)
    message = json.dumps({**data, "program": source, "walls": walls}).encode()
    with started(layers.command(within), layers.module_path(), layers.ENVIRONMENT) as process:
        written, printed, given_up = exchange(process, message, settings.output_bytes, deadline)
        code = ended(process, deadline) if given_up is None else None
    seconds = time.monotonic() - start
    folders = [str(folder) for folder in (layers.module_path(), *layers.standard_library())]
    plan: object = None
    problem: str | None
    if given_up == "size":
        problem = f"it wrote more than {settings.output_bytes} bytes"
    elif given_up == "time":
        problem = f"it did not end within {settings.wall_s:g} s"
    elif written:
        plan, problem = _understood(written, folders, settings)
    else:
        problem = _fate(code, printed, folders, settings, _may_be_signal(code, within, seconds < settings.cpu_s))
    return Outcome(plan, problem, seconds)


def _understood(written: bytes, folders: Sequence[str], settings: SandboxSettings) -> tuple[object, str | None]:
    """Return the plan in what a program wrote, or None and what went wrong."""
    try:
        answer = json.loads(written.decode(errors="replace"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return None, plain(f"what it wrote is not a plan: {type(error).__name__}: {error}", MOST_TOLD)
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        note = f"\n(the limit is {settings.memory_mib} MiB)" if "MemoryError" in answer["error"] else ""
        return None, (_last(answer["error"], folders, MOST_TOLD - len(note)) or "it failed and said nothing") + note
    if isinstance(answer, dict) and "plan" in answer:
        return answer["plan"], None
    return None, "what it wrote is not a plan"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _last(text: str, folders: Sequence[str], most: int) -> str:
    """Return the end of a text as plain text, without folders that differ from run to run and from user to user."""
    text = redact(text)  # before the folders are removed, which may be part of a key
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return plain(text, most, end=True)


def _may_be_signal(code: int | None, within: Sequence[Layer], short: bool) -> bool:
    """Return whether an exit code may stand for a signal: bubblewrap reports 128 + its number, as a program may too.

    A program with one thread that ran for a `short` time has not used up its CPU time.
    """
    number = (code or 0) - 128
    if "bubblewrap" not in within or number not in signal.valid_signals():
        return False
    return not (number == signal.SIGXCPU and short and "calls" in within)


def _fate(
    code: int | None, printed: bytes, folders: Sequence[str], settings: SandboxSettings, may_be_signal: bool
) -> str:
    """Return how a program ended that gave no answer. Negative codes are signals."""
    last = _last(printed.decode(errors="replace"), folders, MOST_PRINTED)
    said = f"; its last words: {last}" if last else ""
    if code is None:
        return f"it did not end within {settings.wall_s:g} s"
    if code >= 0 and not may_be_signal:
        return f"it ended itself (exit code {code}) without giving a plan{said}"
    number, other = (code - 128, f", or it ended itself (exit code {code})") if may_be_signal else (-code, "")
    if number == signal.SIGXCPU:
        return f"it used more than {settings.cpu_s} s of CPU time{other}"
    if number == signal.SIGKILL:
        return f"it was killed: beyond {settings.cpu_s} s of CPU time, or the machine was out of memory{other}{said}"
    with suppress(ValueError):
        return f"it was ended by signal {number} ({signal.strsignal(number)}){other}{said}"
    return f"it was ended by signal {number}{other}{said}"
