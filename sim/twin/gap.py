"""The gap: how the robot behind the twin's port differs from the one that was trained on."""

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
    """What wheel odometry gets wrong, as standard deviations."""

    position_m_per_sqrt_m: Spread = 0.0
    heading_rad_per_sqrt_m: Spread = 0.0
    velocity_m_s: Spread = 0.0
    yaw_rate_rad_s: Spread = 0.0


@dataclass(frozen=True)
class LocalisationNoise:
    """Of each reading of the pose, independent of the last, as standard deviations."""

    position_m: Spread
    heading_rad: Spread


@dataclass(frozen=True)
class Gap:
    """Factors on the nominal robot; the default is no gap.

    Attributes:
        friction_scale: on the friction between tyres and floor.
        delay_steps: control periods between a command's arrival and the motors.
        left_wheel_gain: factor on the left motor's speed target.
        localisation: the robot is told its pose from outside (motion capture, matched scans),
            with this noise. None: pose from wheel odometry with the nominal radius. Cost caused by
            a wrong radius or by slip is then not measured.
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
        ConfigError: no such file, not YAML, or an unknown or impossible value.
    """
    return yaml_file.load(path, Gap)


def apply(gap: Gap, model: mujoco.MjModel, wheel_radius_m: float) -> float:
    """Change a drive robot's model by the gap; return how much higher its base stands, m."""
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
