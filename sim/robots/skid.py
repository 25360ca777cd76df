"""The skid-steered robot: an outdoor base of 50 kg on four wheels that do not steer."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import APPLIED_ACTION, Array
from holdfast.sim.robots.robot import ASSETS, FreeBase

WHEEL_RADIUS_M = 0.1651
TRACK_M = 0.5708
SLIP = 1.875
"""How many times as far apart as they are the wheels act in a turn, because all of them slip: the
value that Clearpath publishes (husky_control, wheel_separation_multiplier)."""

MAX_SPEED_M_S = 1.0
MAX_YAW_RATE_RAD_S = 1.0


class Skid(FreeBase):
    """Four wheels, two on each side at one speed, commanded by forward speed and yaw rate, at
    20 Hz. Limits on acceleration are those of husky_control."""

    name = "skid"
    model_file = ASSETS / "skid.xml"
    period_s = 0.05
    action = (
        ActionChannel("forward_speed", "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=3.0),
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
        ObservationChannel("applied_action", 2, "1", APPLIED_ACTION),
    )

    def control(self, action: Array) -> Array:
        """Return wheel speed targets, rad/s: front left, front right, rear left, rear right."""
        forward, turn = action[..., 0], action[..., 1] * SLIP * TRACK_M / 2.0
        left, right = forward - turn, forward + turn
        return np.stack((left, right, left, right), axis=-1) / WHEEL_RADIUS_M
