"""The physics of a batch's copies by MuJoCo Warp: all of them at once on one GPU (`[warp]` extra).

It is MuJoCo's physics in float32, from the same models: docs/TASKS.md says how near they are.
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
from holdfast.sim.batch.variants import Variants
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

CONTACTS, ROWS = 64, 256
"""Room for contacts, per copy on average, and for rows of constraints in each copy. A humanoid
that lies on the floor has 10 and 38."""

OWN = (
    *("geom_friction", "pair_friction", "body_mass", "body_inertia"),
    *("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0"),
    "actuator_acc0",
)
"""What of a model may differ between copies: what `Randomiser.build` sets, and what MuJoCo derives
from that."""

_HARMLESS = mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS
"""Solvers that stop at the model's own limits, as MuJoCo's do. Other overflows lose something."""

wp.config.log_level = wp.LOG_ERROR  # else every kernel that is compiled is a line


class WarpPhysics:
    """The `Physics` of MuJoCo Warp.

    Args:
        task: what is simulated.
        variants: the copies' models.
        device: of Warp: "cuda", or "cpu", which is slower than MuJoCo and there to test with.

    Raises:
        ConfigError: there is no such device, or Warp cannot simulate such a model.
    """

    def __init__(self, task: Task, variants: Variants, device: str) -> None:
        self._task = task
        model, copies = variants.nominal, variants.copies
        self._device = device_of(device)
        self._steps = physics_steps(model, task.contract.period_s)
        self._own = {name: variants.fields[name] for name in OWN if name in variants.fields}
        self._stale = True
        with wp.ScopedDevice(self._device):
            try:
                self._model = mjw.put_model(model, dict.fromkeys(self._own, copies))
            # What it has no code for is the first, a size or option it cannot have the second.
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(
                    f"{task.contract.task}: MuJoCo Warp cannot simulate robot "
                    f"'{task.robot.name}' ({error}); MuJoCo can"
                ) from None
            self._model.opt.warn_overflow = mjw.OverflowType.NONE  # `advance` says it
            # Else sums on a GPU would depend on which of its threads came first.
            self._model.opt.deterministic = mjw.DeterminismType.ALL
            self._data = mjw.make_data(model, copies, nconmax=CONTACTS, njmax=ROWS)
            self._state = wp.zeros((copies, mujoco.mj_stateSize(model, STATE)), dtype=float)
            mjw.get_state(self._model, self._data, self._state, STATE)
            self._graph = self._captured() if self._device.is_cuda else None

    def _captured(self) -> Any:
        self._period()  # compiles what is captured next
        with wp.ScopedCapture() as capture:
            self._period()
        return capture.graph

    def _period(self) -> None:
        mjw.set_state(self._model, self._data, self._state, STATE)
        self._data.qacc_warmstart.zero_()  # as MuJoCo's rollout does: it is not in the state
        self._data.overflow.zero_()
        for _ in range(self._steps):
            mjw.step(self._model, self._data)
        mjw.get_state(self._model, self._data, self._state, STATE)

    def advance(self, state: Array, control: Array) -> Array:
        """See `Physics`.

        Raises:
            TrainingError: as there; or more contacts were made than there is room for.
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
        # Where MuJoCo would start the copy over, which Warp does not.
        if not (np.abs(after) <= mujoco.mjMAXVAL).all():  # NaN too
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
        ConfigError: there is none.
    """
    if name != "cpu":
        try:
            ctypes.CDLL("libcuda.so.1")  # without it Warp would say so, in lines of its own
            found = wp.is_cuda_available()
        except OSError:
            found = False
        if not found:
            raise ConfigError(
                "physics warp needs a GPU with CUDA, and there is none here; "
                "physics mujoco runs on any machine"
            )
    return wp.get_device(name)
