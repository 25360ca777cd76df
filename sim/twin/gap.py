"""The gap: differences between the twin and the robot of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import mujoco
from pydantic import BaseModel, ConfigDict, Field

from holdfast import yaml_file

CASTER = "caster"
TYRES = ("left_tyre", "right_tyre")

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class OdometryNoise(BaseModel):
    """Standard deviations of the errors of wheel odometry."""

    model_config = _STRICT

    position_m_per_sqrt_m: Annotated[float, Field(ge=0.0)] = 0.0
    heading_rad_per_sqrt_m: Annotated[float, Field(ge=0.0)] = 0.0
    velocity_m_s: Annotated[float, Field(ge=0.0)] = 0.0
    yaw_rate_rad_s: Annotated[float, Field(ge=0.0)] = 0.0


class LocalisationNoise(BaseModel):
    """Standard deviations of the errors of each pose reading, which are independent."""

    model_config = _STRICT

    position_m: Annotated[float, Field(ge=0.0)]
    heading_rad: Annotated[float, Field(ge=0.0)]


class Gap(BaseModel):
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

    model_config = _STRICT

    wheel_radius_scale: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0
    mass_scale: Annotated[float, Field(ge=0.2, le=5.0)] = 1.0
    friction_scale: Annotated[float, Field(ge=0.05, le=5.0)] = 1.0
    delay_steps: Annotated[int, Field(ge=0, le=20)] = 0
    left_wheel_gain: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
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
