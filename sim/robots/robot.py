"""The interface between robots and tasks: model, start states, signals and controls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.signals import Array, Signals

ASSETS = Path(__file__).parent / "assets"


class RobotModel(ABC):
    """A simulated robot. All arrays are batched on the leading axes.

    Attributes:
        name: the robot's name in contracts.
        model_file: the robot's MJCF file.
        period_s: the control period, a whole number of the model's time steps.
        action: channels of the robot's action.
        pose, motion: observation channels of the robot's pose and of its motion.
    """

    name: str
    model_file: Path
    period_s: float
    action: tuple[ActionChannel, ...]
    pose: tuple[ObservationChannel, ...]
    motion: tuple[ObservationChannel, ...]

    def load_model(self) -> mujoco.MjModel:
        """Return a new model, which the caller may change."""
        return mujoco.MjModel.from_xml_path(str(self.model_file))

    @abstractmethod
    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw n start states within ±within_m of the origin: qpos (n, nq), qvel (n, nv)."""

    @abstractmethod
    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return the true catalogue signals of states (..., nq) and (..., nv)."""

    @abstractmethod
    def control(self, action: Array) -> Array:
        """Return actuator controls (..., nu) for actions (..., actions) in physical units."""

    @abstractmethod
    def velocity(self, signals: Signals) -> Array:
        """Return the velocity (..., 2) in the odom frame, m/s."""

    @abstractmethod
    def heading(self, signals: Signals) -> Array:
        """Return the yaw (...) in the odom frame, rad."""

    def fallen(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the robot has fallen (...). By default a robot never falls."""
        return np.zeros(signals["position"].shape[:-1], dtype=bool)


_FREE_Q, _FREE_V = 7, 6
"""Numbers of coordinates and speeds of a free joint: x, y, z, and a quaternion or three rates."""


class FreeBase(RobotModel):
    """A robot with a free base, which is the first joint of its model.

    The signals are all catalogue signals of such a base, and those of the other joints.
    """

    @cached_property
    def stance(self) -> Array:
        """Start coordinates (nq,): the model's first keyframe, else its reference pose."""
        model = self.load_model()
        if not model.njnt or model.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
            raise ConfigError(f"{self.model_file}: its first joint should be free")
        stance: Array = (model.key_qpos[0] if model.nkey else model.qpos0).copy()
        return stance

    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw start states at rest with any yaw: qpos (n, nq), qvel (n, nq − 1)."""
        qpos = np.tile(self.stance, (n, 1))
        qpos[:, 0:2] += rng.uniform(-within_m, within_m, (n, 2))
        half = rng.uniform(-np.pi, np.pi, n) / 2.0
        cos, sin = np.cos(half), np.sin(half)
        w, x, y, z = self.stance[3:7]
        turned = (cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w)
        qpos[:, 3:7] = np.stack(turned, axis=-1)
        return qpos, np.zeros((n, qpos.shape[1] - 1))

    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return pose and motion of the base, and of the joints."""
        roll, pitch, yaw = roll_pitch_yaw(qpos[..., 3:7])
        forward = qvel[..., 0] * np.cos(yaw) + qvel[..., 1] * np.sin(yaw)
        return {
            "position": qpos[..., 0:2],
            "height": qpos[..., 2:3],
            "heading": yaw[..., None],
            "tilt": np.stack((roll, pitch), axis=-1),
            "orientation": qpos[..., 3:7],
            "linear_velocity": qvel[..., 0:2],
            "vertical_speed": qvel[..., 2:3],
            "forward_speed": forward[..., None],
            "angular_velocity": qvel[..., 3:6],
            "yaw_rate": qvel[..., 5:6],
            "joint_position": qpos[..., _FREE_Q:],
            "joint_velocity": qvel[..., _FREE_V:],
        }

    def velocity(self, signals: Signals) -> Array:
        """Return the base's measured velocity."""
        return signals["linear_velocity"]

    def heading(self, signals: Signals) -> Array:
        """Return the measured yaw."""
        return signals["heading"][..., 0]


def roll_pitch_yaw(q: Array) -> tuple[Array, Array, Array]:
    """Return the roll, pitch and yaw (...), rad, of unit quaternions (..., 4), w first."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    return roll, pitch, yaw


def physics_steps(model: mujoco.MjModel, period_s: float) -> int:
    """Return the number of physics steps in a control period.

    Raises:
        ConfigError: the number is not whole.
    """
    steps = period_s / float(model.opt.timestep)
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9:
        raise ConfigError(
            f"the control period should be a whole number of the model's time steps of "
            f"{model.opt.timestep:g} s, received {period_s:g} s"
        )
    return round(steps)


def touches_anything(model: mujoco.MjModel) -> bool:
    """Return whether a model can have contacts, so that friction has an effect."""
    off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.opt.disableflags & off:
        return False
    meets = (model.geom_contype[:, None] & model.geom_conaffinity) != 0
    apart = model.geom_bodyid[:, None] != model.geom_bodyid
    return bool(model.npair or (meets & apart).any())
