"""What the page of a twin shows: the robot's geoms, and the poses of its bodies."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from holdfast.robot.view.watched import Watched
from holdfast.signals import Array
from holdfast.sim.view import shapes
from holdfast.sim.view.poses import Pose, Poses

DIGITS = 4
"""Decimal places of positions in m and of quaternions."""


class WatchedTwin(Watched):
    """A simulated robot whose newest pose is read as often as the server looks.

    Args:
        poses: where its pose is written.
        model: its model.
        about: texts for the page's head.
        base: the body that the picture follows.
    """

    page = Path(__file__).with_name("twin.html")

    def __init__(
        self, poses: Poses, model: mujoco.MjModel, about: Mapping[str, Any], base: int
    ) -> None:
        super().__init__()
        self._poses, self._model = poses, model
        self._about = {**about, "base": base, "reach_m": _reach(model, base)}
        self._pose: Pose | None = None
        self._came_s = time.monotonic()

    def look(self) -> bool:
        """Read the newest pose."""
        pose, before = self._poses.read(), self._pose
        if pose is None or (
            before and (pose.time_s, pose.starts) == (before.time_s, before.starts)
        ):
            return False
        self._pose, self._came_s = pose, time.monotonic()
        return True

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the picture's parts, then poses; a page that is slow gets the newest alone."""
        size: Array | None = None
        yield {"status": self._status(), "about": self._about}
        for _ in self.changes():
            message: dict[str, Any] = {"status": self._status()}
            if (pose := self._pose) is not None:
                if size is None or not np.array_equal(size, pose.size):
                    size = pose.size
                    message["parts"] = self._parts(size)
                message["pose"] = {
                    "time_s": round(pose.time_s, 3),
                    "starts": pose.starts,
                    "position": np.round(pose.position, DIGITS).tolist(),
                    "orientation": np.round(pose.orientation, DIGITS).tolist(),
                }
            yield message

    def _status(self) -> dict[str, Any]:
        return {"problem": self.problem, "quiet_s": time.monotonic() - self._came_s}

    def _parts(self, size: Array) -> list[dict[str, Any]]:
        model, parts = self._model, []
        for geom in shapes.seen(model):
            corners = shapes.triangles(model, geom, size[geom]).astype("<f4")
            part = {
                "body": int(model.geom_bodyid[geom]),
                "colour": shapes.colour(model, geom),
                "floor": int(model.geom_type[geom]) == mujoco.mjtGeom.mjGEOM_PLANE,
                "corners": base64.b64encode(corners.tobytes()).decode(),
            }
            parts.append(part)
        return parts


def _reach(model: mujoco.MjModel, base: int) -> float:
    """Return how far the robot reaches from its base, m, to choose the picture's scale."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    own = np.flatnonzero(model.body_rootid[model.geom_bodyid] == model.body_rootid[base])
    away = np.linalg.norm(data.geom_xpos[own] - data.xpos[base], axis=-1) + model.geom_rbound[own]
    return float(away.max(initial=0.1))
