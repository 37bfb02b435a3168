"""Check the commands and Python examples of README and docs; exit code 1 if any is wrong.

    python tools/check_docs.py             # all pages: parse every command, run what can be run here
    python tools/check_docs.py --parse     # parse alone: seconds
    python tools/check_docs.py FILE...     # some pages

A page's blocks of bash and Python run one after the other, in a copy of a folder of its own, as a reader would. The
folder has the checkout's `experiments`, `docs/results` and `tools`, and the town's map as `city.osm`. A comment above a
block changes this:

    <!-- not run: takes hours -->          the reason; options are still parsed
    <!-- run with: --episodes 4 -->        other values of options that the commands have: small enough to run

Every `relid-sumo` command is parsed by the command line's own parser, so an option that does not exist is found. Of
`make` the target must exist; of `python tools/...` the tool and its options. Other programs are not run. Files that a
page names as code (`relid_sumo/...`, `tools/...`, `tests/...`) must exist.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
LIMIT_S = 600.0  # of one block
OTHERS = re.compile(r"(\S+/bin/)?(pip|python(3(\.\d+)?)?)|apt-get|ray|tensorboard|osmium|mkdir|cp")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (not run|run with): ((?:(?!-->).)+) -->\s*\Z", re.DOTALL)
NAMED = re.compile(r"(?:`|\b)((?:relid_sumo|tools|tests|experiments|examples)/[\w./-]*(?:\.\w+\b|/(?=`)))")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and the mark above it."""

    file: Path
    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""

    @property
    def place(self) -> str:
        """The place, for messages."""
        return f"{self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file}:{self.line}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check pages; print each fault with its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="pages (default: README and docs)")
    parser.add_argument("--parse", action="store_true", help="run nothing")
    given = parser.parse_args(arguments)
    pages = [file.resolve() for file in given.files] or sorted({f for page in PAGES for f in ROOT.glob(page)})
    count = 0
    for page in pages:
        found = [fault for block in blocks(page) for fault in parsed(block)] + list(names(page))
        if not found and not given.parse:
            found = list(run(page))
        count += len(found)
        print(*found, sep="\n", end="\n" if found else "", flush=True)
    return 1 if count else 0


def blocks(file: Path) -> Iterator[Block]:
    """Yield a page's blocks of bash and Python."""
    content = file.read_text(encoding="utf-8")
    for found in BLOCK.finditer(content):
        if found[1] in {"bash", "python"}:
            mark = MARK.search(content[: found.start()])
            kind, value = (mark[1], " ".join(mark[2].split())) if mark else ("", "")
            yield Block(file, content.count("\n", 0, found.start()) + 1, found[1], found[2], kind, value)


def names(file: Path) -> Iterator[str]:
    """Yield a fault for each file of the checkout that a page names and that does not exist."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        for named in NAMED.findall(line):
            if not (ROOT / named).exists():
                yield f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{number}: no file {named}"


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command of a bash block, with the values of its mark."""
    other = options(shlex.split(block.value)) if block.mark == "run with" else {}
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            for option, value in other.items():
                if option in words:
                    words[words.index(option) + 1] = value
            if words:
                yield words


def options(words: Sequence[str]) -> dict[str, str]:
    """Return options by name, each with one value."""
    return dict(zip(words[::2], words[1::2], strict=True))


def parsed(block: Block) -> Iterator[str]:
    """Yield what is wrong with a block without running it."""
    try:
        if block.language == "python":
            compile(block.text, block.place, "exec")
            return
        for words in commands(block):
            if fault := wrong(words):
                yield f"{block.place}: {shlex.join(words)}: {fault}"
    except (SyntaxError, ValueError) as error:
        yield f"{block.place}: {error}"


def wrong(words: Sequence[str]) -> str:
    """Return what is wrong with a command; empty where nothing is."""
    program, *arguments = words
    match program:
        case "relid-sumo":
            return _refused(arguments)
        case "make":
            targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            return "" if not arguments or arguments[0] in targets else f"the Makefile has no target {arguments[0]}"
        case "python" if arguments and arguments[0].startswith("tools/"):
            return _tool(arguments)
        case _ if OTHERS.fullmatch(program):
            return ""
    return f"'{program}' is no program that the documentation uses"


def _refused(arguments: Sequence[str]) -> str:
    """Return why the command line refuses arguments; empty where it takes them."""
    try:
        _without_actions().main(list(arguments), prog_name="relid-sumo", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # of the parser: typer has a click of its own, and does not export it
            raise
        return str(error.format_message())
    return ""


@cache
def _without_actions() -> Any:  # noqa: ANN401 - a click command, which typer does not type
    """Return the command line with commands that only parse."""
    from relid_sumo.cli.main import app  # noqa: PLC0415 - a tool may be asked for --help without the package

    command = typer.main.get_command(app)
    waiting: list[Any] = [command]
    while waiting:
        one = waiting.pop()
        if nested := getattr(one, "commands", None):
            waiting += nested.values()
        else:
            one.callback = None
    return command


def _tool(arguments: Sequence[str]) -> str:
    """Return what is wrong with a command of a tool, by its help."""
    tool, *rest = arguments
    if not (ROOT / tool).is_file():
        return f"there is no {tool}"
    command = (rest[0],) if rest and not rest[0].startswith("-") and tool == "tools/study.py" else ()
    text, problem = _help(tool, *command)
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in text]
    return problem or (f"no option {', '.join(unknown)}" if unknown else "")


@cache
def _help(tool: str, *command: str) -> tuple[str, str]:
    """Return the help of a tool, and what is wrong where it has none."""
    words = [sys.executable, str(ROOT / tool), *command, "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=False)
    return shown.stdout, f"{tool} has no --help: {shown.stderr.strip()[-300:]}" if shown.returncode else ""


def run(page: Path) -> Iterator[str]:
    """Yield what fails when a page's blocks run in a folder as a reader has it."""
    todo = [block for block in blocks(page) if block.mark != "not run"]
    if not todo:
        return
    with tempfile.TemporaryDirectory(prefix="relid_sumo-docs-") as name:
        folder = Path(name)
        shutil.copy(ROOT / "scenarios" / "town" / "town.osm", folder / "city.osm")
        for own in ("experiments", "tools", "docs/results", "examples"):
            if (ROOT / own).is_dir():
                (folder / own).parent.mkdir(exist_ok=True)
                shutil.copytree(ROOT / own, folder / own)
        for block in todo:
            start = time.monotonic()
            script = [block.text] if block.language == "python" else [shlex.join(words) for words in commands(block)]
            if fault := _ran(block.language, "\n".join(script), folder):
                yield f"{block.place}: {fault}"
                return
            print(f"{block.place}: {block.language}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _ran(language: str, script: str, folder: Path) -> str:
    """Return the last lines of what failed; empty where nothing did."""
    command = [sys.executable, "-c", script] if language == "python" else ["bash", "-euc", script]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"takes more than {LIMIT_S:.0f} s"
    return (
        ""
        if done.returncode == 0
        else f"exit code {done.returncode}: " + "\n  ".join(done.stderr.strip().splitlines()[-5:])
    )


def _environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of a block: this interpreter's programs first, and this checkout's package."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, start in (("python", ""), ("relid-sumo", ' -c "from relid_sumo.cli.main import main; main()"')):
        program = bin_folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{start} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths}


if __name__ == "__main__":
    sys.exit(main())
