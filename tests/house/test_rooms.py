"""The rooms: which imports which, drawn in docs/README.md, and no circle between files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("holdfast", "safety_monitor", "sim", "policy", "robot")
PAGE = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


def name_of(file: Path) -> str:
    """Return the import name of a file, given by its resolved path."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "holdfast" else ("holdfast", *parts))


@cache
def files() -> dict[str, Path]:
    """Return every module once, by name: what the links lead to is not walked twice."""
    found = {f.resolve() for folder in FOLDERS for f in (ROOT / folder).rglob("*.py")}
    return {name_of(file): file for file in sorted(found)}


def imported(file: Path) -> Iterator[str]:
    """Yield which of our modules a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("holdfast"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in files() else node.module or ""


def room(name: str) -> str:
    """Return the folder that a module is in, from the root; the monitor's checks are its own."""
    folder = str(files()[name].parent.relative_to(ROOT))
    return folder.removesuffix("/checks")


def arrows() -> set[tuple[str, str]]:
    """Return each pair of rooms of which the first imports the second."""
    pairs = {(room(a), room(b)) for a, file in files().items() for b in imported(file)}
    return {(a, b) for a, b in pairs if a != b}


def drawn() -> set[tuple[str, str]]:
    """Return the pairs that the page's table shows."""
    rows = re.findall(r"^\| `([\w/]+)/` \| ([^|]*) \|[^|]*\|$", PAGE, flags=re.MULTILINE)
    return {(a, b) for a, cells in rows for b in re.findall(r"`([\w/]+)/`", cells)}


def test_the_page_draws_the_arrows_as_they_are():
    assert drawn() == arrows()


def test_no_file_imports_itself_by_way_of_others():
    graph = {name: set(imported(file)) - {name} for name, file in files().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("room_of", "never"),
    [("robot", "policy"), ("robot", "sim"), ("sim", "policy"), ("policy", "robot")],
)
def test_what_never_imports_what(room_of, never):
    wrong = [(a, b) for a, b in arrows() if a.split("/")[0] == room_of and b.split("/")[0] == never]
    assert wrong == []


def test_the_device_is_one_file_that_imports_nothing_of_ours():
    assert list(imported(ROOT / "robot" / "serial" / "device.py")) == []


def test_a_room_has_about_eight_files():
    sizes: dict[str, int] = {}
    for name, file in files().items():
        if file.stem not in ("__init__", "__main__"):
            sizes[room(name)] = sizes.get(room(name), 0) + 1
    sizes.pop("safety_monitor")  # with a file for each check
    assert {name: size for name, size in sizes.items() if size > 13} == {}


def test_test_files_have_different_names():
    """Files of one name in two folders without `__init__.py` cannot be collected together."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "ros").glob("test_*.py")), ids=name_of)
def test_tests_of_nodes_run_by_themselves(file: Path) -> None:
    """Each of them is in real time."""
    text = file.read_text(encoding="utf-8")
    assert re.search(r"^pytestmark = pytest\.mark\.alone$", text, re.MULTILINE)
