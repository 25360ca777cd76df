"""Gymnasium's ant and humanoid: a free torso, and joints driven by torque."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.signals import Array, Signals
from holdfast.sim.robots.robot import FreeBase, roll_pitch_yaw

MODELS = Path(str(files("gymnasium"))) / "envs" / "mujoco" / "assets"
_FREE = 7
"""Number of coordinates of the torso's free joint, which come first; it has 6 speeds."""


class Legged(FreeBase):
    """A legged robot from a model file, commanded by one torque per actuator, N m.

    The integrator is `implicitfast` and the solver is Newton's. They give the same motion as the
    models' own settings in a fraction of the time (docs/reference/TASKS.md).

    Attributes:
        timestep_s: time step of the physics.
        upright_m: lowest and highest height of the torso of a robot that has not fallen.
        start_noise: half the range of the joints' start angles (rad) and speeds (rad/s).
    """

    timestep_s: float
    upright_m: tuple[float, float]
    start_noise: float

    def __init__(self) -> None:
        model = self.load_model()
        self._gear: Array = model.actuator_gear[:, 0].copy()
        limits = model.actuator_ctrlrange * self._gear[:, None]
        self.action = tuple(
            # A torque may change from one limit to the other within a period.
            ActionChannel(joint, "N m", low, high, (high - low) / self.period_s)
            for joint, (low, high) in zip(_driven_joints(model), limits.tolist(), strict=True)
        )
        joints = model.nq - _FREE
        self.pose = (
            ObservationChannel("position", 2, "m", "position"),
            ObservationChannel("height", 1, "m", "height"),
            ObservationChannel("orientation", 4, "1", "orientation"),
            ObservationChannel("joint_position", joints, "rad", "joint_position"),
        )
        self.motion = (
            ObservationChannel("linear_velocity", 2, "m/s", "linear_velocity"),
            ObservationChannel("vertical_speed", 1, "m/s", "vertical_speed"),
            ObservationChannel("angular_velocity", 3, "rad/s", "angular_velocity"),
            ObservationChannel("joint_velocity", joints, "rad/s", "joint_velocity"),
        )

    @cached_property
    def stance(self) -> Array:
        """Start coordinates (nq,): `init_qpos` of the model, else the model's reference pose."""
        model = self.load_model()
        named = {model.numeric(i).name: model.numeric(i).data for i in range(model.nnumeric)}
        stance: Array = named.get("init_qpos", model.qpos0).copy()
        return stance

    def spec(self) -> mujoco.MjSpec:
        """Return Gymnasium's model with the integrator and the solver changed."""
        spec = super().spec()
        spec.option.timestep = self.timestep_s
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
        spec.compiler.discardvisual = True  # textures of 0.5 MB, in every copy's own model
        return spec

    def start(self, rng: np.random.Generator, n: int, within_m: float) -> tuple[Array, Array]:
        """Draw standing start states, nearly at rest: qpos (n, nq), qvel (n, nv)."""
        qpos = np.tile(self.stance, (n, 1))
        qvel = np.zeros((n, qpos.shape[1] - 1))
        qpos[:, 0:2] += rng.uniform(-within_m, within_m, (n, 2))
        qpos[:, _FREE:] += rng.uniform(-self.start_noise, self.start_noise, qpos[:, _FREE:].shape)
        qvel[:, _FREE - 1 :] += rng.uniform(
            -self.start_noise, self.start_noise, qvel[:, _FREE - 1 :].shape
        )
        return qpos, qvel

    def control(self, action: Array) -> Array:
        """Return torques as shares of the actuators' gears."""
        return action / self._gear

    def heading(self, signals: Signals) -> Array:
        """Return the torso's yaw."""
        return roll_pitch_yaw(signals["orientation"])[2]

    def fallen(self, signals: Signals) -> NDArray[np.bool_]:
        """Return whether the torso is too low, or thrown too high (...)."""
        height: Array = signals["height"][..., 0]
        low, high = self.upright_m
        fallen: NDArray[np.bool_] = (height < low) | (height > high)
        return fallen


def _driven_joints(model: mujoco.MjModel) -> list[str]:
    return [model.joint(joint).name for joint in model.actuator_trnid[:, 0]]


class Ant(Legged):
    """A robot with four legs and eight joints, at 20 Hz."""

    name = "ant"
    model_file = MODELS / "ant.xml"
    period_s = 0.05
    timestep_s = 0.005
    upright_m = (0.2, 1.0)
    start_noise = 0.1


class Humanoid(Legged):
    """A robot with two legs, two arms and seventeen joints, at 67 Hz."""

    name = "humanoid"
    model_file = MODELS / "humanoid.xml"
    period_s = 0.015
    timestep_s = 0.003
    upright_m = (0.8, 2.0)
    start_noise = 0.01
