"""What a model tells of a robot: its actions, their limits, its joints and its size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from holdfast.contract import ActionChannel
from holdfast.errors import ConfigError
from holdfast.signals import Array
from holdfast.sim.robots.base import FreeBody, find_base
from holdfast.sim.robots.robot import compiled

DRIVE_PERIOD_S, JOINTS_PERIOD_S = 0.05, 0.02
FASTEST_M_S, FASTEST_RAD_S = 1.0, 2.0
"""Largest speeds of a wheeled base, where its motors allow more."""

WHEEL_RAD_S = 10.0
"""Speed of a wheel whose actuator has no `ctrlrange`."""

FORWARD_SHARE, TURN_SHARE = 0.6, 0.4
"""Shares of the wheels' speed: going and turning at once should not exceed it."""

BEND, JOINT_SPEED, TORQUE = 0.3, 5.0, 1.0
"""Largest actions of joints, where the model allows more: rad or m from the start pose, rad/s or
m/s; and the control of a motor without a `ctrlrange`."""

RAMP_S = 0.5
"""Time in which an action may go from 0 to its larger limit."""


@dataclass(frozen=True)
class Wheels:
    """The wheels of a base that is steered by the speeds of its two sides, in actuators' order.

    Attributes:
        side_m: distance of each wheel to the left of the base's middle.
        radius_m: radius of each wheel.
        gear: what each actuator is told per rad/s of its wheel, positive: rolling forward.
    """

    side_m: tuple[float, ...]
    radius_m: tuple[float, ...]
    gear: tuple[float, ...]


@dataclass(frozen=True)
class Joints:
    """Actuators that are told one action each: `rest + gain · action`, in actuators' order."""

    rest: tuple[float, ...]
    gain: tuple[float, ...]


@dataclass(frozen=True)
class Sketch:
    """What the files of a new robot are written from.

    Attributes:
        drive: wheels or joints.
        joints: names of the joints, as `joint_position` has them.
        ranges: low and high of each of these joints, rad or m; None: it has no range.
        footprint_m: radius around the base that holds the robot, from above.
    """

    robot: str
    model: Path
    period_s: float
    timestep_s: float
    action: tuple[ActionChannel, ...]
    drive: Wheels | Joints
    joints: tuple[str, ...]
    ranges: tuple[tuple[float, float] | None, ...]
    footprint_m: float


def sketch(robot: str, file: Path) -> Sketch:
    """Read a model.

    Raises:
        ConfigError: MuJoCo cannot load it, it has no free base, or no actuator.
    """
    model = compiled(file, lambda: mujoco.MjSpec.from_file(str(file)))
    base = find_base(model, "", str(file))
    data = mujoco.MjData(model)
    if model.nkey:
        mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    wheels = _wheels(model, data, base)
    drive: Wheels | Joints
    if wheels is None:
        drive, action = _joints(model, data)
    else:
        drive, action = wheels, _speeds(model, wheels)
    joints = [model.joint(name).id if name else -1 for name in base.joints]
    wanted = JOINTS_PERIOD_S if wheels is None else DRIVE_PERIOD_S
    step = float(model.opt.timestep)
    return Sketch(
        robot=robot,
        model=file,
        period_s=round(max(1, round(wanted / step)) * step, 9),
        timestep_s=step,
        action=action,
        drive=drive,
        joints=base.joints,
        ranges=tuple(_joint_range(model, joint) for joint in joints),
        footprint_m=_footprint_m(model, data, base),
    )


def _body(model: mujoco.MjModel, base: FreeBody) -> int:
    """Return the base's body, which may have no name."""
    return int(model.jnt_bodyid[model.jnt_qposadr == base.q][0])


def _joint_range(model: mujoco.MjModel, joint: int) -> tuple[float, float] | None:
    if joint < 0 or not model.jnt_limited[joint]:
        return None
    low, high = model.jnt_range[joint].tolist()
    return low, high


def _is_speed(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator is told a speed: a `velocity` actuator's force is kv · (ctrl − speed)."""
    bias = model.actuator_biasprm[actuator]
    affine = int(model.actuator_biastype[actuator]) == mujoco.mjtBias.mjBIAS_AFFINE
    return bool(affine and bias[1] == 0.0 and bias[2] < 0.0)


def _is_position(model: mujoco.MjModel, actuator: int) -> bool:
    affine = int(model.actuator_biastype[actuator]) == mujoco.mjtBias.mjBIAS_AFFINE
    return bool(affine and model.actuator_biasprm[actuator, 1] < 0.0)


def _joint_of(model: mujoco.MjModel, actuator: int) -> int | None:
    """Return the joint that an actuator moves, if it turns or slides; None for anything else."""
    if int(model.actuator_trntype[actuator]) != mujoco.mjtTrn.mjTRN_JOINT:
        return None
    joint = int(model.actuator_trnid[actuator, 0])
    single = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    return joint if int(model.jnt_type[joint]) in single else None


def _wheels(model: mujoco.MjModel, data: mujoco.MjData, base: FreeBody) -> Wheels | None:
    """Return the wheels, if all actuators turn wheels by speed, some on either side."""
    body = _body(model, base)
    across: Array = data.xmat[body].reshape(3, 3)[:, 1]
    side, radius, gear = [], [], []
    for actuator in range(model.nu):
        joint = _joint_of(model, actuator)
        if joint is None or not _is_speed(model, actuator):
            return None
        held = model.actuator_ctrllimited[actuator] and not model.actuator_ctrlrange[actuator].all()
        turn = float(data.xaxis[joint] @ across)
        if int(model.jnt_type[joint]) != mujoco.mjtJoint.mjJNT_HINGE or abs(turn) < 0.9 or held:
            return None
        side.append(round(float((data.xanchor[joint] - data.xpos[body]) @ across), 6))
        radius.append(_radius_m(model, int(model.jnt_bodyid[joint])))
        gear.append(round(math.copysign(1.0, turn) * float(model.actuator_gear[actuator, 0]), 9))
    if not (min(side) < 0.0 < max(side) and min(radius) > 0.0):
        return None
    return Wheels(tuple(side), tuple(radius), tuple(gear))


def _radius_m(model: mujoco.MjModel, body: int) -> float:
    """Return a wheel's radius: the largest of its geoms', 0 where it has none."""
    meshes = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_BOX)
    geoms = range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
    sizes = (
        model.geom_aabb[geom, 3:].max() if int(model.geom_type[geom]) in meshes
        else model.geom_size[geom, 0]
        for geom in geoms
    )  # fmt: skip
    return round(float(max(sizes, default=0.0)), 6)


def _speeds(model: mujoco.MjModel, wheels: Wheels) -> tuple[ActionChannel, ...]:
    """Return forward speed and yaw rate, as far as the wheels' actuators allow both at once."""
    fastest = []
    for actuator, (gear, radius) in enumerate(zip(wheels.gear, wheels.radius_m, strict=True)):
        told = np.abs(model.actuator_ctrlrange[actuator]).min() / abs(gear)
        fastest.append(radius * (told if model.actuator_ctrllimited[actuator] else WHEEL_RAD_S))
    rim, widest = min(fastest), max(map(abs, wheels.side_m))
    forward = _rounded(min(FASTEST_M_S, FORWARD_SHARE * rim))
    turn = _rounded(min(FASTEST_RAD_S, TURN_SHARE * rim / widest))
    return (
        ActionChannel("forward_speed", "m/s", -forward, forward, forward / RAMP_S),
        ActionChannel("yaw_rate", "rad/s", -turn, turn, turn / RAMP_S),
    )


def _rounded(value: float) -> float:
    """Return a value above 0 with two digits, rounded down."""
    digits = 1 - math.floor(math.log10(value))
    scale = 10.0**digits
    return math.floor(value * scale) / scale


def _joints(model: mujoco.MjModel, data: mujoco.MjData) -> tuple[Joints, tuple[ActionChannel, ...]]:
    rest, gain, channels = [], [], []
    names = list(_names(model))
    for actuator in range(model.nu):
        joint = _joint_of(model, actuator)
        gear = float(model.actuator_gear[actuator, 0]) or 1.0
        slides = joint is not None and int(model.jnt_type[joint]) == mujoco.mjtJoint.mjJNT_SLIDE
        low, high = -math.inf, math.inf
        if model.actuator_ctrllimited[actuator]:
            low, high = model.actuator_ctrlrange[actuator].tolist()
        at, per = 0.0, 1.0
        if joint is not None and _is_position(model, actuator):
            unit, per = ("m" if slides else "rad"), gear
            if (limits := _joint_range(model, joint)) and not math.isfinite(low):
                low, high = sorted(gear * limit for limit in limits)
            start = gear * float(data.qpos[model.jnt_qposadr[joint]])
            at = min(max(float(data.ctrl[actuator]) if data.ctrl.any() else start, low), high)
            most = BEND
        elif joint is not None and _is_speed(model, actuator):
            unit, per, most = ("m/s" if slides else "rad/s"), gear, JOINT_SPEED
        elif joint is not None:
            unit, per, most = ("N" if slides else "N m"), 1.0 / gear, abs(gear) * TORQUE
            most = most if math.isinf(high) else math.inf
        else:
            unit, most = "1", TORQUE
        bounds = sorted(((low - at) / per, (high - at) / per))
        lowest, highest = max(bounds[0], -most), min(bounds[1], most)
        if not (lowest <= 0.0 <= highest and lowest < highest):
            raise ConfigError(
                f"actuator '{names[actuator]}' should allow 0, the action that stops the robot; "
                f"its range allows [{lowest:g}, {highest:g}] {unit}"
            )
        rest.append(round(at, 6))
        gain.append(round(per, 9))
        rate = max(-lowest, highest) / RAMP_S
        channels.append(
            ActionChannel(
                names[actuator], unit, round(lowest, 6), round(highest, 6), round(rate, 6)
            )
        )
    return Joints(tuple(rest), tuple(gain)), tuple(channels)


def _names(model: mujoco.MjModel) -> Iterator[str]:
    """Yield a channel's name for each actuator: its joint's where that is known and is one."""
    joints = [_joint_of(model, actuator) for actuator in range(model.nu)]
    seen: set[str] = set()
    for actuator, joint in enumerate(joints):
        own = model.actuator(actuator).name
        name = model.joint(joint).name if joint is not None and joints.count(joint) == 1 else own
        name = re.sub(r"\W", "_", name or own) or f"actuator_{actuator}"
        name = f"{name}_{actuator}" if name in seen else name
        seen.add(name)
        yield name


def _footprint_m(model: mujoco.MjModel, data: mujoco.MjData, base: FreeBody) -> float:
    body = _body(model, base)
    geoms = [g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] == body]
    reach = [
        math.hypot(*(data.geom_xpos[g] - data.xpos[body])[:2]) + float(model.geom_rbound[g])
        for g in geoms
    ]
    return math.ceil(100.0 * max(reach, default=0.0)) / 100.0
