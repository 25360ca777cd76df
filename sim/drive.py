"""The differential-drive robot."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import APPLIED_ACTION, Array, Signals
from holdfast.sim.robot import ASSETS, Robot

WHEEL_RADIUS_M = 0.08
TRACK_M = 0.30
MAX_SPEED_M_S = 1.0
MAX_YAW_RATE_RAD_S = 2.0
RESTING_HEIGHT_M = 0.0798


class Drive(Robot):
    """Two wheels and a caster, commanded by forward speed and yaw rate, at 20 Hz."""

    name = "drive"
    model_file = ASSETS / "drive.xml"
    period_s = 0.05
    action = (
        ActionChannel("forward_speed", "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=4.0),
        ActionChannel(
            "yaw_rate", "rad/s", -MAX_YAW_RATE_RAD_S, MAX_YAW_RATE_RAD_S, max_rate_per_s=20.0
        ),
    )
    pose = (
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
    )
    motion = (
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
        ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
        ObservationChannel("applied_action", 2, "1", APPLIED_ACTION),
    )

    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Start at rest, at any heading. qpos (n, 9), qvel (n, 8)."""
        qpos = np.zeros((n, 9))
        qpos[:, 0:2] = rng.uniform(-within_m, within_m, (n, 2))
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
        """Return wheel speed targets, left and right, rad/s."""
        forward, turn = action[..., 0], action[..., 1] * TRACK_M / 2.0
        return np.stack((forward - turn, forward + turn), axis=-1) / WHEEL_RADIUS_M

    def velocity(self, signals: Signals) -> Array:
        """Return the forward speed along the heading: the base does not move sideways."""
        heading = self.heading(signals)
        direction: Array = np.stack((np.cos(heading), np.sin(heading)), axis=-1)
        return signals["forward_speed"] * direction

    def heading(self, signals: Signals) -> Array:
        """Return the yaw, as measured."""
        return signals["heading"][..., 0]


def roll_pitch_yaw(q: Array) -> tuple[Array, Array, Array]:
    """Return the roll, pitch and yaw (...), rad, of unit quaternions (..., 4), w first."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    return roll, pitch, yaw
