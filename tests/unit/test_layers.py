"""Imports run downwards only, and what is heavy or fragile is imported in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "relid_sumo"

# From the ground up: a module imports only from layers below its own; modules of one layer do not import each other.
# A subpackage is listed as a whole (its modules are then free among themselves), or by its modules ("algos.nets").
# "" is the package's __init__, which offers the API of all layers but the commands.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "seeding", "graph", "system"),
    ("process", "toml", "sumo", "osm", "driving_side"),
    ("atlas", "trial", "results", "stats"),
    ("netconvert",),
    ("network",),
    ("maps",),
    ("scenario",),
    ("trips", "demand"),
    ("traffic", "meso"),
    ("turns",),
    ("bridge", "toy", "task"),
    ("env",),
    ("prepare",),
    ("scenario_files", "due"),
    ("policies",),
    ("snapshot",),
    ("rollout", "demos"),
    ("drive",),
    ("pettingzoo_env",),
    ("algos", "sed"),
    ("runs", "experts", "planners", "probes", "renewal"),
    ("reled",),
    ("train",),
    ("evaluate",),
    ("batch", "report"),
    ("view", "export", "doctor"),
    ("show", "show_batch"),
    ("",),
    ("console",),
    ("sed_cli",),
    ("cli",),
)

# Library: the only modules that may import it.
ONLY_IN: dict[str, frozenset[str]] = {
    "libsumo": frozenset({"bridge"}),
    "traci": frozenset({"bridge"}),
    "osmnx": frozenset({"atlas"}),
    "sumo": frozenset({"sumo"}),
    "typer": frozenset({"cli", "console", "sed_cli"}),
    "dtaidistance": frozenset({"algos.dtw"}),
    "openai": frozenset({"sed.llm"}),
    "ray": frozenset({"batch.on_ray"}),
    "sandlock": frozenset({"sed.sandbox"}),
}

# Modules that forked simulation processes run: neither they nor anything they import may import torch (forking a
# process with torch's threads is unsafe, and loading it costs seconds per worker). A report reads files alone.
NO_TORCH = ("bridge", "env", "rollout", "report.write", "sed.run")

# The commands have no logic: besides the package and the standard library they import what reads arguments and shows
# results.
COMMANDS = ("cli", "console", "sed_cli")
CLI_LIBRARIES = frozenset({"typer", "rich"})


Rule = Callable[["Code"], list[str]]


@dataclass(frozen=True)
class Import:
    """One import: who, what, in which line, and whether it waits for a function to be called."""

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
                # `from relid_sumo import graph` imports a module, `from relid_sumo.graph import follow` a name of one.
                full = [f"{base}.{alias.name}" for alias in node.names]
                targets = [name if name.removeprefix(f"{PACKAGE}.") in files else base for name in full]
            code[module] += [Import(module, target, node.lineno, deferred) for target in dict.fromkeys(targets)]
    return code


def layer(module: str) -> tuple[int, str] | None:
    """Return the height of a module's layer and the name it is listed under; None where it is not listed."""
    listed = {name: height for height, names in enumerate(LAYERS) for name in names}
    name = module
    while name and name not in listed:
        name = name.rpartition(".")[0]
    return (listed[name], name) if name or not module else None


def unlisted(code: Code) -> list[str]:
    """Return modules without a layer, and names in the rules without a module."""
    named = {name for names in LAYERS for name in names} | set(NO_TORCH) | set().union(*ONLY_IN.values())
    here = Path(__file__).name
    without_layer = [module for module in code if layer(module) is None]
    without_module = sorted(named - set(code))
    return [
        *(f"module {module} is in no layer: add it to LAYERS in {here}" for module in without_layer),
        *(f"{here} names {name or '__init__'}, which is no module: remove it there" for name in without_module),
    ]


def upward(code: Code) -> list[str]:
    """Return imports within the package that do not run downwards."""
    wrong = []
    for one in (one for imports in code.values() for one in imports):
        mine, its = layer(one.module), layer(one.inside) if one.inside is not None else None
        if mine and its and mine[1] != its[1] and its[0] >= mine[0]:
            wrong.append(f"{one}, which is not in a lower layer")
    return wrong


def misplaced(code: Code) -> list[str]:
    """Return libraries imported outside the modules they belong to; tools and tests imported at all."""
    wrong = []
    for one in (one for imports in code.values() for one in imports):
        if one.top_level in ONLY_IN and one.module not in ONLY_IN[one.top_level]:
            wrong.append(f"{one}: only {', '.join(sorted(ONLY_IN[one.top_level]))} may")
        if one.top_level in {"tools", "tests"}:
            wrong.append(f"{one}: what is installed has no tools and tests")
    return wrong


def with_torch(code: Code) -> list[str]:
    """Return the ways in which torch comes into modules that have to stay free of it."""
    wrong = []
    for start in NO_TORCH:
        seen, waiting = {start, ""}, [(start, str(start)), ("", f"{start} <- the package's __init__")]
        while waiting:
            module, way = waiting.pop()
            for one in code.get(module, []):
                if module == "" and one.deferred:
                    continue  # the package offers its API on demand: importing a module does not bring it in
                if one.top_level == "torch":
                    wrong.append(f"{way}: {one}")
                if one.inside is not None and one.inside not in seen:
                    seen.add(one.inside)
                    waiting.append((one.inside, f"{way} <- {one.inside}"))
    return wrong


def logic_in_cli(code: Code) -> list[str]:
    """Return libraries that the commands have no business with."""
    allowed = CLI_LIBRARIES | sys.stdlib_module_names | {PACKAGE}
    return [
        f"{one}: put the logic into a module"
        for name in COMMANDS
        for one in code.get(name, [])
        if one.top_level not in allowed
    ]


RULES: list[Rule] = [unlisted, upward, misplaced, with_torch, logic_in_cli]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(rule: Rule) -> None:
    wrong = rule(read(ROOT / PACKAGE))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("rule", "file", "source", "complaint"),
    [
        (unlisted, "surprise.py", "", "module surprise is in no layer: add it to LAYERS"),
        (upward, "graph.py", "from relid_sumo.env import reset", "relid_sumo.graph, line 1, imports relid_sumo.env"),
        (upward, "graph.py", "from relid_sumo import env", "imports relid_sumo.env"),
        (upward, "graph.py", "from . import env", "imports relid_sumo.env"),
        (upward, "graph.py", "from .env import reset", "imports relid_sumo.env"),
        (upward, "graph.py", "def f():\n    import relid_sumo.env", "line 2, imports relid_sumo.env"),
        (upward, "graph.py", "from relid_sumo import load_policy", "imports relid_sumo, which is not"),
        (upward, "errors.py", "from relid_sumo.graph import RoadGraph", "imports relid_sumo.graph"),
        (misplaced, "env.py", "try:\n    import libsumo\nexcept ImportError:\n    pass", "only bridge may"),
        (misplaced, "env.py", "from tools.town import town", "has no tools"),
        (with_torch, "env.py", "import torch.nn as nn", "env: relid_sumo.env, line 1, imports torch.nn"),
        (with_torch, "graph.py", "import torch", "env <- graph: relid_sumo.graph, line 1, imports torch"),
        (with_torch, "__init__.py", "import torch", "env <- the package's __init__: relid_sumo.__init__"),
        (logic_in_cli, "cli.py", "import numpy as np", "put the logic into a module"),
    ],
)
def test_a_broken_rule_is_told(tmp_path: Path, rule: Rule, file: str, source: str, complaint: str) -> None:
    for name in {name for names in LAYERS for name in names} | set(NO_TORCH) | set().union(*ONLY_IN.values()):
        module = tmp_path / f"{(name or '__init__').replace('.', '/')}.py"
        module.parent.mkdir(exist_ok=True)
        module.touch()
    (tmp_path / "env.py").write_text("from relid_sumo.graph import RoadGraph")
    assert not rule(read(tmp_path))
    (tmp_path / file).write_text(source)
    assert any(complaint in wrong for wrong in rule(read(tmp_path))), rule(read(tmp_path))


def test_imports_for_types_alone_are_free(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text("if TYPE_CHECKING:\n    import torch\n    from relid_sumo.env import Env")
    assert read(tmp_path) == {"graph": []}


def test_simulation_processes_load_no_torch() -> None:
    """The rule above reads our own statements; this also sees what other libraries bring in."""
    code = f"import sys, {', '.join(f'{PACKAGE}.{module}' for module in NO_TORCH)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
