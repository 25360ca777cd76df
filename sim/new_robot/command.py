"""`holdfast init`: writes the first files of a robot of one's own."""

from __future__ import annotations

import keyword
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import tyro

from holdfast import files, plain
from holdfast.errors import ConfigError
from holdfast.sim.new_robot import texts
from holdfast.sim.new_robot.sketch import sketch


def command(robot: tyro.conf.Positional[str], model: Path, out: Path = Path()) -> None:
    """Write a robot's task file, configuration and board skeleton, with defaults from its model.

    The files are ROBOT.py, ROBOT.yaml and ROBOT_board.py. None of them replaces a file.

    Args:
        robot: the robot's name in contracts: letters, digits, _ and -.
        model: the robot's model, an MJCF or URDF file whose base has a free joint.
        out: folder for the files.
    """
    if not plain.is_name(robot):
        raise ConfigError(
            f"robot should be made of letters, digits, _ and - alone, received '{robot}'"
        )
    module = robot.replace("-", "_")  # the board imports its file by this name
    taken = {*sys.stdlib_module_names, *packages_distributions()}
    if not robot[0].isalpha() or keyword.iskeyword(module) or module in taken:
        raise ConfigError(
            "robot should begin with a letter, and be neither a word of Python nor the name of an "
            f"installed module, received '{robot}'"
        )
    paths = [out / f"{robot}.py", out / f"{robot}.yaml", out / f"{module}_board.py"]
    if there := [str(path) for path in paths if path.exists() or path.is_symlink()]:
        raise ConfigError(f"{', '.join(there)}: exists; give another name or another --out")
    found = sketch(robot, model)
    needed = dict.fromkeys((*texts.observed(found), "tilt"))
    made = (
        texts.task_file(found, out),
        texts.configuration(found),
        texts.board(found, tuple(needed)),
    )
    for path, text in zip(paths, made, strict=True):
        files.write(path, text)
        print(path)
    print(f"next: holdfast check --task {paths[0]}:{texts.class_name(robot)}Task")
