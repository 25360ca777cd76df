"""Circle: run along a circle that leaves a corridor (Achiam et al. 2017, section 10.3.1)."""

from __future__ import annotations

import numpy as np

from holdfast.contract import Cost
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import RobotModel
from holdfast.sim.tasks.task import Task, World, contract_for
from holdfast.sim.tasks.velocity import in_odom

START_M = 0.5


class Circle(Task):
    """Rewards speed along a circle, and costs 1 per step outside of the corridor |x| ≤ x_limit.

    Args:
        task: the task's id.
        robot: the robot that runs.
        radius_m: radius of the circle.
        x_limit_m: half the corridor's width.
        episode_steps: control periods of an episode.
        limit: d, in steps outside per episode.
        gamma, lam: the cost's discount and GAE λ.
        reward_scale: factor on the reward, which does not change the optimum.
        alive_reward: reward of each step before scaling, for robots that can fall.
    """

    def __init__(
        self,
        task: str,
        robot: RobotModel,
        *,
        radius_m: float,
        x_limit_m: float,
        episode_steps: int,
        limit: float,
        gamma: float,
        lam: float,
        reward_scale: float = 1.0,
        alive_reward: float = 0.0,
    ) -> None:
        self.robot, self.radius_m = robot, radius_m
        self._scale, self._alive = reward_scale, alive_reward
        cost = Cost(
            name="outside_corridor",
            expression=f"abs(position.x) > {x_limit_m}",
            limit=limit,
            episode_cap=3.0 * limit,
            gamma=gamma,
            lam=lam,
        )
        self.contract = contract_for(
            task,
            robot,
            (*robot.pose, *robot.motion),
            episode_steps,
            cost,
            reward=self._reward_expression(),
        )

    def _reward_expression(self) -> str | None:
        velocity = in_odom(self.robot)
        if velocity is None:
            return None
        x, y = velocity
        off = f"1 + abs(hypot(position.x, position.y) - {self.radius_m})"
        paid = f"({y} * position.x - {x} * position.y) / ({off})"
        paid = f"{paid} + {self._alive}" if self._alive else paid
        return paid if self._scale == 1.0 else f"{self._scale} * ({paid})"

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Draw start states near the centre; the world is empty."""
        return *self.robot.start(rng, n, START_M), {}

    def reward(self, signals: Signals) -> Array:
        """Return the scaled sum of the Circle reward and the alive reward."""
        velocity = self.robot.velocity(signals)
        reward = circle_reward(signals["position"], velocity, self.radius_m)
        return self._scale * (reward + self._alive)


def circle_reward(position: Array, velocity: Array, radius_m: float) -> Array:
    """Return v·(−y, x) / (1 + |‖p‖ − r|) (Achiam et al. 2017, section 10.3.1).

    Args:
        position, velocity: shape (..., 2), m and m/s.
    """
    x, y = position[..., 0], position[..., 1]
    along = velocity[..., 1] * x - velocity[..., 0] * y
    return along / (1.0 + np.abs(np.hypot(x, y) - radius_m))
