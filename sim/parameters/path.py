"""The way of commands to the actuators: their delay and gain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.signals import Array
from holdfast.sim.parameters.amounts import COMMAND, NOTHING
from holdfast.sim.parameters.catalogue import KINDS, Parameters
from holdfast.sim.parameters.targets import Targets, draw


class CommandPath:
    """Delay and gain of the commands of N copies.

    Args:
        parameters: what differs.
        targets: finds the model's actuators.
        rest: controls (nu,) that count as sent before an episode's first command.
        copies: N.
        ticks: calls of `act` per control period, in which a delay is counted.

    Attributes:
        rows: named arrays (N, ...), one row per copy, from which all else follows.
    """

    def __init__(
        self, parameters: Parameters, targets: Targets, rest: Array, copies: int, ticks: int = 1
    ) -> None:
        self._targets, self._rest, self._ticks = targets, rest, ticks
        self._everyone = np.arange(copies)
        self.rows: dict[str, NDArray[Any]] = {}
        if parameters.gain:
            draw(parameters.gain, KINDS["gain"], "gain", targets, 0, np.random.default_rng(0))
            self.rows["gain"] = np.ones((copies, len(rest)))
        if delay := parameters.delay.by_target.get(COMMAND):
            depth = delay.most_whole * ticks + 1
            self.rows["delay"] = np.zeros(copies, dtype=np.int64)
            self.rows["sent"] = np.tile(rest, (copies, depth, 1))

    def draw(
        self, which: NDArray[np.intp], rng: np.random.Generator, parameters: Parameters
    ) -> None:
        """Draw new amounts for some copies, and forget what was on its way in them."""
        n, rows = len(which), self.rows
        if "gain" in rows:
            gain = draw(parameters.gain, KINDS["gain"], "gain", self._targets, n, rng)
            rows["gain"][which] = gain
        if "delay" in rows:
            delay = parameters.delay.by_target.get(COMMAND, NOTHING)
            rows["delay"][which] = delay.draw_whole(rng, n)
            rows["sent"][which] = self._rest

    def act(self, target: Array, elapsed: NDArray[np.int64]) -> Array:
        """Return the controls (N, nu) that reach the actuators, given the commanded controls.

        Args:
            target: (N, nu), commanded controls.
            elapsed: (N,), number of earlier calls since the episode's start.
        """
        return self.scaled(self.arrived(target, elapsed))

    def arrived(self, target: Array, elapsed: NDArray[np.int64]) -> Array:
        """Return the delayed controls (N, nu), before the gain; see `act`."""
        rows = self.rows
        if "sent" in rows:
            depth = rows["sent"].shape[1]
            rows["sent"][self._everyone, elapsed % depth] = target
            late = elapsed - rows["delay"] * self._ticks
            target = rows["sent"][self._everyone, late % depth]
        return target

    def scaled(self, arrived: Array) -> Array:
        """Return controls (N, nu) times the gain."""
        return arrived * self.rows["gain"] if "gain" in self.rows else arrived

    def under_way(self) -> Array:
        """Return the controls (N, depth, nu) that may still reach the actuators."""
        return self.rows["sent"] if "sent" in self.rows else self._rest[None, None]
