"""A robot and a task of one's own: a car that laps in a corridor, fast.

holdfast train --task examples/car.py:CarLaps --out runs/car
"""

from pathlib import Path

import numpy as np

from holdfast.contract import ActionChannel, Cost, ObservationChannel
from holdfast.sim.robots.robot import FreeBase
from holdfast.sim.tasks.task import Task, contract_for

WHEEL_RADIUS_M, WHEELBASE_M, TRACK_M = 0.06, 0.30, 0.24


class Car(FreeBase):
    """Commanded by speed and steering angle, at 20 Hz."""

    name = "car"
    model_file = Path(__file__).with_name("car.xml")
    period_s = 0.05
    action = (
        ActionChannel("forward_speed", "m/s", -2.0, 2.0, max_rate_per_s=4.0),
        ActionChannel("steering", "rad", -0.5, 0.5, max_rate_per_s=4.0),
    )

    def control(self, action):
        """Return the rear wheels' speeds, rad/s, and the front wheels' angles, rad."""
        speed, angle = action[..., 0], action[..., 1]
        inner = TRACK_M / 2.0 * np.tan(angle) / WHEELBASE_M
        left, right = speed * (1.0 - inner), speed * (1.0 + inner)
        return np.stack((left / WHEEL_RADIUS_M, right / WHEEL_RADIUS_M, angle, angle), axis=-1)


class CarLaps(Task):
    """Pays for the way made forward, in metres, and costs 1 for each step with |x| > 1 m."""

    def __init__(self):
        self.robot = Car()
        self.contract = contract_for(
            "example/CarLaps-v0",
            self.robot,
            (
                ObservationChannel("position", 2, "m", "position"),
                ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
                ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
                ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
                ObservationChannel("applied_action", 2, "1", "applied_action"),
            ),
            200,  # steps of an episode
            Cost("outside", "abs(position.x) > 1.0", limit=5.0, episode_cap=15.0,
                 gamma=0.99, lam=0.95),
            reward=f"{self.robot.period_s} * forward_speed",
        )  # fmt: skip

    def reset(self, rng, n):
        """Start at rest near the middle, turned to any side; there is nothing around."""
        return *self.robot.start(rng, n, within_m=0.3), {}

    def reward(self, signals):
        """Return the metres made forward in a period."""
        return self.robot.period_s * signals["forward_speed"][..., 0]
