"""The tasks as Gymnasium environments.

    gymnasium.make("holdfast.sim.env:holdfast/DriveCircle-v0")

Gymnasium imports the module before the colon, and the import registers the tasks.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.signals import Array
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.camera import Camera
from holdfast.sim.registry import TASKS, registered

PICTURES = "rgb_array"
"""Gymnasium's word for pictures as arrays."""


class TaskEnv(gymnasium.Env[Array, Array]):
    """One copy of a task, with actions in physical units and costs by name in `info["cost"]`.

    Args:
        task: the task's id.
        render_mode: "rgb_array": `render` returns a picture; None: there are no pictures.

    Raises:
        ConfigError: another render_mode, or OpenGL cannot be used here.
    """

    metadata = {"render_modes": [PICTURES]}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, task: str, render_mode: str | None = None) -> None:
        if render_mode not in (None, PICTURES):
            raise ConfigError(
                f"render_mode should be '{PICTURES}' or None, received '{render_mode}'"
            )
        self.render_mode = render_mode
        self._batch = MujocoBatch(registered(task).make(), copies=1, seed=0, threads=1)
        contract = self._batch.contract
        self.contract = contract
        unbounded = np.full(contract.observation_size, np.inf)
        self.observation_space = spaces.Box(-unbounded, unbounded, dtype=np.float64)
        self.action_space = spaces.Box(contract.action_low, contract.action_high, dtype=np.float64)
        self._over = True
        self._camera = Camera(self._batch.task.robot) if render_mode else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode. A seed fixes this start and the following ones."""
        super().reset(seed=seed)
        if seed is not None:
            self._batch.rng = np.random.default_rng(seed)
        self._over = False
        return self._batch.reset()[0], {"cost": self._named(np.zeros(len(self.contract.costs)))}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Run one control period."""
        if self._over:
            raise ConfigError("step: the episode is over, or none was started; call reset first")
        action = np.asarray(action, dtype=np.float64)
        size = self.contract.action_size
        if action.shape != (size,) or not np.isfinite(action).all():
            raise ConfigError(f"action should be {size} finite numbers, received {action}")
        step = self._batch.step(action[None])
        self._over = bool(step.terminated[0] or step.truncated[0])
        return (
            step.final_observation[0],
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {"cost": self._named(step.costs[0])},
        )

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture of the robot, (480, 640, 3); None without a render_mode."""
        return None if self._camera is None else self._camera.picture(self._batch.qpos[0])

    def close(self) -> None:
        """End the physics' threads, and free the camera."""
        self._batch.close()
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _named(self, costs: Array) -> dict[str, float]:
        names = (cost.name for cost in self.contract.costs)
        return dict(zip(names, costs.tolist(), strict=True))


for _task in TASKS:
    gymnasium.register(_task, entry_point="holdfast.sim.env:TaskEnv", kwargs={"task": _task})
