"""Tasks in a user's own file, as `path/to/my_task.py:MyTask`.

An id that a checkpoint holds has the file's path relative to the checkpoint, so that both may move
together. A path that a person types is relative to the working directory.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from holdfast.errors import ConfigError, HoldfastError
from holdfast.sim.task_spec import GYM_PREFIX, OURS, SUFFIX, MujocoTaskSpec
from holdfast.sim.tasks.task import Task

T = TypeVar("T")


class FileTaskSpec(MujocoTaskSpec):
    """The spec of FILE.py:NAME, NAME being a class or a function without arguments.

    The file runs at the first use, once, with its folder at the end of the import path.

    Args:
        task_id: FILE.py:NAME, or FILE.py for the file's only task class.
    """

    @cached_property
    def _module(self) -> ModuleType:
        return run_file(Path(split(self.id)[1]))

    def make(self) -> Task:
        """See `TaskSpec`.

        Raises:
            ConfigError: there is no such file or name, the code fails, or its result is no task.
        """
        _, file, name = split(self.id)
        path, module = Path(file), self._module
        tasks = [n for n, v in vars(module).items() if _is_task_of(v, module)]
        if not name and len(tasks) != 1:
            raise ConfigError(
                f"{path}: the task should be given as FILE.py:NAME; its tasks are "
                f"{', '.join(tasks) or 'none'}"
            )
        make = getattr(module, name or tasks[0], None)
        if not callable(make):
            raise ConfigError(
                f"{path}: has no '{name}'; its tasks are {', '.join(tasks) or 'none'}"
            )
        task = _without_traceback(path, make)
        if not isinstance(task, Task):
            raise ConfigError(
                f"{self.id}: should make a holdfast.sim.tasks.task.Task, it made {task!r}"
            )
        if task.contract.task.startswith(OURS):
            raise ConfigError(
                f"{self.id}: its contract's task should not begin with '{OURS}', as Holdfast's own "
                f"do; it is '{task.contract.task}'"
            )
        return task


def split(task_id: str) -> tuple[str, str, str]:
    """Return the parts of FILE.py:NAME and gym:FILE.py:ID: "" or "gym:", the file, the name.

    The name is "" in an id that is a file alone. An id of another kind has no file.
    """
    prefix = GYM_PREFIX if task_id.startswith(GYM_PREFIX) else ""
    rest = task_id.removeprefix(prefix)
    if rest.endswith(SUFFIX):
        return prefix, rest, ""
    file, _, name = rest.rpartition(":")
    return (prefix, file, name) if file.endswith(SUFFIX) else (prefix, "", rest)


def moved(task_id: str, start: Path, to: Path) -> str:
    """Return an id whose file's path is relative to folder `to` instead of folder `start`."""
    prefix, file, name = split(task_id)
    if not file:
        return task_id
    there = Path(os.path.relpath(start / file, to)).as_posix()
    return f"{prefix}{there}:{name}" if name else f"{prefix}{there}"


def run_file(path: Path) -> ModuleType:
    """Run a Python file, and return its module.

    Raises:
        ConfigError: there is no such file, or the file fails.
    """
    if path.is_dir():
        raise ConfigError(f"{path} should be a Python file, not a folder")
    if not path.is_file():
        raise ConfigError(f"there is no file {path}, looked for from {Path.cwd()}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"holdfast_file_{path.stem}", path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    _without_traceback(path, lambda: loader.exec_module(module))
    return module


def _is_task_of(value: object, module: ModuleType) -> bool:
    task = isinstance(value, type) and issubclass(value, Task)
    return task and value.__module__ == module.__name__


def _without_traceback(path: Path, call: Callable[[], T]) -> T:
    """Return the result of a user's code; an exception becomes a ConfigError with the line."""
    try:
        return call()
    except HoldfastError as error:
        raise ConfigError(f"{path}: {error}") from None
    except SyntaxError as error:
        place = f"{error.filename or path}, line {error.lineno or 1}"
        raise ConfigError(f"{place}: {error.msg}") from None
    except SystemExit:
        raise ConfigError(f"{path}: should not end the program, as sys.exit does") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = f", line {own[-1]}" if own else ""
        text = " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: {type(error).__name__}: {text}") from None
