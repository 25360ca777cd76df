"""Which geoms of a simulated robot scrape over the ground, and so hold it back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import mujoco
import numpy as np

from holdfast.signals import Array

PART = 0.1
"""A geom scrapes if friction takes so large a share of all lost power there."""

LEAST = 0.02
"""Wheels that roll lose no more power to friction, in W per N of the bodies' weight."""


def scraping(
    model: mujoco.MjModel, moments: Iterable[tuple[Array, Array, Array]], steps: int
) -> str:
    """Return the geoms that scrape, as "left_tyre, which scrape over floor (friction 1)".

    Args:
        moments: states qpos (nq,), qvel (nv,) with the controls (nu,) that hold in them.
        steps: physics steps that are simulated from each: a wheel that scrapes may hop.

    Returns:
        "" where nothing scrapes.
    """
    lost: dict[tuple[int, int], float] = defaultdict(float)
    friction: dict[tuple[int, int], float] = {}
    count = 0
    for data in _simulated(model, moments, steps):
        count += 1
        for i, contact in enumerate(data.contact):
            own, other = (int(geom) for geom in contact.geom)
            if not _moves(model, own):
                own, other = other, own
            if _moves(model, own) and not _moves(model, other):
                lost[own, other] += _lost_w(model, data, i)
                friction[own, other] = float(contact.friction[:2].max())
    total = sum(lost.values())
    weight = float(model.body_subtreemass[0] * np.linalg.norm(model.opt.gravity))
    if total <= LEAST * weight * count:
        return ""
    scraped = sorted(pair for pair, power in lost.items() if power > PART * total)
    names = ", ".join(_name(model, own) for own, _ in scraped)
    ground = ", ".join(dict.fromkeys(_name(model, other) for _, other in scraped))
    worst = max(friction[pair] for pair in scraped)
    return f"{names}, which scrape over {ground} (friction {worst:.3g})"


def _simulated(
    model: mujoco.MjModel, moments: Iterable[tuple[Array, Array, Array]], steps: int
) -> Iterator[mujoco.MjData]:
    data = mujoco.MjData(model)
    for qpos, qvel, control in moments:
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, control
        for _ in range(steps):
            mujoco.mj_step(model, data)
            yield data


def _moves(model: mujoco.MjModel, geom: int) -> bool:
    return int(model.body_weldid[model.geom_bodyid[geom]]) != 0


def _lost_w(model: mujoco.MjModel, data: mujoco.MjData, i: int) -> float:
    """Return the power that friction takes in contact i: force times speed, along the ground."""
    contact, force = data.contact[i], np.zeros(6)
    mujoco.mj_contactForce(model, data, i, force)
    frame = contact.frame.reshape(3, 3)
    first, second = (_velocity(model, data, int(geom), contact.pos) for geom in contact.geom)
    return abs(float(force[1:3] @ (frame[1:] @ (second - first))))


def _velocity(model: mujoco.MjModel, data: mujoco.MjData, geom: int, point: Array) -> Array:
    """Return the velocity (3,) of a geom's body at a point, in world axes."""
    body, moves = int(model.geom_bodyid[geom]), np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, moves, 0)
    velocity: Array = moves[3:] + np.cross(moves[:3], point - data.xpos[body])
    return velocity


def _name(model: mujoco.MjModel, geom: int) -> str:
    if name := str(model.geom(geom).name):
        return name
    body = model.body(int(model.geom_bodyid[geom])).name
    return f"a geom of body '{body}'" if body else f"geom {geom}"
