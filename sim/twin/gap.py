"""The gap: differences between the twin and the robot of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import mujoco

from holdfast import yaml_file
from holdfast.schema import NOT_NEGATIVE, Range

CASTER = "caster"
TYRES = ("left_tyre", "right_tyre")

Spread = Annotated[float, NOT_NEGATIVE]


@dataclass(frozen=True)
class OdometryNoise:
    """Standard deviations of the errors of wheel odometry."""

    position_m_per_sqrt_m: Spread = 0.0
    heading_rad_per_sqrt_m: Spread = 0.0
    velocity_m_s: Spread = 0.0
    yaw_rate_rad_s: Spread = 0.0


@dataclass(frozen=True)
class LocalisationNoise:
    """Standard deviations of the errors of each pose reading, which are independent."""

    position_m: Spread
    heading_rad: Spread


@dataclass(frozen=True)
class Gap:
    """Differences from the nominal robot; the default is no gap.

    Attributes:
        wheel_radius_scale: factor on the wheels' radius.
        mass_scale: factor on the masses and inertias of all bodies.
        friction_scale: factor on the friction between tyres and floor.
        delay_steps: control periods between a command's arrival and the motors.
        left_wheel_gain: factor on the left motor's speed target.
        localisation: noise of a pose from outside (motion capture, matched scans). None: pose from
            wheel odometry with the nominal radius. Cost caused by a wrong radius or by slip is
            then not measured.
        odometry_noise: noise of the wheel odometry.
    """

    wheel_radius_scale: Annotated[float, Range(0.5, 2.0)] = 1.0
    mass_scale: Annotated[float, Range(0.2, 5.0)] = 1.0
    friction_scale: Annotated[float, Range(0.05, 5.0)] = 1.0
    delay_steps: Annotated[int, Range(0, 20)] = 0
    left_wheel_gain: Annotated[float, Range(0.0, 2.0)] = 1.0
    localisation: LocalisationNoise | None = None
    odometry_noise: OdometryNoise = OdometryNoise()


def load_gap(path: Path) -> Gap:
    """Read a gap from a YAML file.

    Raises:
        ConfigError: there is no such file, it is no YAML, or a value is unknown or impossible.
    """
    return yaml_file.load(path, Gap)


def apply(gap: Gap, model: mujoco.MjModel, wheel_radius_m: float) -> float:
    """Change a drive robot's model by the gap; return the rise of its base, m."""
    raised_m = wheel_radius_m * (gap.wheel_radius_scale - 1.0)
    for name in TYRES:
        tyre = model.geom(name)
        tyre.size[:2] *= gap.wheel_radius_scale
        tyre.rbound[:] = tyre.size.max()
        model.geom_aabb[tyre.id][3:5] *= gap.wheel_radius_scale
        tyre.friction[:] *= gap.friction_scale
    model.geom(CASTER).pos[2] -= raised_m  # the base stays level
    model.body_mass[:] *= gap.mass_scale
    model.body_inertia[:] *= gap.mass_scale
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return raised_m
