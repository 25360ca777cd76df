"""The base class of tasks: robot, start states, surroundings, reward and contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract, Cost, DeclaredSignal, ObservationChannel
from holdfast.signals import EPISODE_LEFT, Array, Signals
from holdfast.sim.robots.robot import RobotModel

World = dict[str, NDArray[Any]]
"""A task's state beside the physics, such as the remaining apples: named arrays with the copies on
the leading axis. The arrays hold numbers or bools, so that they can be saved."""


def contract_for(
    task: str,
    robot: RobotModel,
    observation: tuple[ObservationChannel, ...],
    episode_steps: int,
    *costs: Cost,
    signals: tuple[DeclaredSignal, ...] = (),
    reward: str | None = None,
) -> Contract:
    """Return the contract of a task with the robot's name, period and action.

    The share of the episode that is left is added to the observation.

    Args:
        signals: signals beyond the catalogue, and ranges of sensors.
        reward: expression of the reward, with which a robot's log shows returns.
    """
    return Contract(
        robot=robot.name,
        task=task,
        period_s=robot.period_s,
        episode_steps=episode_steps,
        observation=(*observation, ObservationChannel("episode_left", 1, "1", EPISODE_LEFT)),
        action=robot.action,
        costs=costs,
        signals=signals,
        reward=reward,
    )


class Task(ABC):
    """A robot's task. All arrays are batched on the leading axis.

    Attributes:
        robot: the robot.
        contract: observation, action and costs.
        lidar_range_m: range of a lidar for the surroundings; None: the task prescribes none.
    """

    robot: RobotModel
    contract: Contract
    lidar_range_m: float | None = None

    @abstractmethod
    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw n start states: qpos (n, nq), qvel (n, nv), and the world of each."""

    def advance(self, body: Signals, world: World) -> None:  # noqa: B027
        """Change the world in place after a control period. By default nothing changes.

        Args:
            body: the robot's present signals.
            world: the arrays that `reset` returned.
        """

    def surroundings(self, body: Signals, world: World) -> dict[str, Array]:
        """Return the signals of the surroundings. By default there are none."""
        return {}

    def beams(self, body: Signals, world: World, count: int) -> Array:
        """Return a lidar's ranges to the surroundings (N, count), m; by default infinity.

        Beams are counter-clockwise from straight ahead, and as wide as the angle between them.
        """
        return np.full((len(body["position"]), count), np.inf)

    def signals(self, qpos: Array, qvel: Array, world: World) -> dict[str, Array]:
        """Return all true signals of states (N, nq) and (N, nv) in their worlds."""
        body = self.robot.signals(qpos, qvel)
        return {**body, **self.surroundings(body, world)}

    @abstractmethod
    def reward(self, signals: Signals) -> Array:
        """Return the reward (...) of the state that an action led to.

        The reward is a function of signals alone, so that it can be computed from a robot's log.
        """

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the task ends the episode in this state (...)."""
        return self.robot.fallen(signals)
