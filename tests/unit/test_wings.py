"""Imports run downwards only, and each heavy or fragile library is imported in one wing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "relid_sumo"

# The wings from the ground up, and the libraries that each alone may import. A module imports only from its own wing
# and from wings above it in this table. The package's __init__ offers the public API and stands above all of them.
WINGS: dict[str, frozenset[str]] = {
    "base": frozenset({"sumo"}),
    "network": frozenset({"osmium", "osmnx", "timezonefinder"}),
    "scenario": frozenset(),
    "sim": frozenset({"libsumo", "traci"}),
    "env": frozenset({"pettingzoo", "gymnasium"}),
    "baseline": frozenset(),
    "sed": frozenset({"openai", "sandlock"}),
    "runs": frozenset(),
    "learn": frozenset({"torch", "dtaidistance"}),
    "evaluation": frozenset(),
    "viewer": frozenset(),
    "replay": frozenset(),
    "reports": frozenset({"jinja2"}),
    "batch": frozenset({"ray"}),
    "api": frozenset(),
    "cli": frozenset({"typer", "rich"}),
}
ALSO_IN = {"jinja2": {"sed", "replay"}}  # prompts are templates, and so is the page of a replay

# What forked simulation processes run, and what reads files alone: neither these nor anything they import may import
# torch (forking a process with torch's threads is unsafe, and loading it costs seconds per worker).
NO_TORCH = ("base", "network", "scenario", "sim", "env", "baseline", "sed", "runs", "reports")

Rule = Callable[["Code"], list[str]]


@dataclass(frozen=True)
class Import:
    """One import: by which module, of what, in which line, and whether it waits for a function to be called."""

    module: str
    target: str
    line: int
    deferred: bool

    def __str__(self) -> str:
        return f"{PACKAGE}.{self.module or '__init__'}, line {self.line}, imports {self.target}"

    @property
    def top_level(self) -> str:
        """The top-level name that is imported."""
        return self.target.partition(".")[0]

    @property
    def inside(self) -> str | None:
        """The target's name within the package, "" for its __init__; None where it is a library."""
        return self.target.removeprefix(PACKAGE).lstrip(".") if self.top_level == PACKAGE else None


Code = Mapping[str, list[Import]]


def walk(node: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements that can run (not those under TYPE_CHECKING), and whether inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred
        elif not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from walk(child, deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def read(package: Path) -> Code:
    """Return the imports of every module of a package, by the module's name within it."""
    files = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        files[".".join(part for part in parts if part != "__init__")] = file
    code: dict[str, list[Import]] = {}
    for module, file in files.items():
        code[module] = []
        for node, deferred in walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                above = [PACKAGE, *filter(None, module.split("."))]
                if file.stem != "__init__":
                    above.pop()
                base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [node.module])])
                base = base if node.level else str(node.module)
                # `from relid_sumo.env import play` imports a module, `from relid_sumo.env.play import Job` a name.
                full = [f"{base}.{alias.name}" for alias in node.names]
                targets = [name if name.removeprefix(f"{PACKAGE}.") in files else base for name in full]
            code[module] += [Import(module, target, node.lineno, deferred) for target in dict.fromkeys(targets)]
    return code


def wing(module: str) -> str:
    """Return the wing of a module; "" for the package's __init__."""
    return module.partition(".")[0]


def outside(code: Code) -> list[str]:
    """Return modules in no wing, and wings without modules."""
    wings = {wing(module) for module in code} - {""}
    here = Path(__file__).name
    return [
        *(f"{name} is no wing: move it into one, or add it to WINGS in {here}" for name in sorted(wings - set(WINGS))),
        *(f"{here} names the wing {name}, which does not exist" for name in sorted(set(WINGS) - wings)),
    ]


def upward(code: Code) -> list[str]:
    """Return imports between wings that do not run downwards."""
    height = {name: i for i, name in enumerate([*WINGS, ""])}
    wrong = []
    for one in (one for imports in code.values() for one in imports if one.inside is not None):
        mine, its = wing(one.module), wing(str(one.inside))
        if mine != its and height.get(its, -1) > height.get(mine, len(height)):
            wrong.append(f"{one}, which is in a higher wing")
    return wrong


def circular(code: Code) -> list[str]:
    """Return a cycle of imports between modules, where there is one."""
    graph = {module: {str(one.inside) for one in imports if one.inside} for module, imports in code.items() if module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def misplaced(code: Code) -> list[str]:
    """Return libraries imported outside their wing; tools, tests and examples imported at all."""
    owner = {library: {name, *ALSO_IN.get(library, ())} for name, libraries in WINGS.items() for library in libraries}
    wrong = []
    for one in (one for imports in code.values() for one in imports):
        if one.top_level in owner and wing(one.module) not in owner[one.top_level]:
            wrong.append(f"{one}: only {', '.join(sorted(owner[one.top_level]))} may")
        if one.top_level in {"tools", "tests", "examples"}:
            wrong.append(f"{one}: what is installed has no tools, tests and examples")
    return wrong


def with_torch(code: Code) -> list[str]:
    """Return how torch comes into wings that have to stay free of it."""
    wrong = []
    for start in (module for module in code if wing(module) in NO_TORCH):
        seen, waiting = {start, ""}, [(start, start), ("", f"{start} <- the package's __init__")]
        while waiting:
            module, chain = waiting.pop()
            for one in code.get(module, []):
                if module == "" and one.deferred:
                    continue  # the package offers its API on demand: importing a module does not bring it in
                if one.top_level == "torch":
                    wrong.append(f"{chain}: {one}")
                if one.inside is not None and one.inside not in seen:
                    seen.add(one.inside)
                    waiting.append((one.inside, f"{chain} <- {one.inside}"))
    return wrong


RULES: list[Rule] = [outside, upward, circular, misplaced, with_torch]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_follows(rule: Rule) -> None:
    wrong = rule(read(ROOT / PACKAGE))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("rule", "file", "source", "complaint"),
    [
        (outside, "surprise.py", "", "surprise is no wing: move it into one, or add it to WINGS"),
        (
            upward,
            "base/a.py",
            "from relid_sumo.env.a import reset",
            "relid_sumo.base.a, line 1, imports relid_sumo.env",
        ),
        (upward, "base/a.py", "from relid_sumo import env", "imports relid_sumo.env"),
        (upward, "base/a.py", "from ..env.a import reset", "imports relid_sumo.env"),
        (upward, "base/a.py", "def f():\n    import relid_sumo.env", "line 2, imports relid_sumo.env"),
        (upward, "base/a.py", "from relid_sumo import load_policy", "imports relid_sumo, which is in a higher wing"),
        (circular, "env/b.py", "from relid_sumo.env import a", "env.a"),
        (misplaced, "env/a.py", "try:\n    import libsumo\nexcept ImportError:\n    pass", "only sim may"),
        (misplaced, "env/a.py", "from tools.town import town", "has no tools"),
        (with_torch, "env/a.py", "import torch.nn as nn", "env.a: relid_sumo.env.a, line 3, imports torch.nn"),
        (with_torch, "base/a.py", "import torch", "env.a <- base.a: relid_sumo.base.a, line 1, imports torch"),
        (with_torch, "__init__.py", "import torch", "env.a <- the package's __init__: relid_sumo.__init__"),
    ],
)
def test_a_broken_rule_is_reported(tmp_path: Path, rule: Rule, file: str, source: str, complaint: str) -> None:
    (tmp_path / "__init__.py").touch()
    for name in WINGS:
        (tmp_path / name).mkdir()
        for module in ("__init__.py", "a.py", "b.py"):
            (tmp_path / name / module).touch()
    (tmp_path / "env" / "a.py").write_text("from relid_sumo.base.a import x\nfrom relid_sumo.env import b")
    assert not rule(read(tmp_path))
    target = tmp_path / file
    target.write_text(f"{target.read_text() if target.exists() else ''}\n".lstrip() + source)
    assert any(complaint in wrong for wrong in rule(read(tmp_path))), rule(read(tmp_path))


def test_imports_for_types_alone_are_free(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text("if TYPE_CHECKING:\n    import torch\n    from relid_sumo.env import Env")
    assert read(tmp_path) == {"graph": []}


def test_simulation_processes_load_no_torch() -> None:
    """The rule above reads our own statements; this also sees what other libraries bring in."""
    modules = ("sim.bridge", "env.workers", "reports.write", "sed.run")
    code = f"import sys, {', '.join(f'{PACKAGE}.{module}' for module in modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
