"""Places: where a contract bills a cost that depends on the position alone, for pictures."""

from __future__ import annotations

import numpy as np

from holdfast.contract import Contract
from holdfast.signals import Array


def billed(contract: Contract, position: Array) -> Array | None:
    """Return at which places a cost is billed that depends on the position alone.

    A cost that is not a number counts as billed, as the monitor bills it.

    Args:
        position: places in the odom frame, m, shape (..., 2).

    Returns:
        Booleans, shape (...); None if no cost depends on the position alone.
    """
    costs = [cost for cost in contract.cost_expressions if cost.signals == ("position",)]
    if not costs:
        return None
    low, high = contract.sensor_ranges.get("position", (-np.inf, np.inf))
    signals = {"position": np.clip(position, low, high)}
    free = np.all([cost(signals) <= 0.0 for cost in costs], axis=0)
    return np.asarray(~free)
