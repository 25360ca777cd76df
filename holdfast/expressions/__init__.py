"""Cost expressions: a small, pure and total language over signals (docs/reference/COSTS.md).

    abs(position.x) > 0.9
    (scan.min < 0.5) and (abs(forward_speed) > 0.3)

One checked tree gives a function of one robot's numbers and one of many robots' arrays, which
agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.expressions.checker import check
from holdfast.expressions.generate import ARRAYS, NUMBERS, function
from holdfast.expressions.tree import SignalSpec, catalogue
from holdfast.signals import Array, Signals

Values = Mapping[str, Sequence[float]]
"""The numbers of one robot's signals, by signal."""

__all__ = ["CostExpression", "SignalSpec", "Values", "catalogue"]


class CostExpression:
    """The cost of one step, as a pure function of signals.

    The cost is NaN where a number on the way to it is not finite. No input raises or warns.
    Expressions with the same canonical text are equal.

    Attributes:
        text: the expression as it was written.
        canonical: the checked expression with all of its brackets. It is an expression too.
        signals: names of the signals that it reads, in its order.
        step: maps one robot's numbers to its cost, a float.

    Raises:
        ContractError: what is not in the language, in which column, and what would be right.
    """

    step: Callable[[Values], float]

    def __init__(self, text: str, signals: Mapping[str, SignalSpec]) -> None:
        tree = check(text, signals)
        self.text = text
        self.canonical = tree.text
        self.signals = tuple(dict.fromkeys(tree.reads()))
        self._specs = {name: signals[name] for name in self.signals}
        self.step = function(tree, self.signals, NUMBERS)
        self._of_arrays = function(tree, self.signals, ARRAYS)

    def __call__(self, signals: Signals) -> Array:
        """Return the costs, shape (...), of signals shaped (..., size) each."""
        # The generated function reverses the axes, so that a signal's values come first.
        with np.errstate(all="ignore"):
            costs: Array = np.asarray(self._of_arrays(signals), dtype=np.float64).T
        return costs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CostExpression) and other.canonical == self.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __repr__(self) -> str:
        return f"CostExpression({self.text!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CostExpression, (self.text, self._specs)
