"""The differential-drive robot."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import APPLIED_ACTION, Array, Signals
from holdfast.sim.robots.robot import ASSETS, FreeBase

WHEEL_RADIUS_M = 0.08
TRACK_M = 0.30
AXLE_M = 0.08
"""How far the axle lies before the base's origin."""

MAX_SPEED_M_S = 1.0
MAX_YAW_RATE_RAD_S = 2.0


class Drive(FreeBase):
    """A robot with two driven wheels and a caster, commanded by speed and yaw rate at 20 Hz."""

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

    measures = (
        *("position", "heading", "forward_speed", "yaw_rate", "tilt"),
        *("angular_velocity", "linear_acceleration", "joint_position"),
    )

    def measured(self, signals: Signals) -> Signals:
        """Return speeds as wheels tell them that have the nominal radius and do not slip."""
        forward = signals["joint_velocity"].mean(axis=-1, keepdims=True) * WHEEL_RADIUS_M
        lateral = -AXLE_M * signals["yaw_rate"]
        return {**signals, "forward_speed": forward, "lateral_speed": lateral}

    def control(self, action: Array) -> Array:
        """Return wheel speed targets, left and right, rad/s."""
        forward, turn = action[..., 0], action[..., 1] * TRACK_M / 2.0
        return np.stack((forward - turn, forward + turn), axis=-1) / WHEEL_RADIUS_M

    def velocity(self, signals: Signals) -> Array:
        """Return the forward speed along the heading: the base does not move sideways."""
        heading = self.heading(signals)
        direction: Array = np.stack((np.cos(heading), np.sin(heading)), axis=-1)
        return signals["forward_speed"] * direction
