"""The physics of a batch's copies: its interface, and `mujoco.rollout` on this machine's cores.

`sim/batch/warp_physics.py` implements the interface on a GPU.
"""

from __future__ import annotations

import contextlib
import copy
import os
from typing import Any, Literal, Protocol

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from holdfast.errors import TrainingError
from holdfast.signals import Array
from holdfast.sim.parameters.variants import Variants
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

try:
    from mujoco.batch import Batch
except ImportError:  # before MuJoCo 3.17
    Batch = None

PhysicsName = Literal["mujoco", "warp"]

STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
"""Content of a copy's row: time, qpos, qvel, and the model's further state. A row has no solver's
warm start, so the next row follows from row, controls and model alone."""


_SLEEP = int(getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0))
"""Flag of models whose bodies may sleep. A row does not say which of them sleep, so a copy would
find bodies asleep that slept in the copy that its thread simulated before."""

ROOM = 256_000_000
"""Bytes that the copies' own models may take together, where copies cannot share one."""


class Physics(Protocol):
    """Simulates the bodies of N copies of a task."""

    def advance(self, state: Array, control: Array) -> Array:
        """Run one control period in every copy, in place.

        Args:
            state: (N, size), rows with the content `STATE`.
            control: (N, nu), constant actuator controls.

        Returns:
            (N, nsensordata), what the models' sensors read in the period's last physics step.

        Raises:
            TrainingError: a copy diverged, or MuJoCo stopped with an error.
        """

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """Read the models of some copies again, after a change."""

    def close(self) -> None:
        """End threads and free resources."""


class MujocoPhysics:
    """The `Physics` of MuJoCo; the number of threads does not change a bit of the result.

    Args:
        task: the simulated task.
        variants: models of the copies.
        threads: number of threads; 0: one per core.

    Raises:
        TrainingError: the model's memory is too small for its first step.
    """

    def __init__(self, task: Task, variants: Variants, threads: int) -> None:
        model, copies = variants.nominal, variants.copies
        model.opt.enableflags &= ~_SLEEP
        _require_memory(task, model)
        self._task = task
        self._copies = _copies(variants, threads or os.cpu_count() or 1)
        self._steps = physics_steps(model, task.contract.period_s)
        self._least_s = (self._steps - 0.5) * float(model.opt.timestep)  # of time in a period
        self._control = np.empty((copies, self._steps, model.nu))
        self._trajectory = np.empty((copies, self._steps, mujoco.mj_stateSize(model, STATE)))
        self._sensors = np.empty((copies, self._steps, model.nsensordata))

    def advance(self, state: Array, control: Array) -> Array:
        """See `Physics`."""
        readings, lost = self.attempt(state, control)
        if lost.any():
            raise diverged(self._task)
        return readings

    def attempt(self, state: Array, control: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Advance; return also which copies (N,) diverged and are at a start of MuJoCo's own."""
        self._control[:] = control[:, None]
        try:
            self._copies.run(state, self._control, self._trajectory, self._sensors)
        except RuntimeError as error:  # MuJoCo's
            raise _stopped(self._task, error) from None
        # MuJoCo restarts a diverged copy from time 0, and reports it on stderr alone.
        lost = self._trajectory[:, -1, 0] < state[:, 0] + self._least_s
        state[:] = self._trajectory[:, -1]
        return self._sensors[:, -1], lost

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """See `Physics`."""
        self._copies.refresh(which)

    def close(self) -> None:
        """See `Physics`."""
        self._copies.close()


class OwnModels:
    """Copies of which each has a model of its own where the copies differ.

    Where these models would take more than `ROOM`, a few become one copy after another.

    Args:
        variants: models of the copies.
        threads: number of threads.
    """

    def __init__(self, variants: Variants, threads: int) -> None:
        model, copies = variants.nominal, variants.copies
        self._variants = variants
        self._models = [model] * copies
        if variants.fields:
            room = max(ROOM // mujoco.mj_sizeModel(model), 4 * threads)
            self._models = [copy.copy(model) for _ in range(min(copies, room))]
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        # Few chunks, as each wakes this thread; but several per thread, as copies differ in time.
        self._chunk = -(-len(self._models) // (4 * threads))

    def run(self, state: Array, control: Array, trajectory: Array, sensors: Array) -> None:
        """Run all copies from their states (N, size), and write down each physics step.

        Args:
            control: (N, steps, nu).
            trajectory, sensors: filled with (N, steps, size) and (N, steps, nsensordata).
        """
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
                control[some],
                state=trajectory[some],
                sensordata=sensors[some],
                skip_checks=True,
                nstep=control.shape[1],
                chunk_size=self._chunk,
            )

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """See `Physics`."""
        if self._variants.fields and len(self._models) == self._variants.copies:
            for i in which.tolist():
                self._variants.put(i, self._models[i])

    def close(self) -> None:
        """See `Physics`."""
        self._pool.close()


class SharedModel:
    """Copies of one model, whose meshes and all else in which they do not differ are there once.

    Args:
        variants: models of the copies.
        threads: number of threads.

    Raises:
        ValueError: MuJoCo keeps more of such a model between steps than its state.
    """

    def __init__(self, variants: Variants, threads: int) -> None:
        model = variants.nominal
        self._batch = Batch(model, variants.copies, threads)
        self._pairs = [(self._batch.expand(name), own) for name, own in variants.fields.items()]
        self._columns = _columns(model)
        self._warm_start = self._batch.bind("qacc_warmstart")
        self._mocap_bodies = np.flatnonzero(model.body_mocapid >= 0)
        self._mocap, self._places = self._batch.bind("mocap_pos"), variants.fields.get("body_pos")

    def run(self, state: Array, control: Array, trajectory: Array, sensors: Array) -> None:
        """See `OwnModels`."""
        self._batch.state[:, self._columns] = state
        self._warm_start[:] = 0.0
        out = {STATE: trajectory, "sensordata": sensors}
        self._batch.rollout(control.shape[1], control, record=tuple(out), out=out)

    def refresh(self, which: NDArray[np.integer[Any]]) -> None:
        """See `Physics`."""
        for theirs, own in self._pairs:
            theirs[which] = own[which]
        if self._places is not None:  # mocap bodies stand where their model has them
            self._mocap[which] = self._places[which][:, self._mocap_bodies]

    def close(self) -> None:
        """See `Physics`: MuJoCo's threads end with the last reference to them."""
        vars(self).clear()


def _copies(variants: Variants, threads: int) -> OwnModels | SharedModel:
    if variants.fields and Batch is not None:
        with contextlib.suppress(ValueError):  # MuJoCo cannot share this model
            return SharedModel(variants, threads)
    return OwnModels(variants, threads)


def _columns(model: mujoco.MjModel) -> NDArray[np.intp]:
    """Return where the content of `STATE` is in a row with all that MuJoCo integrates."""
    found: list[int] = []
    at = 0
    for bit in range(int(mujoco.mjtState.mjNSTATE)):
        size = mujoco.mj_stateSize(model, 1 << bit)
        found += range(at, at + size) if STATE >> bit & 1 else ()
        at += size
    return np.array(found, dtype=np.intp)


def _require_memory(task: Task, model: mujoco.MjModel) -> None:
    """Raise TrainingError if a model cannot simulate its start: in a thread of MuJoCo's this error
    would end the process."""
    try:
        mujoco.mj_forward(model, mujoco.MjData(model))
    except mujoco.FatalError as error:
        raise _stopped(task, error) from None


def _stopped(task: Task, error: Exception) -> TrainingError:
    said = " ".join(str(error).split())
    return TrainingError(f"{task.contract.task}: MuJoCo stopped the simulation ({said})")


def diverged(task: Task) -> TrainingError:
    """Return the error for a copy whose state is not finite."""
    return TrainingError(f"{task.contract.task}: the simulation diverged")
