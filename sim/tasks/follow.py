"""Follow: move as an operator asks, inside of a corridor and without tilting."""

from __future__ import annotations

import numpy as np

from holdfast.contract import Cost, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import RobotModel
from holdfast.sim.tasks.task import Task, World, contract_for

START_M = 0.2
SPREAD = 0.25
"""Divisor of the squared errors in the reward's exponent: (m/s)² and (rad/s)²."""


class Follow(Task):
    """Pays for moving as it was told, and costs 1 for each step outside of the corridor
    |x| ≤ x_limit_m, and 1 for each step in which roll or pitch is beyond tilt_rad.

    The commanded velocity is drawn uniformly at an episode's start and held: the operator does not
    know of the corridor. The reward is exp(−|error|²/0.25) of the velocity in the plane and half of
    that of the yaw rate (Rudin et al. 2022, table 3).

    Args:
        task: its id.
        robot: who follows.
        fastest: the largest commanded forward speed (m/s), lateral speed (m/s) and yaw rate
            (rad/s), either way.
        x_limit_m: half the corridor's width.
        tilt_rad: what roll and pitch may be.
        episode_steps: control periods of an episode.
        limit, tilt_limit: d, of steps outside of the corridor, and of steps that are tilted.
        gamma, lam: the costs' discount and GAE λ.
    """

    def __init__(
        self,
        task: str,
        robot: RobotModel,
        *,
        fastest: tuple[float, float, float],
        x_limit_m: float,
        tilt_rad: float,
        episode_steps: int,
        limit: float,
        tilt_limit: float,
        gamma: float,
        lam: float,
    ) -> None:
        self.robot, self._fastest = robot, np.array(fastest)
        outside = Cost(
            "outside_corridor", f"abs(position.x) > {x_limit_m}",
            limit, 3.0 * limit, gamma, lam,
        )  # fmt: skip
        tilting = Cost(
            "tilting", f"(abs(tilt.roll) > {tilt_rad}) or (abs(tilt.pitch) > {tilt_rad})",
            tilt_limit, 3.0 * tilt_limit, gamma, lam,
        )  # fmt: skip
        observation = (
            *robot.pose,
            *robot.motion,
            ObservationChannel("commanded_velocity", 3, "m/s, m/s, rad/s", "commanded_velocity"),
        )
        self.contract = contract_for(task, robot, observation, episode_steps, outside, tilting)

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, World]:
        """Start near the corridor's middle, turned to any side, with a velocity to follow."""
        qpos, qvel = self.robot.start(rng, n, START_M)
        return qpos, qvel, {"command": rng.uniform(-self._fastest, self._fastest, (n, 3))}

    def surroundings(self, body: Signals, world: World) -> dict[str, Array]:
        """Return what the operator asks for."""
        return {"commanded_velocity": world["command"].copy()}

    def reward(self, signals: Signals) -> Array:
        """Return what following the command is worth."""
        told = signals["commanded_velocity"]
        forward = signals["forward_speed"][..., 0] - told[..., 0]
        lateral = signals["lateral_speed"][..., 0] - told[..., 1]
        turning = signals["angular_velocity"][..., 2] - told[..., 2]
        plane: Array = np.exp(-(forward * forward + lateral * lateral) / SPREAD)
        return plane + 0.5 * np.exp(-turning * turning / SPREAD)
