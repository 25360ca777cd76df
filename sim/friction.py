"""Which geoms of a simulated robot hold it back by their friction on the ground."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import mujoco
import numpy as np

from holdfast.signals import Array

PART = 0.1
"""Smallest share of all friction of a geom that is named."""

LEAST = 0.1
"""Wheels that roll have less friction all together, in shares of the bodies' weight."""


def held_by(
    model: mujoco.MjModel, moments: Iterable[tuple[Array, Array, Array]], steps: int
) -> str:
    """Return the geoms with most friction, as "front_caster, left_tyre on floor (friction 1)".

    Args:
        moments: states qpos (nq,), qvel (nv,) with the controls (nu,) that hold in them.
        steps: physics steps that are simulated from each: a wheel that scrapes may hop.

    Returns:
        "" where nothing holds the robot.
    """
    force_n: dict[tuple[int, int], float] = defaultdict(float)
    friction: dict[tuple[int, int], float] = {}
    count, wrench = 0, np.zeros(6)
    for data in _simulated(model, moments, steps):
        count += 1
        for i, contact in enumerate(data.contact):
            own, other = (int(geom) for geom in contact.geom)
            if not _moves(model, own):
                own, other = other, own
            if _moves(model, own) and not _moves(model, other):
                mujoco.mj_contactForce(model, data, i, wrench)
                force_n[own, other] += float(np.linalg.norm(wrench[1:3]))
                friction[own, other] = float(contact.friction[:2].max())
    total = sum(force_n.values())
    weight = float(model.body_subtreemass[0] * np.linalg.norm(model.opt.gravity))
    if total <= LEAST * weight * count:
        return ""
    pairs = sorted(pair for pair, force in force_n.items() if force > PART * total)
    names = ", ".join(_name(model, own) for own, _ in pairs)
    ground = ", ".join(dict.fromkeys(_name(model, other) for _, other in pairs))
    return f"{names} on {ground} (friction {max(friction[pair] for pair in pairs):.3g})"


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


def _name(model: mujoco.MjModel, geom: int) -> str:
    if name := str(model.geom(geom).name):
        return name
    body = model.body(int(model.geom_bodyid[geom])).name
    return f"a geom of body '{body}'" if body else f"geom {geom}"
