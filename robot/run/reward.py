"""The reward of a step, by the contract's expression of what the robot measured.

Nothing that the safety monitor decides depends on the reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from holdfast.contract import Contract
from holdfast.safety_monitor.look import real_numbers
from holdfast.safety_monitor.messages import Reading
from holdfast.safety_monitor.reasons import SIGNAL_ARRAY
from holdfast.safety_monitor.scalar import finite


class RewardModel:
    """Evaluates a contract's reward on the newest readings.

    A signal beyond its sensor's range in the contract is taken for the range's end, as it is for
    the costs.
    """

    def __init__(self, contract: Contract) -> None:
        self._expression = contract.reward_expression
        names = () if self._expression is None else self._expression.signals
        self._sizes = {name: contract.signal_specs[name].size for name in names}
        self._ranges = contract.sensor_ranges

    def step(self, sources: Mapping[str, Reading]) -> float:
        """Return the reward of the state that the sources tell; NaN where it is not known.

        It is not known without an expression in the contract, where a signal of the expression is
        not measured or is not finite, and where the expression is not defined.
        """
        if self._expression is None:
            return math.nan
        values = {}
        for name, size in self._sizes.items():
            readings = (source.signals for source in sources.values())
            array = next((signals[name] for signals in readings if name in signals), None)
            if array is None:
                return math.nan
            numbers = real_numbers(array, (size,), SIGNAL_ARRAY, name, [])
            if numbers is None or not finite(numbers):
                return math.nan
            low, high = self._ranges.get(name, (-math.inf, math.inf))
            values[name] = [min(max(number, low), high) for number in numbers]
        return self._expression.step(values)
