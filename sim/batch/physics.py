"""The physics of a batch's copies, apart from all that is made of it: by `mujoco.rollout`, on
this machine's cores. `sim/batch/warp_physics.py` has the other kind."""

from __future__ import annotations

import copy
import os
from typing import Any, Literal, Protocol

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from holdfast.errors import TrainingError
from holdfast.signals import Array
from holdfast.sim.batch.variants import Variants
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

PhysicsName = Literal["mujoco", "warp"]

STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
"""What a copy's row holds: time, qpos, qvel, then what the model has beyond those. Nothing that
a solver starts from is in it, so where a copy gets to follows from its row, controls and model."""


ROOM = 256_000_000
"""Bytes that the copies' own models may take together."""


class Physics(Protocol):
    """What moves the bodies of N copies of a task."""

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

    Where copies differ, each has a model of its own if these take no more than `ROOM`; else a few
    models become one copy after another. A model with meshes of 30 MB would fill a memory.

    Args:
        task: what is simulated.
        variants: the copies' models; they are read anew in every period.
        threads: 0 for one per core.
    """

    def __init__(self, task: Task, variants: Variants, threads: int) -> None:
        threads = threads or os.cpu_count() or 1
        model, copies = variants.nominal, variants.copies
        self._task, self._variants = task, variants
        self._models = [model] * copies
        if variants.fields:
            room = max(ROOM // mujoco.mj_sizeModel(model), 4 * threads)
            self._models = [copy.copy(model) for _ in range(min(copies, room))]
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._steps = physics_steps(model, task.contract.period_s)
        # Few chunks, for each that is done wakes this thread; several, for copies are not equal.
        self._chunk = -(-len(self._models) // (4 * threads))
        self._control = np.empty((copies, self._steps, model.nu))
        self._trajectory = np.empty((copies, self._steps, mujoco.mj_stateSize(model, STATE)))
        self._sensors = np.empty((copies, self._steps, model.nsensordata))

    def advance(self, state: Array, control: Array) -> Array:
        """See `Physics`."""
        self._control[:] = control[:, None]
        at_once = len(self._models)
        for first in range(0, len(state), at_once):
            some = slice(first, min(first + at_once, len(state)))
            if at_once < len(state):
                for i in range(some.start, some.stop):
                    self._variants.put(i, self._models[i - first])
            self._pool.rollout(
                self._models[: some.stop - first],
                self._data,
                state[some],
                self._control[some],
                state=self._trajectory[some],
                sensordata=self._sensors[some],
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
        if self._variants.fields and len(self._models) == self._variants.copies:
            for i in which.tolist():
                self._variants.put(i, self._models[i])

    def close(self) -> None:
        """See `Physics`."""
        self._pool.close()


def diverged(task: Task) -> TrainingError:
    """Return what is raised where a copy's state is no number any more."""
    return TrainingError(f"{task.contract.task}: the simulation diverged")
