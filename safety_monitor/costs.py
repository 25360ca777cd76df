"""Costs: pure functions of signals that bill the simulator and the robot alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from holdfast.contract import Contract
from holdfast.signals import Array, Signals


class CostModel:
    """Evaluates all costs of a contract, in its order.

    A signal beyond its sensor's range in the contract is taken for the range's end, as it is in
    the observation. A cost is NaN where a number on the way to it is not finite.

    Attributes:
        signals: names of the signals that the costs read.
        largest: the most that one step can cost; infinity where nobody can say.
    """

    def __init__(self, contract: Contract) -> None:
        self._expressions = contract.cost_expressions
        names = (name for expression in self._expressions for name in expression.signals)
        self.signals = tuple(dict.fromkeys(names))
        self.largest = tuple(
            math.inf if cost.at_most is None else cost.at_most for cost in contract.costs
        )
        ranges = contract.sensor_ranges
        self._ranges = {name: ranges[name] for name in self.signals if name in ranges}

    def step(self, values: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
        """Return the costs of one step of one robot, of plain numbers."""
        if self._ranges:
            clipped = {
                name: [min(max(value, low), high) for value in values[name]]
                for name, (low, high) in self._ranges.items()
            }
            values = {**values, **clipped}
        return tuple([expression.step(values) for expression in self._expressions])

    def __call__(self, signals: Signals) -> Array:
        """Return the costs of one step, shape (..., costs), of signals shaped (..., size) each."""
        read = {name: signals[name] for name in self.signals}
        for name, (low, high) in self._ranges.items():
            read[name] = np.clip(read[name], low, high)
        return np.stack([expression(read) for expression in self._expressions], axis=-1)
