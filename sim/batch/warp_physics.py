"""The physics of a batch's copies by MuJoCo Warp, at once on one GPU (extra `[warp]`).

MuJoCo Warp computes MuJoCo's physics in float32, from the same models. The
differences are in docs/reference/TASKS.md.
"""

from __future__ import annotations

import ctypes
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from numpy.typing import NDArray

from holdfast.errors import ConfigError, TrainingError
from holdfast.signals import Array
from holdfast.sim.batch.physics import STATE, diverged
from holdfast.sim.parameters.variants import GRAVITY, Variants
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

CONTACTS, ROWS = 64, 256
"""Largest mean number of contacts per copy, and of constraint rows in each copy. A humanoid that
lies on the floor has 10 and 38."""

OWN = (
    *("geom_friction", "pair_friction", "body_pos", "body_mass", "body_inertia"),
    *("dof_damping", "dof_armature", "dof_frictionloss", "actuator_forcerange"),
    *("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0"),
    "actuator_acc0",
)
"""Fields of a model that may differ between copies: the fields that `Bodies.build` sets, and
the fields that MuJoCo derives from them."""

SHARED = {"geom_size": "the size of their geoms", GRAVITY: "the slope of their floor"}
"""Fields of a model that are alike in all copies, and what they are."""

_HARMLESS = mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS
"""Overflows without harm: solvers stop at the model's own limits, as in MuJoCo."""

wp.config.log_level = wp.LOG_ERROR  # otherwise Warp prints a line for each compiled kernel


class WarpPhysics:
    """The `Physics` of MuJoCo Warp.

    Args:
        task: the simulated task.
        variants: models of the copies.
        device: Warp's device: "cuda", or "cpu" for tests, which is slower than MuJoCo.

    Raises:
        ConfigError: there is no such device, or Warp cannot simulate such a model.
    """

    def __init__(self, task: Task, variants: Variants, device: str) -> None:
        self._task = task
        model, copies = variants.nominal, variants.copies
        self._device = device_of(device)
        self._steps = physics_steps(model, task.contract.period_s)
        for name, what in SHARED.items():
            if name in variants.fields:
                raise ConfigError(
                    f"{task.contract.task}: MuJoCo Warp's copies share {what}; MuJoCo's may differ"
                )
        self._own = {name: variants.fields[name] for name in OWN if name in variants.fields}
        self._stale = True
        with wp.ScopedDevice(self._device):
            try:
                self._model = mjw.put_model(model, dict.fromkeys(self._own, copies))
            # Warp raises the first for missing code, the second for an unsupported size or option.
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(
                    f"{task.contract.task}: MuJoCo Warp cannot simulate robot "
                    f"'{task.robot.name}' ({error}); MuJoCo can"
                ) from None
            self._model.opt.warn_overflow = mjw.OverflowType.NONE  # `advance` raises instead
            # Otherwise sums on a GPU would depend on the order of its threads.
            self._model.opt.deterministic = mjw.DeterminismType.ALL
            self._data = mjw.make_data(model, copies, nconmax=CONTACTS, njmax=ROWS)
            self._state = wp.zeros((copies, mujoco.mj_stateSize(model, STATE)), dtype=float)
            mjw.get_state(self._model, self._data, self._state, STATE)
            self._graph = self._captured() if self._device.is_cuda else None

    def _captured(self) -> Any:
        self._period()  # compiles the kernels that the capture needs
        with wp.ScopedCapture() as capture:
            self._period()
        return capture.graph

    def _period(self) -> None:
        mjw.set_state(self._model, self._data, self._state, STATE)
        self._data.qacc_warmstart.zero_()  # as in MuJoCo's rollout, as `STATE` has no warm start
        self._data.overflow.zero_()
        for _ in range(self._steps):
            mjw.step(self._model, self._data)
        mjw.get_state(self._model, self._data, self._state, STATE)

    def advance(self, state: Array, control: Array) -> Array:
        """See `Physics`.

        Raises:
            TrainingError: see `Physics`; or there are more contacts than MuJoCo Warp has room for.
        """
        with wp.ScopedDevice(self._device):
            self._take_over()
            self._state.assign(state.astype(np.float32))
            self._data.ctrl.assign(control.astype(np.float32))
            if self._graph is not None:
                wp.capture_launch(self._graph)
            else:
                self._period()
            after, overflow = self._state.numpy(), self._data.overflow.numpy()
            readings: Array = self._data.sensordata.numpy().astype(np.float64)
        # MuJoCo would restart such a copy; Warp does not.
        if not (np.abs(after) <= mujoco.mjMAXVAL).all():  # NaN fails this comparison too
            raise diverged(self._task)
        if lost := int(np.bitwise_or.reduce(overflow)) & ~_HARMLESS:
            raise TrainingError(
                f"{self._task.contract.task}: contacts are more than MuJoCo Warp has room for, "
                f"{CONTACTS} per copy and {ROWS} rows of constraints "
                f"({mjw.OverflowType(lost).name}); MuJoCo has no such limit"
            )
        state[:] = after
        return readings

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """See `Physics`."""
        self._stale = True

    def _take_over(self) -> None:
        if self._stale:
            for name, values in self._own.items():
                getattr(self._model, name).assign(values.astype(np.float32))
            self._stale = False

    def close(self) -> None:
        """See `Physics`."""


def device_of(name: str) -> Any:
    """Return Warp's device of this name.

    Raises:
        ConfigError: there is no such device.
    """
    if name != "cpu":
        try:
            ctypes.CDLL("libcuda.so.1")  # without it, Warp would print lines of its own
            found = wp.is_cuda_available()
        except OSError:
            found = False
        if not found:
            raise ConfigError(
                "physics warp needs a GPU with CUDA, and there is none here; "
                "physics mujoco runs on any machine"
            )
    return wp.get_device(name)
