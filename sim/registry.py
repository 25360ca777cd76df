"""The tasks by name, with their parameters, and copies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.sim.batch.batch import Batch
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.batch.randomise import Randomisation
from holdfast.sim.robots.drive import Drive
from holdfast.sim.robots.legged import Ant, Humanoid
from holdfast.sim.robots.omni import Omni
from holdfast.sim.robots.point import Point
from holdfast.sim.robots.quadruped import Quadruped
from holdfast.sim.robots.skid import Skid
from holdfast.sim.tasks.circle import Circle
from holdfast.sim.tasks.follow import Follow
from holdfast.sim.tasks.gather import Gather
from holdfast.sim.tasks.goal import Goal
from holdfast.sim.tasks.places import Grid
from holdfast.sim.tasks.task import Task
from holdfast.sim.tasks.task_file import GYM_PREFIX, OURS, SUFFIX, load

_POINT_GRID = Grid(columns=6, spacing_m=2.0)

# Parameters of the point, the ant and the humanoid are those of Achiam et al. 2017, section
# 10.3, and of the authors' code; docs/TASKS.md says where these tasks differ. The drive robot's
# are at real size: at full speed on its circle it would be outside for more than half of the
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
        episode_steps=15, limit=0.1, run_budget=1.0, gamma=0.995, lam=1.0,
    ),
    "holdfast/AntGather-v0": lambda task: Gather(
        task, Ant(), apples=8, bombs=8, grid=_POINT_GRID, taken_within_m=1.0,
        sectors=20, range_m=6.0, fall_reward=-10.0,
        episode_steps=500, limit=0.2, run_budget=1.0, gamma=0.995, lam=0.5,
    ),
    "holdfast/DriveCircle-v0": lambda task: Circle(
        task, Drive(), radius_m=1.5, x_limit_m=0.9,
        episode_steps=250, limit=10.0, gamma=0.99, lam=0.95,
    ),
    "holdfast/DriveGather-v0": lambda task: Gather(
        task, Drive(), apples=6, bombs=8, grid=Grid(columns=7, spacing_m=0.7, jitter_m=0.15),
        taken_within_m=0.3, sectors=36, range_m=3.0, post_radius_m=0.1,
        episode_steps=300, limit=0.2, run_budget=1.0, gamma=0.99, lam=0.95,
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


def full_name(task_id: str) -> str:
    """Return a task's id as the table above has it, with "holdfast/"."""
    return task_id if task_id.startswith(OURS) else OURS + task_id


def is_program(task_id: str) -> bool:
    """Return whether an id names code to run, as FILE.py:NAME or gym:MODULE:ID."""
    return f"{SUFFIX}:" in task_id or (task_id.startswith(GYM_PREFIX) and task_id.count(":") > 1)


def registered(task_id: str) -> Task:
    """Return one of the tasks above. For ids out of files, which never run anything.

    Raises:
        ConfigError: it is none of them.
    """
    if full_name(task_id) not in TASKS:
        raise ConfigError(f"task should be one of {', '.join(TASKS)}; received '{task_id}'")
    return make(full_name(task_id))


def trained_on(held: str, given: str) -> str:
    """Return the id of the task that a file names, or its program as a person gave it: code that
    a file names is never run.

    Args:
        held: what the file says. given: what the person said; "" is nothing.

    Raises:
        ConfigError: it is no part of Holdfast and was not given, or another one was given.
    """
    if full_name(held) in TASKS:
        if given and full_name(given) != full_name(held):
            raise ConfigError(f"was trained with task = {full_name(held)}, not {given}")
        return held
    if not is_program(given):
        raise ConfigError(
            f"was trained on a task that is no part of Holdfast, '{held}'; code that a file names "
            "is not run: give the task with --task FILE.py:NAME or gym:MODULE:ID"
        )
    return given


def make(task_id: str) -> Task:
    """Return one of the tasks above by its id, with or without "holdfast/", or the task that a
    file makes, by FILE.py:NAME, which runs it: only for ids that a person gave.

    Raises:
        ConfigError: there is no such task.
    """
    if task_id.startswith(GYM_PREFIX):
        raise ConfigError(f"{task_id}: is an environment without a robot, which can only train")
    if f"{SUFFIX}:" in task_id:
        return load(task_id)
    full = full_name(task_id)
    if full not in TASKS:
        raise ConfigError(
            f"task should be one of {', '.join(TASKS)}, a file's own as FILE.py:NAME, or an "
            f"environment as gym:MODULE:ID; received '{task_id}'"
        )
    return TASKS[full](full)


def own_contract(task_id: str) -> Contract:
    """Return the contract of a task, or of an environment by gym:MODULE:ID.

    Raises:
        ConfigError, TrainingError: there is no such task, or it makes none.
    """
    if task_id.startswith(GYM_PREFIX):
        from holdfast.sim.batch import gym_batch  # importing Gymnasium takes half a second

        return gym_batch.own_contract(task_id)
    return make(task_id).contract


def make_batch(
    task_id: str,
    copies: int,
    seed: int,
    threads: int = 0,
    contract: Contract | None = None,
    randomise: Randomisation | None = None,
    physics: PhysicsName = "mujoco",
) -> Batch:
    """Return copies of a task, or of an environment by gym:MODULE:ID, ready to step.

    Args:
        task_id: as for `make`.
        copies: how many.
        seed: of all that is drawn.
        threads: of MuJoCo's physics; 0 for one per core.
        contract: to bill under, where its limits are not the task's own.
        randomise: what each copy has of its own.
        physics: MuJoCo's on this machine's cores, or MuJoCo Warp's on its GPU.

    Raises:
        ConfigError: there is no such task, or something cannot be randomised in it; or there is no
            GPU, or MuJoCo Warp cannot simulate the robot.
    """
    if task_id.startswith(GYM_PREFIX):
        from holdfast.sim.batch.gym_batch import GymBatch

        if randomise is not None:
            raise ConfigError(f"{task_id}: has no model that could be randomised")
        if physics != "mujoco":
            raise ConfigError(f"{task_id}: brings its own physics; leave --physics out")
        return GymBatch(task_id, contract or own_contract(task_id), copies, seed)
    task = make(task_id)
    if contract is not None:
        task.contract = contract
    device = "cuda" if physics == "warp" else ""
    return MujocoBatch(task, copies, seed, threads, randomise, device)
