"""The physics of a batch's copies: its interface, and `mujoco.rollout` on this machine's cores.

`sim/batch/warp_physics.py` implements the interface on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from holdfast.errors import TrainingError
from holdfast.signals import Array
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

PhysicsName = Literal["mujoco", "warp"]

STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
"""Content of a copy's row: time, qpos, qvel, and the model's further state. A row has no solver's
warm start, so the next row follows from row, controls and model alone."""


class Physics(Protocol):
    """Simulates the bodies of N copies of a task, which share a model or have a model each."""

    def advance(self, state: Array, control: Array) -> Array:
        """Run one control period in every copy, in place.

        Args:
            state: (N, size), rows with the content `STATE`.
            control: (N, nu), constant actuator controls.

        Returns:
            (N, nsensordata), what the models' sensors read in the period's last physics step.

        Raises:
            TrainingError: a copy diverged.
        """

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """Read the models of some copies again, after a change."""

    def close(self) -> None:
        """End threads and free resources."""


class MujocoPhysics:
    """The `Physics` of MuJoCo; the number of threads does not change a bit of the result.

    Args:
        task: the simulated task.
        models: model of each copy, which is read again in every period.
        threads: number of threads; 0: one per core.
    """

    def __init__(self, task: Task, models: Sequence[mujoco.MjModel], threads: int) -> None:
        threads = threads or os.cpu_count() or 1
        model, copies = models[0], len(models)
        self._task, self._models = task, models
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._steps = physics_steps(model, task.contract.period_s)
        # Few chunks, as each wakes this thread; but several per thread, as copies differ in time.
        self._chunk = -(-copies // (4 * threads))
        self._control = np.empty((copies, self._steps, model.nu))
        self._trajectory = np.empty((copies, self._steps, mujoco.mj_stateSize(model, STATE)))
        self._sensors = np.empty((copies, self._steps, model.nsensordata))

    def advance(self, state: Array, control: Array) -> Array:
        """See `Physics`."""
        self._control[:] = control[:, None]
        self._pool.rollout(
            self._models,
            self._data,
            state,
            self._control,
            state=self._trajectory,
            sensordata=self._sensors,
            skip_checks=True,
            nstep=self._steps,
            chunk_size=self._chunk,
        )
        # MuJoCo restarts a diverged copy from time 0, and reports it on stderr alone.
        if (self._trajectory[:, -1, 0] <= state[:, 0]).any():
            raise diverged(self._task)
        state[:] = self._trajectory[:, -1]
        return self._sensors[:, -1]

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """See `Physics`."""

    def close(self) -> None:
        """See `Physics`."""
        self._pool.close()


def diverged(task: Task) -> TrainingError:
    """Return the error for a copy whose state is not finite."""
    return TrainingError(f"{task.contract.task}: the simulation diverged")
