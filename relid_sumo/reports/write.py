"""Write a report on run folders (`relid-sumo report`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relid_sumo.base import files as base_files
from relid_sumo.base.errors import InputError
from relid_sumo.base.progress import phase
from relid_sumo.reports import figures as drawing
from relid_sumo.reports import tables
from relid_sumo.reports.content import gather
from relid_sumo.reports.page import page
from relid_sumo.reports.read import Missing

Format = Literal["html", "md", "csv", "tex"]
ENDINGS = {".html": "html", ".htm": "html", ".md": "md", ".csv": "csv", ".tex": "tex"}


@dataclass(frozen=True)
class Written:
    """Result of writing a report: number of runs, missing runs, problems, files written, and baselines evaluated."""

    runs: int
    missing: list[Missing]
    problems: list[str]
    files: list[Path]
    baselines: list[str] = field(default_factory=list)


def write(
    folders: Sequence[Path],
    out: Path,
    *,
    form: Format | None = None,
    figures: Path | None = None,
    title: str | None = None,
) -> Written:
    """Write a report on the runs in folders.

    Parameters
    ----------
    folders
        Batches, folders of runs, or single runs.
    out
        The report file.
    form
        Format. Default: by the file's ending.
    figures
        Folder for the figures as PNG and PDF. Default: no figures.
    title
        Title. Default: the folders' names.

    Raises
    ------
    InputError
        There is no run to report on, or a file cannot be written.
    """
    form = form or _form(out)
    with phase("report gathered"):
        content = gather(folders)
    name = title or ", ".join(folder.resolve().name for folder in folders)
    match form:
        case "html":
            text = page(content, name)
        case "md":
            text = tables.markdown(content, name)
        case "csv":
            text = tables.comma_separated(content)
        case "tex":
            text = tables.latex(content)
    try:
        base_files.write(out, text.encode())
        drawn = []
        if figures is not None:
            with phase("figures drawn"):
                drawn = drawing.write(content, figures)
    except OSError as error:
        raise InputError(f"{error.filename or out} cannot be written: {error.strerror}; choose another place") from None
    rows = [row for part in content.parts if part.comparison is not None for row in part.comparison.rows]
    baselines = list(dict.fromkeys(row.name for row in rows if not row.learned))
    return Written(len(content.runs), content.missing, content.problems, [out, *drawn], baselines)


def _form(out: Path) -> Format:
    found = ENDINGS.get(out.suffix.lower())
    if found is None:
        raise InputError(f"--out {out}: the ending names no format; use one of {', '.join(ENDINGS)}, or give --format")
    return found  # type: ignore[return-value]
