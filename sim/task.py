"""What a task is: a robot, a start, what the robot is among, a reward, and a contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.signals import Array, Signals
from holdfast.sim.robot import Robot

World = dict[str, NDArray[Any]]
"""What a task keeps for each copy beside the physics, such as what is left to gather: named
arrays with the copies on their leading axis. Numbers or bools, so that they can be saved."""


class Task(ABC):
    """A robot and what it is to do. Everything is batched on the leading axes.

    Attributes:
        robot: who does it.
        contract: observation, action and costs.
    """

    robot: Robot
    contract: Contract

    @abstractmethod
    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw n start states: qpos (n, nq), qvel (n, nv), and the world around each."""

    def advance(self, qpos: Array, qvel: Array, world: World) -> None:  # noqa: B027
        """Change the world, in place, by what the control period that led here did: nothing."""

    def signals(self, qpos: Array, qvel: Array, world: World) -> dict[str, Array]:
        """Return the true catalogue signals of states (..., nq) and (..., nv) in their world."""
        return self.robot.signals(qpos, qvel)

    @abstractmethod
    def reward(self, signals: Signals) -> Array:
        """Return the reward (...) of the state that an action led to."""

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the episode ended before its time (...)."""
        return self.robot.fallen(signals)
