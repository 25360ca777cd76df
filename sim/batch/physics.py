"""The physics of a batch's copies, apart from all that is made of it: by `mujoco.rollout`, on
this machine's cores. `sim/batch/warp_physics.py` has the other kind."""

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
"""What a copy's row holds: time, qpos, qvel, then what the model has beyond those. Nothing that
a solver starts from is in it, so where a copy gets to follows from its row, controls and model."""


class Physics(Protocol):
    """What moves the bodies of N copies of a task, each with a model of its own or all with one."""

    def advance(self, state: Array, control: Array) -> Array:
        """Run one control period in every copy, in place.

        Args:
            state: (N, size), rows as of `STATE`.
            control: (N, nu), what the actuators are told all the while.

        Returns:
            (N, nsensordata), what the models' sensors read in the period's last physics step.

        Raises:
            TrainingError: a copy diverged.
        """

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """Take note that the models of some copies have changed."""

    def close(self) -> None:
        """End threads and whatever else is held."""


class MujocoPhysics:
    """The `Physics` of MuJoCo itself: the same bits whatever the number of threads.

    Args:
        task: what is simulated.
        models: of each copy; they are read anew in every period.
        threads: 0 for one per core.
    """

    def __init__(self, task: Task, models: Sequence[mujoco.MjModel], threads: int) -> None:
        threads = threads or os.cpu_count() or 1
        model, copies = models[0], len(models)
        self._task, self._models = task, models
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._steps = physics_steps(model, task.contract.period_s)
        # Few chunks, for each that is done wakes this thread; several, for copies are not equal.
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
        # MuJoCo restarts a copy that diverges, from time 0, and says so only on stderr.
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
    """Return what is raised where a copy's state is no number any more."""
    return TrainingError(f"{task.contract.task}: the simulation diverged")
