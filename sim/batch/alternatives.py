"""What a copy would do next if it were another robot: how much the model does not know.

A simulated copy is one robot that was drawn from the ranges of a randomisation. Its alternatives
are other robots of these ranges in the copy's own state, told the same command. The standard
deviation of their next states is the disagreement (As et al. 2025, "SPiDR", arXiv 2509.18648).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.observer import Observer
from holdfast.signals import APPLIED_ACTION, BUDGET_LEFT, EPISODE_LEFT, Array, Signals
from holdfast.sim.batch.batch import Batch
from holdfast.sim.batch.physics import MujocoPhysics
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import Robots
from holdfast.sim.tasks.task import Task, World

OWN = (APPLIED_ACTION, EPISODE_LEFT, BUDGET_LEFT)
"""Signals that are what the computer knows, alike in all robots."""

PERIODS = 100
"""Most control periods of random actions from which a usual change is measured."""


class Alternatives:
    """K robots of other drawn parameters for each of N copies.

    A copy's alternatives are drawn with its start states, and kept for its episode. In each control
    period they begin in the copy's state, and the command that reaches the copy reaches them. So
    they differ in their physics: masses, friction, sizes, forces, gains. What lies on the way of
    commands and of signals is left out. Noise, bias and scale of a sensor change no state. A delay
    does: but while a policy explores, consecutive commands differ at random, and so would robots
    of other delays, by more than by all else and whatever the policy does.

    Args:
        task: the simulated task.
        parameters: what the copies draw.
        copies: N.
        each: K.
        threads: threads of MuJoCo's physics; 0: one per core.
        usual: (n,), see `usual_change`.

    Attributes:
        rows: named arrays (N, K, ...), one row per copy, from which all else follows.

    Raises:
        ConfigError: no parameter of the physics has a range, so that all robots would be alike.
    """

    def __init__(
        self,
        task: Task,
        parameters: Parameters | None,
        copies: int,
        each: int,
        threads: int,
        usual: Array,
    ) -> None:
        physical = parameters.physical() if parameters else Parameters()
        if not physical.varies:
            raise ConfigError(
                f"{task.contract.task}: pessimism needs randomised robots whose physics differ; "
                "give --randomise a file with a range of mass, friction, gain or the like"
            )
        self._task, self._each, self._observe = task, each, Observer(task.contract)
        self._weight = np.divide(1.0, usual, out=np.zeros_like(usual), where=usual > 0.0)
        self._weight /= max(np.count_nonzero(self._weight), 1)
        model = task.robot.load_model()
        rest = task.robot.control(np.zeros(task.contract.action_size))
        count = copies * each
        self._robots = Robots(physical, model, rest, {}, count, task.contract.period_s)
        self._physics = MujocoPhysics(task, self._robots.variants, threads)
        self._q = slice(1, 1 + model.nq)
        self._v = slice(1 + model.nq, 1 + model.nq + model.nv)
        self._everyone = np.arange(count)
        sizes = {name: task.contract.signal_size(name) or 0 for name in OWN}
        self._own = {name: np.zeros((count, size)) for name, size in sizes.items()}
        self.rows = {
            name: array.reshape(copies, each, *array.shape[1:])
            for name, array in self._robots.rows.items()
        }

    def draw(self, which: NDArray[np.intp], rng: np.random.Generator) -> None:
        """Draw new alternatives for some copies."""
        theirs = self._everyone.reshape(-1, self._each)[which].ravel()
        self._robots.draw(theirs, rng)
        self._physics.refresh(theirs)

    def build(self) -> None:
        """Set all models to the amounts in their rows."""
        self._robots.build(self._everyone)
        self._physics.refresh(self._everyone)

    def disagreement(
        self,
        state: Array,
        arrived: Array,
        signals: Signals,
        world: World,
    ) -> Array:
        """Return how far copies and alternatives are apart (N,) after one control period.

            δ = mean over the observed quantities i of σ_i / s_i

        σ_i is the standard deviation of the true quantity, among the copy and its alternatives, and
        s_i its usual change per control period.

        Args:
            state: (N, size), the copies' rows of physics before the period.
            arrived: (N, nu), the controls that reached the copies in it, before their gains.
            signals, world: the copies' own, after it.
        """
        ahead, robot = self._repeated(state), self._task.robot
        readings = self._physics.advance(ahead, self._robots.scaled(self._repeated(arrived)))
        body = {**robot.signals(ahead[:, self._q], ahead[:, self._v]), **robot.sensed(readings)}
        around = {name: self._repeated(array) for name, array in world.items()}
        theirs = self._observe({**body, **self._task.surroundings(body, around), **self._own})
        own = {name: array[:: self._each] for name, array in self._own.items()}
        mine = self._observe({**signals, **own})[:, None]
        both = np.concatenate((mine, theirs.reshape(len(mine), self._each, -1)), axis=1)
        apart: Array = (both.std(axis=1, ddof=1) * self._weight).sum(axis=-1)
        return apart

    def _repeated(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(array, self._each, axis=0)

    def close(self) -> None:
        """End threads."""
        self._physics.close()


def usual_change(batch: Batch) -> Array:
    """Return the root mean square (n,) by which observed quantities change per control period.

    Copies of the nominal robot act at random, each action uniform in its limits: a yardstick that
    depends on the task alone, so that no policy makes itself look certain by changing it. What
    the computer itself knows has none: 0.

    Args:
        batch: of the nominal robot. It is reset.
    """
    contract, rng = batch.contract, np.random.default_rng(0)
    low, high = (np.array([getattr(c, end) for c in contract.action]) for end in ("low", "high"))
    before, squares = batch.reset(), []
    for _ in range(min(PERIODS, contract.episode_steps)):
        step = batch.step(rng.uniform(low, high, (batch.copies, len(low))))
        squares.append(((step.final_observation - before) ** 2).mean(axis=0))
        before = step.observation
    usual: Array = np.sqrt(np.mean(squares, axis=0)) * _is_of_the_robot(contract)
    return usual


def _is_of_the_robot(contract: Contract) -> Array:
    """Return 1 for the values (n,) of an observation that a robot or its surroundings have."""
    channels = contract.observation
    return np.concatenate([np.full(c.size, float(c.signal not in OWN)) for c in channels])
