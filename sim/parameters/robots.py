"""N robots that differ from their model: drawn for each episode, and applied.

Amounts are drawn for every episode, so that a batch contains more robots than copies. The time for
this is small beside an episode's physics (docs/reference/TASKS.md). Rewards and ends of episodes
are computed from true signals, costs from what is true and from what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.signals import Array, Signals
from holdfast.sim.parameters.bodies import Bodies
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.path import CommandPath
from holdfast.sim.parameters.senses import Senses, Which
from holdfast.sim.parameters.targets import Targets
from holdfast.sim.robots.robot import RobotModel


class Robots:
    """Draws and applies the parameters of N copies of a robot.

    Args:
        parameters: what differs, and by how much.
        model: the nominal robot's model.
        rest: controls (nu,) of action 0.
        signals: signals that are measured, with their sizes.
        copies: N.
        period_s: the control period, s.
        ticks: physics steps, or measurements, per control period.
        where: begins each refusal.

    Attributes:
        variants: models of the copies.
        rows: named arrays (N, ...), one row per copy, from which all else follows.
        act, arrived, scaled: see `CommandPath`.
        perceived, notice: see `Senses`.

    Raises:
        ConfigError: the robot lacks what a parameter names, or a parameter would have no effect.
    """

    def __init__(
        self,
        parameters: Parameters,
        model: mujoco.MjModel,
        rest: Array,
        signals: Mapping[str, int],
        copies: int,
        period_s: float,
        ticks: int = 1,
        where: str = "randomisation",
    ) -> None:
        targets = Targets(model, signals, where)
        self._parameters = parameters
        self._bodies = Bodies(parameters, targets, copies)
        self._path = CommandPath(parameters, targets, rest, copies, ticks)
        self._senses = Senses(parameters, targets, copies, period_s / ticks, ticks)
        self.variants = self._bodies.variants
        self.rows: dict[str, NDArray[Any]] = {
            **self._bodies.rows,
            **self._path.rows,
            **self._senses.rows,
        }
        self.act, self.under_way = self._path.act, self._path.under_way
        self.arrived, self.scaled = self._path.arrived, self._path.scaled
        self.perceived = self._senses.perceived
        self.build, self.place = self._bodies.build, self._bodies.place
        self.remembers = self._senses.remembers

    def draw(
        self,
        which: NDArray[np.intp],
        rng: np.random.Generator,
        parameters: Parameters | None = None,
    ) -> None:
        """Draw new parameters for some copies.

        Args:
            parameters: what these copies are given instead of what the robots were made with: no
                other kinds, and no longer delays. Single values draw nothing but noise.
        """
        given = parameters or self._parameters
        self._bodies.draw(which, rng, given)
        self._path.draw(which, rng, given)
        self._senses.draw(which, rng, given)

    def notice(self, signals: Signals, elapsed: NDArray[np.int64], which: Which) -> None:
        """See `Senses.notice`."""
        self._senses.notice(signals, elapsed, which)


def require_fit(
    parameters: Parameters,
    robot: RobotModel,
    contract: Contract,
    where: str,
    signals: Mapping[str, int] | None = None,
) -> None:
    """Check that a robot can differ so.

    Args:
        where: begins the refusal.
        signals: signals that are measured, with their sizes; None: those that are observed.

    Raises:
        ConfigError: the robot lacks what a parameter names, or a parameter would have no effect.
    """
    if signals is None:
        signals = {name: contract.signal_size(name) or 0 for name in contract.observed_signals}
    model, rest = robot.load_model(), robot.control(np.zeros(contract.action_size))
    Robots(parameters, model, rest, signals, 1, contract.period_s, where=where)
