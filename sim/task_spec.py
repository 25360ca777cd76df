"""A task that `--task` names, resolved once: its contract, its batches and its check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar

from holdfast.contract import Contract
from holdfast.sim import check
from holdfast.sim.batch.batch import Batch
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.tasks.task import Task

OURS = "holdfast/"
"""First characters of the ids of Holdfast's own tasks."""

SUFFIX = ".py"
"""Ending of the file's name in an id of the kind FILE.py:NAME."""

GYM_PREFIX = "gym:"
"""First characters of the ids of environments of Gymnasium's kind, gym:MODULE:ID."""


class TaskSpec(ABC):
    """A task by the id that a person gave.

    A user's file or module runs at the first use of the spec, once. Two specs of one id are equal.
    `holdfast.sim.registry.resolve` makes a spec from an id.

    Attributes:
        id: as given: a registered task, FILE.py:NAME or gym:MODULE:ID.
        has_limits: the task has cost limits of its own. Without, the user gives the limits.

    Raises:
        ConfigError, TrainingError: at the first use, if the id leads to no sound task.
    """

    has_limits: ClassVar[bool] = True

    def __init__(self, task_id: str) -> None:
        self.id = task_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSpec) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return self.id

    def __reduce__(self) -> tuple[type[TaskSpec], tuple[str]]:
        return type(self), (self.id,)  # copied and pickled by its id, without a file's module

    @property
    @abstractmethod
    def contract(self) -> Contract:
        """The task's own contract."""

    @abstractmethod
    def make(self) -> Task:
        """Return a new task.

        Raises:
            ConfigError: an environment without a robot is no `Task`.
        """

    @abstractmethod
    def batch(
        self,
        copies: int,
        seed: int,
        threads: int = 0,
        contract: Contract | None = None,
        randomise: Parameters | None = None,
        physics: PhysicsName = "mujoco",
        alternatives: int = 0,
    ) -> Batch:
        """Return simulated copies of the task.

        Args:
            copies: number of copies.
            seed: seed of everything that the batch draws.
            threads: threads of MuJoCo's physics; 0 for one per core.
            contract: the contract with other limits than the task's own; None: the task's own.
            randomise: ranges of the parameters that each copy draws.
            physics: MuJoCo's on this machine's cores, or MuJoCo Warp's on its GPU.
            alternatives: other robots for each copy, whose disagreement is measured.

        Raises:
            ConfigError: a parameter cannot be randomised in this task; or there is no GPU, or
                MuJoCo Warp cannot simulate the robot; or there can be no alternatives.
        """

    @abstractmethod
    def check(self) -> None:
        """Check the task before training (`holdfast.sim.check`).

        Raises:
            ConfigError, TrainingError: a part is wrong; the message names the right value.
        """


class MujocoTaskSpec(TaskSpec):
    """The spec of a `Task`, which MuJoCo simulates."""

    @cached_property
    def contract(self) -> Contract:
        """See `TaskSpec`."""
        return self.make().contract

    def batch(
        self,
        copies: int,
        seed: int,
        threads: int = 0,
        contract: Contract | None = None,
        randomise: Parameters | None = None,
        physics: PhysicsName = "mujoco",
        alternatives: int = 0,
    ) -> Batch:
        """See `TaskSpec`."""
        task = self.make()
        if contract is not None:
            task.contract = contract
        device = "cuda" if physics == "warp" else ""
        return MujocoBatch(task, copies, seed, threads, randomise, device, alternatives)

    def check(self) -> None:
        """See `TaskSpec`."""
        check.check_task(self.make())
