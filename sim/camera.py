"""Pictures of a simulated robot, by MuJoCo's own renderer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.signals import Array

if TYPE_CHECKING:
    from holdfast.sim.robots.robot import RobotModel


def refusal(why: object) -> ConfigError:
    """Return the error that says that there is no OpenGL, and what to do."""
    return ConfigError(
        "pictures need OpenGL, which this process cannot use with "
        f"MUJOCO_GL='{os.environ.get('MUJOCO_GL', '')}' ({why}); set MUJOCO_GL=egl where there is "
        "a GPU, or MUJOCO_GL=osmesa after apt-get install libosmesa6"
    )


try:
    import mujoco
except ModuleNotFoundError:
    raise
except Exception as error:  # MuJoCo loads the library that MUJOCO_GL names
    raise refusal(type(error).__name__) from None

HEIGHT, WIDTH = 480, 640
DISTANCE_M, ELEVATION_DEG = 4.0, -35.0
"""Where the camera is that follows the robot, in a model without a camera."""

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Variables of the environment that name a screen."""

LINE_M = 0.01
"""Half the width of a line on the floor, m."""

FREE, PAID = (0.15, 0.4, 0.95, 1.0), (0.86, 0.15, 0.15, 1.0)
"""Colours of a way without and with a cost: red, green, blue, opacity."""


class Camera:
    """Takes pictures of a robot.

    Its model's first camera is used; in a model without cameras, one that follows the robot.

    Raises:
        ConfigError: OpenGL cannot be used in this process.
    """

    def __init__(self, robot: RobotModel) -> None:
        model = robot.load_model()
        self._data = mujoco.MjData(model)
        # GLFW, MuJoCo's choice where none is made, may abort the process without a screen.
        screen = any(map(os.environ.get, SCREENS))
        if os.environ.get("MUJOCO_GL", "") in ("", "glfw") and not screen:
            raise refusal("no screen")
        try:
            self._renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        except Exception as error:  # each platform's library raises its own
            raise refusal(type(error).__name__) from None
        self._view: int | mujoco.MjvCamera = 0
        if not model.ncam:
            self._view = mujoco.MjvCamera()
            self._view.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            self._view.trackbodyid = 1
            self._view.distance, self._view.elevation = DISTANCE_M, ELEVATION_DEG
        self._model = model

    def picture(
        self, qpos: Array, trail: Array | None = None, paid: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """Return a picture (480, 640, 3).

        Args:
            qpos: coordinates (nq,) of the robot.
            trail: positions (k, 2), m, along which a line is drawn on the floor.
            paid: (k,), where the way to a position had a cost: the line is red there.
        """
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._view)
        if trail is not None:
            for k in range(1, len(trail)):
                self._line(trail[k - 1], trail[k], PAID if paid is not None and paid[k] else FREE)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def _line(self, begin: Array, end: Array, colour: tuple[float, ...]) -> None:
        scene, kind = self._renderer.scene, mujoco.mjtGeom.mjGEOM_CAPSULE
        if scene.ngeom == scene.maxgeom:
            return
        geom, at = scene.geoms[scene.ngeom], np.zeros(3)
        mujoco.mjv_initGeom(geom, kind, at, at, np.zeros(9), np.array(colour, np.float32))
        points = (np.append(point, LINE_M) for point in (begin, end))
        mujoco.mjv_connector(geom, kind, LINE_M, *points)
        scene.ngeom += 1

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
