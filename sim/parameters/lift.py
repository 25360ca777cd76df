"""How much higher a robot stands because its geoms are larger."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.signals import Array

_FREE = int(mujoco.mjtJoint.mjJNT_FREE)
_TYPES = mujoco.mjtGeom


class FreeBodies:
    """The free bodies of a model, as they are in its first keyframe or its reference pose.

    Attributes:
        heights: where the height of each free body is in qpos.
    """

    def __init__(self, nominal: mujoco.MjModel) -> None:
        joints = np.flatnonzero(nominal.jnt_type == _FREE)
        self.heights: NDArray[np.intp] = nominal.jnt_qposadr[joints].astype(np.intp) + 2
        self._roots = nominal.jnt_bodyid[joints].tolist()
        self._pose = nominal.key_qpos[0].copy() if nominal.nkey else nominal.qpos0.copy()
        self._data = mujoco.MjData(nominal)
        self._lowest = self._lowest_points(nominal)

    def rise(self, model: mujoco.MjModel) -> Array:
        """Return by how much the lowest point of each free body (free bodies,) sinks, m."""
        return self._lowest - self._lowest_points(model)

    def _lowest_points(self, model: mujoco.MjModel) -> Array:
        self._data.qpos[:] = self._pose
        mujoco.mj_kinematics(model, self._data)
        touch = (model.geom_contype | model.geom_conaffinity) != 0
        root = model.body_rootid[model.geom_bodyid]
        found = []
        for body in self._roots:
            geoms = np.flatnonzero(touch & (root == body))
            found.append(min((self._bottom(model, i) for i in geoms.tolist()), default=0.0))
        return np.array(found)

    def _bottom(self, model: mujoco.MjModel, geom: int) -> float:
        """Return the height of a geom's lowest point, m."""
        up = self._data.geom_xmat[geom].reshape(3, 3)[2]
        size, kind = model.geom_size[geom], int(model.geom_type[geom])
        middle = float(self._data.geom_xpos[geom, 2])
        if kind == _TYPES.mjGEOM_SPHERE:
            return middle - float(size[0])
        if kind == _TYPES.mjGEOM_CAPSULE:
            return middle - float(size[0] + abs(up[2]) * size[1])
        if kind == _TYPES.mjGEOM_ELLIPSOID:
            return middle - float(np.linalg.norm(up * size))
        if kind == _TYPES.mjGEOM_CYLINDER:
            return middle - float(np.hypot(up[0], up[1]) * size[0] + abs(up[2]) * size[1])
        box = model.geom_aabb[geom]  # exact for a box, a bound for a mesh
        return middle + float(up @ box[:3] - np.abs(up) @ box[3:])
