"""The four-legged robot: twelve joints, commanded by how far to bend from standing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import APPLIED_ACTION, Array, Signals
from holdfast.sim.robots.robot import ASSETS, FreeBase

LEGS = ("front_left", "front_right", "rear_left", "rear_right")
STANDING_RAD = {"hip": 0.0, "thigh": 0.8, "calf": -1.6}
BEND_RAD = {"hip": 0.2, "thigh": 0.3, "calf": 0.3}
"""How far each joint may be told to bend from standing, either way."""

MAX_RATE_RAD_S = 6.0
"""How fast a joint's target may move; the motors' own limit is 21 rad/s."""

FALLEN = -0.5
"""Gravity along the base's z axis from which on it has fallen: tilted by 60 degrees."""


class Quadruped(FreeBase):
    """Four legs with hip, thigh and calf each, at 50 Hz.

    An action is the difference, in radians, between a joint's target and the standing pose, so
    that the action 0, which stops it, makes it stand.
    """

    name = "quadruped"
    model_file = ASSETS / "quadruped.xml"
    period_s = 0.02
    pose = (
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
    )
    motion = (
        ObservationChannel("projected_gravity", 3, "1", "projected_gravity"),
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
        ObservationChannel("lateral_speed", 1, "m/s", "lateral_speed"),
        ObservationChannel("angular_velocity", 3, "rad/s", "angular_velocity"),
        ObservationChannel("joint_position", 12, "rad", "joint_position"),
        ObservationChannel("joint_velocity", 12, "rad/s", "joint_velocity"),
        ObservationChannel("joint_effort", 12, "N m", "joint_effort"),
        ObservationChannel("contact", 4, "1", "contact"),
        ObservationChannel("applied_action", 12, "1", APPLIED_ACTION),
    )

    def __init__(self) -> None:
        self.action = tuple(_channels())
        self._standing: Array = np.tile(list(STANDING_RAD.values()), len(LEGS))

    def control(self, action: Array) -> Array:
        """Return joint angles, rad."""
        angles: Array = action + self._standing
        return angles

    def fallen(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the trunk is tilted by more than 60 degrees (...)."""
        fallen: NDArray[np.bool_] = signals["projected_gravity"][..., 2] > FALLEN
        return fallen


def _channels() -> Iterator[ActionChannel]:
    for leg in LEGS:
        for joint, bend in BEND_RAD.items():
            yield ActionChannel(f"{leg}_{joint}", "rad", -bend, bend, MAX_RATE_RAD_S)
