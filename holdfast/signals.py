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
"""The action last let through, scaled to [-1, 1] by the contract; size: the action's."""

EPISODE_LEFT = "episode_left"
"""The share of the episode's steps still to come, 1 at its start; size 1. Whoever counts the
steps knows it. With it, the costs still to come within the episode are a function of the
observation, and so something that a critic can learn and a monitor can use."""


@dataclass(frozen=True)
class Signal:
    """What a named measurement is.

    Attributes:
        size: None where it depends on the robot; then the contract's channel says it.
        unit: SI.
        frame: the axes it is along (REP-103, REP-105): "odom", "base", or "" where it has none.
        simulated: no robot has it; the safety monitor refuses contracts that need it.
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
        Signal("position", 2, "m", "odom", "x, y in the odom frame"),
        Signal("heading", 1, "rad", "odom", "yaw in the odom frame, counter-clockwise"),
        Signal("linear_velocity", 2, "m/s", "odom", "x, y in the odom frame"),
        Signal("forward_speed", 1, "m/s", "base", "along the base's x axis"),
        Signal("lateral_speed", 1, "m/s", "base", "along the base's y axis, to the left"),
        Signal("yaw_rate", 1, "rad/s", "base", "about the base's z axis, counter-clockwise"),
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
        Signal("angular_velocity", 3, "rad/s", "base", "of the base, about its own x, y, z"),
        Signal(
            "linear_acceleration",
            3,
            "m/s^2",
            "base",
            "of the base along its own x, y, z, gravity included, as an accelerometer says it",
        ),
        Signal("joint_position", None, "rad", "", "of the robot's joints, in its own order"),
        Signal("joint_velocity", None, "rad/s", "", "of the same joints"),
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
            "nearest thing in each sector of 10 degrees, seen from the base; counter-clockwise, "
            "the first centred on its x axis; the sensor's largest range where there is nothing",
        ),
        Signal("goal", 2, "m", "base", "where to go, x, y seen from the base"),
        Signal(
            "apple_proximity",
            None,
            "1",
            "base",
            "1 - range/largest range in sectors; 0: none there",
        ),
        Signal(
            "bomb_proximity",
            None,
            "1",
            "base",
            "proximity of bombs per sector, like apple_proximity",
        ),
        Signal("apples_taken", 1, "1", "", "apples taken in the period that just ended"),
        Signal("bombs_taken", 1, "1", "", "bombs taken in the period that just ended"),
        Signal("goals_reached", 1, "1", "", "goals reached in the period that just ended"),
        Signal("observation", None, "1", "", "what another simulation shows", simulated=True),
        Signal(
            "reported_cost", None, "1", "", "costs as the simulator reports them", simulated=True
        ),
    )
}


def _identity(values: Array) -> Array:
    return values


def _cos_sin(values: Array) -> Array:
    return np.concatenate((np.cos(values), np.sin(values)), axis=-1)


# name -> (function, size multiplier, unit of the result or None for the signal's own)
TRANSFORMS: Mapping[str, tuple[Any, int, str | None]] = {
    "identity": (_identity, 1, None),
    "cos_sin": (_cos_sin, 2, "1"),
}
