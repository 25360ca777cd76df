"""Triangles of a model's geoms."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from holdfast.signals import Array

SEGMENTS = 32
"""Sides of what is round."""

ENDLESS_M = 50.0
"""Half the side of a plane that has no end."""

GROUPS = 3
"""Geoms of the groups below this one are seen, as in MuJoCo's own viewer."""

UNSAID = (0.5, 0.5, 0.5, 1.0)
"""Colour of a geom that a model gives none; its material's colour then counts."""

_KIND = mujoco.mjtGeom


def seen(model: mujoco.MjModel) -> list[int]:
    """Return the geoms that are to be seen."""
    return [
        geom
        for geom in range(model.ngeom)
        if model.geom_group[geom] < GROUPS and colour(model, geom)[3] > 0.0
    ]


def colour(model: mujoco.MjModel, geom: int) -> list[float]:
    """Return a geom's red, green, blue and opacity."""
    own, material = model.geom_rgba[geom], int(model.geom_matid[geom])
    from_material = material >= 0 and (own == UNSAID).all()
    found: list[float] = (model.mat_rgba[material] if from_material else own).tolist()
    return found


def triangles(model: mujoco.MjModel, geom: int, size: Array) -> Array:
    """Return a geom's surface (triangles, 3 corners, 3) in its body's frame, m.

    Args:
        size: of the geom (3,), m, as MuJoCo has sizes.
    """
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    surface: Array = _surface(model, geom, size) @ turn.reshape(3, 3).T + model.geom_pos[geom]
    return surface


def _surface(model: mujoco.MjModel, geom: int, size: Array) -> Array:
    kind = int(model.geom_type[geom])
    half_turn = np.linspace(0.0, math.pi, SEGMENTS // 2 + 1)
    if kind in (_KIND.mjGEOM_SPHERE, _KIND.mjGEOM_ELLIPSOID):
        radii = size if kind == _KIND.mjGEOM_ELLIPSOID else size[0]
        return _turned(np.sin(half_turn), -np.cos(half_turn)) * radii
    if kind == _KIND.mjGEOM_CAPSULE:
        ends = np.where(half_turn < math.pi / 2, -size[1], size[1])
        return _turned(size[0] * np.sin(half_turn), ends - size[0] * np.cos(half_turn))
    if kind == _KIND.mjGEOM_CYLINDER:
        return _turned([0.0, size[0], size[0], 0.0], size[1] * np.array([-1.0, -1.0, 1.0, 1.0]))
    if kind == _KIND.mjGEOM_BOX:  # a cylinder of four sides
        corners = _turned([0.0, math.sqrt(2), math.sqrt(2), 0.0], [-1.0, -1.0, 1.0, 1.0], sides=4)
        return corners * size
    if kind == _KIND.mjGEOM_PLANE:
        half = np.where(size[:2] > 0.0, size[:2], ENDLESS_M)
        return _joined(_level(half[0] * np.array([-1.0, 1.0]), half[1] * np.array([-1.0, 1.0])))
    if kind == _KIND.mjGEOM_HFIELD:
        return _field(model, int(model.geom_dataid[geom]))
    if kind == _KIND.mjGEOM_MESH:
        return _mesh(model, int(model.geom_dataid[geom]))
    return np.zeros((0, 3, 3))  # a signed distance field has no surface of its own


def _turned(radius: object, height: object, sides: int = SEGMENTS) -> Array:
    """Return the surface of an outline that turns around the z axis; four sides face x and y."""
    angle = (np.arange(sides + 1) + 0.5) * math.tau / sides
    around = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    flat = np.asarray(radius)[:, None, None] * around
    up = np.broadcast_to(np.asarray(height)[:, None, None], (*flat.shape[:2], 1))
    return _joined(np.concatenate((flat, up), axis=-1))


def _joined(points: Array) -> Array:
    """Return the triangles between the neighbours of a net of points (rows, columns, 3)."""
    a, b = points[:-1, :-1], points[:-1, 1:]
    c, d = points[1:, :-1], points[1:, 1:]
    return np.stack((a, b, d, a, d, c), axis=2).reshape(-1, 3, 3)


def _level(xs: Array, ys: Array) -> Array:
    x, y = np.meshgrid(xs, ys)
    return np.stack((x, y, np.zeros_like(x)), axis=-1)


def _field(model: mujoco.MjModel, field: int) -> Array:
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    begin = int(model.hfield_adr[field])
    x_m, y_m, high_m, _ = model.hfield_size[field]
    points = _level(np.linspace(-x_m, x_m, columns), np.linspace(-y_m, y_m, rows))
    height = model.hfield_data[begin : begin + rows * columns]
    points[..., 2] = high_m * height.reshape(rows, columns)
    return _joined(points)


def _mesh(model: mujoco.MjModel, mesh: int) -> Array:
    corners, faces = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
    face = model.mesh_face[faces : faces + int(model.mesh_facenum[mesh])]
    points: Array = model.mesh_vert[corners + face]
    return points
