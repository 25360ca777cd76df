"""What a task is: a robot, a start, what the robot is among, a reward, and a contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract, Cost, DeclaredSignal, ObservationChannel
from holdfast.signals import EPISODE_LEFT, Array, Signals
from holdfast.sim.robots.robot import RobotModel

World = dict[str, NDArray[Any]]
"""What a task keeps for each copy beside the physics, such as what is left to gather: named
arrays with the copies on their leading axis. Numbers or bools, so that they can be saved."""


def contract_for(
    task: str,
    robot: RobotModel,
    observation: tuple[ObservationChannel, ...],
    episode_steps: int,
    *costs: Cost,
    signals: tuple[DeclaredSignal, ...] = (),
    reward: str | None = None,
) -> Contract:
    """Return the contract of a task: the robot's name, period and action, what is observed, with
    the share of the episode that is left, and what it costs.

    Args:
        signals: those beyond the catalogue, and ranges of sensors.
        reward: the reward's expression, where there is one: what a robot did is then paid from
            its log.
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
    """A robot and what it is to do. Everything is batched on the leading axis.

    Attributes:
        robot: who does it.
        contract: observation, action and costs.
        lidar_range_m: how far a lidar sees what is around; None: the task does not care.
    """

    robot: RobotModel
    contract: Contract
    lidar_range_m: float | None = None

    @abstractmethod
    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw n start states: qpos (n, nq), qvel (n, nv), and the world around each."""

    def advance(self, body: Signals, world: World) -> None:  # noqa: B027
        """Change the world, in place, by what the control period just ended did: nothing.

        Args:
            body: the robot's own signals, as they are now.
            world: as `reset` made it.
        """

    def surroundings(self, body: Signals, world: World) -> dict[str, Array]:
        """Return the signals of what is around the robot: nothing."""
        return {}

    def beams(self, body: Signals, world: World, count: int) -> Array:
        """Return how far a lidar of so many beams sees what is around (N, count), m: here without
        end, for nothing is.

        The beams are as wide as they lie apart, counter-clockwise from straight ahead.
        """
        return np.full((len(body["position"]), count), np.inf)

    def signals(self, qpos: Array, qvel: Array, world: World) -> dict[str, Array]:
        """Return all true signals of states (N, nq) and (N, nv) in their world."""
        body = self.robot.signals(qpos, qvel)
        return {**body, **self.surroundings(body, world)}

    @abstractmethod
    def reward(self, signals: Signals) -> Array:
        """Return the reward (...) of the state that an action led to.

        A function of signals alone, so that what a robot did can be paid from its log.
        """

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the episode ended before its time (...)."""
        return self.robot.fallen(signals)
