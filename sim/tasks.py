"""The tasks by name, with their parameters, and copies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.sim.batch import Batch
from holdfast.sim.circle import Circle
from holdfast.sim.drive import Drive
from holdfast.sim.mujoco_batch import MujocoBatch
from holdfast.sim.point import Point
from holdfast.sim.task import Task

NAMESPACE = "holdfast/"


def _point_circle(task: str) -> Task:
    """Table 1 of Achiam et al. 2017."""
    return Circle(
        task,
        Point(),
        radius_m=15.0,
        x_limit_m=2.5,
        episode_steps=65,
        limit=5.0,
        gamma=0.99,
        lam=1.0,
        reward_scale=0.1,
    )


def _drive_circle(task: str) -> Task:
    """At 1 m/s on the circle more than half of the steps are outside: unconstrained, it costs
    over ten times the limit."""
    return Circle(
        task,
        Drive(),
        radius_m=1.5,
        x_limit_m=0.9,
        episode_steps=250,
        limit=10.0,
        gamma=0.99,
        lam=0.95,
    )


TASKS: Mapping[str, Callable[[str], Task]] = {
    "holdfast/DriveCircle-v0": _drive_circle,
    "holdfast/PointCircle-v0": _point_circle,
}


def make(task_id: str) -> Task:
    """Return a task by its id, with or without the namespace.

    Raises:
        ConfigError: there is no such task.
    """
    full = task_id if task_id.startswith(NAMESPACE) else NAMESPACE + task_id
    if full not in TASKS:
        raise ConfigError(f"task should be one of {', '.join(TASKS)}, received '{task_id}'")
    return TASKS[full](full)


def make_batch(
    task_id: str, copies: int, seed: int, threads: int = 0, contract: Contract | None = None
) -> Batch:
    """Return copies of a task, ready to step.

    Args:
        task_id: as for `make`.
        copies: how many.
        seed: of all that resets draw.
        threads: of the physics; 0 for one per core.
        contract: to bill under, where its limits are not the task's own.

    Raises:
        ConfigError: there is no such task.
    """
    task = make(task_id)
    if contract is not None:
        task.contract = contract
    return MujocoBatch(task, copies, seed, threads)
