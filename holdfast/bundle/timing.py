"""The time that a contract's costs take on this machine.

A contract is a file that somebody else may have written, and its costs are computed in the
monitor's process, once per period.
"""

from __future__ import annotations

import statistics
import time

from holdfast.contract import Contract
from holdfast.errors import ContractError
from holdfast.safety_monitor.costs import CostModel

SHARE = 0.05
"""Largest share of the contract's period for the costs and the reward of one step."""

TIMED = 15
"""Number of timed steps."""


def require_quick_costs(contract: Contract) -> float:
    """Return the median time for the costs and the reward of one step, s; it is nearly equal for
    all signals, because an expression neither repeats nor branches.

    Raises:
        ContractError: they take too long for the contract's period.
    """
    costs, reward = CostModel(contract), contract.reward_expression
    names = {*costs.signals, *(reward.signals if reward else ())}
    # Neither 0 nor equal: no side of an `and` is left out for all of them.
    values = {
        name: [0.1 + 0.01 * k for k in range(contract.signal_specs[name].size)] for name in names
    }
    taken = []
    for _ in range(TIMED):
        began_s = time.perf_counter()
        costs.step(values)
        if reward is not None:
            reward.step(values)
        taken.append(time.perf_counter() - began_s)
    step_s = statistics.median(taken)
    if step_s > SHARE * contract.period_s:
        raise ContractError(
            f"contract: the costs of one step take {step_s:.2g} s here; that should be at most "
            f"{SHARE:.0%} of its period of {contract.period_s:g} s"
        )
    return step_s
