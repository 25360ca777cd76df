"""The limit in force in each copy of a batch, and what its episode has cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.signals import Array

ENDS = 0.1
"""Share of the episodes that begin with the lowest limit of a range, and with the highest.

Limits near an end lie on one side of it; without these episodes their mean would be no limit's own.
"""


class Budgets:
    """Limits and accounts of N copies.

    Attributes:
        limit: (N, costs), the limits in force; of a cost with a range, drawn with each episode.
        spent: (N, costs), what the episodes have cost before the present state.
    """

    def __init__(self, contract: Contract, copies: int) -> None:
        self.limit = np.tile(contract.limits, (copies, 1))
        self.spent, self._present = np.zeros((2, *self.limit.shape))
        self._ranges = [
            (i, *cost.limit_range) for i, cost in enumerate(contract.costs) if cost.limit_range
        ]

    def begin(self, which: NDArray[np.intp], rng: np.random.Generator) -> None:
        """Start an episode in some copies: nothing is spent, and limits are drawn.

        Between the ends limits are uniform in the logarithm, one in each of as many equal parts as
        copies begin, so that no batch lacks the limits of a part of the range.
        """
        self.spent[which] = self._present[which] = 0.0
        n = len(which)
        for i, low, high in self._ranges:
            share = (rng.permutation(n) + rng.random(n)) / n
            share = np.clip((share - ENDS) / (1.0 - 2.0 * ENDS), 0.0, 1.0)
            self.limit[which, i] = low * (high / low) ** share

    def follow(self, costs: Array) -> None:
        """Bill the state before, now that all copies are in states that cost (N, costs)."""
        self.spent += self._present
        self._present[:] = costs

    def left(self, which: NDArray[np.intp] | slice = slice(None)) -> Array:
        """Return the signal `budget_left` of some copies."""
        left: Array = self.limit[which] - self.spent[which]
        return left

    @property
    def rows(self) -> dict[str, NDArray[Any]]:
        """The arrays that a snapshot of the batch must hold."""
        return {"limit": self.limit, "spent": self.spent, "present": self._present}
