"""Prompts for a model: the initial prompt and the feedback prompt, from templates that users may override.

All figures in a prompt are rounded, so that the same scenario gives the same text, byte for byte. The size of a prompt
is bounded on every network, because the network is an input of the program and not a part of the prompt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from pydantic import Field

from relid_sumo.base.errors import InputError
from relid_sumo.base.redact import redact
from relid_sumo.base.settings import Settings
from relid_sumo.sed.programs.plain import fence, harmless, last_line

FOLDER = Path(__file__).parent / "prompts"
INITIAL, FEEDBACK = "initial.md.j2", "feedback.md.j2"
SHORTENED = "\n... (shortened)"
MOST_VEHICLES, MOST_OTHERS, MOST_FAILED = 12, 6, 4  # listed in a feedback prompt
LEAST_PROGRAM = 400  # characters of a failed program that make it worth showing
Regime = Literal["rich", "bare"]


class PromptSettings(Settings):
    """Size and templates of prompts."""

    regime: Regime = "rich"
    """What a program gets. rich: network with path searches, trips with the routes tried so far, and mean travel times;
    bare: network and trips alone, the prompt shows no example of a planner, the samples of a round get different,
    numbered prompts, and feedback shows each failed program of the last round."""

    max_characters: Annotated[int, Field(ge=9_000, le=10**8)] = 12_000
    """Longest prompt, characters. A prompt counts the vehicles that it cannot list; programs still plan for them."""
    max_program: Annotated[int, Field(ge=1_000, le=10**8)] = 3_000
    """Longest program that the prompt asks for, characters; a feedback prompt shortens a longer one."""
    max_problem: Annotated[int, Field(ge=200, le=10**8)] = 1_500
    """Longest error text of a program in a feedback prompt, characters."""
    templates: str | None = None
    """Folder with templates of your own (initial.md.j2, feedback.md.j2); built-in ones replace missing files.
    In feedback.md.j2 ``fence`` is a fence that no shown text can close."""


def render(template: str, values: Mapping[str, Any], settings: PromptSettings) -> str:
    """Return a template filled in.

    Raises
    ------
    InputError
        The folder of templates is missing, or a template is not valid or uses an unknown variable. The message names
        the file, the line and the known variables.
    """
    folders = [FOLDER / settings.regime]
    if settings.templates is not None:
        own = Path(settings.templates)
        if not any((own / name).is_file() for name in (INITIAL, FEEDBACK)):
            raise InputError(f"sed.prompt.templates: {own} has neither {INITIAL} nor {FEEDBACK}; add one, or unset it")
        folders.insert(0, own)
    try:
        return _environment(tuple(folders)).get_template(template).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{error.filename}, line {error.lineno}: {error.message}") from None
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        file = next(folder / template for folder in folders if (folder / template).is_file())
        raise InputError(f"{file}: {error}; its variables are {', '.join(sorted(values))}") from None


@cache
def _environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    """Return the loader of templates; cached, so that each is compiled once (and again when its file changes)."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )


def initial(facts: Mapping[str, Any], settings: PromptSettings) -> str:
    """Return the initial prompt within its size limit; it lists as many vehicles as fit.

    Raises
    ------
    InputError
        The template alone is longer than allowed, or not valid (see `render`).
    """
    vehicles = list(facts["vehicles"])

    def text(shown: int) -> str:
        more = len(vehicles) - shown
        return render(
            INITIAL,
            {**facts, "vehicles": vehicles[:shown], "more": more, "n_vehicles": len(vehicles), "brief": False},
            settings,
        )

    fitting = bisect_right(range(len(vehicles) + 1), settings.max_characters, key=lambda shown: len(text(shown)))
    if fitting > 0:
        return text(fitting - 1)
    raise InputError(
        f"the initial prompt has {len(text(0))} characters without any vehicle, and sed.prompt.max_characters = "
        f"{settings.max_characters}; shorten the template or raise the setting"
    )


def feedback(facts: Mapping[str, Any], settings: PromptSettings) -> str:
    """Return the feedback prompt within its size limit: the task in brief, then the results; long parts are cut.

    Raises
    ------
    InputError
        The template alone is longer than allowed, or not valid (see `render`).
    """
    vehicles, best = facts["vehicles"], facts["best"]
    values = {
        **facts,
        "n_vehicles": len(vehicles),
        "vehicles": vehicles[:MOST_VEHICLES],
        "more": max(0, len(vehicles) - MOST_VEHICLES),
        "brief": best is not None,
        "others": [
            {**other, "problem": _line(other["problem"]) if other["problem"] else None}
            for other in facts["others"][-MOST_OTHERS:]
        ],
    }
    values["initial"] = render(INITIAL, values, settings)
    failed = facts["failed"]
    if settings.regime == "rich":  # as in the prompts of the recorded answers
        failed = failed[-1:] if best is None else []
    for count in range(min(MOST_FAILED, len(failed)), -1, -1):
        text = _fitting(values, [] if count == 0 else failed[-count:], settings)
        if len(text) <= settings.max_characters:
            return text
    raise InputError(
        f"the feedback prompt has {len(text)} characters without any program, and sed.prompt.max_characters = "
        f"{settings.max_characters}; shorten the template or raise the setting"
    )


def _fitting(values: Mapping[str, Any], failed: Sequence[Mapping[str, Any]], settings: PromptSettings) -> str:
    """Return the feedback prompt with some failed programs; all programs are cut to one length, so that it fits."""
    most_problem = settings.max_problem // max(1, len(failed))
    clean = [
        {**one, "program": harmless(one["program"]), "problem": cut(redact(one["problem"]), most_problem)}
        for one in failed
    ]
    best = values["best"]
    if best is not None:
        best = {**best, "program": harmless(best["program"]), "vehicles": best["vehicles"][:MOST_VEHICLES]}

    def text(most: int) -> str:
        shown = [{**one, "program": cut(one["program"], most)} for one in clean]
        first = None if best is None else {**best, "program": cut(best["program"], most)}
        texts = [one[part] for one in shown for part in ("program", "problem")]
        fenced = fence(*texts, *([first["program"]] if first else []))
        return render(FEEDBACK, {**values, "best": first, "failed": shown, "fence": fenced}, settings)

    shortest = len(SHORTENED) if not failed else LEAST_PROGRAM
    lengths = range(shortest, max(shortest + 1, settings.max_characters))
    fitting = bisect_right(lengths, settings.max_characters, key=lambda most: len(text(most)))
    return text(lengths[max(0, fitting - 1)])


def _line(problem: str) -> str:
    return cut(last_line(redact(problem)).replace("`", "'"), 200)


def cut(text: str, most: int) -> str:
    """Return a text, shortened to a number of characters."""
    return text if len(text) <= most else text[: most - len(SHORTENED)] + SHORTENED
