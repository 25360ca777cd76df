"""What a robot is to a task: a model, a start, signals of its state, and how it is commanded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.signals import Array, Signals

ASSETS = Path(__file__).parent / "assets"


class Robot(ABC):
    """A body that tasks are given to. Everything is batched on the leading axes.

    Attributes:
        name: what contracts call it.
        model_file: its MJCF.
        period_s: the control period, a whole number of the model's time steps.
        action: what it is commanded by.
        pose, motion: what its observation lists: where it is, and how it moves.
    """

    name: str
    model_file: Path
    period_s: float
    action: tuple[ActionChannel, ...]
    pose: tuple[ObservationChannel, ...]
    motion: tuple[ObservationChannel, ...]

    def load_model(self) -> mujoco.MjModel:
        """Return a fresh model, the caller's to change."""
        return mujoco.MjModel.from_xml_path(str(self.model_file))

    @abstractmethod
    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw n start states within ±within_m of the origin: qpos (n, nq), qvel (n, nv)."""

    @abstractmethod
    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return the true catalogue signals of states (..., nq) and (..., nv)."""

    @abstractmethod
    def control(self, action: Array) -> Array:
        """Turn actions (..., actions) in physical units into actuator targets (..., nu)."""

    @abstractmethod
    def velocity(self, signals: Signals) -> Array:
        """Return the velocity (..., 2) in the odom frame, m/s."""

    @abstractmethod
    def heading(self, signals: Signals) -> Array:
        """Return the yaw (...) in the odom frame, rad."""

    def fallen(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the robot cannot go on (...): never, here."""
        return np.zeros(signals["position"].shape[:-1], dtype=bool)


def physics_steps(model: mujoco.MjModel, period_s: float) -> int:
    """Return how many physics steps a control period has.

    Raises:
        ConfigError: not a whole number of them.
    """
    steps = period_s / float(model.opt.timestep)
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9:
        raise ConfigError(
            f"the control period should be a whole number of the model's time steps of "
            f"{model.opt.timestep:g} s, received {period_s:g} s"
        )
    return round(steps)


def touches_anything(model: mujoco.MjModel) -> bool:
    """Return whether there are contacts in a model: whether friction means anything in it."""
    off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.opt.disableflags & off:
        return False
    meets = (model.geom_contype[:, None] & model.geom_conaffinity) != 0
    apart = model.geom_bodyid[:, None] != model.geom_bodyid
    return bool(model.npair or (meets & apart).any())
