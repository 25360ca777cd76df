"""What a task is: a model, a start, signals of its state, a reward, and a contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.signals import Array, Signals

ASSETS = Path(__file__).parent / "assets"


class Task(ABC):
    """A robot and what it is to do. Everything is batched on the leading axes.

    Attributes:
        contract: observation, action and costs; its period is `frame_skip` physics steps.
        model_file: MJCF in `sim/assets`.
        frame_skip: physics steps per control period.
        actuators: actuator targets that `control` returns.
    """

    contract: Contract
    model_file: str
    frame_skip: int

    def load_model(self) -> mujoco.MjModel:
        """Return a fresh model, the caller's to change."""
        return mujoco.MjModel.from_xml_path(str(ASSETS / self.model_file))

    @abstractmethod
    def reset(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Draw n start states: qpos (n, nq), qvel (n, nv)."""

    @abstractmethod
    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return the true catalogue signals of states (..., nq) and (..., nv)."""

    @abstractmethod
    def control(self, action: Array) -> Array:
        """Turn actions (..., actions) in physical units into actuator targets (..., nu)."""

    @abstractmethod
    def reward(self, signals: Signals) -> Array:
        """Return the reward (...) of the state that an action led to."""

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the episode ended for a reason of the task's own (...): never, here."""
        some = next(iter(signals.values()))
        return np.zeros(some.shape[:-1], dtype=bool)


def circle_reward(position: Array, velocity: Array, radius_m: float) -> Array:
    """Return v·(−y, x) / (1 + |‖p‖ − r|) (Achiam et al. 2017, section 10.3.1).

    Args:
        position, velocity: shape (..., 2), m and m/s.
    """
    x, y = position[..., 0], position[..., 1]
    along = velocity[..., 1] * x - velocity[..., 0] * y
    return along / (1.0 + np.abs(np.hypot(x, y) - radius_m))
