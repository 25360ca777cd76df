"""The point mass and its Circle task, as in the CPO paper."""

from __future__ import annotations

import numpy as np

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.task import Task, circle_reward

MAX_SPEED_M_S = 10.0


class PointCircle(Task):
    """Circle with r = 15, x_limit = 2.5, 65 steps, d = 5 (Achiam et al. 2017, table 1).

    The paper's reward is scaled by 0.1, which changes no optimum.
    """

    model_file = "point.xml"
    frame_skip = 5
    radius_m = 15.0

    def __init__(self) -> None:
        self.contract = Contract(
            robot="point",
            task="holdfast/PointCircle-v0",
            period_s=0.1,
            episode_steps=65,
            observation=(
                ObservationChannel("position", 2, "m", "position"),
                ObservationChannel("linear_velocity", 2, "m/s", "linear_velocity"),
                ObservationChannel("episode_left", 1, "1", "episode_left"),
            ),
            action=tuple(
                ActionChannel(name, "m/s", -MAX_SPEED_M_S, MAX_SPEED_M_S, max_rate_per_s=200.0)
                for name in ("velocity_x", "velocity_y")
            ),
            costs=(
                Cost(
                    name="outside_corridor",
                    function="corridor",
                    parameters={"x_limit_m": 2.5},
                    limit=5.0,
                    run_budget=15.0,
                    gamma=0.99,
                    lam=1.0,
                ),
            ),
        )

    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Start at rest near the centre. qpos (n, 2), qvel (n, 2)."""
        return rng.uniform(-0.5, 0.5, (n, 2)), np.zeros((n, 2))

    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return position and velocity."""
        return {"position": qpos, "linear_velocity": qvel}

    def control(self, action: Array) -> Array:
        """Return velocity targets, m/s."""
        return action

    def reward(self, signals: Signals) -> Array:
        """Return a tenth of the paper's Circle reward."""
        position, velocity = signals["position"], signals["linear_velocity"]
        return 0.1 * circle_reward(position, velocity, self.radius_m)
