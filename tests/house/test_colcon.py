"""The package as ROS users get it: `colcon build`, with and without --symlink-install."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from holdfast import __version__, cli

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted(ROOT.glob("launch/*.launch.py"))

# What a user does after building; prints one line for each thing to be seen.
USE = """
set -e
. install/setup.sh
install/holdfast/lib/holdfast/holdfast --version
install/holdfast/lib/holdfast/holdfast doctor >/dev/null
{python} -c 'import holdfast.sim, holdfast.share as s; print(holdfast.__file__, s.folder())'
"""


@pytest.mark.parametrize("symlink", [False, True], ids=["copied", "linked"])
def test_colcon_build(source, tmp_path, run, symlink):
    colcon = Path(sys.executable).parent / "colcon"
    how = ["--symlink-install"] if symlink else []
    said = run(colcon, "--log-base", "log", "build", "--base-paths", source, *how)
    assert "1 package finished" in said or "Finished <<< holdfast" in said

    prefix = tmp_path / "install" / "holdfast"
    share = prefix / "share" / "holdfast"
    for file in (ROOT / "package.xml", *LAUNCH_FILES, *ROOT.glob("config/*.yaml")):
        installed = share / file.relative_to(ROOT)
        assert installed.read_text() == file.read_text()
        assert installed.is_symlink() is symlink
    assert (prefix / "share/ament_index/resource_index/packages/holdfast").exists()

    used = run("sh", "-c", USE.format(python=sys.executable)).splitlines()
    assert used[0] == f"holdfast {__version__}"
    module, folder = map(Path, used[1].split())
    if symlink:
        assert module.resolve() == source / "holdfast" / "__init__.py"
        assert folder == source
    else:
        assert prefix in module.parents
        assert folder == share


def test_there_is_something_to_launch():
    assert LAUNCH_FILES


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_a_launch_file_compiles_and_describes_itself(file):
    tree = ast.parse(file.read_text(), str(file))
    assert ast.get_docstring(tree)
    assert "generate_launch_description" in [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    ]


def words(file: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_the_commands_and_options_that_launch_files_run_exist(capsys):
    """Every `holdfast` process that a file starts, checked against the command's own --help."""
    found = words(ROOT / "launch" / "hil.launch.py")
    commands = {word for word in found if word in cli.COMMANDS}
    known = ""
    for command in commands:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known += capsys.readouterr().out
    assert commands == {"twin"}
    options = {word for word in found if word.startswith("--")}
    assert options
    assert {option for option in options if f"{option} " not in known} == set()


def test_launch_files_start_nodes_that_are_installed():
    scripts = (ROOT / "setup.py").read_text()
    started = {word for file in LAUNCH_FILES for word in words(file) if word.endswith("_node")}
    assert started == {"base_node", "policy_node", "safety_monitor_node", "twin_node"}
    assert [name for name in started if f'"{name} = holdfast.' not in scripts] == []
