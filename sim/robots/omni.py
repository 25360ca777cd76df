"""The omnidirectional robot: four mecanum wheels, which go to any side without turning."""

from __future__ import annotations

import math

import numpy as np

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import APPLIED_ACTION, Array
from holdfast.sim.robots.robot import ASSETS, FreeBase

WHEELBASE_M, TRACK_M = 0.47, 0.30
MAX_SPEED_M_S = 0.8
"""Largest speed of the base in each direction, and of a wheel's circumference."""

MAX_YAW_RATE_RAD_S = 1.5


class Omni(FreeBase):
    """Commanded by forward speed, lateral speed and yaw rate, at 20 Hz."""

    name = "omni"
    model_file = ASSETS / "omni.xml"
    period_s = 0.05
    action = (
        ActionChannel("forward_speed", "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=2.0),
        ActionChannel("lateral_speed", "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=2.0),
        ActionChannel(
            "yaw_rate", "rad/s", -MAX_YAW_RATE_RAD_S, MAX_YAW_RATE_RAD_S, max_rate_per_s=6.0
        ),
    )
    pose = (
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
    )
    motion = (
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
        ObservationChannel("lateral_speed", 1, "m/s", "lateral_speed"),
        ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
        ObservationChannel("applied_action", 3, "1", APPLIED_ACTION),
    )

    def control(self, action: Array) -> Array:
        """Return speed targets along the rollers' axes, m/s: front left, front right, rear left,
        rear right.

        A motion that would turn a wheel too fast is slowed as a whole, and keeps its direction.
        """
        forward, lateral = action[..., 0], action[..., 1]
        turn = action[..., 2] * (WHEELBASE_M + TRACK_M) / 2.0
        wheels = np.stack(
            (
                forward - lateral - turn,
                forward + lateral + turn,
                forward + lateral - turn,
                forward - lateral + turn,
            ),
            axis=-1,
        )
        fastest = np.abs(wheels).max(axis=-1, keepdims=True)
        slowed: Array = wheels * (MAX_SPEED_M_S / np.maximum(fastest, MAX_SPEED_M_S))
        return slowed / math.sqrt(2.0)
