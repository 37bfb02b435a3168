"""Options of the commands that may ask a language-model service; they replace settings of the block ``[llm]``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --llm openai: name of the model (--set llm.model=NAME).")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of an OpenAI-compatible service (--set llm.base_url=URL; default: OPENAI_BASE_URL, or OpenAI's).",
    ),
]


def split(
    changes: Sequence[str] | None, part: str, model: str | None = None, base_url: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the changes of ``--set`` for a part of a command's settings, and those for the scenario.

    Parameters
    ----------
    part
        ``sed`` or ``train``: its changes begin with this word and a dot. ``sed.llm.`` is another name of ``llm.``.
    model, base_url
        The options of these names.
    """
    given = [f"llm.{c.removeprefix('sed.llm.')}" if c.startswith("sed.llm.") else c for c in changes or []]
    options = {"model": model, "base_url": base_url}
    given += [f"llm.{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    own = [change.removeprefix(f"{part}.") for change in given if change.startswith(f"{part}.")]
    return own, [change for change in given if not change.startswith(f"{part}.")]
