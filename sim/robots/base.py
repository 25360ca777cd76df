"""Which body of a model is the robot's base, and where the robot's coordinates are.

A model may hold more than the robot: crates are free bodies too. What tells the robot from them
is that it has the actuators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError

_FREE = int(mujoco.mjtJoint.mjJNT_FREE)
_TURNS_OR_SLIDES = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))

Columns = slice | NDArray[np.intp]
"""Some columns of a row: a slice where they lie side by side, which reads without a copy."""


@dataclass(frozen=True)
class FreeBody:
    """A free body with its joints, by their places in a model's qpos, qvel and sensor data.

    Attributes:
        name: the body's.
        q: where its x, y, z are in qpos; its quaternion follows.
        v: where its linear velocity is in qvel; its angular velocity follows.
        joints: names of its joints that turn or slide, in the model's order. A ball joint has no
            angle, and is none of them.
        joint_q, joint_v: where these joints are in qpos and in qvel.
        efforts: where the `jointactuatorfrc` sensors of these joints are, in the joints' order.
        touches: where its `touch` sensors are, in the model's order.
        speeds: how many there are in qvel, of the robot and of all else.
    """

    name: str
    q: int
    v: int
    joints: tuple[str, ...]
    joint_q: Columns
    joint_v: Columns
    efforts: Columns
    touches: Columns
    speeds: int


def find_base(model: mujoco.MjModel, wanted: str, where: str) -> FreeBody:
    """Return the base of a model: the free body that carries most of the actuators.

    Args:
        wanted: the name of the base's body; "" for the body with most actuators.
        where: the model's file, for what is said of it.

    Raises:
        ConfigError: no body is free, none is called that, or the actuators do not tell which.
    """
    free = [int(body) for body in model.jnt_bodyid[model.jnt_type == _FREE]]
    names = [model.body(body).name for body in free]
    if wanted:
        if wanted not in names:
            raise ConfigError(
                f"{where}: base should be one of its bodies with a free joint, "
                f"{', '.join(filter(None, names)) or 'none'}; received '{wanted}'"
            )
        return _free_body(model, free[names.index(wanted)])
    if free and not model.nu:
        raise ConfigError(
            f"{where}: should have an actuator at least, under <actuator>; without one nothing "
            "can be commanded"
        )
    counted = Counter(root for root in _driven(model) if root)
    most = counted.most_common(2)
    root = most[0][0] if most else 0
    if root not in free:
        body = f"'{model.body(root).name}', which carries the actuators," if root else "its base"
        raise ConfigError(
            f"{where}: {body} should have a free joint: <freejoint/> in an MJCF's body; a URDF's "
            'base is fixed to the world by MuJoCo unless a joint of type "floating" connects it '
            'to a link named "world"'
        )
    if len(most) == 2 and most[0][1] == most[1][1]:
        first, second = (model.body(body).name for body, _ in most)
        raise ConfigError(
            f"{where}: '{first}' has as many actuators as '{second}'; name the robot's base, as "
            f"in base = '{first}'"
        )
    return _free_body(model, root)


def _driven(model: mujoco.MjModel) -> Iterator[int]:
    """Yield, for each actuator, the root of the kinematic tree that it acts on; 0 is the world."""
    kinds = mujoco.mjtTrn
    kind_of, target_of = model.actuator_trntype.tolist(), model.actuator_trnid[:, 0].tolist()
    for kind, target in zip(kind_of, target_of, strict=True):
        if kind in (kinds.mjTRN_JOINT, kinds.mjTRN_JOINTINPARENT):
            body = model.jnt_bodyid[target]
        elif kind in (kinds.mjTRN_SITE, kinds.mjTRN_SLIDERCRANK):
            body = model.site_bodyid[target]
        elif kind == kinds.mjTRN_TENDON:
            body = _first_body(model, target)
        else:
            body = target
        yield int(model.body_rootid[body])


def _first_body(model: mujoco.MjModel, tendon: int) -> int:
    """Return a body that a tendon moves; 0 where it moves none."""
    first = model.tendon_adr[tendon]
    for at in range(first, first + model.tendon_num[tendon]):
        kind, target = int(model.wrap_type[at]), int(model.wrap_objid[at])
        if kind == mujoco.mjtWrap.mjWRAP_JOINT:
            return int(model.jnt_bodyid[target])
        if kind == mujoco.mjtWrap.mjWRAP_SITE and model.body_rootid[model.site_bodyid[target]]:
            return int(model.site_bodyid[target])
    return 0


def _free_body(model: mujoco.MjModel, body: int) -> FreeBody:
    joints = [
        joint
        for joint in range(model.njnt)
        if model.body_rootid[model.jnt_bodyid[joint]] == body
        and model.jnt_type[joint] in _TURNS_OR_SLIDES
    ]
    efforts, touches = _sensors(model, body)
    root = int(model.body_jntadr[body])
    return FreeBody(
        name=model.body(body).name,
        q=int(model.jnt_qposadr[root]),
        v=int(model.jnt_dofadr[root]),
        joints=tuple(model.joint(joint).name for joint in joints),
        joint_q=_columns([int(model.jnt_qposadr[joint]) for joint in joints]),
        joint_v=_columns([int(model.jnt_dofadr[joint]) for joint in joints]),
        efforts=_columns([efforts[joint] for joint in joints if joint in efforts]),
        touches=_columns(touches),
        speeds=int(model.nv),
    )


def _sensors(model: mujoco.MjModel, body: int) -> tuple[dict[int, int], list[int]]:
    """Return where the readings are of a robot's joint efforts, by joint, and of its feet."""
    efforts, touches = {}, []
    for sensor in range(model.nsensor):
        kind, target = int(model.sensor_type[sensor]), int(model.sensor_objid[sensor])
        at = int(model.sensor_adr[sensor])
        if kind == mujoco.mjtSensor.mjSENS_JOINTACTFRC:
            efforts[target] = at
        elif kind == mujoco.mjtSensor.mjSENS_TOUCH:
            root = model.body_rootid[model.site_bodyid[target]]
            touches += [at] if root == body else []
    return efforts, touches


def _columns(places: Sequence[int]) -> Columns:
    if not places:
        return slice(0, 0)
    first = places[0]
    if list(places) == list(range(first, first + len(places))):
        return slice(first, first + len(places))
    return np.array(places, dtype=np.intp)
