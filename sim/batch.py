"""N copies of a task stepped together by `mujoco.rollout`, vectorised in NumPy.

Copies are independent: all randomness comes from one generator per batch, drawn in order of
resets, so the same seed and actions give the same batch whatever the number of threads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from holdfast.errors import TrainingError
from holdfast.safety_monitor.costs import Bill
from holdfast.signals import APPLIED_ACTION, EPISODE_LEFT, Array, Observer
from holdfast.sim.task import Task

_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


@dataclass(frozen=True)
class Step:
    """One control period of all copies, N on the leading axis.

    Attributes:
        observation: (N, n), after automatic resets: what to act on next.
        final_observation: (N, n), before them: differs where an episode just ended.
        reward: (N,); costs: (N, costs).
        terminated, truncated: (N,) bool; the task ended it, or its length did.
    """

    observation: Array
    final_observation: Array
    reward: Array
    costs: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class Batch:
    """Copies of one task in lockstep, each reset by itself when its episode ends.

    Args:
        task: what to simulate.
        copies: N.
        seed: of the start states.
        threads: of the physics; 0 for one per core.
    """

    def __init__(self, task: Task, copies: int, seed: int, threads: int = 0) -> None:
        self.task, self.copies = task, copies
        self.contract = task.contract
        self.rng = np.random.default_rng(seed)
        self.observe, self.bill = Observer(task.contract), Bill(task.contract)
        threads = threads or os.cpu_count() or 1
        model = task.load_model()
        self._models = [model] * copies
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._nq, self._nv = model.nq, model.nv
        size = mujoco.mj_stateSize(model, _FULL)
        blank = np.empty(size)
        mujoco.mj_getState(model, self._data[0], blank, _FULL)
        # Full physics state is time, qpos, qvel, then what the model has beyond those.
        self._state = np.tile(blank, (copies, 1))
        self._blank = blank
        self._trajectory = np.empty((copies, task.frame_skip, size))
        self._sensors = np.empty((copies, task.frame_skip, model.nsensordata))
        self.applied = np.zeros((copies, self.contract.action_size))
        self.elapsed = np.zeros(copies, dtype=np.int64)
        self.reset()

    @property
    def qpos(self) -> Array:
        return self._state[:, 1 : 1 + self._nq]

    @property
    def qvel(self) -> Array:
        return self._state[:, 1 + self._nq : 1 + self._nq + self._nv]

    def reset(self) -> Array:
        """Start an episode in every copy; return the observations (N, n)."""
        self._place(np.ones(self.copies, dtype=bool))
        return self._observation(self.task.signals(self.qpos, self.qvel))

    def _place(self, which: NDArray[np.bool_]) -> None:
        n = int(which.sum())
        qpos, qvel = self.task.reset(self.rng, n)
        self._state[which] = self._blank
        self._state[which, 1 : 1 + self._nq + self._nv] = np.concatenate((qpos, qvel), axis=1)
        self.applied[which] = 0.0
        self.elapsed[which] = 0

    def _observation(self, signals: dict[str, Array]) -> Array:
        left = 1.0 - self.elapsed / self.contract.episode_steps
        own = {
            APPLIED_ACTION: self.contract.normalised(self.applied),
            EPISODE_LEFT: left[:, None],
        }
        return self.observe({**signals, **own})

    def step(self, action: Array) -> Step:
        """Apply actions (N, actions), physical units, for one control period.

        Raises:
            TrainingError: an action is not finite, or the simulation diverged.
        """
        if not np.isfinite(action).all():
            raise TrainingError(
                f"{self.contract.task}: actions should be finite, received {action}"
            )
        self.applied = self.contract.admissible(self.applied, action)
        control = np.repeat(self.task.control(self.applied)[:, None], self.task.frame_skip, axis=1)
        self._pool.rollout(
            self._models,
            self._data,
            self._state,
            control,
            state=self._trajectory,
            sensordata=self._sensors,
            skip_checks=True,
            nstep=self.task.frame_skip,
        )
        # MuJoCo restarts a copy that diverges, from time 0, and says so only on stderr.
        if (self._trajectory[:, -1, 0] <= self._state[:, 0]).any():
            raise TrainingError(f"{self.contract.task}: the simulation diverged")
        self._state[:] = self._trajectory[:, -1]
        self.elapsed += 1
        signals = self.task.signals(self.qpos, self.qvel)
        reward, costs = self.task.reward(signals), self.bill(signals)
        if not (np.isfinite(reward).all() and np.isfinite(costs).all()):
            raise TrainingError(
                f"{self.contract.task}: the simulation returned a non-finite reward or cost"
            )
        observation = self._observation(signals)
        terminated = self.task.terminated(signals)
        truncated = (self.elapsed >= self.contract.episode_steps) & ~terminated
        final, ended = observation, terminated | truncated
        if ended.any():
            self._place(ended)
            observation = self._observation(self.task.signals(self.qpos, self.qvel))
        return Step(observation, final, reward, costs, terminated, truncated)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as JSON-able data."""
        return {
            "rng": self.rng.bit_generator.state,
            "physics": self._state.tolist(),
            "applied": self.applied.tolist(),
            "elapsed": self.elapsed.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> Array:
        """Return to a saved state; return its observations (N, n)."""
        self.rng.bit_generator.state = state["rng"]
        self._state[:] = state["physics"]
        self.applied = np.array(state["applied"])
        self.elapsed = np.array(state["elapsed"])
        return self._observation(self.task.signals(self.qpos, self.qvel))

    def close(self) -> None:
        """End the physics threads."""
        self._pool.close()
