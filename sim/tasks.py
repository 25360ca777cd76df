"""The tasks by name."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.errors import ConfigError
from holdfast.sim.drive import DriveCircle
from holdfast.sim.point import PointCircle
from holdfast.sim.task import Task

NAMESPACE = "holdfast/"
TASKS: Mapping[str, type[Task]] = {
    "holdfast/DriveCircle-v0": DriveCircle,
    "holdfast/PointCircle-v0": PointCircle,
}


def make(task_id: str) -> Task:
    """Return a task by its id, with or without the namespace.

    Raises:
        ConfigError: there is no such task.
    """
    full = task_id if task_id.startswith(NAMESPACE) else NAMESPACE + task_id
    if full not in TASKS:
        raise ConfigError(f"task should be one of {', '.join(TASKS)}, received '{task_id}'")
    return TASKS[full]()
