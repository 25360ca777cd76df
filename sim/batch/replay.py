"""Robots of given parameters that obey recorded actions, many at once.

No task is played: there is no reward, no cost and no end of an episode. What is returned is what
the robots' sensors would say, without noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.signals import Array
from holdfast.sim.batch.physics import STATE, MujocoPhysics
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import Robots
from holdfast.sim.tasks.task import Task


class Replay:
    """C robots, each of which obeys T sequences of actions, from rest.

    Args:
        task: the robot and its contract.
        widest: what a robot may be given: the kinds and targets, with the longest delays.
        actions: (T, K, actions), physical units, each held for one control period.
        heading: (T, K + 1), rad, to which a robot is turned at once; NaN: it goes on as it is.
            MuJoCo's pyramid of friction has sides, so that a robot that slips does not move alike
            in all directions.
        signals: names and sizes of the signals that are wanted, of those that the robot measures.
        robots: C.
        threads: threads of MuJoCo's physics; 0: one per core.

    Raises:
        ConfigError: the robot lacks what a parameter names, or a parameter would have no effect.
    """

    def __init__(
        self,
        task: Task,
        widest: Parameters,
        actions: Array,
        heading: Array,
        signals: Mapping[str, int],
        robots: int,
        threads: int = 0,
    ) -> None:
        self.count, self._task, self._sizes = robots, task, signals
        model, rest = task.robot.load_model(), task.robot.control(np.zeros(actions.shape[-1]))
        self._controls, self._heading = task.robot.control(actions), heading
        self._copies = robots * len(actions)
        period_s = task.contract.period_s
        self._robots = Robots(
            widest, model, rest, signals, self._copies, period_s, where="parameters"
        )
        self._physics = MujocoPhysics(task, self._robots.variants, threads)
        self._nq, self._nv, self._readings = model.nq, model.nv, model.nsensordata
        self._blank = np.empty(mujoco.mj_stateSize(model, STATE))
        mujoco.mj_getState(model, mujoco.MjData(model), self._blank, STATE)

    def run(self, given: Sequence[Parameters]) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Simulate all sequences with all robots.

        Args:
            given: the parameters of each of the C robots, single values.

        Returns:
            The signals by name (C, T, K + 1, size), at the start and after each action, of which
            the first has no sensor's reading; and which simulations (C, T) diverged.
        """
        c, (t, k) = self.count, self._controls.shape[:2]
        state = self._start(given)
        found = {name: np.empty((c * t, k + 1, size)) for name, size in self._sizes.items()}
        lost = np.zeros(c * t, dtype=bool)
        readings, elapsed = np.zeros((c * t, self._readings)), np.zeros(c * t, dtype=np.int64)
        self._turn(state, self._heading[:, 0])
        self._sense(found, state, readings, elapsed, 0)
        for i in range(k):
            control = self._robots.act(np.tile(self._controls[:, i], (c, 1)), elapsed)
            readings, diverged = self._physics.attempt(state, control)
            lost |= diverged
            elapsed += 1
            self._turn(state, self._heading[:, i + 1])
            self._sense(found, state, readings, elapsed, i + 1)
        by_robot = {name: values.reshape(c, t, k + 1, -1) for name, values in found.items()}
        return by_robot, lost.reshape(c, t)

    def _start(self, given: Sequence[Parameters]) -> Array:
        """Give the robots their parameters; return their states at rest (C · T, size)."""
        everyone, rng = np.arange(self._copies), np.random.default_rng(0)
        for which, parameters in zip(np.split(everyone, self.count), given, strict=True):
            self._robots.draw(which, rng, parameters)
        self._physics.refresh(everyone)
        qpos, qvel = self._task.robot.start(np.random.default_rng(0), 1, 0.0)
        state = np.tile(self._blank, (self._copies, 1))
        q, v = 1 + self._nq, 1 + self._nq + self._nv
        state[:, 1:q] = self._robots.place(everyone, np.repeat(qpos, self._copies, axis=0))
        state[:, q:v] = qvel
        return state

    def _turn(self, state: Array, heading: Array) -> None:
        """Turn robots to headings (T,), where there is one."""
        which = np.flatnonzero(np.tile(np.isfinite(heading), self.count))
        robot, q, v = self._task.robot, 1 + self._nq, 1 + self._nq + self._nv
        if not len(which):
            return
        qpos, qvel = state[which, 1:q], state[which, q:v]
        angle = np.tile(heading, self.count)[which] - robot.heading(robot.signals(qpos, qvel))
        state[which, 1:q], state[which, q:v] = robot.turned(qpos, qvel, angle)

    def _sense(
        self,
        found: dict[str, Array],
        state: Array,
        readings: Array,
        elapsed: NDArray[np.int64],
        row: int,
    ) -> None:
        """Write what the sensors say into one row of the found signals."""
        robot, q, v = self._task.robot, 1 + self._nq, 1 + self._nq + self._nv
        body = robot.signals(state[:, 1:q], state[:, q:v])
        said = robot.measured({**body, **robot.sensed(readings)})
        if self._robots.remembers:
            self._robots.notice(said, elapsed, slice(None))
        measured = self._robots.perceived(said, elapsed, slice(None))
        for name, values in found.items():
            values[:, row] = measured[name]

    def close(self) -> None:
        """End threads."""
        self._physics.close()
