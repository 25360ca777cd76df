"""Signals: the catalogue, and the transforms that observations are made with.

A signal is a named, stamped array in SI units. Simulator and robot produce the same
signals; costs, rewards and observations are functions of them and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Signals = Mapping[str, Array]

APPLIED_ACTION = "applied_action"
"""The last action that was let through, as a signal: scaled to [-1, 1], of the action's size."""

EPISODE_LEFT = "episode_left"
"""The remaining share of the episode's steps, as a signal: 1 at the start, of size 1. It is known
from the count of steps. With it, the remaining costs of the episode are a function of the
observation, which a critic can learn and a monitor can use."""

BUDGET_LEFT = "budget_left"
"""What the episode may still cost, as a signal: for each cost the limit in force less what was
spent, below 0 where more was spent; of the costs' number. The observed state itself is not billed
yet. By this signal a policy that was trained for a range of limits knows which one is in force."""

OWN_SIGNALS = (APPLIED_ACTION, EPISODE_LEFT, BUDGET_LEFT)
"""Signals that no sensor measures: simulator and monitor compute them from their own accounts."""

MOST_LOG_STD = 20.0
"""Largest size of the logarithm of a policy's standard deviation: beyond it, the density of an
action says nothing."""


@dataclass(frozen=True)
class Signal:
    """A signal's size, unit, frame and meaning.

    Attributes:
        size: number of values; None: it depends on the robot, and the contract's channel has it.
        unit: SI unit.
        frame: axes of the values (REP-103, REP-105): "odom", "base", or "" for values without axes.
        simulated: whether only a simulation has the signal; the safety monitor refuses contracts
            that need such a signal.
    """

    name: str
    size: int | None
    unit: str
    frame: str
    meaning: str
    simulated: bool = False


CATALOGUE: Mapping[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal("position", 2, "m", "odom", "x, y of the base in the odom frame"),
        Signal("heading", 1, "rad", "odom", "yaw of the base in the odom frame, counter-clockwise"),
        Signal("linear_velocity", 2, "m/s", "odom", "x, y velocity of the base in the odom frame"),
        Signal("forward_speed", 1, "m/s", "base", "speed along the base's x axis"),
        Signal("lateral_speed", 1, "m/s", "base", "speed along the base's y axis, to the left"),
        Signal(
            "yaw_rate",
            1,
            "rad/s",
            "base",
            "angular speed about the base's z axis, counter-clockwise",
        ),
        Signal("tilt", 2, "rad", "base", "roll, pitch of the base"),
        Signal("height", 1, "m", "odom", "z of the base in the odom frame"),
        Signal("vertical_speed", 1, "m/s", "odom", "z of the base's velocity in the odom frame"),
        Signal(
            "orientation",
            4,
            "1",
            "odom",
            "unit quaternion of the base in the odom frame: w, x, y, z",
        ),
        Signal(
            "angular_velocity",
            3,
            "rad/s",
            "base",
            "angular velocity of the base about its own x, y, z axes",
        ),
        Signal(
            "linear_acceleration",
            3,
            "m/s^2",
            "base",
            "acceleration of the base along its own x, y, z axes, gravity included, from an "
            "accelerometer",
        ),
        Signal(
            "joint_position",
            None,
            "rad",
            "",
            "positions of the robot's joints, in the robot's order",
        ),
        Signal(
            "joint_velocity",
            None,
            "rad/s",
            "",
            "speeds of the robot's joints, in the robot's order",
        ),
        Signal(
            "joint_effort",
            None,
            "N m",
            "",
            "torques of the joints' actuators, in the robot's order",
        ),
        Signal("contact", None, "1", "", "1 for each foot that touches the ground, else 0"),
        Signal(
            "projected_gravity",
            3,
            "1",
            "base",
            "unit vector along gravity, seen from the base: 0, 0, -1 while it stands upright",
        ),
        Signal(
            "commanded_velocity",
            3,
            "m/s, m/s, rad/s",
            "base",
            "what an operator asks for: forward speed, lateral speed, yaw rate",
        ),
        Signal(
            "scan",
            36,
            "m",
            "base",
            "distance to the nearest obstacle in each sector of 10 degrees, from the base; "
            "counter-clockwise, the first centred on the base's x axis; the sensor's largest range "
            "where there is no obstacle",
        ),
        Signal("goal", 2, "m", "base", "x, y of the goal in the base frame"),
        Signal(
            "apple_proximity",
            None,
            "1",
            "base",
            "1 - range/largest range of the nearest apple in each sector; 0: no apple",
        ),
        Signal(
            "bomb_proximity",
            None,
            "1",
            "base",
            "1 - range/largest range of the nearest bomb in each sector; 0: no bomb",
        ),
        Signal("apples_taken", 1, "1", "", "apples taken in the period that just ended"),
        Signal("bombs_taken", 1, "1", "", "bombs taken in the period that just ended"),
        Signal("goals_reached", 1, "1", "", "goals reached in the period that just ended"),
        Signal(
            "observation", None, "1", "", "observation of a Gymnasium environment", simulated=True
        ),
        Signal(
            "reported_cost",
            None,
            "1",
            "",
            "costs as a Gymnasium environment reports them",
            simulated=True,
        ),
    )
}


def _identity(values: Array) -> Array:
    return values


def _cos_sin(values: Array) -> Array:
    return np.concatenate((np.cos(values), np.sin(values)), axis=-1)


# By name: function, factor on the signal's size, unit of the result (None: the signal's unit).
TRANSFORMS: Mapping[str, tuple[Any, int, str | None]] = {
    "identity": (_identity, 1, None),
    "cos_sin": (_cos_sin, 2, "1"),
}
