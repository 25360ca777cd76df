"""The interface between robots and tasks: model, start states, signals and controls."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.signals import Array, Signals
from holdfast.sim.robots.base import FreeBody, find_base

ASSETS = Path(__file__).parent / "assets"

MODEL_SUFFIXES = (".xml", ".urdf", ".mjz", ".zip")
"""How names of models end that MuJoCo reads: MJCF, URDF, and archives with an MJCF file."""


def _warn(text: str) -> None:
    """Print a warning of MuJoCo's once; by itself it fills MUJOCO_LOG.TXT in the working folder."""
    kind = text.partition(" Time = ")[0]
    if not kind.startswith("Nan, Inf or huge value"):  # whoever steps a model asks for these
        _warn_once(kind)


@functools.cache
def _warn_once(kind: str) -> None:
    print(f"MuJoCo: {kind}", file=sys.stderr)


mujoco.set_mju_user_warning(_warn)


class RobotModel(ABC):
    """A simulated robot. All arrays are batched on the leading axes.

    Attributes:
        name: the robot's name in contracts.
        model_file: the robot's MJCF file.
        period_s: the control period, a whole number of the model's time steps.
        action: channels of the robot's action.
        pose, motion: observation channels of the robot's pose and of its motion.
        measures: signals that the real robot measures, of those that `signals` and `sensed` return
            and `linear_acceleration`; empty: all of them. A twin says these, and what its task
            needs.
    """

    name: str
    model_file: Path
    period_s: float
    action: tuple[ActionChannel, ...]
    pose: tuple[ObservationChannel, ...]
    motion: tuple[ObservationChannel, ...]
    measures: tuple[str, ...] = ()

    def spec(self) -> mujoco.MjSpec:
        """Return the model before it is compiled: override this to change it."""
        return mujoco.MjSpec.from_file(str(self.model_file))

    def load_model(self) -> mujoco.MjModel:
        """Return a fresh model, the caller's to change.

        Raises:
            ConfigError: there is no such file, or MuJoCo cannot load it.
        """
        return compiled(self.model_file, self.spec)

    @abstractmethod
    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw n start states within ±within_m of the origin: qpos (n, nq), qvel (n, nv)."""

    def turned(self, qpos: Array, qvel: Array, angle: Array) -> tuple[Array, Array]:
        """Return states (n, nq), (n, nv) in which the robot, with its motion, is turned about the
        vertical by angles (n,), rad: as they are, here, for a robot that does not turn."""
        return qpos, qvel

    @abstractmethod
    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return the true catalogue signals of states (..., nq) and (..., nv)."""

    def posed(self, signals: Signals) -> Array:
        """Return coordinates (n, nq) with the pose that a log's signals (n, size) tell.

        What no signal tells is as at a start.

        Raises:
            ConfigError: the robot does not say how its coordinates follow from signals.
        """
        raise ConfigError(f"robot {self.name} lacks `posed`: its coordinates from its signals")

    def sensed(self, readings: Array) -> dict[str, Array]:
        """Return the catalogue signals that the model's sensors measure: none, here.

        Args:
            readings: (..., nsensordata), of all the model's sensors at the period's last step.
        """
        return {}

    def measured(self, signals: Signals) -> Signals:
        """Return true signals as the robot's own sensors would have them: as they are, here.

        Override this for what a sensor gets wrong in principle, as wheels do that slip. What a
        sensor gets wrong in amount (noise, bias, scale, delay) is a parameter of the robot.
        """
        return signals

    @property
    def base_name(self) -> str:
        """Name of the body that carries the robot; "" for the model's first."""
        return ""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints of `joint_position`, in its order; empty if it is not known."""
        return ()

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


class FreeBase(RobotModel):
    """A robot whose base has a free joint: it may be anywhere, turned in any way.

    It says every catalogue signal that follows from such a base, and those of the robot's joints.
    Its model may hold other free bodies, such as crates, and joints of any kind.

    Attributes:
        base: name of the body that is the base; "" for the free body with most of the actuators.
    """

    base: str = ""

    @cached_property
    def body(self) -> FreeBody:
        """The base with its joints, as the model has them.

        Raises:
            ConfigError: the model has no such base.
        """
        return find_base(self.load_model(), self.base, str(self.model_file))

    @property
    def base_name(self) -> str:
        """See `RobotModel`."""
        return self.body.name

    @property
    def joint_names(self) -> tuple[str, ...]:
        """See `RobotModel`."""
        return self.body.joints

    @cached_property
    def stance(self) -> Array:
        """Start coordinates (nq,): the model's first keyframe, else its reference pose."""
        model = self.load_model()
        stance: Array = (model.key_qpos[0] if model.nkey else model.qpos0).copy()
        return stance

    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Start at rest, turned to any side; other bodies stay where the model has them.
        qpos (n, nq), qvel (n, nv)."""
        at = self.body.q
        qpos = np.tile(self.stance, (n, 1))
        qpos[:, at : at + 2] += rng.uniform(-within_m, within_m, (n, 2))
        qvel = np.zeros((n, self.body.speeds))
        return self.turned(qpos, qvel, rng.uniform(-np.pi, np.pi, n))

    def turned(self, qpos: Array, qvel: Array, angle: Array) -> tuple[Array, Array]:
        """See `RobotModel`; the robot stays at its place."""
        at, v, qpos, qvel = self.body.q, self.body.v, qpos.copy(), qvel.copy()
        cos, sin = np.cos(angle / 2.0), np.sin(angle / 2.0)
        w, x, y, z = qpos[:, at + 3 : at + 7].T
        turned = (cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w)
        qpos[:, at + 3 : at + 7] = np.stack(turned, axis=-1)
        along, across = qvel[:, v].copy(), qvel[:, v + 1].copy()
        qvel[:, v] = np.cos(angle) * along - np.sin(angle) * across
        qvel[:, v + 1] = np.sin(angle) * along + np.cos(angle) * across
        return qpos, qvel

    def posed(self, signals: Signals) -> Array:
        """Return coordinates (n, nq) of `position`, of `height`, of `orientation` or else of
        `heading`, and of `joint_position`; each of them as in the stance where it is not told."""
        body, count = self.body, max(map(len, signals.values()), default=0)
        qpos = np.tile(self.stance, (count, 1))
        if "heading" in signals:
            rest = np.zeros((count, body.speeds))
            angle = signals["heading"][:, 0] - self.signals(qpos, rest)["heading"][:, 0]
            qpos, _ = self.turned(qpos, rest, angle)
        for name, at in (
            ("position", slice(body.q, body.q + 2)),
            ("height", slice(body.q + 2, body.q + 3)),
            ("orientation", slice(body.q + 3, body.q + 7)),
            ("joint_position", body.joint_q),
        ):
            if name in signals:
                qpos[:, at] = signals[name]
        return qpos

    def signals(self, qpos: Array, qvel: Array) -> dict[str, Array]:
        """Return the base's pose and motion, and the joints'."""
        body = self.body
        base, moves = qpos[..., body.q : body.q + 7], qvel[..., body.v : body.v + 6]
        orientation = base[..., 3:7]
        roll, pitch, yaw = roll_pitch_yaw(orientation)
        cos, sin = np.cos(yaw), np.sin(yaw)
        forward = moves[..., 0] * cos + moves[..., 1] * sin
        lateral = moves[..., 1] * cos - moves[..., 0] * sin
        return {
            "position": base[..., 0:2],
            "height": base[..., 2:3],
            "heading": yaw[..., None],
            "tilt": np.stack((roll, pitch), axis=-1),
            "orientation": orientation,
            "projected_gravity": projected_gravity(orientation),
            "linear_velocity": moves[..., 0:2],
            "vertical_speed": moves[..., 2:3],
            "forward_speed": forward[..., None],
            "lateral_speed": lateral[..., None],
            "angular_velocity": moves[..., 3:6],
            "yaw_rate": moves[..., 5:6],
            "joint_position": qpos[..., body.joint_q],
            "joint_velocity": qvel[..., body.joint_v],
        }

    def sensed(self, readings: Array) -> dict[str, Array]:
        """Return the joints' efforts and the feet's contacts, where the model has sensors of them:
        `jointactuatorfrc` of joints, and `touch`, one for each foot."""
        body, said = self.body, {}
        efforts, forces = readings[..., body.efforts], readings[..., body.touches]
        if efforts.shape[-1]:
            said["joint_effort"] = efforts
        if forces.shape[-1]:
            said["contact"] = (forces > 0.0).astype(np.float64)
        return said

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


def projected_gravity(q: Array) -> Array:
    """Return the unit vector along gravity (..., 3) seen from bases turned by unit quaternions
    (..., 4), w first: minus the third row of the rotation matrix."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    return np.stack(
        (2.0 * (w * y - x * z), -2.0 * (w * x + y * z), 2.0 * (x * x + y * y) - 1.0), axis=-1
    )


def compiled(file: Path, spec: Callable[[], mujoco.MjSpec]) -> mujoco.MjModel:
    """Return the model of a file, whose specification `spec` reads.

    Raises:
        ConfigError: there is no such file, or MuJoCo cannot load it.
    """
    if not file.is_file():
        wrong = "should be a file, not a folder" if file.is_dir() else "there is no such file"
        raise ConfigError(f"{file}: {wrong}")
    try:
        return spec().compile()
    except (ValueError, mujoco.FatalError) as error:
        if file.suffix not in MODEL_SUFFIXES:
            raise ConfigError(
                f"{file}: should be a model that MuJoCo reads: an MJCF file, whose name ends in "
                ".xml, or a URDF file, whose name ends in .urdf"
            ) from None
        said = " ".join(str(error).split()).removeprefix("XML ").removeprefix("Error: ")
        raise ConfigError(f"{file}: MuJoCo cannot load it ({said})") from None


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
