"""The tasks by name, with their parameters, and the resolution of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.errors import ConfigError
from holdfast.plain import meant
from holdfast.sim.file_task_spec import FileTaskSpec, split
from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.legged import Ant, Humanoid
from holdfast.sim.robots.omni import Omni
from holdfast.sim.robots.point import Point
from holdfast.sim.robots.quadruped import Quadruped
from holdfast.sim.robots.skid import Skid
from holdfast.sim.task_spec import GYM_PREFIX, OURS, MujocoTaskSpec, TaskSpec
from holdfast.sim.tasks.circle import Circle
from holdfast.sim.tasks.follow import Follow
from holdfast.sim.tasks.gather import Gather
from holdfast.sim.tasks.goal import Goal
from holdfast.sim.tasks.places import Grid
from holdfast.sim.tasks.task import Task

_POINT_GRID = Grid(columns=6, spacing_m=2.0)

# Parameters of the point, the ant and the humanoid come from Achiam et al. 2017, section 10.3,
# and from the authors' code; docs/reference/TASKS.md lists the differences. The drive robot's tasks
# have real sizes: at full speed on its circle the robot would be outside for more than half of the
# time.
TASKS: Mapping[str, Callable[[str], Task]] = {
    "holdfast/PointCircle-v0": lambda task: Circle(
        task, Point(), radius_m=15.0, x_limit_m=2.5, reward_scale=0.1,
        episode_steps=65, limit=5.0, gamma=0.99, lam=1.0,
    ),
    "holdfast/AntCircle-v0": lambda task: Circle(
        task, Ant(), radius_m=10.0, x_limit_m=3.0, reward_scale=0.1,
        episode_steps=500, limit=10.0, gamma=0.995, lam=0.5,
    ),
    "holdfast/HumanoidCircle-v0": lambda task: Circle(
        task, Humanoid(), radius_m=10.0, x_limit_m=2.5, reward_scale=0.1, alive_reward=0.2,
        episode_steps=1000, limit=10.0, gamma=0.995, lam=0.5,
    ),
    "holdfast/PointGather-v0": lambda task: Gather(
        task, Point(), apples=2, bombs=8, grid=_POINT_GRID, taken_within_m=1.0,
        sectors=20, range_m=6.0,
        episode_steps=15, limit=0.1, episode_cap=1.0, gamma=0.995, lam=1.0,
    ),
    "holdfast/AntGather-v0": lambda task: Gather(
        task, Ant(), apples=8, bombs=8, grid=_POINT_GRID, taken_within_m=1.0,
        sectors=20, range_m=6.0, fall_reward=-10.0,
        episode_steps=500, limit=0.2, episode_cap=1.0, gamma=0.995, lam=0.5,
    ),
    "holdfast/DriveCircle-v0": lambda task: Circle(
        task, Drive(), radius_m=1.5, x_limit_m=0.9,
        episode_steps=250, limit=10.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/DriveGather-v0": lambda task: Gather(
        task, Drive(), apples=6, bombs=8, grid=Grid(columns=7, spacing_m=0.7, jitter_m=0.15),
        taken_within_m=0.3, sectors=36, range_m=3.0, post_radius_m=0.1,
        episode_steps=300, limit=0.2, episode_cap=1.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/DriveGoal-v0": lambda task: Goal(
        task, Drive(), grid=Grid(columns=7, spacing_m=0.8, jitter_m=0.15),
        posts=8, post_radius_m=0.1, range_m=3.0, reached_within_m=0.3, clearance_m=0.35,
        episode_steps=400, limit=10.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/SkidCircle-v0": lambda task: Circle(
        task, Skid(), radius_m=3.0, x_limit_m=1.8,
        episode_steps=200, limit=15.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/OmniGoal-v0": lambda task: Goal(
        task, Omni(), grid=Grid(columns=7, spacing_m=1.2, jitter_m=0.2),
        posts=4, post_radius_m=0.1, range_m=4.0, reached_within_m=0.3, clearance_m=0.45,
        episode_steps=300, limit=20.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/QuadrupedFollow-v0": lambda task: Follow(
        task, Quadruped(), fastest=(0.4, 0.2, 0.5), x_limit_m=0.6, tilt_rad=0.4,
        episode_steps=250, limit=10.0, tilt_limit=25.0, gamma=0.99, lam=0.95,
    ),
}  # fmt: skip


class RegisteredTaskSpec(MujocoTaskSpec):
    """The spec of one of the tasks above."""

    def make(self) -> Task:
        """See `TaskSpec`."""
        full = full_name(self.id)
        return TASKS[full](full)


def full_name(task_id: str) -> str:
    """Return the id of a registered task with "holdfast/" before it."""
    return task_id if task_id.startswith(OURS) else OURS + task_id


def is_program(task_id: str) -> bool:
    """Return whether an id names code to run, as FILE.py:NAME, FILE.py or gym:MODULE:ID."""
    in_module = task_id.startswith(GYM_PREFIX) and task_id.count(":") > 1
    return bool(split(task_id)[1]) or in_module


def registered(task_id: str) -> TaskSpec:
    """Return one of the tasks above, by its id with or without "holdfast/".

    An id that comes out of a file is resolved here alone: it never runs anything.

    Raises:
        ConfigError: there is no such task.
    """
    return _registered(task_id, "")


def resolve(task_id: str) -> TaskSpec:
    """Return the task that a person named: one of the tasks above, FILE.py:NAME, FILE.py or
    gym:MODULE:ID.

    The first use of the last three runs code, so an id out of a file must not come here.

    Raises:
        ConfigError: there is no such task.
    """
    if task_id.startswith(GYM_PREFIX):
        from holdfast.sim.gym_task_spec import GymTaskSpec  # importing Gymnasium takes 0.5 s

        return GymTaskSpec(task_id)
    if split(task_id)[1]:
        return FileTaskSpec(task_id)
    return _registered(
        task_id, ", a file's own as FILE.py:NAME, or an environment as gym:MODULE:ID"
    )


def _registered(task_id: str, others: str) -> TaskSpec:
    if full_name(task_id) not in TASKS:
        why = ": code that a file names is not run" if is_program(task_id) else ""
        guess = why or meant(full_name(task_id), TASKS)
        raise ConfigError(
            f"task should be one of {', '.join(TASKS)}{others}; received '{task_id}'{guess}"
        )
    return RegisteredTaskSpec(task_id)


def trained_on(held: str, given: TaskSpec | None) -> TaskSpec:
    """Return the task that a policy was trained on.

    Args:
        held: the task's id, out of a file.
        given: the task that a person named; None: the person named none.

    Raises:
        ConfigError: the file's task is not registered and none was given, or another task was
            given than the registered one.
    """
    if full_name(held) in TASKS:
        if given is not None and full_name(given.id) != full_name(held):
            raise ConfigError(f"was trained with task = {full_name(held)}, not {given.id}")
        return registered(held)
    if given is None or not is_program(given.id):
        raise ConfigError(
            f"was trained on a task that is no part of Holdfast, '{held}'; code that a file names "
            "is not run: give the task with --task FILE.py:NAME or gym:MODULE:ID"
        )
    return given
