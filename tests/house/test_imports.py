"""Who imports what: the robot side stays light, the monitor pure, the arrows one-way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from holdfast.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("safety_monitor", "sim", "policy", "robot")
HEAVY = {
    *("torch", "mujoco", "gymnasium", "onnx", "onnxscript", "matplotlib"),
    *(
        "tensorboard",
        "safetensors",
        "scipy",
        "ray",
        "mujoco_warp",
        "warp",
        "cryptography",
        "pyarrow",
    ),
}
BASE_INSTALL = {
    *("numpy", "onnxruntime", "serial", "cobs", "mcap", "lz4", "zstandard"),
    *("yaml", "tyro", "rich"),
}


def modules(folder: str) -> list[str]:
    """Return the import names of a folder's modules, its package first."""
    dotted = folder.replace("/", ".")
    package = dotted if folder.startswith("holdfast") else f"holdfast.{dotted}"
    files = sorted((ROOT / folder).glob("*.py"))
    inner = [f"{package}.{file.stem}" for file in files if file.stem != "__init__"]
    return [package, *inner]


LIGHT = (
    *("robot", "robot/run", "robot/serial", "robot/topics", "robot/promote", "robot/view"),
    *("holdfast/bundle", "holdfast/expressions"),
)
"""Rooms of the robot's side, but for those of ROS and of Cyclone DDS."""

RUN_SIDE = [
    *modules("holdfast"),
    *modules("safety_monitor"),
    *(name for folder in (*LIGHT, "holdfast/registry", "holdfast/log") for name in modules(folder)),
    *sorted({c.target.partition(":")[0] for c in COMMANDS.values() if not c.extra}),
]

# Imports one after another and prints what heavy modules each brought along.
FRESH = """
import importlib, json, sys
heavy, brought = set({heavy!r}), {{}}
for name in {names!r}:
    before = set(sys.modules)
    importlib.import_module(name)
    found = sorted({{m.partition(".")[0] for m in set(sys.modules) - before}} & heavy)
    if found:
        brought[name] = found
print(json.dumps(brought))
"""


def brought_along(names: list[str]) -> dict[str, list[str]]:
    program = FRESH.format(heavy=sorted(HEAVY), names=names)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_the_run_side_imports_nothing_heavy():
    assert brought_along(RUN_SIDE) == {}


def test_the_probe_does_notice_what_is_heavy():
    assert brought_along(["holdfast.contract", "scipy"]) == {"scipy": ["scipy"]}


def imported(file: Path) -> Iterator[str]:
    """Yield the dotted names a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports do not name their folder"
            if node.module == "holdfast":  # from holdfast import sim
                yield from (f"holdfast.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def within(name: str, packages: Set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def strangers(folder: str, allowed: Set[str], forbidden: Set[str] = frozenset()) -> list[str]:
    """Return "file: import" for what a folder's files import and may not."""
    return [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / folder).glob("*.py"))
        for name in imported(file)
        if not within(name, allowed | set(sys.stdlib_module_names)) or within(name, forbidden)
    ]


def test_the_monitor_imports_numpy_and_the_contract_alone():
    ours = {"contract", "errors", "expressions", "observer", "plain", "schema", "signals"}
    ours |= {"safety_monitor"}
    impure = frozenset(
        {
            *("time", "datetime", "threading", "multiprocessing", "concurrent", "asyncio", "queue"),
            *("os", "io", "pathlib", "shutil", "tempfile", "socket", "subprocess", "signal"),
            *("logging", "random", "secrets", "pickle", "sqlite3", "urllib"),
        }
    )
    assert strangers("safety_monitor", {"numpy", *(f"holdfast.{m}" for m in ours)}, impure) == []


def test_the_monitor_opens_and_prints_nothing():
    for file in (ROOT / "safety_monitor").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "print", "input", "exec", "eval"), file


SHARED = {
    *("__version__", "child", "contract", "errors", "files", "observer", "plain", "schema"),
    *("share", "signals", "yaml_file", "bundle", "expressions", "log", "safety_monitor", "robot"),
    *("registry", "how_to_install"),
}
OURS = {f"holdfast.{name}" for name in SHARED}
"""What the robot's side imports of us."""

ROS = {
    *("rclpy", "rcl_interfaces", "std_srvs", "diagnostic_msgs", "lifecycle_msgs"),
    *("launch", "launch_ros"),
}


@pytest.mark.parametrize(
    ("folder", "also"),
    [
        *((folder, set()) for folder in LIGHT),
        ("robot/dds", {"cyclonedds"}),
        ("robot/ros", ROS),
        ("holdfast/registry", {"cryptography"}),
        ("holdfast/log", {"pyarrow"}),
    ],
    ids=[*LIGHT, "robot/dds", "robot/ros", "holdfast/registry", "holdfast/log"],
)
def test_the_robot_side_imports_the_base_install_alone(folder, also):
    """What only some robots have is imported in one folder each."""
    assert strangers(folder, BASE_INSTALL | OURS | also) == []


def test_launch_files_import_pyyaml_alone():
    """`ros2 launch` runs them under the Python of ROS, not under that of an environment."""
    bring_up = "holdfast.robot.ros.bring_up"
    files = [*(ROOT / "launch").glob("*.launch.py"), ROOT / "robot/ros/bring_up.py"]
    ours = {name for file in files for name in imported(file) if within(name, {"holdfast"})}
    assert bring_up in ours
    names = sorted({"holdfast.robot.ros", *ours} - {bring_up})
    absent = sorted(BASE_INSTALL - {"yaml"})
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\nimport {', '.join(names)}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_top_level_import_is_refused_by_the_linter(folder):
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "tests/example.py", "-"],
        input=f"import {folder}\n\nprint({folder})\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 1
    assert f"import holdfast.{folder}" in ended.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_linked_into_the_package(folder):
    assert (ROOT / "holdfast" / folder).readlink() == Path("..") / folder
    assert (ROOT / folder / "__init__.py").is_file()


def test_the_launch_folder_is_no_package():
    """With an __init__.py it would hide ROS 2's own `launch`."""
    assert not (ROOT / "launch" / "__init__.py").exists()


def test_no_file_is_too_long_to_read():
    places = ("holdfast", *FOLDERS, "launch", "benchmarks", "tests")
    files = [file for place in places for file in (ROOT / place).rglob("*.py")]
    long = {str(f): n for f in files if (n := len(f.read_text("utf-8").splitlines())) >= 500}
    assert files
    assert long == {}
