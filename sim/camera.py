"""Pictures of a simulated robot, by MuJoCo's own renderer."""

from __future__ import annotations

import os

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.sim.batch.mujoco_batch import MujocoBatch

PICTURES = "rgb_array"
"""Gymnasium's word for pictures as arrays."""

HEIGHT, WIDTH = 480, 640
DISTANCE_M, ELEVATION_DEG = 4.0, -35.0
"""Where the camera is that follows the robot, in a model without a camera."""


class Camera:
    """Takes pictures of a batch's first copy.

    The model's first camera is used; in a model without cameras, one that follows the robot.

    Raises:
        ConfigError: OpenGL cannot be used in this process.
    """

    def __init__(self, batch: MujocoBatch) -> None:
        self._batch = batch
        model = batch.task.robot.load_model()
        self._data = mujoco.MjData(model)
        try:
            self._renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        except Exception as error:  # each platform's library raises its own
            chosen = os.environ.get("MUJOCO_GL", "")
            raise ConfigError(
                f"render_mode '{PICTURES}' needs OpenGL, which this process cannot use with "
                f"MUJOCO_GL='{chosen}' ({type(error).__name__}); set MUJOCO_GL to egl or osmesa, "
                "or leave render_mode out"
            ) from None
        self._view: int | mujoco.MjvCamera = 0
        if not model.ncam:
            self._view = mujoco.MjvCamera()
            self._view.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            self._view.trackbodyid = 1
            self._view.distance, self._view.elevation = DISTANCE_M, ELEVATION_DEG
        self._model = model

    def picture(self) -> NDArray[np.uint8]:
        """Return a picture (480, 640, 3) of the present state."""
        self._data.qpos[:], self._data.qvel[:] = self._batch.qpos[0], self._batch.qvel[0]
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._view)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
