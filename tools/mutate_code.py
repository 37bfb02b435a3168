"""Mutation testing: change a module's code, one operation at a time, and count the changes that its tests notice.

    python tools/mutate_code.py                      # all of TARGETS; the table in docs/reliability.md
    python tools/mutate_code.py learn/algos/gae.py   # one of them
    python tools/mutate_code.py --share 0.2          # a fifth of the mutants

A mutant is a copy of the package with one operation changed. Its tests run in a fork of a process that has loaded the
libraries, so a mutant costs little more than its tests. It is killed if they fail, or take ten times as long.
Texts, docstrings, annotations and errors' messages are not changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEARN, PROGRAMS = "tests/unit/learn", "tests/unit/sed/programs"
TARGETS: dict[str, tuple[str, ...]] = {  # modules, and the tests that must notice their mutants
    "env/reward.py": ("tests/unit/env/test_reward.py", "tests/unit/env/test_episode.py"),
    "env/observation.py": ("tests/unit/env/test_observation.py", "tests/unit/env/test_episode.py"),
    "learn/algos/gae.py": (f"{LEARN}/test_gae.py",),
    "learn/reled/dtw.py": (f"{LEARN}/test_hpo.py",),
    "learn/algos/hpo.py": (f"{LEARN}/test_hpo.py",),
    "sed/programs/feedback.py": (f"{PROGRAMS}/test_feedback.py",),
    "sed/programs/system_calls.py": (f"{PROGRAMS}/test_system_calls.py",),
    "sed/programs/layers.py": (f"{PROGRAMS}/test_sandbox.py", f"{PROGRAMS}/test_layers.py"),
}
LIBRARIES = ("torch", "scipy.sparse.csgraph", "scipy.stats", "pytest", "pydantic", "pettingzoo", "jinja2", "matplotlib")
OTHER: dict[type[ast.AST], type[ast.AST]] = {  # operators and what they become
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.MatMult: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
}
SLOWER = 10.0  # a mutant whose tests take this much longer than the code's own hangs
ENOUGH = 0.85


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node may become."""
    new = copy.copy(node)
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OTHER:
        new.op = OTHER[type(node.op)]()  # type: ignore[attr-defined]
        yield new
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        new.ops = [OTHER[type(node.ops[0])](), *node.ops[1:]]  # type: ignore[attr-defined]
        yield new
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.If | ast.IfExp):
        new.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
        yield new
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        new.value = ast.Constant(None)  # type: ignore[attr-defined]
        yield new
    elif isinstance(node, ast.AugAssign | ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield where a node can be put: parent, field and index; not in annotations, texts, decorators and defaults."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"} or isinstance(node, ast.JoinedStr | ast.Raise):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, name, index
                yield from places(child)


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, description and source of each mutant."""
    tree = ast.parse(source)
    for parent, name, index in places(tree):
        value = getattr(parent, name)
        node = value if index is None else value[index]
        for new in changes(node):
            ast.copy_location(new, node)
            setattr(parent, name, new if index is None else [*value[:index], new, *value[index + 1 :]])
            yield (
                getattr(node, "lineno", 0),
                f"{said(node)}  ->  {said(new)}",
                ast.unparse(ast.fix_missing_locations(tree)),
            )
            setattr(parent, name, value)


def said(node: ast.AST) -> str:
    """Return the first line of a node's source."""
    return ast.unparse(node).splitlines()[0]


def passes(tests: list[str], limit_s: float) -> bool:
    """Return whether tests pass in a fork of this process within a time."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        import pytest  # noqa: PLC0415 - loaded before the fork

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests])))
    deadline = time.monotonic() + limit_s
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(0.02)
    return ended[1] == 0


def mutate(module: str, copied: Path, share: float) -> tuple[int, list[str]]:
    """Return the number of mutants of a module, and the survivors."""
    file = copied / "relid_sumo" / module
    source = file.read_text()
    tests = [str(ROOT / test) for test in TARGETS[module] if (ROOT / test).is_file()]
    start = time.monotonic()
    if not passes(tests, 600.0):
        raise SystemExit(f"{module}: its tests fail without a change: {' '.join(tests)}")
    limit_s = 5.0 + SLOWER * (time.monotonic() - start)
    every = list(mutants(source))
    chosen = [one for one in every if random.Random(str(one[:2])).random() < share]
    survivors = []
    for number, (line, what, changed) in enumerate(chosen, 1):
        file.write_text(changed)
        if passes(tests, limit_s):
            survivors.append(f"{module}:{line}  {what}")
            print(f"  survives  {survivors[-1]}", flush=True)
        print(f"{module}  {number} of {len(chosen)}, {len(survivors)} survive", end="\r", file=sys.stderr, flush=True)
    file.write_text(source)
    return len(chosen), survivors


def main() -> None:
    """Run the tool; exit code 1 where too many mutants survive."""
    about, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(description=about, epilog=rest, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TARGETS), help="modules of TARGETS (default: all)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the mutants, drawn by their code (default: 1)"
    )
    chosen = parser.parse_args()
    for library in LIBRARIES:
        importlib.import_module(library)
    importlib.import_module("torch").set_num_threads(1)
    sys.dont_write_bytecode = True
    rows, few = [], False
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(ROOT / "relid_sumo", Path(place) / "relid_sumo", ignore=shutil.ignore_patterns("__pycache__"))
        for folder in ("networks", "scenarios"):  # which the package finds next to itself
            (Path(place) / folder).symlink_to(ROOT / folder)
        sys.path.insert(0, place)
        os.environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
        os.chdir(ROOT)
        for module in chosen.modules:
            n, survivors = mutate(module, Path(place), chosen.share)
            few |= n > 0 and len(survivors) > (1 - ENOUGH) * n
            rows.append(f"| `{module}` | {n} | {n - len(survivors)} | {(n - len(survivors)) / max(1, n):.0%} |")
    print("\n".join(["| module | mutants | killed | share |", "| --- | --- | --- | --- |", *rows]))
    sys.exit(int(few))


if __name__ == "__main__":
    main()
