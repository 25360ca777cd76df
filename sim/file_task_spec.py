"""Tasks in a user's own file, as `path/to/my_task.py:MyTask`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from holdfast.errors import ConfigError, HoldfastError
from holdfast.sim.task_spec import OURS, MujocoTaskSpec
from holdfast.sim.tasks.task import Task

T = TypeVar("T")


class FileTaskSpec(MujocoTaskSpec):
    """The spec of FILE.py:NAME, NAME being a class or a function without arguments.

    The file runs at the first use, once, with its folder at the end of the import path.

    Args:
        task_id: FILE.py:NAME.
    """

    @cached_property
    def _module(self) -> ModuleType:
        return run_file(Path(self.id.rpartition(":")[0]))

    def make(self) -> Task:
        """See `TaskSpec`.

        Raises:
            ConfigError: there is no such file or name, the code fails, or its result is no task.
        """
        file, _, name = self.id.rpartition(":")
        path, module = Path(file), self._module
        make = getattr(module, name, None)
        if not callable(make):
            tasks = [n for n, v in vars(module).items() if _is_task_of(v, module)]
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


def run_file(path: Path) -> ModuleType:
    """Run a Python file, and return its module.

    Raises:
        ConfigError: there is no such file, or the file fails.
    """
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
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = f", line {own[-1]}" if own else ""
        text = " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: {type(error).__name__}: {text}") from None
