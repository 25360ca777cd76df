"""The differential-drive robot and its Circle task."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.task import Task, circle_reward

WHEEL_RADIUS_M = 0.08
TRACK_M = 0.30
MAX_SPEED_M_S = 1.0
MAX_YAW_RATE_RAD_S = 2.0
RESTING_HEIGHT_M = 0.0798

ACTION = (
    ActionChannel("forward_speed", "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=4.0),
    ActionChannel(
        "yaw_rate", "rad/s", -MAX_YAW_RATE_RAD_S, MAX_YAW_RATE_RAD_S, max_rate_per_s=20.0
    ),
)


def wheel_speeds(action: Array) -> Array:
    """Return left and right wheel speeds (..., 2), rad/s, for forward speed and yaw rate."""
    forward, turn = action[..., 0], action[..., 1] * TRACK_M / 2.0
    return np.stack((forward - turn, forward + turn), axis=-1) / WHEEL_RADIUS_M


def roll_pitch_yaw(q: Array) -> tuple[Array, Array, Array]:
    """Return the roll, pitch and yaw (...), rad, of unit quaternions (..., 4), w first."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    return roll, pitch, yaw


class DriveCircle(Task):
    """Run along a circle that leaves the corridor |x| ≤ x_limit (Achiam et al. 2017, Circle).

    r = 1.5 m, x_limit = 0.9 m, 250 steps at 20 Hz, d = 10: at 1 m/s on the circle, more than
    half of the steps are outside, so an unconstrained policy costs over ten times the limit.
    """

    model_file = "drive.xml"
    frame_skip = 5
    radius_m = 1.5
    start_m = 0.5

    def __init__(self) -> None:
        self.contract = Contract(
            robot="drive",
            task="holdfast/DriveCircle-v0",
            period_s=0.05,
            episode_steps=250,
            observation=(
                ObservationChannel("position", 2, "m", "position"),
                ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
                ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
                ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
                ObservationChannel("applied_action", 2, "1", "applied_action"),
                ObservationChannel("episode_left", 1, "1", "episode_left"),
            ),
            action=ACTION,
            costs=(
                Cost(
                    name="outside_corridor",
                    function="corridor",
                    parameters={"x_limit_m": 0.9},
                    limit=10.0,
                    run_budget=30.0,
                    gamma=0.99,
                    lam=0.95,
                ),
            ),
        )

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Start at rest within ±start_m, at any heading. qpos (n, 9), qvel (n, 8)."""
        qpos = np.zeros((n, 9))
        qpos[:, 0:2] = rng.uniform(-self.start_m, self.start_m, (n, 2))
        qpos[:, 2] = RESTING_HEIGHT_M
        yaw = rng.uniform(-np.pi, np.pi, n)
        qpos[:, 3], qpos[:, 6] = np.cos(yaw / 2.0), np.sin(yaw / 2.0)
        return qpos, np.zeros((n, 8))

    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return position, heading, forward speed, yaw rate and tilt."""
        roll, pitch, yaw = roll_pitch_yaw(qpos[..., 3:7])
        forward = qvel[..., 0] * np.cos(yaw) + qvel[..., 1] * np.sin(yaw)
        return {
            "position": qpos[..., 0:2],
            "heading": yaw[..., None],
            "forward_speed": forward[..., None],
            "yaw_rate": qvel[..., 5:6],
            "tilt": np.stack((roll, pitch), axis=-1),
        }

    def control(self, action: Array) -> Array:
        """Return wheel speed targets, rad/s."""
        return wheel_speeds(action)

    def reward(self, signals: Signals) -> Array:
        """Return the Circle reward; the base moves along its heading."""
        heading = signals["heading"][..., 0]
        direction = np.stack((np.cos(heading), np.sin(heading)), axis=-1)
        velocity = signals["forward_speed"] * direction
        return circle_reward(signals["position"], velocity, self.radius_m)
