"""The point mass of the CPO paper: free in the plane, commanded by velocity."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import ASSETS, RobotModel

MAX_SPEED_M_S = 10.0


class Point(RobotModel):
    """A point that does not turn: its heading is the odom frame's."""

    name = "point"
    model_file = ASSETS / "point.xml"
    period_s = 0.1
    action = tuple(
        ActionChannel(name, "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=200.0)
        for name in ("velocity_x", "velocity_y")
    )
    pose = (ObservationChannel("position", 2, "m", "position"),)
    motion = (ObservationChannel("linear_velocity", 2, "m/s", "linear_velocity"),)

    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw start states at rest: qpos (n, 2), qvel (n, 2)."""
        return rng.uniform(-within_m, within_m, (n, 2)), np.zeros((n, 2))

    def posed(self, signals: Signals) -> Array:
        """Return positions: see `RobotModel`."""
        return signals["position"]

    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return position and velocity."""
        return {"position": qpos, "linear_velocity": qvel}

    def control(self, action: Array) -> Array:
        """Return velocity targets, m/s."""
        return action

    def velocity(self, signals: Signals) -> Array:
        """Return the measured velocity."""
        return signals["linear_velocity"]

    def heading(self, signals: Signals) -> Array:
        """Return 0: the point does not turn."""
        return np.zeros(signals["position"].shape[:-1])
