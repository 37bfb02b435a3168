"""Find words that readers stumble over, in everything users read; exit code 1 if there are any.

    python tools/check_prose.py            # all that COVERED names
    python tools/check_prose.py FILE...    # some files

Markdown and other text are read as a whole, without code spans and code blocks. Of Python files, docstrings and other
texts are read: help, errors, table headings. Clear-cut words are errors wherever they stand; words with a plain meaning
of their own (way, kept, had) are errors in the turns of phrase that RULES lists.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COVERED = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "examples/**/*.py", "experiments/*.toml"),
    *("networks/*/network.toml", "scenarios/*/scenario.toml", "pyproject.toml", "Makefile", "mkdocs.yml", ".ci/run"),
    *(".github/**/*.md", ".github/**/*.yml", "Dockerfile", "tools/*.py"),
    "relid_sumo/**/*.py",
    *(f"tests/*/{wing}/*.py" for wing in ("batch", "cli", "env", "examples", "reports", "sim", "viewer", "replay")),
    *("relid_sumo/reports/page.html", "relid_sumo/replay/page.html", "tests/conftest.py", "tests/conformance/*.py"),
)
# Rules that do not apply to a file, and why.
EXEMPT: dict[str, frozenset[str]] = {
    # OSM ways are their subject
    **{f"relid_sumo/network/{name}.py": frozenset({"way"}) for name in ("account", "netfile", "network", "osm*")},
    "relid_sumo/network/fetch.py": frozenset({"way"}),  # its query names them
    "relid_sumo/network/osm_rules.py": frozenset({"way", "holds"}),  # its notes are in the summaries of networks
    "relid_sumo/sed/ask/prompts/*": frozenset({"way", "holds", "who"}),  # recorded answers: found by the prompt's hash
    "relid_sumo/sed/ask/template.py": frozenset({"way"}),  # its program is in prompts
    "tools/make_town.py": frozenset({"way"}),  # it writes OSM ways
    "tools/fuzz_osm.py": frozenset({"way"}),  # it damages OSM ways
    "tools/check_prose.py": frozenset({"way", "kept", "had", "holds", "strict", "who"}),  # it lists the words
}

# Name of the rule, pattern, what to write instead.
RULES: tuple[tuple[str, str, str], ...] = (
    ("strict", r"mend(s|ed|ing)?", "fix"),
    ("strict", r"anew", "again, or a verb with re-"),
    ("strict", r"(go|goes|gone|going|went) (on with|on from)", "resume, continue"),
    ("strict", r"(tell|tells|told|telling) of", "report"),
    ("strict", r"(works|worked) out", "compute"),
    ("strict", r"how manyth", "index of ... in ..."),
    ("strict", r"(who|what) (does|do|did|has|have) not arrive", "vehicles that do not arrive"),
    ("strict", r"(comes|came|come) to (?!rest)", "is, equals, results in"),
    ("strict", r"fore(tell|tells|told|telling)", "predict"),
    ("strict", r"beside", "compared with, in addition to, next to"),
    ("holds", r"holds(?! a lock)", "contains, stores, is true"),
    ("way", r"(?<!osm )(?<!one-)(?<!two-)(?<!right of )ways?(?! with a highway tag)", "route, next edge, manner"),
    ("who", r"who (has|is|does(?! not arrive))|whoever|(?<!')nobody", "the noun: the agent, the vehicle, no agent"),
    ("strict", r"told (how|what|where|why|whether)", "shown, reported, given"),
    ("strict", r"(on trial|worth a try|held plans?|scores held)", "candidate, best plan, best score"),
    ("kept", r"kept (in|with|for|until|as|unedited|between|there|too|what)", "stored, cached, unchanged"),
    ("kept", r"(is|are|was|were) kept(?=[.;,)])", "stored, cached"),
    ("had", r"(could|can|cannot|to|may|might) be had|had from", "available, obtained"),
)
PATTERNS = tuple(
    (name, re.compile(rf"\b({pattern})\b".replace(" ", r"\s"), re.IGNORECASE), instead)
    for name, pattern, instead in RULES
)
FENCE = re.compile(r"^\s*(```|~~~)")
SPAN = re.compile(r"``.+?``|`[^`\n]*`|\]\([^)\s]*\)|https?://\S+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each fault as ``file:line: 'word': write ...``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="default: all that users read")
    files = [file.resolve() for file in parser.parse_args(arguments).files]
    faults = [fault for file in files or covered() for fault in check(file)]
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


def covered() -> list[Path]:
    """Return the files of COVERED."""
    return sorted({file for pattern in COVERED for file in ROOT.glob(pattern) if file.is_file()})


def check(file: Path) -> Iterator[str]:
    """Yield the faults of a file."""
    name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.as_posix()
    exempt = {rule for pattern, rules in EXEMPT.items() if Path(name).match(pattern) for rule in rules}
    content = file.read_text(encoding="utf-8")
    found: list[tuple[int, str, str]] = []
    for line, text in python_texts(content) if file.suffix == ".py" else markdown_texts(content):
        for rule, pattern, instead in PATTERNS:
            places = () if rule in exempt else pattern.finditer(text)
            found += [(line + text.count("\n", 0, at.start()), " ".join(at[0].split()), instead) for at in places]
    for line, words, instead in sorted(found):
        yield f"{name}:{line}: '{words}': write {instead}"


def markdown_texts(content: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what is no code; a phrase may run over the end of a line."""
    lines, inside = content.split("\n"), False
    for number, line in enumerate(lines):
        fence = bool(FENCE.match(line))
        inside ^= fence
        if inside or fence:
            lines[number] = ""
    yield 1, spoken("\n".join(lines))


def python_texts(content: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of docstrings and other texts; a single word is no text but a name."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, spoken(node.value)


def spoken(text: str) -> str:
    """Return a text without code spans and links, with the same lines."""
    return SPAN.sub(lambda span: "\n" * span[0].count("\n"), text)


if __name__ == "__main__":
    sys.exit(main())
