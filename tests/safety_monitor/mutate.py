"""Mutation tests of safety_monitor/: is there a small mistake that no test would notice?

    python tests/safety_monitor/mutate.py [--only MODULE ...] [--again] [--jobs N] [--list]
                                          [--out FILE]

Each mutant is one change to the syntax tree of one module, compiled in memory and tested in a
forked process, the tests of its own module first. A mutant that all tests pass has survived;
EQUIVALENT lists those that change nothing that matters, with the reason; these meet the tests of
their own module alone. Any other survivor makes the exit status 1. All of it takes about an hour
on two cores; what FILE says of modules that are not tested again stays. After tests were added,
--again tests only what survived by FILE.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import copy
import functools
import importlib
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
EQUIVALENT = TESTS / "equivalent_mutants.yaml"
PACKAGE = "holdfast.safety_monitor"
MODULES = {
    path.stem: path
    for path in sorted((ROOT / "safety_monitor").rglob("*.py"))
    if path.stem not in {"__init__", "messages"}  # names and data, no behaviour
}
LIMIT_S = 240
"""Processor time after which a mutant counts as one that hangs, s. Wall time would take what a busy
machine delays for what was noticed."""

Row = tuple[int, int, int, str]
"""How many mutants of a module there are, were killed, and are equivalent; the day of the run."""

Comparison = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
Arithmetic = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
Calls = {"min": "max", "max": "min", "any": "all", "all": "any", "sin": "cos", "cos": "sin"}


@dataclass(frozen=True)
class Mutant:
    """One change: where, from what, to what, at which path of the module's tree."""

    module: str
    where: str
    before: str
    after: str
    number: int
    path: list[tuple[ast.AST, str, int | None]]
    node: ast.AST

    @property
    def tree(self) -> ast.Module:
        """The whole module with the change."""
        return replace(ast.parse(MODULES[self.module].read_text()), self.path, self.node)

    @property
    def name(self) -> str:
        again = f" (#{self.number})" if self.number else ""
        return f"{self.module}.{self.where}: {self.before} -> {self.after}{again}"


@functools.singledispatch
def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the mistakes that could have been made instead of this node."""
    yield from ()


@variants.register
def _(node: ast.Compare) -> Iterator[ast.AST]:
    for place, operator in enumerate(node.ops):
        for other in Comparison[type(operator)]:
            changed = copy.deepcopy(node)
            changed.ops[place] = other()
            yield changed


@variants.register
def _(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for place in range(len(node.values)):
        rest = node.values[:place] + node.values[place + 1 :]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


@variants.register
def _(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


@variants.register
def _(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in Arithmetic:
        yield ast.BinOp(node.left, Arithmetic[type(node.op)](), node.right)
    elif isinstance(node.op, ast.Pow):
        yield node.left


@variants.register
def _(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)


@variants.register
def _(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in Calls:
        changed = copy.deepcopy(node)
        if isinstance(changed.func, ast.Name):
            changed.func.id = Calls[name]
        else:
            changed.func.attr = Calls[name]
        yield changed
    if name in {"abs", "tuple", "sorted"} and isinstance(node.func, ast.Name):
        yield node.args[0]


@variants.register(ast.If)
@variants.register(ast.IfExp)
def _(node: ast.If | ast.IfExp) -> Iterator[ast.AST]:
    yield type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


@variants.register
def _(node: ast.Return) -> Iterator[ast.AST]:
    if not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield ast.Pass()


@variants.register(ast.Raise)
@variants.register(ast.Continue)
@variants.register(ast.Assign)
def _(node: ast.stmt) -> Iterator[ast.AST]:
    yield ast.Pass()


@variants.register
def _(node: ast.AugAssign) -> Iterator[ast.AST]:
    yield ast.Pass()
    yield ast.AugAssign(node.target, Arithmetic[type(node.op)](), node.value)


@variants.register
def _(node: ast.Expr) -> Iterator[ast.AST]:
    if isinstance(node.value, ast.Call):
        yield ast.Pass()


def places(tree: ast.Module) -> Iterator[tuple[str, list[tuple[ast.AST, str, int | None]]]]:
    """Yield every node that may be mutated, as a name of where it is and a path from the root."""

    def walk(node, where, path):
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "op", "ops", "ctx"}:
                continue
            children = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, child in children:
                if not isinstance(child, ast.AST) or isinstance(
                    child, ast.Import | ast.ImportFrom | ast.Assert
                ):
                    continue
                if isinstance(child, ast.keyword) and child.arg == "strict":
                    continue  # of zip: a second look at lengths that are equal anyway
                here = [*path, (field, index)]
                named = isinstance(child, ast.FunctionDef | ast.ClassDef)
                there = ".".join(filter(None, (where, child.name))) if named else where
                yield there, here
                yield from walk(child, there, here)

    yield from walk(tree, "", [])


def fetch(tree: ast.AST, path) -> ast.AST:
    for field, index in path:
        value = getattr(tree, field)
        tree = value if index is None else value[index]
    return tree


def replace(tree: ast.Module, path, node: ast.AST) -> ast.Module:
    parent = fetch(tree, path[:-1])
    field, index = path[-1]
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node
    return ast.fix_missing_locations(tree)


def shown(node: ast.AST) -> str:
    """Return a node on one line; of a block, its first line."""
    return ast.unparse(node).split("\n")[0]


def mutants(module: str) -> Iterator[Mutant]:
    tree = ast.parse(MODULES[module].read_text())
    seen: dict[tuple[str, str, str], int] = {}
    for where, path in places(tree):
        node = fetch(tree, path)
        for other in variants(node):
            key = (where, shown(node), shown(other))
            seen[key] = seen.get(key, -1) + 1
            yield Mutant(module, *key, seen[key], path, other)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module's name to a mutant's code."""

    def __init__(self, mutant: Mutant) -> None:
        folder = MODULES[mutant.module].relative_to(ROOT).parent
        self.name, self.tree = f"holdfast.{'.'.join(folder.parts)}.{mutant.module}", mutant.tree

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.machinery.ModuleSpec(name, self, origin="mutant")
        return None

    def exec_module(self, module) -> None:
        exec(compile(self.tree, "<mutant>", "exec"), module.__dict__)


def order(module: str) -> list[list[str]]:
    """Return the test files in the order to try them: its own, quick ones, properties."""
    files = sorted(TESTS.glob("test_*.py"))
    own = [f for f in files if f.stem.startswith(f"test_{module}")]
    own = own or [f for f in files if re.search(rf"\b{module}\b", f.read_text())]
    slow = [f for f in files if f.stem == "test_monitor_properties"]
    own = [f for f in own if f not in slow]
    rest = [f for f in files if f not in own and f not in slow]
    return [list(map(str, group)) for group in (own, rest, slow) if group]


def test(mutant: Mutant | None, module: str, own: bool) -> None:
    """Exit with 0 if all tests pass, or the module's own; runs in a process of its own."""
    import hypothesis
    import pytest

    # As in tests/conftest.py, but that a property fails is enough: no smaller example is sought.
    phases = [each for each in hypothesis.Phase if each.name not in ("shrink", "explain")]
    hypothesis.settings.register_profile("mutants", derandomize=True, deadline=None, phases=phases)
    options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:timeout"]
    options.append("--hypothesis-profile=mutants")
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    os.chdir(ROOT)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant))
    for files in order(module)[: 1 if own else None]:
        with contextlib.suppress(SystemExit):
            code = pytest.main([*options, *files])
            if code != 0:
                os._exit(1)
    os._exit(0)


def survives(mutant: Mutant | None, module: str, own: bool = False) -> bool:
    process = multiprocessing.get_context("fork").Process(target=test, args=(mutant, module, own))
    process.start()
    process.join()
    return process.exitcode == 0


def preload() -> None:
    """Import what is heavy once, before forking; never the monitor itself."""
    for name in ("numpy", "hypothesis", "hypothesis.strategies", "pytest", "yaml", "mujoco"):
        importlib.import_module(name)
    importlib.import_module("holdfast.contract")
    assert not any(name.startswith(PACKAGE) for name in sys.modules)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=MODULES, nargs="+", help="these modules")
    parser.add_argument("--again", action="store_true", help="what survived by FILE alone")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at a time (1)")
    parser.add_argument("--list", action="store_true", help="print the mutants, test nothing")
    parser.add_argument("--out", type=Path, help="write the result here (Markdown)")
    arguments = parser.parse_args()
    equivalent = yaml.safe_load(EQUIVALENT.read_text()) or {} if EQUIVALENT.exists() else {}
    modules = arguments.only or list(MODULES)
    if arguments.list:
        for module in modules:
            for mutant in mutants(module):
                print(mutant.name)
        return 0
    survived: list[str] | None = None
    if arguments.again:
        if not (arguments.out and arguments.out.exists()):
            parser.error("--again needs --out FILE, which says what survived")
        survived = survivors(arguments.out.read_text())
        modules = [name for name in modules if any(s.startswith(f"{name}.") for s in survived)]
    preload()
    rows, unexplained = kept(arguments.out, modules)
    begun = time.monotonic()
    fork = multiprocessing.get_context("fork")
    if not survives(None, modules[0]):
        sys.exit("the tests fail without any mutant")
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, fork) as pool:
        for module in modules:
            rows[module], left = judge(pool, module, equivalent, survived)
            unexplained += left
            minutes = (time.monotonic() - begun) / 60.0
            total, killed, explained, _ = rows[module]
            print(
                f"{module}: {killed} of {total} killed, {explained} equivalent ({minutes:.0f} min)"
            )
            sys.stdout.flush()
            if arguments.out:
                arguments.out.write_text(document(rows, unexplained, equivalent))
    return 1 if unexplained else 0


def judge(
    pool: concurrent.futures.Executor,
    module: str,
    equivalent: Mapping[str, str],
    survived: Collection[str] | None,
) -> tuple[Row, list[str]]:
    """Return a module's row, and which mutants survived.

    Args:
        survived: the mutants that are tested, by name, where the others were killed before; None:
            all are tested.
    """
    every = list(mutants(module))
    tried = [each for each in every if survived is None or each.name in survived]
    explained = {name for name in equivalent if name.startswith(f"{module}.")}
    if gone := explained - {mutant.name for mutant in every}:
        sys.exit("listed as equivalent, but there is no\n" + "\n".join(gone))
    alive = []
    known = [mutant.name in explained for mutant in tried]
    found = pool.map(survives, tried, [module] * len(tried), known)
    for mutant, lives in zip(tried, found, strict=True):
        if lives:
            alive.append(mutant.name)
        if lives and mutant.name not in explained:
            print(f"SURVIVED: {mutant.name}", flush=True)
        if not lives and mutant.name in explained:
            print(f"KILLED, though listed as equivalent: {mutant.name}", flush=True)
    left = [name for name in alive if name not in explained]
    same = len(explained) if survived is not None else len(alive) - len(left)
    day = time.strftime("%Y-%m-%d")
    return (len(every), len(every) - len(left) - same, same, day), left


def survivors(text: str) -> list[str]:
    """Return the names of the mutants that survived by a result."""
    return re.findall(r"^- `(.+)`$", text.partition("## Survivors")[2], re.MULTILINE)


def kept(path: Path | None, modules: Collection[str]) -> tuple[dict[str, Row], list[str]]:
    """Return what an earlier result says of other modules: its rows, and its survivors."""
    others = MODULES.keys() - set(modules)
    text = path.read_text() if path is not None and path.exists() else ""
    row = re.compile(
        r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| \d+ \|(?: ([\w -]+) \|)?$", re.MULTILINE
    )
    rows = {
        name: (int(a), int(b), int(c), day or "not known")
        for name, a, b, c, day in row.findall(text)
        if name in others
    }
    return rows, [name for name in survivors(text) if name.partition(".")[0] in others]


def document(rows, unexplained, equivalent) -> str:
    lines = [
        "# Mutation tests of the safety monitor",
        "",
        "Made by `tests/safety_monitor/mutate.py`: every comparison, operator, number, condition,",
        "statement and return of `safety_monitor/` changed, one at a time; texts are not. A row is",
        "of the module as it was on the day of its run; a module without one was not tested yet.",
        "",
        "| module | mutants | killed | equivalent | survived | day |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    together = (*(sum(row[i] for row in rows.values()) for i in range(3)), "")
    for module, (total, killed, explained, day) in [*sorted(rows.items()), ("all", together)]:
        left = total - killed - explained
        lines.append(f"| {module} | {total} | {killed} | {explained} | {left} | {day} |")
    lines += ["", "## Equivalent mutants", "", "They change nothing that matters:", ""]
    lines += [f"- `{name}`: {why}" for name, why in equivalent.items()]
    if unexplained:
        lines += ["", "## Survivors", "", *(f"- `{name}`" for name in unexplained)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
